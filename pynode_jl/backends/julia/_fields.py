"""Fields, weights and states on Julia's side: handles of Julia objects, arrays by address."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pynode_jl.backends import _arguments
from pynode_jl.backends._results import Array
from pynode_jl.backends.julia import _process
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import (
    Activation,
    Conv,
    Dense,
    Field,
    FunctionField,
    Layer,
    LogDensityField,
    VectorField,
)


@dataclass(frozen=True)
class JuliaSource:
    """A right-hand side as the text of a Julia function, for a `FunctionField`.

    ``(dy, y, p, t) -> ...`` writes y' into `dy`. `y` has Julia's shape, ``(*reversed(state_shape),
    batch)``; `p` is a named tuple of the field's `initial` arrays, each with its shape reversed::

        FunctionField(JuliaSource("(dy, y, p, t) -> (dy .= p.rate .* y)"), (2,),
                      initial=(("rate", np.array([-1.0])),), backend="julia")
    """

    text: str

    def __call__(self, weights: Mapping[str, Any], t: Any, y: Any) -> Any:
        """Only Julia can: this is here so that a `JuliaSource` can stand where a function does."""
        raise InvalidValueError(
            "backend", "not julia", '"julia" for a field written in Julia', 'Use backend="julia".'
        )


def at(array: Array) -> Any:
    """`array`, C-contiguous, as Julia sees its memory: shape reversed, no copy.

    The caller keeps `array` alive while Julia uses it.
    """
    return _process.array_at()(*memory(array))


def memory(array: Array) -> tuple[Any, ...]:
    """Return the arguments of `ArrayAt` for a C-contiguous array."""
    assert array.flags.c_contiguous
    return array.ctypes.data, element(array), *reversed(array.shape)


# NumPy makes a name anew each time it is asked.
_ELEMENTS = {np.dtype(name): name for name in ("float32", "float64", "int32")}


def element(array: Array) -> str:
    """Return the name of an array's element type."""
    return _ELEMENTS.get(array.dtype) or array.dtype.name


@lru_cache(maxsize=128)
def vector_field(field: VectorField) -> Any:
    """Return the Julia twin of a field."""
    module = _process.julia().PyNODE
    return module.VectorField(
        field.state_shape, field.time_dependent, *[_layer(module, each) for each in field.layers]
    )


@lru_cache(maxsize=32)
def right_hand_side(field: Field, batch: int, dtype: str, device: str = "cpu") -> Any:
    """Return the right-hand side that solves integrate; buffers are made once for a batch size.

    On a device it is the field's Lux chain; on the CPU, this package's own code.
    """
    main = _process.julia()
    element = main.Float64 if dtype == "float64" else main.Float32
    if isinstance(field, LogDensityField):
        return main.PyNODE.RightHandSide(_log_density(field, device), batch, element)
    layer = _user_layer(field)
    if isinstance(field, FunctionField) and layer is None:
        if device != "cpu":
            raise InvalidValueError(
                "device", device, '"cpu" for a function as right-hand side', "Leave it out."
            )
        return _function(field)
    twin = vector_field(field) if isinstance(field, VectorField) else layer
    if device == "cpu" and isinstance(field, VectorField):
        return main.PyNODE.RightHandSide(twin, batch, element)
    _process.need("lux")
    to = main.PyNODE.DEVICES[device]
    return main.PyNODE.RightHandSide(main.PyNODE.lux_network(twin, batch, element, to))


def _log_density(field: LogDensityField, device: str) -> Any:
    """Return the Julia twin of a field beside its divergence."""
    if not isinstance(field.field, VectorField):
        raise InvalidValueError(
            "field.field",
            field.field,
            "a VectorField, whose divergence Julia knows",
            'Write it as one, or use backend="jax".',
        )
    if device != "cpu":
        raise InvalidValueError("device", device, '"cpu" for a density', "Leave it out.")
    noisy = field.trace == "hutchinson"
    return _process.julia().PyNODE.LogDensityField(vector_field(field.field), noisy)


def differentiable(field: Field) -> bool:
    """Whether Julia can take a field's gradients: it knows the weights as one vector."""
    return isinstance(field, (VectorField, LogDensityField)) or _user_layer(field) is not None


@dataclass(frozen=True, eq=False)
class _LuxLayer:
    """A user's Lux layer, made a field in Julia."""

    twin: Any

    def __call__(self, weights: Mapping[str, Any], t: Any, y: Any) -> Any:
        """Only Julia can."""
        raise InvalidValueError(
            "backend", "not julia", '"julia" for a Lux layer', 'Use backend="julia".'
        )


