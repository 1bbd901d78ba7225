# What a solver sees of a field: an in-place function of flat states, and its exact Jacobian.

"""
    RightHandSide(field, batch, T)

`f!(dy, y, p, t)` of a `VectorField` for flat batches of element type `T`. Its type does not depend
on the layers, so that a solver is compiled once for all fields. Other element types (dual numbers)
get a network of their own, made when first met.
"""
struct RightHandSide{T, N <: AbstractNetwork{T}}
    network::N
    others::Dict{DataType, Any}
end

RightHandSide(network::AbstractNetwork) = RightHandSide(network, Dict{DataType, Any}())

function RightHandSide(field::VectorField, batch::Integer, ::Type{T}) where {T}
    return RightHandSide(Network{T}(field, batch))
end

load!(rhs::RightHandSide, flat) = (load!(rhs.network, flat); empty!(rhs.others); rhs)

function (rhs::RightHandSide{T})(dy, y, p, t) where {T}
    # Some solvers compute times in Float64.
    time = t isa AbstractFloat ? T(t) : t
    S = promote_type(eltype(y), typeof(time))
    forward!(dy, S === T ? rhs.network : network_for(rhs, S), time, y)
    return nothing
end

# Sensitivity algorithms hand over the weights as parameters, of a type of their own where they
# differentiate to them; of the network's own type they are those that `load!` has taken.
function (rhs::RightHandSide{T})(dy, y, p::AbstractVector{P}, t) where {T, P}
    P === T && return rhs(dy, y, nothing, t)
    network = network_for(rhs, promote_type(P, eltype(y), typeof(t)))
    forward!(dy, load!(network, p), t, y)
    return nothing
end

function network_for(rhs::RightHandSide, ::Type{S}) where {S}
    network = get!(rhs.others, S) do
        copy_weights!(Network{S}(rhs.network.field, rhs.network.batch), rhs.network)
    end
    return network::Network{S}
end

"""
    FieldJacobian(rhs)

`jac!(J, y, p, t)`: the Jacobian of a field's batch, which is block-diagonal since no layer mixes
samples. One evaluation and one pullback a row serve all samples at once.
"""
struct FieldJacobian{T, R <: RightHandSide{T}, P}
    rhs::R
    tape::P
    derivative::Vector{T}
    bar::Vector{T}
end

function FieldJacobian(rhs::RightHandSide{T}) where {T}
    n = state_size(rhs.network.field) * rhs.network.batch
    return FieldJacobian(rhs, new_tape(rhs.network), zeros(T, n), zeros(T, n))
end

function (jac::FieldJacobian)(J::BlockDiagonal, y, p, t)
    on_host(y) || throw(ArgumentError("an implicit solver on a device: expected the CPU."))
    forward!(jac.derivative, jac.rhs.network, t, y, jac.tape)
    jacobian_blocks!(J.blocks, jac.rhs.network, jac.tape, jac.bar)
    return nothing
end

"""
The Jacobian of each sample, (row, column, sample), at the evaluation that `tape` holds. `bar` is
scratch, as long as the batch.
"""
function jacobian_blocks!(blocks::AbstractArray{T, 3}, network, tape, bar) where {T}
    size = Base.size(blocks, 1)
    for row in 1:size
        fill!(bar, 0)
        for sample in 1:(network.batch)
            bar[(sample - 1) * size + row] = 1
        end
        pullback!(bar, network, tape; weights = false)
        @inbounds for sample in 1:(network.batch), column in 1:size
            blocks[row, column, sample] = bar[(sample - 1) * size + column]
        end
    end
    return blocks
end

"""`tgrad!(dT, y, p, t)`: the partial derivative of a field by the time."""
struct TimeDerivative{J <: FieldJacobian}
    jac::J
end

function (tgrad::TimeDerivative)(dT, y, p, t)
    (; rhs, tape, derivative) = tgrad.jac
    if time_dependent(rhs.network.field)
        forward!(derivative, rhs.network, t, y, tape)
        push_time!(dT, rhs.network, tape)
    else
        fill!(dT, 0)
    end
    return nothing
