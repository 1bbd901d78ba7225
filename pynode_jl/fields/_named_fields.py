"""Vector fields by name: those of the paper, a multilayer perceptron, and a linear field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

from pynode_jl._validation import flag, items
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields._vector_field import (
    Activation,
    ActivationName,
    Conv,
    Dense,
    Layer,
    VectorField,
    check_sizes,
    checked_shape,
)


def MLP(
    dim: int,
    *,
    width: int = 64,
    depth: int = 2,
    activation: ActivationName = "tanh",
    time_dependent: bool = False,
) -> VectorField:
    """Make a multilayer perceptron on states ``(dim,)`` with `depth` hidden layers of `width`.

    Args:
        dim: length of the state.
        width: units of a hidden layer.
        depth: hidden layers.
        activation: between the layers.
        time_dependent: whether t is a further input.

    Example:
        >>> pn.MLP(2, width=8, depth=1, time_dependent=True).weight_shapes()["layers.0.weight"]
        (8, 3)
    """
    check_sizes(dim=dim, width=width, depth=depth)
    flag("time_dependent", time_dependent)
    widths = [dim + time_dependent, *[width] * depth, dim]
    return VectorField((dim,), _chain(Dense, widths, activation), time_dependent)


def ConvField1d(
    dim: int,
    *,
    channels: int = 32,
    activation: ActivationName = "relu",
    time_dependent: bool = False,
) -> VectorField:
    """Make the paper's `simple_odenet`: convolutions along the coordinates of a ``(dim,)`` state.

    Kernels 1, 3, 1 and channels 1 -> `channels` -> `channels` -> 1 (Ott et al. 2021, spheres).

    Args:
        dim: length of the state.
        channels: of the layers between.
        activation: between the layers.
        time_dependent: whether t is a further channel.

    Example:
        >>> pn.ConvField1d(2).state_shape
        (2,)
    """
    check_sizes(dim=dim, channels=channels)
    flag("time_dependent", time_dependent)
    layers = _convs(1, channels, activation, 1, time_dependent)
    return VectorField((dim,), layers, time_dependent)


def ConvField2d(
    shape: tuple[int, int, int],
    *,
    channels: int = 128,
    activation: ActivationName = "relu",
    time_dependent: bool = False,
) -> VectorField:
    """Make the paper's `odenet` for images ``(c, height, width)``, with kernels 1, 3, 1.

    Args:
        shape: of an image, (c, height, width).
        channels: of the layers between.
        activation: between the layers.
        time_dependent: whether t is a further channel.

    Raises:
        InvalidValueError: a shape that is not that of an image.

    Example:
        >>> pn.ConvField2d((1, 8, 8), channels=4).weight_shapes()["layers.0.weight"]
        (4, 1, 1, 1)
    """
    expected, hint = "(channels, height, width)", "Grey images have one channel."
    if len(items("shape", shape, expected, hint)) != 3:
        raise InvalidValueError("shape", shape, expected, hint)
    shape = checked_shape("state_shape", shape)
    check_sizes(channels=channels)
    flag("time_dependent", time_dependent)
    layers = _convs(shape[0], channels, activation, 2, time_dependent)
    return VectorField(tuple(shape), layers, time_dependent)


def LinearField(dim: int) -> VectorField:
    """y' = A y + b on states ``(dim,)``, one `Dense` layer: its flow is known in closed form.

    Example:
        >>> pn.LinearField(2).weight_shapes()
        {'layers.0.weight': (2, 2), 'layers.0.bias': (2,)}
    """
    check_sizes(dim=dim)
    return VectorField((dim,), (Dense(dim, dim),))


def _chain(
    kind: Callable[[int, int], Layer], widths: list[int], activation: ActivationName
) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for inputs, outputs in pairwise(widths):
        layers += [kind(inputs, outputs), Activation(activation)]
    return tuple(layers[:-1])


def _convs(
    features: int, channels: int, activation: ActivationName, axes: Literal[1, 2], time: bool
) -> tuple[Layer, ...]:
    kernels = iter((1, 3, 1))
    widths = [features + time, channels, channels, features]
    return _chain(lambda i, o: Conv(i, o, next(kernels), axes), widths, activation)


#: What a configuration may name: kind -> maker. The first argument is the state: its only length
#: or, for images, its shape.
FIELDS: Mapping[str, Callable[..., VectorField]] = {
    "conv1d": ConvField1d,
    "conv2d": ConvField2d,
    "linear": LinearField,
    "mlp": MLP,
}
