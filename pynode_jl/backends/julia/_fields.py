"""Fields, weights and states on Julia's side: handles of Julia objects, arrays by address."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pynode_jl.backends._protocol import Array
from pynode_jl.backends.julia import _process
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Activation, Conv, Dense, Field, FunctionField, Layer, VectorField


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
    assert array.flags.c_contiguous
    address = array.__array_interface__["data"][0]
    return _process.julia().PyNODE.ArrayAt(address, array.dtype.name, *reversed(array.shape))


@lru_cache(maxsize=128)
def vector_field(field: VectorField) -> Any:
    """The Julia twin of a field."""
    module = _process.julia().PyNODE
    return module.VectorField(
        field.state_shape, field.time_dependent, *[_layer(module, each) for each in field.layers]
    )


@lru_cache(maxsize=32)
def right_hand_side(field: Field, batch: int, dtype: str) -> Any:
    """What solves integrate: its buffers are made once for a size of batch."""
    main = _process.julia()
    if isinstance(field, FunctionField):
        return _julia_function(field)
    element = main.Float64 if dtype == "float64" else main.Float32
    return main.PyNODE.RightHandSide(vector_field(field), batch, element)


def parameters(field: Field, arrays: Mapping[str, Array]) -> tuple[Any, Any]:
    """What Julia takes as weights, and the arrays that it points into, to be kept alive."""
    if isinstance(field, FunctionField):
        kept = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        module = _process.julia().PyNODE
        return module.weights(**{name: at(value) for name, value in kept.items()}), kept
    flat = flattened(arrays)
    return at(flat), flat


def flattened(arrays: Mapping[str, Array]) -> Array:
    """All arrays in one, in the order of their names in `arrays`."""
    return np.concatenate([value.ravel() for value in arrays.values()])


def unflattened(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The inverse of `flattened`: copies."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        arrays[name] = flat[start:stop].reshape(shape).copy()
        start = stop
    return arrays


def _julia_function(field: FunctionField) -> Any:
    make = _process.julia().PyNODE.julia_function
    function: Any = field.function
    if isinstance(function, JuliaSource):
        return make(function.text, field.state_shape)
    if hasattr(function, "_jl_call_nogil"):  # a function that the user made through juliacall
        return make(function, field.state_shape)
    raise InvalidValueError(
        "field.function",
        function,
        "a JuliaSource or a Julia function on the Julia backend",
        'Write it in Julia: FunctionField(JuliaSource("(dy, y, p, t) -> ..."), ...), or use'
        ' backend="jax".',
    )


def _layer(module: Any, layer: Layer) -> Any:
    match layer:
        case Dense():
            return module.Dense(layer.inputs, layer.outputs)
        case Conv():
            return module.Conv(layer.inputs, layer.outputs, layer.kernel, layer.axes)
        case Activation():
            return module.Activation(layer.name)