end

"""The Jacobian and the derivative by the time of a batch of the length of `y0`."""
function derivatives(rhs::RightHandSide, y0)
    jac = FieldJacobian(rhs)
    return jac, TimeDerivative(jac)
end

state_size(rhs::RightHandSide) = state_size(rhs.network.field)
on_device(rhs::RightHandSide, y) = on_device(rhs.network, y)

"""
    Derivative(f, origin)

A right-hand side `f(dy, y, p, t)`, its Jacobian or its derivative by the time, in place, as solvers
see it: of one type for all, so that a solver is compiled once, and not again for the next function.
`f` is looked up at each call, which takes nanoseconds and puts the time into a box of 16 bytes.
Solvers count times from `origin`; `f` is given its own.
"""
struct Derivative
    f::Any
    origin::Float64
end

function (derivative::Derivative)(out, y, p, t)
    derivative.f(out, y, p, counted_from(derivative.origin, t))
    return nothing
end

"""The field's own time where a solver's is `t`, of the same type."""
counted_from(origin::Float64, t) = iszero(origin) ? t : oftype(t, origin + t)

"""
The `ODEFunction` of a right-hand side for batches like `y0`. Only an implicit solver is given the
derivatives. The Jacobian has no sparsity of its own: OrdinaryDiffEq would prepare, and compile, a
coloured differentiation that nothing asks for. Where `whole`, it is a plain matrix of the batch.
"""
function ode_function(f, implicit::Bool, y0::AbstractVector{T}; whole::Bool = false,
        origin::Float64 = 0.0) where {T}
    seen(f) = Derivative(f, origin)
    # AutoSpecialize would wrap what is wrapped.
    implicit || return ODEFunction{true, SciMLBase.FullSpecialize}(seen(f))
    jac, tgrad = derivatives(f, y0)
    blocks = BlockDiagonal{T}(state_size(f), length(y0) ÷ state_size(f))
    whole && return ODEFunction{true, SciMLBase.FullSpecialize}(seen(f);
        jac = seen(WholeJacobian(jac, blocks)), tgrad = seen(tgrad))
    return ODEFunction{true, SciMLBase.FullSpecialize}(seen(f); jac = seen(jac),
        tgrad = seen(tgrad), jac_prototype = blocks, sparsity = nothing)
end

"""`jac!(J, y, p, t)` into a plain matrix, zeros outside of the blocks among its elements."""
struct WholeJacobian{F, T}
    jac::F
    blocks::BlockDiagonal{T}
end

function (whole::WholeJacobian)(J, y, p, t)
    whole.jac(whole.blocks, y, p, t)
    copyto!(J, whole.blocks)
    return nothing
end

# Solvers that build their own matrices, and where a prototype is given call an operator that
# OrdinaryDiffEqExtrapolation does not define.
const WHOLE = ("ImplicitEulerExtrapolation", "ImplicitDeuflhardExtrapolation",
    "ImplicitHairerWannerExtrapolation", "ImplicitEulerBarycentricExtrapolation")

"""
    JuliaFunction(f!, shape)

A user's own `f!(dy, y, p, t)`, in place. `y` has Python's shape reversed, `(reverse(shape)...,
batch)`; `p` is a named tuple of the weights, each with its Python shape reversed.
"""
struct JuliaFunction{F}
    f!::F
    shape::Tuple{Vararg{Int}}
end

"""
    CallBack(evaluate, shape)

A right-hand side in Python: `evaluate(address of dy, address of y, batch, element, t)`. The slow
path: Python is called for every evaluation, and holds its lock all the while.
"""
struct CallBack{F}
    evaluate::F
    shape::Tuple{Vararg{Int}}
end

CallBack(evaluate, shape::Tuple) = CallBack{typeof(evaluate)}(evaluate, Int.(shape))

