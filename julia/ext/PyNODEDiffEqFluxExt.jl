# DiffEqFlux's NeuralODE as it comes: what this package's own gradients are held against.

module PyNODEDiffEqFluxExt

using DiffEqFlux: NeuralODE
using Lux: Lux
using PyNODE: PyNODE, RightHandSide, Steps, VectorField

"""A field's Lux chain on flat states, as `NeuralODE`'s model. `NeuralODE` hands it no time."""
struct FlatChain{C} <: Lux.AbstractLuxWrapperLayer{:chain}
    field::VectorField
    chain::C
end

function (model::FlatChain)(y, parameters, states)
    return PyNODE.lux_apply(model.field, model.chain, parameters, states, nothing, y), states
end

function PyNODE.node_path(rhs::RightHandSide{T}, algorithm, steps::Steps, t0) where {T}
    field = rhs.network.field
    field.time_dependent && throw(ArgumentError(
        "time_dependent = true: allowed is false, DiffEqFlux's NeuralODE hands a model no time."))
    chain = PyNODE.lux_chain(field)
    stepping = PyNODE.fixed(steps) ? (; adaptive = false, dt = T(steps.dt), tstops = T.(steps.ends)) :
               (; reltol = T(steps.rtol), abstol = T(steps.atol))
    node = NeuralODE(FlatChain(field, chain), (T(t0), T(last(steps.stops))), algorithm;
        saveat = [T(last(steps.stops))], save_start = false, maxiters = steps.max_steps, stepping...)
    states = PyNODE.lux_states(chain)
    return PyNODE.zygote_path(rhs, (y0, p) -> first(node(y0, p, states)), true)
end

end
