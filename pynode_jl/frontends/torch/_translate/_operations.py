"""The operations that a translation knows, on symbols that stand for tensors.

A module is read by calling it with a `StateValue` in the state's place. torch hands each of its
functions that meets a symbol to `apply`; operators, methods and attributes get there by themselves.
An operation returns the symbol of its result, or None where no `VectorField` expresses that.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch.nn import functional

from pynode_jl.fields import Activation, ActivationName, Conv, Dense, Layer


class Refusal(Exception):  # noqa: N818  (a reason, which the reader makes an error of)
    """What a module does that no `VectorField` expresses."""


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **keywords: Any) -> NoReturn:
        raise Refusal(f"It calls {name}, or calls it in an unknown way")

    return refuse


class Symbol:
    """Stands for a tensor, or for what a tensor tells; the value itself is not there to ask for."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take a call of torch with a symbol among its arguments."""
        return apply(function, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return partial(apply, name, self)
        if name == "shape":
            return apply("size", self)
        if name.startswith("__"):
            raise AttributeError(name)
        raise Refusal(f"It calls {name}, or calls it in an unknown way")

    def __mul__(self, other: Any) -> Any:
        return apply(operator.mul, self, other)

    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> Any:
        return apply(operator.getitem, self, index)

    def _branch(self, *_: Any) -> NoReturn:
        raise Refusal("It cannot be traced: it takes a branch by a value")

    __bool__ = __len__ = __int__ = __float__ = __index__ = __contains__ = _branch
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _branch
    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Any:
        self._branch()


for _name in (
    "add", "sub", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift",
    "rshift",
):  # fmt: skip
    for _prefix in ("", "r"):
        setattr(Symbol, f"__{_prefix}{_name}__", _refusing(_name))
for _name in ("neg", "pos", "abs", "invert", "setitem", "delitem"):
    setattr(Symbol, f"__{_name}__", _refusing(_name))


@dataclass(frozen=True, eq=False)
class StateValue(Symbol):
    """The state after some layers.

    Attributes:
        rank: its number of axes.
        layers: the layers so far.
        sources: the parameter's name for each of their weights; None for a missing bias.
        time: "first" or "last" once time is joined to the features, "" before.
        channelled: whether the state has a channel axis of length one.
        shared: whether it is the module's argument, or a view of it or of another state.
    """

    rank: int
    layers: tuple[Layer, ...] = ()
    sources: tuple[str | None, ...] = ()
    time: str = ""
    channelled: bool = False
    shared: bool = False

    def then(self, layer: Layer, *sources: str | None) -> StateValue:
        """Return the state after one more layer."""
        return replace(
            self,
            layers=(*self.layers, layer),
            sources=(*self.sources, *sources),
            shared=False,
        )


class ParameterSymbol(Symbol):
    """A parameter of the module, of this name and shape."""

    def __init__(self, name: str, shape: torch.Size) -> None:
        self.name, self.shape = name, shape


@dataclass(frozen=True, eq=False)
class TimeValue(Symbol):
    """Time; with `column`, time as one more feature or channel of the state."""

    column: bool = False


@dataclass(frozen=True, eq=False)
class ColumnValue(Symbol):
    """One feature or channel of the state, used for its shape; with `ones`, filled with ones."""

    ones: bool = False


@dataclass(frozen=True, eq=False)
class SizeValue(Symbol):
    """The state's shape, of so many axes, or a length of it."""

    axes: int = 0

    def __iter__(self) -> Any:
        if not self.axes:
            self._branch()
        return iter([SizeValue()] * self.axes)


def apply(target: Any, /, *args: Any, **keywords: Any) -> Any:
    """Return the symbol of an operation's result.

    Raises:
        Refusal: no `VectorField` expresses it.
    """
    operation = OPERATIONS.get(target) or METHODS.get(target)
    result = None
    if operation is not None:
        try:
            result = operation(*args, **keywords)
        except TypeError:  # other arguments than it knows
            result = None
    if result is None:
        name = getattr(target, "__name__", target)
        raise Refusal(f"It calls {name}, or calls it in an unknown way")
    return result


def _activation(name: ActivationName, **expected: Any) -> Callable[..., Any]:
    """Return an operation that takes only the settings that the activation's name stands for."""

    def operation(input: Any, *settings: Any, inplace: bool = False, **named: Any) -> Any:
        given = dict(zip(expected, settings, strict=False)) | named
        if len(settings) > len(expected) or not given.keys() <= expected.keys():
            return None
        if not isinstance(input, StateValue) or any(given[k] != expected[k] for k in given):
            return None
        result = input.then(Activation(name))
        if not inplace:
            return result
        if input.shared:
            raise Refusal("It overwrites its argument")
        # What the program holds of the value before is overwritten too.
        object.__setattr__(input, "layers", result.layers)
        return input

    return operation


def _weighted(input: Any, layer: Layer, weight: ParameterSymbol, bias: Any) -> Any:
    if bias is not None and not isinstance(bias, ParameterSymbol):
        return None
    return input.then(layer, weight.name, None if bias is None else bias.name)


def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    fits = isinstance(input, StateValue) and isinstance(weight, ParameterSymbol)
    if not fits or len(weight.shape) != 2:
        return None
    outputs, inputs = weight.shape
    return _weighted(input, Dense(inputs, outputs), weight, bias)


def _convolution(axes: int) -> Callable[..., Any]:
    def operation(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        fits = isinstance(input, StateValue) and isinstance(weight, ParameterSymbol)
        if not fits or groups != 1:
            return None
        outputs, inputs, *sizes = weight.shape
        size = sizes[0]
        same = padding == "same" or _each(padding, axes) == (size // 2,) * axes
        ones = (1,) * axes
        plain = same and _each(stride, axes) == ones and _each(dilation, axes) == ones
        if len(sizes) != axes or len({*sizes}) > 1 or size % 2 == 0 or not plain:
            return None
        if axes == 1 and not (input.channelled or input.rank == 3):
            raise Refusal("Its conv1d takes the batch for channels")
        if axes == 2 and input.rank not in (3, 4):
            raise Refusal("Its conv2d takes no such state")
        return _weighted(input, Conv(inputs, outputs, size, 2 if axes == 2 else 1), weight, bias)

    return operation


def _each(value: Any, axes: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _cat(tensors: Any, dim: int = 0) -> Any:
    if len(tensors) != 2 or dim not in (1, -1):
        return None
    for state, time, order in ((tensors[0], tensors[1], "last"), (tensors[1], tensors[0], "first")):
        if isinstance(state, StateValue) and isinstance(time, TimeValue) and time.column:
            if state.layers or state.time:
                return None  # a field takes time in its first layer only
            return replace(state, time=order, shared=False)
    return None


def _multiply(input: Any, other: Any) -> Any:
    ones = any(isinstance(each, ColumnValue) and each.ones for each in (input, other))
    times = any(isinstance(each, TimeValue) for each in (input, other))
    return TimeValue(column=True) if ones and times else None


def _get_item(value: Any, index: Any) -> Any:
    if isinstance(value, SizeValue):
        return SizeValue() if isinstance(index, int) else None
    if not isinstance(value, StateValue) or not isinstance(index, tuple) or len(index) < 2:
        return None
    everything, second, *rest = index
    if everything not in (slice(None), ...) or any(each != slice(None) for each in rest):
        return None
    if second is None and everything is not ...:
        return replace(value, channelled=True, shared=True)
    if isinstance(second, int) and second == 0 and value.channelled:
        return replace(value, channelled=False, shared=True)
    if second in (slice(None, 1), slice(0, 1)) and not value.layers:
        return ColumnValue()
    return None


def _toggle_channel(input: Any, dim: Any = None) -> Any:
    if dim == 1 and isinstance(input, StateValue):
        return replace(input, channelled=not input.channelled, shared=True)
    return None


def _ones_like(input: Any) -> Any:
    return ColumnValue(ones=True) if isinstance(input, ColumnValue) else None


def _full_like(input: Any, fill_value: Any) -> Any:
    fits = isinstance(input, ColumnValue) and isinstance(fill_value, TimeValue)
    return TimeValue(column=True) if fits else None


def _reshape(input: Any, *shape: Any, **named: Any) -> Any:
    return input if isinstance(input, TimeValue) and not input.column else None


def _expand(input: Any, *sizes: Any) -> Any:
    if not isinstance(input, TimeValue):
        return None
    if any(isinstance(each, ColumnValue) for each in sizes):
        return TimeValue(column=True)
    # To (batch, 1, ...): the comparison with the module decides whether it is that.
    return TimeValue(column=len(sizes) > 1)


def _size(input: Any, dim: Any = None) -> Any:
    if not isinstance(input, StateValue):
        return None
    return SizeValue(input.rank + input.channelled) if dim is None else SizeValue()


_TANH, _RELU, _SIGMOID = _activation("tanh"), _activation("relu"), _activation("sigmoid")

#: Functions and operators, as functions of symbols. They are pure: nothing but their arguments
#: decides their result, and nothing else changes.
OPERATIONS: Mapping[Any, Callable[..., Any]] = {
    torch.tanh: _TANH,
    functional.tanh: _TANH,
    torch.relu: _RELU,
    functional.relu: _RELU,
    torch.sigmoid: _SIGMOID,
    functional.sigmoid: _SIGMOID,
    functional.softplus: _activation("softplus", beta=1.0, threshold=20.0),
    functional.gelu: _activation("gelu", approximate="none"),
    functional.elu: _activation("elu", alpha=1.0),
    functional.silu: _activation("silu"),
    functional.linear: _linear,
    functional.conv1d: _convolution(1),
    functional.conv2d: _convolution(2),
    torch.cat: _cat,
    operator.mul: _multiply,
    torch.mul: _multiply,
    operator.getitem: _get_item,
    torch.unsqueeze: _toggle_channel,
    torch.squeeze: _toggle_channel,
    torch.ones_like: _ones_like,
    torch.full_like: _full_like,
}
#: Methods of tensors, as functions of symbols.
METHODS: Mapping[str, Callable[..., Any]] = {
    "tanh": _TANH,
    "relu": _RELU,
    "sigmoid": _SIGMOID,
    "mul": _multiply,
    "unsqueeze": _toggle_channel,
    "squeeze": _toggle_channel,
    "reshape": _reshape,
    "view": _reshape,
    "repeat": _expand,
    "expand": _expand,
    "expand_as": _expand,
    "size": _size,
}
