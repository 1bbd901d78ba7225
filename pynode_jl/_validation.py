"""Checks of plain arguments: each returns the value as Python's own, or raises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from pynode_jl.errors import InvalidValueError


def whole_number(
    argument: str, value: object, least: int = 1, *, multiple_of: int = 1, hint: str = ""
) -> int:
    """Return `value` as an int of at least `least` that `multiple_of` divides; a bool is none."""
    expected = f"an integer of {least} or more"
    if multiple_of > 1:
        expected += f" that is a multiple of {multiple_of}"
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        hint = hint or f"Pass {argument}={least} or more."
        raise InvalidValueError(argument, value, expected, hint)
    whole = int(value)
    if rest := whole % multiple_of:
        hint = f"Pass {argument}={whole + multiple_of - rest}."
        raise InvalidValueError(argument, value, expected, hint)
    return whole


def real_number(
    argument: str,
    value: object,
    hint: str,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a finite float with above < value < below; a bool is none."""
    number = _as_float(value)
    if not above < number < below:
        limits = f"above {above:g}" if below == math.inf else f"between {above:g} and {below:g}"
        expected = "a finite number" if above == -math.inf else f"a number {limits}"
        raise InvalidValueError(argument, value, expected, hint)
    return number


def choice(argument: str, value: object, choices: Sequence[str], hint: str = "") -> str:
    """Return `value`, which must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        hint = hint or f"Use {argument}={choices[0]!r}, say."
        raise InvalidValueError(argument, value, " or ".join(map(repr, choices)), hint)
    return value


def _as_float(value: object) -> float:
    """Return a real number as a float, and nan for what is none or is too large for one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
