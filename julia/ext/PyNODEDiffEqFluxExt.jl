# DiffEqFlux's NeuralODE as it comes: what this package's own gradients are held against.

module PyNODEDiffEqFluxExt

using ComponentArrays: ComponentArray
using DiffEqFlux: DiffEqFlux, NeuralODE
using Lux: Lux
using PyNODE: PyNODE, AbstractPath, RightHandSide, Steps, VectorField, weights_length
using Zygote: Zygote

"""
A field's Lux chain on flat states, as `NeuralODE`'s model. It has no time: `NeuralODE` gives none.
"""
struct FlatChain{C} <: Lux.AbstractLuxWrapperLayer{:chain}
    field::VectorField
    chain::C
end

function (model::FlatChain)(y, parameters, states)
    return PyNODE.lux_apply(model.field, model.chain, parameters, states, nothing, y), states
end

mutable struct NodePath{T, R, N, P, S} <: AbstractPath{T}
    const rhs::R
    const node::N
    const states::S
    parameters::P
    back::Any
end

PyNODE.network(path::NodePath) = path.rhs.network

function PyNODE.node_path(rhs::RightHandSide{T}, algorithm, steps::Steps, t0) where {T}
    field = rhs.network.field
    field.time_dependent && throw(ArgumentError(
        "time_dependent = true: allowed is false, DiffEqFlux's NeuralODE hands no time to a model."))
    chain = PyNODE.lux_chain(field)
    stepping = PyNODE.fixed(steps) ? (; adaptive = false, dt = T(steps.dt)) :
               (; reltol = T(steps.rtol), abstol = T(steps.atol))
    node = NeuralODE(FlatChain(field, chain), (T(t0), T(last(steps.stops))), algorithm;
        save_everystep = false, save_start = false, maxiters = steps.max_steps, stepping...)
    parameters = lux_vector(field, zeros(T, weights_length(field)))
    states = PyNODE.lux_states(chain)
    return NodePath{T, typeof(rhs), typeof(node), typeof(parameters), typeof(states)}(
        rhs, node, states, parameters, nothing)
end

lux_vector(field, flat) = ComponentArray(PyNODE.lux_parameters(field, flat))

function PyNODE.load!(path::NodePath, flat)
    PyNODE.load!(path.rhs, flat)
    path.parameters = lux_vector(path.rhs.network.field, flat)
    return path
end

function PyNODE.follow!(path::NodePath, y0)
    nf, code = Ref(0), Ref("")
    y1, path.back = Zygote.pullback(y0, path.parameters) do y0, p
        solution = first(path.node(y0, p, path.states))
        Zygote.ignore() do
            nf[], code[] = solution.stats.nf, string(solution.retcode)
        end
        return solution.u[end]
    end
    code[] in ("Success", "Terminated", "Default") || return y1, nf[], code[]
    return y1, nf[], all(isfinite, y1) ? "Success" : "Unstable"
end

function PyNODE.pull!(bar, slope, path::NodePath)
    to_y0, to_p = path.back(copy(bar))
    PyNODE.flat_parameters!(slope, path.rhs.network.field, NamedTuple(to_p))
    return copyto!(bar, to_y0)
end

end
