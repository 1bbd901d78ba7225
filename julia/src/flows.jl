# Continuous normalising flows: a field beside the divergence that is integrated along its way. The
# divergence is a sum of tangents, which run through the layers as further samples of the batch; the
# reverse derivative is written out for both.

"""
    LogDensityField(inner, noisy)

The twin of pynode_jl/fields.py's. A state is the inner field's d numbers, the integral of the
divergence, and d numbers of noise where the divergence is estimated by it (`noisy`).
"""
struct LogDensityField
    inner::VectorField
    noisy::Bool
end

state_size(field::LogDensityField) = (1 + field.noisy) * state_size(field.inner) + 1
time_dependent(field::LogDensityField) = time_dependent(field.inner)
weights_length(field::LogDensityField) = weights_length(field.inner)

"""Directions in which the inner field is differentiated: the noise alone, or every axis."""
tangents(field::LogDensityField) = field.noisy ? 1 : state_size(field.inner)

"""
A `LogDensityField` made to run. The batch of `inner` is that of the samples, and then as many again
for each tangent; `columns` has its flat states, `others` those of the samples alone.
"""
struct DensityNetwork{T} <: AbstractNetwork{T}
    field::LogDensityField
    batch::Int
    inner::Network{T}
    columns::Vector{T}
    others::Vector{T}
    # Of one column of the widest layer.
    slope::Vector{T}
    bend::Vector{T}
end

function DensityNetwork{T}(field::LogDensityField, batch::Integer) where {T}
    inner, d = Network{T}(field.inner, batch * (1 + tangents(field))), state_size(field.inner)
    widest = maximum(out -> size(out, 1), inner.tape.outputs)
    network = DensityNetwork{T}(field, batch, inner, zeros(T, d * inner.batch),
        zeros(T, d * batch), zeros(T, widest), zeros(T, widest))
    point_tangents!(inner.tape, network)
    return network
end

function RightHandSide(field::LogDensityField, batch::Integer, ::Type{T}) where {T}
    return RightHandSide(DensityNetwork{T}(field, batch))
end

load!(network::DensityNetwork, flat::AbstractVector) = (load!(network.inner, flat); network)
unload_gradient!(flat::AbstractVector, network::DensityNetwork) =
    unload_gradient!(flat, network.inner)
new_tape(network::DensityNetwork) = point_tangents!(new_tape(network.inner), network)
tape_length(network::DensityNetwork) = tape_length(network.inner)
allocate(network::DensityNetwork, lengths::Integer...) = allocate(network.inner, lengths...)
on_device(::DensityNetwork, x) = copy(x)

function network_for(rhs::RightHandSide{<:Any, <:DensityNetwork}, ::Type{S}) where {S}
    network = get!(rhs.others, S) do
        (; field, batch, inner) = rhs.network
        copied = DensityNetwork{S}(field, batch)
        copy_weights!(copied.inner, inner)
        copied
    end
    return network::DensityNetwork{S}
end

# The time's derivative of a divergence is one of second order: dual numbers have it.
function derivatives(rhs::RightHandSide{<:Any, <:DensityNetwork}, y0)
    jac = FieldJacobian(rhs)
    return jac, time_dependent(rhs.network.field) ? TimeDual(rhs) : TimeDerivative(jac)
end

"""The part of a matrix of the inner network that belongs to the samples, or to the tangents."""
samples(x, network::DensityNetwork) = view(x, :, 1:(size(x, 2) ÷ (1 + tangents(network.field))))
function directions(x, network::DensityNetwork)
    return view(x, :, (size(x, 2) ÷ (1 + tangents(network.field)) + 1):size(x, 2))
end

"""Write the axes, the tangents of an exact divergence, to a tape, where they stay."""
function point_tangents!(tape::Tape{T}, network::DensityNetwork{T}) where {T}
    (; field, batch) = network
    field.noisy && return tape
    d = state_size(field.inner)
    axes_of_all = zeros(T, d, batch, d)
    for axis in 1:d
        axes_of_all[axis, :, axis] .= 1
    end
    load_state!(directions(tape.input, network), field.inner, zero(T), axes_of_all)
    return tape
end

