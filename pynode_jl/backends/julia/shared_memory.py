"""Python's arrays as Julia's, in the same memory. The way back is NumPy's own: see `as_numpy`."""

from __future__ import annotations

from functools import cache
from typing import Any

from pynode_jl.backends._results import Array
from pynode_jl.backends.julia import _fields, _process

_DTYPES = frozenset(
    (
        "bool",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
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
    """Return a Julia array in the memory of `array`, of its shape and indices (counted from 1).

    Column-major memory becomes an `Array`, row-major memory a `PermutedDimsArray` of one. `array`
    lives as long as Julia can reach the memory.
    """
    by_columns = array.flags.f_contiguous
    seen = _fields.memory(array.T if by_columns else array)
    return _maker()(_Owner(array), by_columns, *seen)


@cache
def _maker() -> Any:
    """Julia's function, which takes microseconds to find."""
    return _process.julia().PyNODE.shared


class _Owner:
    """Holds an array. Julia takes an object of a class that it does not know as it is, where of an
    array it would make one of its own kinds."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array
