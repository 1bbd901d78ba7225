# A vector field made to run: buffers allocated once, matrix products in place, a written-out
# reverse derivative. Features come first in every buffer, `(features, positions * batch)`, so that
# a dense layer and a convolution are both one matrix product.

"""How a layer with weights is run."""
@enum Form begin
    PRODUCT   # kernel 1 or dense: weight * features
    TOEPLITZ  # a line no longer than the kernel: one small matrix over all its positions
    WINDOWS   # gather the neighbours of each position, then PRODUCT
    NONLINEAR # no weights
end

"""
A layer with what it needs at run time. `offset` is where its weights start in the flat vector;
`activation` is the code of the activation behind it that is applied in place, 0 for none.
"""
struct Operation{T}
    layer::Layer
    form::Form
    activation::Int
    offset::Int
    weight::Matrix{T}
    bias::Vector{T}
end

"""
The arrays of one evaluation, kept for the reverse derivative: `inputs[i]` and `outputs[i]` of
operation i, in its own shape, and the gathered neighbours of a convolution. `input` and `output` are
the first and the last of them, (features, positions * batch).
"""
struct Tape{T}
    input::Matrix{T}
    inputs::Vector{Matrix{T}}
    windows::Vector{Matrix{T}}
    outputs::Vector{Matrix{T}}
    output::Matrix{T}
end

"""
A vector field made to run on batches of states of element type `T`: it has a `field`, a `batch`,
and methods of `load!`, `forward!`, `pullback!`, `time_cotangent`, `unload_gradient!`, `new_tape`,
`tape_length`, `allocate` and `on_device`.
"""
abstract type AbstractNetwork{T} end

"""
    Network{T}(field, batch)

`field` for batches of `batch` states of element type `T`. `load!` gives it weights; `forward!` and
`pullback!` run it; `gradient` collects what pullbacks add; `bars` are the cotangents of the last one.
"""
struct Network{T} <: AbstractNetwork{T}
    field::VectorField
    batch::Int
    operations::Vector{Operation{T}}
    gradient::Vector{Operation{T}}
    tape::Tape{T}
    bars::Tape{T}
end

function Network{T}(field::VectorField, batch::Integer) where {T}
    operations, offset, i = Operation{T}[], 0, 1
    while i <= length(field.layers)
        layer = field.layers[i]
        i += 1
        next = i <= length(field.layers) ? field.layers[i].code : 0
        # One buffer for both, where the output alone tells the derivative.
        fused = weighted(layer) && next in FROM_OUTPUT
        push!(operations, operation(T, layer, form_of(layer, field), fused ? next : 0, offset,
            spatial(field)))
        weighted(layer) && (offset += weight_length(layer) + layer.outputs)
        fused && (i += 1)
    end
    return Network{T}(field, batch, operations, map(zero_like, operations),
        Tape{T}(field, operations, batch), Tape{T}(field, operations, batch))
end

function form_of(layer::Layer, field::VectorField)
    weighted(layer) || return NONLINEAR
    layer.kernel == 1 && return PRODUCT
    layer.axes == 1 && first(spatial(field)) <= layer.kernel && return TOEPLITZ
    return WINDOWS
end

function operation(::Type{T}, layer, form, activation, offset, lengths) where {T}
    form == NONLINEAR && return Operation{T}(layer, form, 0, offset, zeros(T, 0, 0), zeros(T, 0))
    taps = layer.kernel^layer.axes
    repeats = form == TOEPLITZ ? first(lengths) : 1
    columns = form == TOEPLITZ ? repeats * layer.inputs : taps * layer.inputs
    return Operation{T}(layer, form, activation, offset, zeros(T, repeats * layer.outputs, columns),
        zeros(T, repeats * layer.outputs))
end

function zero_like(op::Operation{T}) where {T}
    return Operation{T}(op.layer, op.form, op.activation, op.offset, zero(op.weight), zero(op.bias))
end

function Tape{T}(field::VectorField, operations, batch) where {T}
    positions = prod(spatial(field)) * batch
    width = features(field) + field.time_dependent
    input = x = zeros(T, width, positions)
    inputs, windows, outputs = Matrix{T}[], Matrix{T}[], Matrix{T}[]
    for op in operations
        push!(inputs, in_shape(x, op, 2))
        rows = op.form == WINDOWS ? size(op.weight, 2) : 0
        push!(windows, zeros(T, rows, rows == 0 ? 0 : positions))
        width = weighted(op.layer) ? op.layer.outputs : width
        x = zeros(T, width, positions)
        push!(outputs, in_shape(x, op, 1))
    end
    return Tape{T}(input, inputs, windows, outputs, x)
