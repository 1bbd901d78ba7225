# Fields as Lux chains: what DiffEqFlux takes, what Zygote differentiates, and what runs on a GPU.

module PyNODELuxExt

using ComponentArrays: ComponentArray, getaxes, getdata
using Lux: Lux
using PyNODE: PyNODE, AbstractNetwork, Layer, VectorField, features, spatial,
              spatial_axes, weight_length, weighted, weights_length
using Random: Xoshiro
using Zygote: Zygote

# Scalar functions of activations.jl, by name.
function lux_layer(layer::Layer)
    layer.kind === :dense && return Lux.Dense(layer.inputs => layer.outputs)
    # Python's convolutions do not flip their kernels.
    layer.kind === :conv && return Lux.Conv(ntuple(_ -> layer.kernel, layer.axes),
        layer.inputs => layer.outputs; pad = layer.kernel ÷ 2, cross_correlation = true)
    return Lux.WrappedFunction(Base.Broadcast.BroadcastFunction(PyNODE.SCALARS[layer.code]))
end

PyNODE.lux_chain(field::VectorField) = Lux.Chain(map(lux_layer, field.layers)...)

# Lengths of a layer's weight: in memory as Python has it, which is Lux's but for a dense layer.
function weight_lengths(layer::Layer)
    return (ntuple(_ -> layer.kernel, layer.axes)..., layer.inputs, layer.outputs)
end

function PyNODE.lux_parameters(field::VectorField, flat::AbstractVector)
    offset, names = 0, ntuple(i -> Symbol(:layer_, i), length(field.layers))
    values = map(field.layers) do layer
        weighted(layer) || return NamedTuple()
        n = weight_length(layer)
        weight = reshape(flat[offset .+ (1:n)], weight_lengths(layer))
        bias = flat[(offset + n) .+ (1:layer.outputs)]
        offset += n + layer.outputs
        return (; weight = layer.kind === :dense ? permutedims(weight) : weight, bias)
    end
    return NamedTuple{names}(Tuple(values))
end

function PyNODE.flat_parameters!(flat::AbstractVector, field::VectorField, tree)
    offset = 0
    for (i, layer) in enumerate(field.layers)
        weighted(layer) || continue
        values = getproperty(tree, Symbol(:layer_, i))
        n = weight_length(layer)
        # A gradient has no entry for what plays no part.
        for (name, start, count) in ((:weight, offset, n), (:bias, offset + n, layer.outputs))
            value = isnothing(values) ? nothing : getproperty(values, name)
            target = view(flat, start .+ (1:count))
            if isnothing(value)
                fill!(target, 0)
            else
                host = Array(value)
                copyto!(target, name === :weight && layer.kind === :dense ? permutedims(host) : host)
            end
        end
        offset += n + layer.outputs
    end
    return flat
end

"""A user's own Lux layer on states of `shape` (Python's); its weights are one flat vector."""
struct LayerField{L, S, A}
    layer::L
    states::S
    axes::A
    weights_length::Int
    shape::Tuple{Vararg{Int}}
end

function PyNODE.layer_field(layer::Lux.AbstractLuxLayer, shape::Tuple, seed::Integer)
    parameters, states = Lux.setup(Xoshiro(seed), layer)
    flat = ComponentArray(parameters)
    field = LayerField(layer, states, getaxes(flat), length(flat), Int.(shape))
    return field, Vector{Float32}(getdata(flat))
end

PyNODE.lux_chain(field::LayerField) = field.layer
PyNODE.lux_parameters(field::LayerField, flat::AbstractVector) =
    ComponentArray(collect(flat), field.axes)
PyNODE.flat_parameters!(flat::AbstractVector, ::LayerField, tree) =
    copyto!(flat, Array(getdata(tree)))
PyNODE.state_size(field::LayerField) = prod(field.shape)
PyNODE.time_dependent(::LayerField) = false
PyNODE.weights_length(field::LayerField) = field.weights_length
lux_input(field::LayerField, y, t) = reshape(y, reverse(field.shape)..., :)

"""
Flat states in Lux's shape, the time as a last channel where the field depends on it. The time is a
number, or that channel.
"""
function lux_input(field::VectorField, y, t)
    x = lux_shape(field, y)
    field.time_dependent || return x
    time = t isa AbstractArray ? t : Zygote.ignore(() -> time_channel(field, y, t))
    return cat(x, time; dims = ndims(x) - 1)