def lux_field(layer: Any, state_shape: tuple[int, ...], *, seed: int = 0) -> FunctionField:
    """Use a Lux layer of the user's own as the right-hand side of an autonomous ODE.

    Args:
        layer: a Lux layer made through juliacall. It takes states in Julia's shape,
            ``(*reversed(state_shape), batch)``, and gives their derivatives in the same.
        state_shape: the shape of one sample's state.
        seed: decides the initial weights, by Lux's own initialisers.

    Returns:
        A field for ``backend="julia"``; its weights are one flat array, ``"parameters"``, float32
        as Lux makes them; given as float64 the solve is.

    Raises:
        InvalidValueError: `layer` is no layer of Lux.
    """
    _process.need("lux")
    try:
        made, flat = _process.julia().PyNODE.layer_field(layer, tuple(state_shape), seed)
    except (_process.julia_error(), TypeError) as error:  # the latter: no method for such a layer
        raise InvalidValueError(
            "layer",
            layer,
            "a layer of Lux, made through juliacall",
            'Make one: juliacall.Main.seval("import Lux; Lux.Dense(2 => 2)"), say. A function of'
            f" your own is a FunctionField. Julia says: {_process.first_line(error)}",
        ) from error
    initial = (("parameters", np.array(flat, np.float32)),)
    return FunctionField(_LuxLayer(made), tuple(state_shape), initial, backend="julia")


def _user_layer(field: Field) -> Any:
    function: Any = field.function if isinstance(field, FunctionField) else None
    return function.twin if isinstance(function, _LuxLayer) else None


def in_python(field: Field) -> bool:
    """Whether Julia calls back into Python for a field: Python's lock must stay with the caller."""
    return isinstance(field, FunctionField) and field.backend == "numpy"


def called_back(field: Field, arrays: Mapping[str, Array]) -> Any:
    """Return a function in Python, with its weights, as a right-hand side."""
    assert isinstance(field, FunctionField)
    return _process.julia().PyNODE.CallBack(_evaluation(field, arrays), field.state_shape)


def parameters(field: Field, arrays: Mapping[str, Array]) -> tuple[tuple[Any, ...], Any]:
    """Weights as `run!` takes them, and the arrays to be kept alive, which these point into."""
    if isinstance(field, FunctionField) and _user_layer(field) is None:
        kept = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        module = _process.julia().PyNODE
        return (module.weights(**{name: at(value) for name, value in kept.items()}),), kept
    flat = _arguments.flattened(arrays)
    return (flat.ctypes.data, flat.size), flat


def _function(field: FunctionField) -> Any:
    module = _process.julia().PyNODE
    function: Any = field.function
    source = isinstance(function, JuliaSource)
    if source or hasattr(function, "_jl_call_nogil"):  # the latter made through juliacall
        try:
            return module.julia_function(function.text if source else function, field.state_shape)
        except _process.julia_error() as error:
            raise InvalidValueError(
                "JuliaSource.text" if source else "field.function",
                function.text if source else function,
                "one function in Julia, (dy, y, p, t) -> (dy .= ...)",
                f"Julia says: {_process.first_line(error).removeprefix('ArgumentError: ')}",
            ) from error
    raise InvalidValueError(
        "field.function",
        function,
        "a JuliaSource, a Julia function, or one on NumPy arrays with backend='numpy'",
        'Write it in Julia: FunctionField(JuliaSource("(dy, y, p, t) -> ..."), ...), or use'
        ' backend="jax".',
    )


def _evaluation(field: FunctionField, weights: Mapping[str, Array]) -> Any:
    """Return what Julia calls to evaluate a Python right-hand side: addresses in, nothing out."""

    def evaluate(to: int, y: int, batch: int, dtype: str, t: float) -> None:
        shape = (int(batch), *field.state_shape)
        derivative = field.function(weights, t, _memory(y, shape, dtype))
        _memory(to, shape, dtype)[...] = derivative

    return evaluate


def _memory(address: int, shape: tuple[int, ...], dtype: str) -> Array:
    """Julia's memory as an array, for the time of a call."""
    element = np.dtype(str(dtype))
    size = math.prod(shape) * element.itemsize
    memory = memoryview((ctypes.c_char * size).from_address(int(address)))
    array: Array = np.frombuffer(memory, element).reshape(shape)
    return array


def _layer(module: Any, layer: Layer) -> Any:
    match layer:
        case Dense():
            return module.Dense(layer.inputs, layer.outputs)
        case Conv():
            return module.Conv(layer.inputs, layer.outputs, layer.kernel, layer.axes)
        case Activation():
            return module.Activation(layer.name)