end

"""An operation's input (dimension 2 of its weight) or output (1) as it takes it: the same memory."""
in_shape(x, op::Operation, dimension) =
    op.form == TOEPLITZ ? reshape(x, size(op.weight, dimension), :) : x

"""Zeros where the network's states live."""
allocate(::Network{T}, lengths::Integer...) where {T} = zeros(T, lengths...)

"""A copy of a host's array where the network's states live."""
on_device(::Network, x) = copy(x)

"""A new tape for `network`."""
new_tape(network::Network{T}) where {T} = Tape{T}(network.field, network.operations, network.batch)

"""Numbers that one tape holds."""
function tape_length(network::Network)
    tape = network.tape
    return length(tape.input) + sum(length, tape.outputs) + sum(length, tape.windows)
end

"""Take over the weights `flat`, in Python's order and layouts."""
function load!(network::Network, flat::AbstractVector)
    for op in network.operations
        op.form == NONLINEAR && continue
        layer, taps = op.layer, op.layer.kernel^op.layer.axes
        # Python's (out, in, taps...), the last one fastest: (taps, in, out) here.
        source = reshape(view(flat, op.offset .+ (1:weight_length(layer))),
            taps, layer.inputs, layer.outputs)
        bias = view(flat, op.offset + weight_length(layer) .+ (1:layer.outputs))
        visit_weights(op) do row, column, tap, input, output
            op.weight[row, column] = source[tap, input, output]
        end
        for i in eachindex(op.bias)
            op.bias[i] = bias[mod1(i, layer.outputs)]
        end
    end
    return network
end

"""Take over the weights of a network of the same field, of another element type."""
function copy_weights!(network::Network, other::Network)
    for (to, from) in zip(network.operations, other.operations)
        copyto!(to.weight, from.weight)
        copyto!(to.bias, from.bias)
    end
    return network
end

"""Write the collected gradient to `flat`, in Python's order and layouts, and clear it."""
function unload_gradient!(flat::AbstractVector, network::Network)
    fill!(flat, 0)
    for op in network.gradient
        op.form == NONLINEAR && continue
        layer, taps = op.layer, op.layer.kernel^op.layer.axes
        target = reshape(view(flat, op.offset .+ (1:weight_length(layer))),
            taps, layer.inputs, layer.outputs)
        bias = view(flat, op.offset + weight_length(layer) .+ (1:layer.outputs))
        visit_weights(op) do row, column, tap, input, output
            target[tap, input, output] += op.weight[row, column]
        end
        for i in eachindex(op.bias)
            bias[mod1(i, layer.outputs)] += op.bias[i]
        end
        fill!(op.weight, 0)
        fill!(op.bias, 0)
    end
    return flat
end

"""Call `visit(row, column, tap, input, output)` for every place where a weight stands."""
function visit_weights(visit::F, op::Operation) where {F}
    layer, taps = op.layer, op.layer.kernel^op.layer.axes
    if op.form == TOEPLITZ
        half, positions = layer.kernel ÷ 2, size(op.weight, 1) ÷ layer.outputs
        for to in 1:positions, from in 1:positions, input in 1:(layer.inputs),
            output in 1:(layer.outputs)

            tap = from - to + half + 1
            1 <= tap <= layer.kernel || continue
            visit((to - 1) * layer.outputs + output, (from - 1) * layer.inputs + input, tap,
                input, output)
        end
    else
        for tap in 1:taps, input in 1:(layer.inputs), output in 1:(layer.outputs)
            visit(output, (tap - 1) * layer.inputs + input, tap, input, output)
        end
    end
    return nothing
end

"""
    forward!(dy, network, t, y, tape = network.tape)

`dy = f(t, y)` for a batch of states, both flat vectors in Python's layout.
"""
function forward!(dy, network::Network, t, y, tape::Tape = network.tape)
    load_state!(tape.input, network.field, t, y)
    for (i, op) in enumerate(network.operations)
        x, out = tape.inputs[i], tape.outputs[i]
        if op.form == NONLINEAR
            activate!(out, x, op.layer.code)
        elseif op.form == WINDOWS
            gather!(tape.windows[i], x, op.layer, spatial(network.field))
            product!(out, op, tape.windows[i])
        else
            product!(out, op, x)
        end
    end
    store_state!(dy, tape.output, network.field)
    return dy
