# Gradients by SciMLSensitivity: adjoints of the continuous problem, and automatic differentiation
# through OrdinaryDiffEq's own loop.

module PyNODEAdjointExt

using ComponentArrays: ComponentArray, getaxes, getdata
using Lux: Lux
using PyNODE: PyNODE, AbstractPath, RightHandSide, Steps, new_tape, state_size, weights_length
using SciMLBase: SciMLBase, ODEFunction, ODEProblem
using SciMLSensitivity: SciMLSensitivity, BacksolveAdjoint, ForwardDiffSensitivity, GaussAdjoint,
                        GaussKronrodAdjoint, InterpolatingAdjoint, QuadratureAdjoint,
                        ReverseDiffAdjoint, TrackerAdjoint, EnzymeVJP, ReverseDiffVJP,
                        TrackerVJP, ZygoteVJP
using Zygote: Zygote

# Each takes the choice of vector-Jacobian product; the last three differentiate the solver's loop.
const METHODS = Dict(
    "InterpolatingAdjoint" => vjp -> InterpolatingAdjoint(; autojacvec = vjp),
    "BacksolveAdjoint" => vjp -> BacksolveAdjoint(; autojacvec = vjp),
    "QuadratureAdjoint" => vjp -> QuadratureAdjoint(; autojacvec = vjp),
    "GaussAdjoint" => vjp -> GaussAdjoint(; autojacvec = vjp),
    "GaussKronrodAdjoint" => vjp -> GaussKronrodAdjoint(; autojacvec = vjp),
    "ForwardDiffSensitivity" => _ -> ForwardDiffSensitivity(),
    "ReverseDiffAdjoint" => _ -> ReverseDiffAdjoint(),
    "TrackerAdjoint" => _ -> TrackerAdjoint()
)
# "written" hands SciMLSensitivity this package's own products, whatever it would choose.
const VJPS = Dict(
    "written" => ZygoteVJP(),
    "ZygoteVJP" => ZygoteVJP(),
    "ReverseDiffVJP" => ReverseDiffVJP(true),
    "TrackerVJP" => TrackerVJP(),
    "EnzymeVJP" => EnzymeVJP()
)
# Those that need a function of arrays as wholes, out of place: a Lux chain.
const WHOLE_ARRAYS = ("TrackerAdjoint",)

"""
A solve whose gradient Zygote takes, by the sensitivity algorithm that `run(y0, p)` names in its
call of `solve`. `p` is flat, or a Lux chain's parameters where `structured`.
"""
mutable struct ZygotePath{T, R, F, P} <: AbstractPath{T}
    const rhs::R
    const run::F
    parameters::P
    back::Any
end

function PyNODE.zygote_path(rhs::RightHandSide{T}, run, structured::Bool) where {T}
    parameters = as_parameters(rhs, zeros(T, weights_length(rhs.network.field)), structured)
    return ZygotePath{T, typeof(rhs), typeof(run), typeof(parameters)}(
        rhs, run, parameters, nothing)
end

function as_parameters(rhs, flat, structured)
    structured || return collect(flat)
    return ComponentArray(PyNODE.lux_parameters(rhs.network.field, flat))
end

PyNODE.network(path::ZygotePath) = path.rhs.network

function PyNODE.load!(path::ZygotePath, flat)
    PyNODE.load!(path.rhs, flat)
    path.parameters = as_parameters(path.rhs, flat, path.parameters isa ComponentArray)
    return path
end

function PyNODE.follow!(path::ZygotePath, y0)
    nf, code = Ref(0), Ref("")
    y1, path.back = Zygote.pullback(y0, path.parameters) do y0, p
        solution = path.run(y0, p)
        Zygote.ignore() do
            nf[], code[] = solution.stats.nf, string(solution.retcode)
        end
        return solution.u[end]
    end
    return y1, nf[], PyNODE.return_code(code[], y1)
end

function PyNODE.pull!(bar::AbstractVector, slope, path::ZygotePath)
    to_y0, to_p = path.back(copy(bar))
    if path.parameters isa ComponentArray
        # Some algorithms give a plain vector back.
        tree = ComponentArray(Vector(getdata(to_p)), getaxes(path.parameters))
        PyNODE.flat_parameters!(slope, path.rhs.network.field, tree)
    else
        copyto!(slope, to_p)
    end
    return copyto!(bar, to_y0)
end

function PyNODE.adjoint_path(rhs::RightHandSide{T}, algorithm, steps::Steps, t0, method, vjp) where {T}
    sensealg, written = METHODS[method](VJPS[vjp]), vjp == "written" && !(method in WHOLE_ARRAYS)
    f = written ? ODEFunction{true, SciMLBase.FullSpecialize}(rhs; products(rhs)...) :
        ODEFunction{false, SciMLBase.FullSpecialize}(lux_function(rhs.network.field))
    span, stepping = (T(t0), T(last(steps.stops))), keywords(T, steps)
    run(y0, p) = SciMLBase.solve(ODEProblem(f, y0, span, p), algorithm; sensealg, stepping...)
    return PyNODE.zygote_path(rhs, run, !written)
end

function lux_function(field)
    chain = PyNODE.lux_chain(field)
    states = PyNODE.lux_states(chain)
    return (y, p, t) -> PyNODE.lux_apply(field, chain, p, states, t, y)
end

"""The written-out products with the Jacobians of a field, as SciMLBase names them."""
function products(rhs::RightHandSide{T}) where {T}
    network, tape = rhs.network, new_tape(rhs.network)
    scratch = zeros(T, state_size(network.field) * network.batch)
    last_bar, last_y, last_t = similar(scratch), similar(scratch), Ref(T(NaN))
    weights_bar = zeros(T, weights_length(network.field))
    function both!(bar, y, t)
        PyNODE.forward!(scratch, network, t, y, tape)
        copyto!(last_bar, bar)
        copyto!(last_y, y)
        last_t[] = t
        PyNODE.pullback!(copyto!(scratch, bar), network, tape)
        PyNODE.unload_gradient!(weights_bar, network)
        return scratch
    end
    vjp(out, bar, y, p, t) = (copyto!(out, both!(bar, y, t)); nothing)
    function vjp_p(out, bar, y, p, t)
        # The product with the state's Jacobian, asked for just before, has this one too.
        last_t[] == t && last_bar == bar && last_y == y || both!(bar, y, t)
        copyto!(out, weights_bar)
        return nothing
    end
    return (; vjp, vjp_p)
end

# An adjoint interpolates the forward solve: what it saves is left to SciMLSensitivity.
function keywords(::Type{T}, steps::Steps) where {T}
    common = (; saveat = [T(last(steps.stops))], save_start = false, verbose = PyNODE.SILENT,
        maxiters = steps.max_steps)
    if PyNODE.fixed(steps)
        tight = 16 * eps(T)
        return (; common..., adaptive = false, dt = T(steps.dt), tstops = T.(steps.ends),
            reltol = tight, abstol = tight)
    end
    return (; common..., reltol = T(steps.rtol), abstol = T(steps.atol))
end

end
