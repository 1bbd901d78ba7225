"""Checks of the arguments that several data sets share."""

from __future__ import annotations

from math import isfinite
from numbers import Real

import numpy as np

from pynode_jl.errors import InvalidValueError


def whole_number(argument: str, value: int, minimum: int, multiple_of: int = 1) -> int:
    """`value` as an int >= `minimum` that `multiple_of` divides, or an `InvalidValueError`."""
    allowed = f"an integer >= {minimum}"
    if multiple_of > 1:
        allowed += f" that is a multiple of {multiple_of}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise InvalidValueError(argument, value, allowed, f"Pass {argument}={minimum} or more.")
    if value % multiple_of:
        nearest = int(value) + multiple_of - int(value) % multiple_of
        raise InvalidValueError(argument, value, allowed, f"Pass {argument}={nearest}.")
    return int(value)


def real_between(argument: str, value: float, low: float, high: float, example: float) -> float:
    """`value` as a finite float with low < value < high, or an `InvalidValueError`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not isfinite(value)
        or not low < value < high
    ):
        limits = f"> {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise InvalidValueError(
            argument, value, f"a number {limits}", f"Try {argument}={example:g}."
        )
    return float(value)