end

"""
    pullback!(bar, network, tape; weights = true)

The cotangent of the state for a cotangent `bar` of the derivative at the evaluation that `tape`
holds, written over `bar`; what it gives to the weights is added to `network.gradient`, if wanted.
"""
function pullback!(bar, network::Network, tape::Tape; weights::Bool = true)
    (; operations, gradient, bars) = network
    load_state!(bars.output, network.field, nothing, bar)
    for i in length(operations):-1:1
        op, total, x = operations[i], gradient[i], tape.inputs[i]
        x_bar, out_bar, out = bars.inputs[i], bars.outputs[i], tape.outputs[i]
        if op.form == NONLINEAR
            copyto!(x_bar, out_bar)
            pull_activation!(x_bar, x, out, op.layer.code)
        elseif op.form == WINDOWS
            pull_product!(bars.windows[i], total, op, tape.windows[i], out_bar, out, weights)
            scatter!(x_bar, bars.windows[i], op.layer, spatial(network.field))
        else
            pull_product!(x_bar, total, op, x, out_bar, out, weights)
        end
    end
    # A time-dependent field's last input row is the time: it is no part of the state.
    store_state!(bar, bars.input, network.field)
    return bar
end

"""The cotangent of the time, after `pullback!`."""
function time_cotangent(network::Network{T}) where {T}
    network.field.time_dependent || return zero(T)
    return sum(view(network.bars.input, features(network.field) + 1, :))
end

"""
    push_time!(dT, network, tape)

The partial derivative by the time of a time-dependent field, at the evaluation that `tape` holds.
"""
function push_time!(dT, network::Network, tape::Tape)
    # Where a pullback has the cotangents.
    field, tangents = network.field, network.bars
    fill!(tangents.input, 0)
    fill!(view(tangents.input, features(field) + 1, :), 1)
    for (i, op) in enumerate(network.operations)
        x, out = tangents.inputs[i], tangents.outputs[i]
        if op.form == NONLINEAR
            # Elementwise: the derivative forwards is the one backwards.
            copyto!(out, x)
            pull_activation!(out, tape.inputs[i], tape.outputs[i], op.layer.code)
        elseif op.form == WINDOWS
            mul!(out, op.weight, gather!(tangents.windows[i], x, op.layer, spatial(field)))
        else
            mul!(out, op.weight, x)
        end
        op.activation == 0 || pull_activation!(out, nothing, tape.outputs[i], op.activation)
    end
    return store_state!(dT, tangents.output, field)
end

"""`out = activation.(weight * x .+ bias)`."""
product!(out, op::Operation, x) = finish!(multiply!(out, op.weight, x), op.bias, op.activation)

"""
`out = weight * x`. One row or one column of weights is a loop: for so few numbers BLAS is slower.
"""
function multiply!(out, weight::Matrix{T}, x) where {T}
    if size(weight, 2) == 1
        @inbounds for j in axes(out, 2)
            value = x[1, j]
            @simd for i in axes(out, 1)
                out[i, j] = weight[i, 1] * value
            end
        end
    elseif size(weight, 1) == 1
        @inbounds for j in axes(out, 2)
            total = zero(T)
            @simd for i in axes(x, 1)
                total = muladd(weight[1, i], x[i, j], total)
            end
            out[1, j] = total
        end
    else
        mul!(out, weight, x)
    end
    return out
end

"""
The cotangent of a product's input into `x_bar`, for that of its output, `out_bar`, which becomes
that of the product alone; the weights' part is added to `total`, if `weights` are wanted.
"""
function pull_product!(x_bar, total, op::Operation, x, out_bar, out, weights::Bool)
    pull_finish!(out_bar, weights ? total.bias : nothing, out, op.activation)
    return pull_multiply!(x_bar, weights ? total.weight : nothing, op.weight, x, out_bar)
end