end

lux_shape(field::VectorField, y) =
    reshape(y, spatial(field)[1:spatial_axes(field)]..., features(field), :)

function time_channel(field::VectorField, y, t)
    x = lux_shape(field, y)
    return fill!(similar(x, ntuple(i -> i == ndims(x) - 1 ? 1 : size(x, i), ndims(x))), t)
end

PyNODE.lux_states(chain) = Lux.initialstates(Xoshiro(0), chain)

function PyNODE.lux_apply(field, chain, parameters, states, t, y)
    return vec(first(chain(lux_input(field, y, t), parameters, states)))
end

"""A field as a Lux chain, its reverse derivative by Zygote: on any array type."""
mutable struct LuxNetwork{T, F, C, P, S, D} <: AbstractNetwork{T}
    const field::F
    const batch::Int
    const chain::C
    const states::S
    const to::D # a host's array to one of the device
    parameters::P
    gradient::Any
    time_bar::T # of the last pullback
end

function PyNODE.lux_network(field, batch::Integer, ::Type{T}, to) where {T}
    chain, flat = PyNODE.lux_chain(field), zeros(T, weights_length(field))
    states = PyNODE.lux_states(chain)
    parameters = on(to, PyNODE.lux_parameters(field, flat))
    return LuxNetwork{T, typeof(field), typeof(chain), typeof(parameters), typeof(states),
        typeof(to)}(field, batch, chain, states, to, parameters, nothing, zero(T))
end

on(to, tree::NamedTuple) = map(value -> on(to, value), tree)
on(to, array::ComponentArray) = ComponentArray(to(getdata(array)), getaxes(array))
on(to, array::AbstractArray) = to(array)

PyNODE.allocate(network::LuxNetwork{T}, lengths::Integer...) where {T} =
    network.to(zeros(T, lengths...))
PyNODE.on_device(network::LuxNetwork, x) = network.to(copy(x))
PyNODE.new_tape(::LuxNetwork) = Ref{Any}()
# What Zygote keeps is not known: the evaluations of one step at a time.
PyNODE.tape_length(::LuxNetwork) = PyNODE.KEPT_NUMBERS + 1

function PyNODE.load!(network::LuxNetwork, flat::AbstractVector)
    network.parameters = on(network.to, PyNODE.lux_parameters(network.field, flat))
    return network
end

function PyNODE.forward!(dy, network::LuxNetwork, t, y)
    (; field, chain, parameters, states) = network
    return copyto!(dy, PyNODE.lux_apply(field, chain, parameters, states, t, y))
end

function PyNODE.forward!(dy, network::LuxNetwork, t, y, tape::Base.RefValue)
    (; field, chain, parameters, states) = network
    time = PyNODE.time_dependent(field) ? time_channel(field, y, t) : t
    out, tape[] = Zygote.pullback(copy(y), parameters, time) do y, parameters, time
        PyNODE.lux_apply(field, chain, parameters, states, time, y)
    end
    return copyto!(dy, out)
end

function PyNODE.pullback!(bar, network::LuxNetwork{T}, tape::Base.RefValue;
        weights::Bool = true) where {T}
    to_state, to_weights, to_time = tape[](copy(bar))
    network.time_bar = isnothing(to_time) ? zero(T) : sum(to_time)
    isnothing(to_state) ? fill!(bar, 0) : copyto!(bar, to_state)
    weights && (network.gradient = Zygote.accum(network.gradient, to_weights))
    return bar
end

PyNODE.time_cotangent(network::LuxNetwork) = network.time_bar

function PyNODE.unload_gradient!(flat::AbstractVector, network::LuxNetwork)
    isnothing(network.gradient) ? fill!(flat, 0) :
    PyNODE.flat_parameters!(flat, network.field, network.gradient)
    network.gradient = nothing
    return flat
end

function PyNODE.network_for(::PyNODE.RightHandSide{T, <:LuxNetwork}, ::Type) where {T}
    throw(ArgumentError("a Lux layer or a field on a device takes numbers of its own type only: " *
        "allowed is an explicit solver."))
end

end
