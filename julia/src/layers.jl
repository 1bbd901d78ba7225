# A vector field's layers as data: the twins of pynode_jl/fields.py.

"""One layer. `kind` is `:dense`, `:conv` or `:activation`; `code` numbers the activation."""
struct Layer
    kind::Symbol
    inputs::Int
    outputs::Int
    kernel::Int
    axes::Int
    code::Int
end

Dense(inputs::Integer, outputs::Integer) = Layer(:dense, inputs, outputs, 1, 0, 0)

"""A convolution over `axes` axes, stride 1, with the zero padding that keeps their lengths."""
function Conv(inputs::Integer, outputs::Integer, kernel::Integer, axes::Integer)
    isodd(kernel) || throw(ArgumentError("kernel = $kernel: expected an odd length."))
    return Layer(:conv, inputs, outputs, kernel, axes, 0)
end

function Activation(name::AbstractString)
    code = findfirst(==(name), ACTIVATIONS)
    isnothing(code) && throw(ArgumentError(
        "activation = \"$name\": expected one of $(join(ACTIVATIONS, ", "))."))
    return Layer(:activation, 0, 0, 1, 0, code)
end

weighted(layer::Layer) = layer.kind !== :activation

"""Numbers in a layer's weight array."""
weight_length(layer::Layer) = layer.inputs * layer.outputs * layer.kernel^layer.axes

"""
    VectorField(shape, time_dependent, layers...)

The right-hand side of an ODE as a chain of layers. `shape` is that of one sample's state as Python
gives it: `(d,)` or `(channels, height, width)`.
"""
struct VectorField
    shape::Tuple{Vararg{Int}}
    time_dependent::Bool
    layers::Vector{Layer}
end

function VectorField(shape::Tuple, time_dependent::Bool, layers::Layer...)
    return VectorField(Int.(shape), time_dependent, collect(layers))
end

state_size(field::VectorField) = prod(field.shape)
time_dependent(field::VectorField) = field.time_dependent

"""Spatial axes of the layers: 0 (dense), 1 or 2."""
spatial_axes(field::VectorField) = field.layers[something(findfirst(weighted, field.layers))].axes

"""Lengths of two spatial axes in memory order, the last of Python's first; 1 for a missing one."""
function spatial(field::VectorField)
    axes, shape = spatial_axes(field), field.shape
    return axes == 0 ? (1, 1) : axes == 1 ? (shape[1], 1) : (shape[3], shape[2])
end

"""Width of the axis that the layers act on."""
features(field::VectorField) = spatial_axes(field) == 1 ? 1 : field.shape[1]

"""Numbers in all weights, in the order of Python's `weight_shapes()`: weight, bias, weight, ..."""
function weights_length(field::VectorField)
    return sum(weight_length(layer) + layer.outputs for layer in field.layers if weighted(layer))
end