"""
The cotangent of the input of `multiply!` into `x_bar`, for `out_bar`, that of its output; that of
the weights is added to `total`, unless that is `nothing`.
"""
function pull_multiply!(x_bar, total, weight::Matrix{T}, x, out_bar) where {T}
    if size(weight, 2) == 1
        @inbounds for j in axes(out_bar, 2)
            sum = zero(T)
            @simd for i in axes(out_bar, 1)
                sum = muladd(weight[i, 1], out_bar[i, j], sum)
            end
            x_bar[1, j] = sum
        end
        isnothing(total) || @inbounds for j in axes(out_bar, 2)
            value = x[1, j]
            @simd for i in axes(out_bar, 1)
                total[i, 1] = muladd(value, out_bar[i, j], total[i, 1])
            end
        end
    elseif size(weight, 1) == 1
        @inbounds for j in axes(x_bar, 2)
            value = out_bar[1, j]
            @simd for i in axes(x_bar, 1)
                x_bar[i, j] = weight[1, i] * value
            end
        end
        isnothing(total) || @inbounds for j in axes(x, 2)
            value = out_bar[1, j]
            @simd for i in axes(x, 1)
                total[1, i] = muladd(value, x[i, j], total[1, i])
            end
        end
    else
        mul!(x_bar, transpose(weight), out_bar)
        isnothing(total) || mul!(total, out_bar, transpose(x), true, true)
    end
    return x_bar
end

"""States, flat and in Python's layout, into `(features, positions * batch)`; `t` as a last row."""
function load_state!(x, field::VectorField, t, y)
    width, pixels = features(field), prod(spatial(field))
    if spatial_axes(field) == 2
        @inbounds for n in 1:(size(x, 2) ÷ pixels), p in 1:pixels, c in 1:width
            x[c, (n - 1) * pixels + p] = y[((n - 1) * width + c - 1) * pixels + p]
        end
    elseif size(x, 1) == width
        copyto!(x, y)
    else
        @inbounds for j in axes(x, 2), i in 1:width
            x[i, j] = y[(j - 1) * width + i]
        end
    end
    size(x, 1) > width && fill!(view(x, width + 1, :), t)
    return x
end

function store_state!(y, x, field::VectorField)
    width, pixels = features(field), prod(spatial(field))
    if spatial_axes(field) == 2
        @inbounds for n in 1:(size(x, 2) ÷ pixels), p in 1:pixels, c in 1:width
            y[((n - 1) * width + c - 1) * pixels + p] = x[c, (n - 1) * pixels + p]
        end
    elseif size(x, 1) == width
        copyto!(y, x)
    else
        @inbounds for j in axes(x, 2), i in 1:width
            y[(j - 1) * width + i] = x[i, j]
        end
    end
    return y
end

"""The neighbours of each position, zero beyond the edge: `(taps * features, positions * batch)`."""
function gather!(windows, x, layer::Layer, lengths)
    width = layer.inputs
    each_neighbour(layer, lengths, size(x, 2)) do tap, to, from
        rows = (tap - 1) * width
        @inbounds if from == 0
            for i in 1:width
                windows[rows + i, to] = 0
            end
        else
            for i in 1:width
                windows[rows + i, to] = x[i, from]
            end
        end
    end
    return windows
end

"""The transpose of `gather!`."""
function scatter!(x_bar, window_bar, layer::Layer, lengths)
    width = layer.inputs
    fill!(x_bar, 0)
    each_neighbour(layer, lengths, size(x_bar, 2)) do tap, to, from
        rows = (tap - 1) * width
        from == 0 && return nothing
        @inbounds for i in 1:width
            x_bar[i, from] += window_bar[rows + i, to]
        end
    end
    return x_bar
end

"""Call `visit(tap, to, from)` for each position and tap; `from` is 0 beyond the edge."""
function each_neighbour(visit::F, layer::Layer, lengths, columns) where {F}
    half, kernel = layer.kernel ÷ 2, layer.kernel
    # The first axis runs fastest, here and in taps.
    width, height = lengths
    taps_down = layer.axes == 1 ? (0:0) : (-half:half)
    for sample in 0:(columns ÷ (width * height) - 1), row in 1:height, column in 1:width
        to = (sample * height + row - 1) * width + column
        tap = 0
        for down in taps_down, right in (-half):half
            tap += 1
            inside = 1 <= column + right <= width && 1 <= row + down <= height
            visit(tap, to, inside ? to + down * width + right : 0)
        end
    end
    return nothing
end