function (field::CallBack)(dy::Array{T}, y::Array{T}, p, t) where {T}
    GC.@preserve dy y field.evaluate(UInt(pointer(dy)), UInt(pointer(y)),
        length(y) ÷ prod(field.shape), lowercase(string(T)), t)
    return nothing
end

function (field::CallBack)(dy, y, p, t)
    throw(ArgumentError("a function in Python takes numbers, and this solver differentiates through \
        it: expected a VectorField, a Lux layer or a function in Julia."))
end

state_size(field::CallBack) = prod(field.shape)
on_device(::CallBack, y) = y

function derivatives(field::CallBack, y0)
    jac = Differences(field, state_size(field), similar(y0), similar(y0), similar(y0))
    return jac, TimeDifference(jac)
end

"""
`jac!(J, y, p, t)` by central differences, one number of every sample moved at once: for functions
that no automatic differentiation gets through. A field's samples do not know of each other.
"""
struct Differences{F, V}
    f::F
    size::Int
    moved::V
    above::V
    below::V
end

function (jac::Differences)(J::BlockDiagonal{T}, y, p, t) where {T}
    (; f, size, moved, above, below) = jac
    for column in 1:size
        span = column:size:length(y)
        h = difference_step(T, maximum(abs, view(y, span); init = zero(T)))
        moved .= y
        moved[span] .+= h
        f(above, moved, p, t)
        moved[span] .= view(y, span) .- h
        f(below, moved, p, t)
        for sample in axes(J.blocks, 3), row in 1:size
            i = (sample - 1) * size + row
            J.blocks[row, column, sample] = (above[i] - below[i]) / 2h
        end
    end
    return nothing
end

"""A power of two, so that moving by it and back is exact where it can be."""
difference_step(::Type{T}, size) where {T} = exp2(round(log2(cbrt(eps(T)) * max(size, 1))))

"""`tgrad!(dT, y, p, t)` by central differences."""
struct TimeDifference{D <: Differences}
    jac::D
end

function (tgrad::TimeDifference)(dT, y, p, t)
    (; f, above, below) = tgrad.jac
    h = difference_step(eltype(dT), abs(t))
    f(above, y, p, t + h)
    f(below, y, p, t - h)
    dT .= (above .- below) ./ 2h
    return nothing
end

"""`source`, the text of a Julia function, compiled in a module of its own, as a field."""
function julia_function(source::AbstractString, shape::Tuple)
    return julia_function(Core.eval(Module(:UserField), Meta.parse(source)), shape)
end

function julia_function(f!, shape::Tuple)
    isempty(Base.invokelatest(methods, f!)) && throw(ArgumentError("$(repr(f!)) is no function."))
    return JuliaFunction(f!, Int.(shape))
end

state_size(field::JuliaFunction) = prod(field.shape)
on_device(::JuliaFunction, y) = y

"""
A `JuliaFunction` with its weights. SciMLBase sees none of them: it would rebuild parameters, of
which some kinds send it into an endless recursion.
"""
struct Weighted{F <: JuliaFunction, P}
    field::F
    weights::P
end

function (f::Weighted)(dy, y, p, t)
    lengths = reverse(f.field.shape)
    f.field.f!(reshape(dy, lengths..., :), reshape(y, lengths..., :), f.weights, t)
    return nothing
end

state_size(f::Weighted) = state_size(f.field)
derivatives(f::Weighted, y0) = Duals(f, state_size(f)), TimeDual(f)

"""`jac!(J, y, p, t)` by ForwardDiff, one number of every sample seeded at once."""
struct Duals{F}
    f::F
    size::Int
end

(jac::Duals)(J::BlockDiagonal, y, p, t) = dual_jacobian!(J.blocks, jac.f, y, p, t)

"""`tgrad!(dT, y, p, t)` by ForwardDiff."""
struct TimeDual{F}
    f::F
end

(tgrad::TimeDual)(dT, y, p, t) = dual_time_derivative!(dT, tgrad.f, y, p, t)

"""A field's weights as a named tuple of arrays."""
weights(; arrays...) = NamedTuple(arrays)
