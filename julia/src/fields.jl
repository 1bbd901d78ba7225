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
    S = promote_type(eltype(y), typeof(t))
    S === T ? forward!(dy, rhs.network, t, y) : forward!(dy, network_for(rhs, S), t, y)
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
        copied = Network{S}(rhs.network.field, rhs.network.batch)
        for (to, from) in zip(copied.operations, rhs.network.operations)
            copyto!(to.weight, from.weight)
            copyto!(to.bias, from.bias)
        end
        copied
    end
    return network::Network{S}
end

"""
The Jacobian of a field's batch: block-diagonal, since no layer mixes samples, with one dense block
a sample. One evaluation and one pullback a row serve all samples at once.
"""
function jacobian!(J::SparseMatrixCSC, rhs::RightHandSide, y, t)
    network = rhs.network
    size = state_size(network.field)
    forward!(similar(y), network, t, y)
    # Columns of the sparse matrix are whole: (row, column, sample).
    jacobian_blocks!(reshape(J.nzval, size, size, network.batch), network, network.tape)
    return nothing
end

"""The Jacobian of each sample, (row, column, sample), at the evaluation that `tape` holds."""
function jacobian_blocks!(blocks::AbstractArray{T, 3}, network, tape) where {T}
    size = Base.size(blocks, 1)
    bar = zeros(T, size * network.batch)
    for row in 1:size
        fill!(bar, 0)
        bar[row:size:end] .= 1
        pullback!(bar, network, tape; weights = false)
        blocks[row, :, :] .= reshape(bar, size, :)
    end
    return blocks
end

function jacobian_prototype(rhs::RightHandSide{T}) where {T}
    size, batch = state_size(rhs.network.field), rhs.network.batch
    n = size * batch
    pointers = collect(1:size:(n * size + 1))
    rows = [(column - 1) ÷ size * size + row for column in 1:n for row in 1:size]
    return SparseMatrixCSC{T, Int}(n, n, pointers, rows, zeros(T, n * size))
end

"""The `ODEFunction` of a field. Only an implicit solver is given the Jacobian."""
function ode_function(rhs::RightHandSide, implicit::Bool)
    # Nothing to gain from AutoSpecialize: the type of `rhs` is the same for all fields.
    implicit || return ODEFunction{true, SciMLBase.FullSpecialize}(rhs)
    jac = (J, y, p, t) -> jacobian!(J, rhs, y, t)
    return ODEFunction{true, SciMLBase.FullSpecialize}(
        rhs; jac, jac_prototype = jacobian_prototype(rhs))
end

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

function ode_function(field::CallBack, ::Bool)
    function evaluate!(dy::Array{T}, y::Array{T}, p, t) where {T}
        GC.@preserve dy y field.evaluate(UInt(pointer(dy)), UInt(pointer(y)),
            length(y) ÷ prod(field.shape), lowercase(string(T)), t)
        return nothing
    end
    return ODEFunction{true, SciMLBase.FullSpecialize}(evaluate!)
end

"""`source`, the text of a Julia function, compiled in a module of its own, as a field."""
function julia_function(source::AbstractString, shape::Tuple)
    return julia_function(Core.eval(Module(:UserField), Meta.parse(source)), shape)
end

julia_function(f!, shape::Tuple) = JuliaFunction(f!, Int.(shape))

state_size(field::JuliaFunction) = prod(field.shape)

function ode_function(field::JuliaFunction, ::Bool)
    lengths = reverse(field.shape)
    function flat!(dy, y, p, t)
        field.f!(reshape(dy, lengths..., :), reshape(y, lengths..., :), p, t)
        return nothing
    end
    return ODEFunction{true, SciMLBase.FullSpecialize}(flat!)
end

"""A field's weights as a named tuple of arrays."""
weights(; arrays...) = NamedTuple(arrays)
