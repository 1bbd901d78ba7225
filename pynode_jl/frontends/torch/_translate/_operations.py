"""The layers and operations that a translation knows, as functions of abstract values.

An operation returns the abstract value of its result, or None where it is not one that a
`VectorField` can express.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from pynode_jl.fields import Activation, ActivationName, Conv, Dense, Layer

Keywords: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class StateValue:
    """The state after some layers.

    Attributes:
        layers: the layers so far.
        sources: the parameter's name for each of their weights; None for a missing bias.
        time: "first" or "last" once time is joined to the features, "" before.
        channelled: whether the state has a channel axis of length one.
    """

    layers: tuple[Layer, ...] = ()
    sources: tuple[str | None, ...] = ()
    time: str = ""
    channelled: bool = False

    def then(self, layer: Layer, *sources: str | None) -> StateValue:
        """Return the state after one more layer."""
        return replace(self, layers=(*self.layers, layer), sources=(*self.sources, *sources))


@dataclass(frozen=True)
class TimeValue:
    """Time; with `column`, time as one more feature or channel of the state."""

    column: bool = False


@dataclass(frozen=True)
class ColumnValue:
    """One feature or channel of the state, used for its shape; with `ones`, filled with ones."""

    ones: bool = False


@dataclass(frozen=True)
class SizeValue:
    """The state's shape, or a length of it."""


def _read_linear(layer: nn.Linear) -> Layer:
    return Dense(layer.in_features, layer.out_features)


def _read_convolution(layer: nn.Conv1d | nn.Conv2d) -> Layer | None:
    sizes, axes = set(layer.kernel_size), len(layer.kernel_size)
    (size,) = sizes if len(sizes) == 1 else (0,)
    same = layer.padding == "same" or layer.padding == (size // 2,) * axes
    plain = (
        same
        and set(layer.stride) == {1}
        and set(layer.dilation) == {1}
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )
    if size % 2 == 0 or not plain:
        return None
    return Conv(layer.in_channels, layer.out_channels, size, 2 if axes == 2 else 1)


def _activation(name: ActivationName, **expected: Any) -> Callable[[nn.Module], Activation | None]:
    """Return a reader that accepts only the settings that the activation's name stands for."""

    def read(layer: nn.Module) -> Activation | None:
        fits = all(getattr(layer, key) == value for key, value in expected.items())
        return Activation(name) if fits else None

    return read


#: Readers of modules of exactly these types. A subclass may compute anything.
LAYERS: Mapping[type, Callable[[Any], Layer | None]] = {
    nn.Linear: _read_linear,
    nn.Conv1d: _read_convolution,
    nn.Conv2d: _read_convolution,
    nn.ReLU: _activation("relu"),
    nn.Tanh: _activation("tanh"),
    nn.Softplus: _activation("softplus", beta=1.0, threshold=20.0),
    nn.Sigmoid: _activation("sigmoid"),
    nn.GELU: _activation("gelu", approximate="none"),
    nn.ELU: _activation("elu", alpha=1.0),
    nn.SiLU: _activation("silu"),
}


def _elementwise(name: ActivationName) -> Callable[[Any, Keywords], Any]:
    def apply(args: Any, keywords: Keywords) -> Any:
        keywords.pop("inplace", None)
        if keywords or len(args) != 1 or not isinstance(args[0], StateValue):
            return None
        return args[0].then(Activation(name))

    return apply


def _cat(args: Any, keywords: Keywords) -> Any:
    parts, axis = args[0], keywords.get("dim", args[1] if len(args) > 1 else 0)
    if len(parts) != 2 or axis not in (1, -1):
        return None
    for state, time, order in ((parts[0], parts[1], "last"), (parts[1], parts[0], "first")):
        if isinstance(state, StateValue) and isinstance(time, TimeValue) and time.column:
            if state.layers or state.time:
                return None  # a field takes time in its first layer only
            return replace(state, time=order)
    return None


def _multiply(args: Any, keywords: Keywords) -> Any:
    kinds = {type(each) for each in args}
    ones = [each for each in args if isinstance(each, ColumnValue) and each.ones]
    return TimeValue(column=True) if kinds == {TimeValue, ColumnValue} and ones else None


def _get_item(args: Any, keywords: Keywords) -> Any:
    value, index = args
    if isinstance(value, SizeValue):
        return value
    if not isinstance(value, StateValue) or not isinstance(index, tuple) or len(index) < 2:
        return None
    everything, second, *rest = index
    if everything not in (slice(None), ...) or any(each != slice(None) for each in rest):
        return None
    if second is None and everything is not ...:
        return replace(value, channelled=True)
    if second == 0 and value.channelled:
        return replace(value, channelled=False)
    if second in (slice(None, 1), slice(0, 1)) and not value.layers:
        return ColumnValue()
    return None


def _toggle_channel(args: Any, keywords: Keywords) -> Any:
    if len(args) == 2 and args[1] == 1 and isinstance(args[0], StateValue) and not keywords:
        return replace(args[0], channelled=not args[0].channelled)
    return None


def _ones_like(args: Any, keywords: Keywords) -> Any:
    return ColumnValue(ones=True) if isinstance(args[0], ColumnValue) and not keywords else None


def _full_like(args: Any, keywords: Keywords) -> Any:
    fits = isinstance(args[0], ColumnValue) and len(args) == 2 and isinstance(args[1], TimeValue)
    return TimeValue(column=True) if fits else None


def _reshape(args: Any, keywords: Keywords) -> Any:
    return args[0] if isinstance(args[0], TimeValue) and not args[0].column else None


def _expand(args: Any, keywords: Keywords) -> Any:
    if not isinstance(args[0], TimeValue):
        return None
    if any(isinstance(each, ColumnValue) for each in args[1:]):
        return TimeValue(column=True)
    # To (batch, 1, ...): the comparison with the module decides whether it is that.
    return TimeValue(column=len(args) > 2)


def _shape(args: Any, keywords: Keywords) -> Any:
    asks_shape = len(args) < 2 or args[1] == "shape" or isinstance(args[1], int)
    return SizeValue() if isinstance(args[0], StateValue) and asks_shape else None


#: Functions, operators and tensor methods (by name), as functions of abstract values.
OPERATIONS: Mapping[Any, Callable[[Any, Keywords], Any]] = {
    torch.tanh: _elementwise("tanh"),
    functional.tanh: _elementwise("tanh"),
    "tanh": _elementwise("tanh"),
    torch.relu: _elementwise("relu"),
    functional.relu: _elementwise("relu"),
    "relu": _elementwise("relu"),
    torch.sigmoid: _elementwise("sigmoid"),
    functional.sigmoid: _elementwise("sigmoid"),
    "sigmoid": _elementwise("sigmoid"),
    functional.softplus: _elementwise("softplus"),
    functional.gelu: _elementwise("gelu"),
    functional.elu: _elementwise("elu"),
    functional.silu: _elementwise("silu"),
    torch.cat: _cat,
    operator.mul: _multiply,
    torch.mul: _multiply,
    "mul": _multiply,
    operator.getitem: _get_item,
    torch.unsqueeze: _toggle_channel,
    "unsqueeze": _toggle_channel,
    torch.squeeze: _toggle_channel,
    "squeeze": _toggle_channel,
    torch.ones_like: _ones_like,
    torch.full_like: _full_like,
    "reshape": _reshape,
    "view": _reshape,
    "repeat": _expand,
    "expand": _expand,
    "expand_as": _expand,
    getattr: _shape,
    "size": _shape,
}
