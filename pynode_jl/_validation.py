"""Checks of plain arguments: each returns the value as Python's own, or raises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pynode_jl.errors import InvalidValueError, nearest_names

T = TypeVar("T")
# More are ids or measured values; a batch of 128 has 34 MB of logits then.
MOST_CLASSES = 2**16


def whole_number(
    argument: str,
    value: object,
    least: int = 1,
    *,
    most: int | None = None,
    multiple_of: int = 1,
    hint: str = "",
) -> int:
    """Return `value` as an int from `least` to `most` that `multiple_of` divides; a bool is none.

    An array of one integer without axes counts as that integer, here and in `real_number`.
    """
    expected = f"an integer of {least} or more" + ("" if most is None else f" and at most {most}")
    if multiple_of > 1:
        expected += f" that is a multiple of {multiple_of}"
    number = _plain(value)
    if (
        isinstance(number, bool)
        or not isinstance(number, Integral)
        or int(number) < least
        or (most is not None and int(number) > most)
    ):
        hint = hint or f"Pass {argument}={least} or more."
        raise InvalidValueError(argument, value, expected, hint)
    whole = int(number)
    if rest := whole % multiple_of:
        hint = f"Pass {argument}={whole + multiple_of - rest}."
        raise InvalidValueError(argument, value, expected, hint)
    return whole


def class_count(value: object) -> int:
    """Return a number of classes as an int, 2 or more, and no more than memory has room for.

    Every sample of a batch has a logit for each class, and the head a row of weights.
    """
    hint = "Count the different labels: ids and measured values are no classes."
    return whole_number("classes", value, 2, most=MOST_CLASSES, hint=hint)


def real_number(
    argument: str,
    value: object,
    hint: str,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    least: float = -math.inf,
) -> float:
    """Return `value` as a finite float with above < value < below, and of at least `least`.

    A bool is none.
    """
    number = _as_float(value)
    if above < number < below and number >= least:
        return number
    if least > -math.inf:
        expected = f"a number of at least {least:g}"
        expected += f" and below {below:g}" if below < math.inf else ""
    elif above == -math.inf:
        expected = "a finite number"
    elif below == math.inf:
        expected = f"a number above {above:g}"
    else:
        expected = f"a number between {above:g} and {below:g}"
    raise InvalidValueError(argument, value, expected, hint)


def choice(argument: str, value: object, choices: Sequence[str], hint: str = "") -> str:
    """Return `value`, which must be one of `choices`; `hint` may name the `{nearest}` one."""
    if not isinstance(value, str) or value not in choices:
        near = nearest_names(value, choices) if isinstance(value, str) else ()
        nearest = f"{argument}={(*near, choices[0])[0]!r}"
        hint = (hint or "Use {nearest}, say.").replace("{nearest}", nearest)
        raise InvalidValueError(argument, value, " or ".join(map(repr, choices)), hint)
    return value


def flag(argument: str, value: object) -> bool:
    """Return `value`, which must be true or false."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidValueError(argument, value, "True or False", "Give one of the two.")
    return bool(value)


def text(argument: str, value: object, hint: str) -> str:
    """Return `value`, which must be a text."""
    if not isinstance(value, str):
        raise InvalidValueError(argument, value, "a text", hint)
    return value


def settings_of_text(
    kind: str, given: str, keys: Sequence[str], form: str, hint: str
) -> tuple[str, dict[str, str]]:
    """Take ``name:key=value,key=value`` apart: the name, and the values as texts, by key.

    Args:
        kind: what it names, for messages: "solver".
        given: the text.
        keys: those that there are, each at most once.
        form: of one setting, for messages: "key=number".
        hint: how to mend it.
    """
    name, _, rest = given.strip().partition(":")
    values: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or key not in keys or key in values:
            expected = f"each of {', '.join(keys)} once, as {form}"
            raise InvalidValueError(f"{kind} {given!r}, part", item, expected, hint)
        values[key] = value
    return name.strip(), values