function forward!(dy, network::DensityNetwork, t, y, tape::Tape = network.inner.tape)
    (; field, batch, inner, columns, others, slope) = network
    d = state_size(field.inner)
    load_state!(samples(tape.input, network), field.inner, t, part!(others, y, 0, network))
    # The time is no part of a direction.
    field.noisy && load_state!(directions(tape.input, network), field.inner, zero(eltype(others)),
        part!(others, y, d + 1, network))
    for (i, op) in enumerate(inner.operations)
        x, out = tape.inputs[i], tape.outputs[i]
        own, code = samples(out, network), activation(op)
        if op.form == NONLINEAR
            copyto!(out, x)
            activate!(own, samples(x, network), code)
        else
            op.form == WINDOWS &&
                (x = gather!(tape.windows[i], x, op.layer, spatial(field.inner)))
            multiply!(out, op.weight, x)
            finish!(own, op.bias, code)
        end
        code == 0 || with_derivatives(push_tangents!, code, out, seen(op, tape, i), size(own, 2),
            slope)
    end
    store_state!(columns, tape.output, field.inner)
    rows, tangent = state_size(field), d * batch
    @inbounds for sample in 1:batch
        start, own, divergence = (sample - 1) * rows, (sample - 1) * d, zero(eltype(columns))
        for i in 1:d
            dy[start + i] = columns[own + i]
            if field.noisy
                divergence += y[start + d + 1 + i] * columns[tangent + own + i]
                dy[start + d + 1 + i] = 0
            else
                divergence += columns[i * tangent + own + i]
            end
        end
        dy[start + d + 1] = divergence
    end
    return dy
end

activation(op::Operation) = op.form == NONLINEAR ? op.layer.code : op.activation

"""What the derivatives of operation i's activation are taken from: see `FROM_OUTPUT`."""
seen(op::Operation, tape, i) = activation(op) in FROM_OUTPUT ? tape.outputs[i] : tape.inputs[i]

"""The d numbers of each sample's state behind the first `skipped` ones, into `to`."""
function part!(to, y, skipped, network::DensityNetwork)
    d, rows = state_size(network.field.inner), state_size(network.field)
    @inbounds for sample in 1:(network.batch), i in 1:d
        to[(sample - 1) * d + i] = y[(sample - 1) * rows + skipped + i]
    end
    return to
end

function pullback!(bar, network::DensityNetwork, tape::Tape; weights::Bool = true)
    (; field, inner, slope, bend) = network
    (; operations, gradient, bars) = inner
    spread_cotangents!(bar, network, tape)
    for i in length(operations):-1:1
        op, total, x = operations[i], gradient[i], tape.inputs[i]
        x_bar, out_bar = bars.inputs[i], bars.outputs[i]
        own, code = samples(out_bar, network), activation(op)
        if code == 0
            pull_finish!(own, weights ? total.bias : nothing, own, 0)
        else
            with_derivatives(pull_tangents!, code, out_bar, total.bias,
                weights && op.form != NONLINEAR, seen(op, tape, i), size(own, 2), slope, bend)
        end
        to_weights = weights ? total.weight : nothing
        if op.form == NONLINEAR
            copyto!(x_bar, out_bar)
        elseif op.form == WINDOWS
            pull_multiply!(bars.windows[i], to_weights, op.weight, tape.windows[i], out_bar)
            scatter!(x_bar, bars.windows[i], op.layer, spatial(field.inner))
        else
            pull_multiply!(x_bar, to_weights, op.weight, x, out_bar)
        end
    end
    return gather_cotangents!(bar, network, tape)
end

"""Cotangents of the inner network's output, for `bar`, those of slopes and divergences."""
function spread_cotangents!(bar, network::DensityNetwork, tape)
    (; field, batch, inner, columns, others) = network
    d, rows = state_size(field.inner), state_size(field)
    field.noisy ? store_state!(others, directions(tape.input, network), field.inner) :
    fill!(columns, 0)
    tangent = d * batch
    @inbounds for sample in 1:batch
        start, own = (sample - 1) * rows, (sample - 1) * d
        for i in 1:d
            columns[own + i] = bar[start + i]
            if field.noisy
                columns[tangent + own + i] = others[own + i] * bar[start + d + 1]
            else
                columns[i * tangent + own + i] = bar[start + d + 1]
            end
        end
    end
    return load_state!(inner.bars.output, field.inner, nothing, columns)
end

"""Cotangents of the states over `bar`, for those of the inner network's input."""
function gather_cotangents!(bar, network::DensityNetwork, tape)
    (; field, batch, inner, columns, others) = network
    d, rows = state_size(field.inner), state_size(field)
    store_state!(columns, inner.bars.input, field.inner)
    field.noisy && store_state!(others, directions(tape.output, network), field.inner)
    tangent = d * batch
    @inbounds for sample in 1:batch
        start, own = (sample - 1) * rows, (sample - 1) * d
        for i in 1:d
            bar[start + i] = columns[own + i]
            # The noise is a factor of the divergence, and the tangent's direction.
            field.noisy && (bar[start + d + 1 + i] = columns[tangent + own + i] +
                                                     bar[start + d + 1] * others[own + i])
        end
        bar[start + d + 1] = 0
    end
    return bar
end

function time_cotangent(network::DensityNetwork{T}) where {T}
    field = network.field.inner
    field.time_dependent || return zero(T)
    return sum(view(samples(network.inner.bars.input, network), features(field) + 1, :))
end
