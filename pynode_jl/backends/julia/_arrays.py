"""Python's arrays as Julia's, in the same memory. The way back is NumPy's own: see `as_numpy`."""

from __future__ import annotations

from typing import Any

from pynode_jl.backends._protocol import Array
from pynode_jl.backends.julia import _fields, _process

_DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


def has_dtype(array: Array) -> bool:
    """Whether Julia has numbers of this kind."""
    return array.dtype.name in _DTYPES


def unfit(array: Array) -> str | None:
    """Why a Julia array cannot have this memory; None if it can."""
    if not array.dtype.isnative:
        return "its byte order is foreign"
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        return "it is not contiguous, and a Julia Array is"
    return None


def shared(array: Array) -> Any:
    """A Julia array in the memory of `array`, of its shape and indices (counted from 1).

    Column-major memory becomes an `Array`, row-major memory a `PermutedDimsArray` of one. `array`
    lives as long as Julia can reach the memory.
    """
    module = _process.julia().PyNODE
    by_columns = array.flags.f_contiguous
    made = module.owned(_fields.at(array.T if by_columns else array), array)
    return made if by_columns else module.reversed(made)