def number_of_text(argument: str, given: str) -> float:
    """Return the number that a text writes, as a decimal or a fraction."""
    numerator, slash, denominator = given.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(given)
    except (ValueError, ZeroDivisionError) as error:
        expected = "a number such as 0.1, 1e-6 or 1/16"
        raise InvalidValueError(argument, given, expected, "Mend the number.") from error


def instance(
    argument: str, value: object, kinds: type[T] | tuple[type[T], ...], expected: str, hint: str
) -> T:
    """Return `value`, which must be of one of `kinds`."""
    if not isinstance(value, kinds):
        raise InvalidValueError(argument, value, expected, hint)
    return value


def optional_callable(argument: str, value: T) -> T:
    """Return `value`, which must be a function or None."""
    if value is not None and not callable(value):
        raise InvalidValueError(argument, value, "a function, or None", "Leave it out.")
    return value


def items(argument: str, value: object, expected: str, hint: str) -> list[Any]:
    """Return the items of a sequence or another iterable that ends; a text or a mapping is none."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise InvalidValueError(argument, value, expected, hint)
    if getattr(value, "ndim", 1) == 0:  # an array without axes
        raise InvalidValueError(argument, value, expected, hint)
    return list(value)


def mapping(argument: str, value: object, expected: str, hint: str) -> dict[str, Any]:
    """Return a mapping whose keys are texts as a dict."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValueError(argument, value, expected, hint)
    return dict(value)


def times(argument: str, value: object, expected: str, hint: str) -> list[float]:
    """Return finite times, as floats."""
    given: Any = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if type(given) not in (tuple, list):
        given = items(argument, given, expected, hint)
    return [
        each
        if type(each) is float and math.isfinite(each)  # quickly: there may be thousands
        else real_number(argument, each, hint)
        for each in given
    ]


def interval(argument: str, value: object) -> tuple[float, float]:
    """Return the two times of an interval, in either direction."""
    expected, hint = "two finite times that differ", "Give (t0, t1)."
    found = times(argument, value, expected, hint)
    if len(found) != 2 or found[0] == found[1]:
        raise InvalidValueError(argument, value, expected, hint)
    return found[0], found[1]


def numbers(argument: str, value: object) -> npt.NDArray[Any]:
    """Return an array of real numbers: of integers, bools or floats, of whatever shape.

    Raises:
        InvalidValueError: it has complex numbers, texts or objects, or its rows differ in length.
    """
    # A tensor of torch that asks for gradients gives no array.
    given = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever the object's own conversion raises
        raise InvalidValueError(
            argument, value, "an array of numbers", "Give every row the same length."
        ) from error
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise InvalidValueError(
            f"{argument}.dtype",
            array.dtype,
            "real numbers: float32 or float64",
            "Take the real part." if array.dtype.kind == "c" else "Convert it with .astype.",
        )
    return array


def rounded(argument: str, value: object, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array of real numbers in a float type, rounded to it.

    Raises:
        InvalidValueError: no array of real numbers; or one too large for the type, or an integer
            that it does not hold.
    """
    real = np.dtype(dtype)
    if type(value) is np.ndarray and value.dtype == real:  # quickly: each solve has several
        return value
    array = numbers(argument, value)
    if array.dtype == real:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(real)
        whole = array.dtype.kind in "iu"
        lost = found.astype(array.dtype) != array if whole else np.isinf(found) & ~np.isinf(array)
    if lost.any():
        raise InvalidValueError(
            argument,
            array[lost][0],
            f"numbers that {real} holds",
            "Scale them, or pass arrays of float64.",
        )
    return found


def _plain(value: object) -> object:
    """Return the number of an array without axes, whatever its framework; others as they are."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            return value.item()
        except Exception:  # a traced array has no number
            return None
    return value


def _as_float(value: object) -> float:
    """Return a real number as a float, and nan for what is none or is too large for one."""
    if type(value) is float:  # quickly: each solve has several
        return value
    number = _plain(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        return math.nan
    try:
        return float(number)
    except OverflowError:
        return math.nan
