"""From what a user has (lists, NumPy, torch, JAX, pandas) to the two kinds of array kept here."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode_jl._validation import MOST_CLASSES
from pynode_jl.errors import DataError, InvalidValueError

Floats: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int32]


class SupportsDLPack(Protocol):
    """An array of any library that hands itself over by DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


_MOST_NUMBERS = 2**31
# So many different labels are the classes of large data, or no classes.
_MANY = 20
_NUMBERING = (
    'Number the classes from 0: pass labels="map" with the data (Dataset.from_arrays), or'
    " give y = np.unique(y, return_inverse=True)[1]."
)
_FITTED = "Pass task=pn.Regression() if these are numbers to be fitted."

#: Everything that the public functions take as an array.
Arrays: TypeAlias = ArrayLike | SupportsDLPack


def float_states(argument: str, values: Arrays) -> Floats:
    """Return a read-only float32 copy, shape (n, *state), no axis empty, all finite.

    Raises:
        DataError: anything else; a value that is not finite is named by its index.
    """
    raw = as_numpy(argument, values)
    try:
        if raw.dtype.kind in "cSUmM":
            raise TypeError("NumPy would drop a part, or parse text")
        with np.errstate(over="ignore", invalid="ignore"):
            states = np.array(raw, dtype=np.float32, order="C")
    except (TypeError, ValueError, OverflowError) as cause:
        raise DataError(
            f"{argument}.dtype", str(raw.dtype), "real numbers", f"Convert them first: {cause}."
        ) from cause
    if states.ndim < 2:
        raise DataError(
            f"{argument}.shape",
            states.shape,
            "(n, *state) with at least one state axis",
            "Scalar states have shape (n, 1): use x.reshape(-1, 1).",
        )
    if states.size == 0:
        raise DataError(
            f"{argument}.shape", states.shape, "non-empty", f"Give {argument} an example or more."
        )
    finite, hint = np.isfinite(states), "Correct or drop them."
    _refuse_first(argument, raw, ~finite, "a number that is finite in float32", hint)
    states.flags.writeable = False
    return states


def class_labels(argument: str, values: Arrays, classes: int | None = None) -> Labels:
    """Return a read-only int32 copy, shape (n,), n >= 1, each label in range(`classes`) (if given).

    Floats and bools are taken where they are whole numbers.

    Raises:
        DataError: anything else; a wrong label is named by its index.
    """
    raw = as_numpy(argument, values)
    if raw.ndim != 1 or raw.size == 0:
        raise DataError(
            f"{argument}.shape",
            raw.shape,
            "(n,) with n >= 1, one integer label per example",
            "Make one-hot labels integers with y.argmax(axis=1), a column flat with y.ravel().",
        )
    limit = min(classes or 2**31, 2**31)  # what int32 holds
    allowed = f"an integer in range({classes})" if classes is not None else "an integer >= 0"
    try:
        if raw.dtype.kind in "cSUmM":
            raise TypeError("NumPy would drop a part, or parse text")
        numbers = raw if raw.dtype.kind in "biu" else raw.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as cause:
        raise DataError(
            f"{argument}.dtype",
            str(raw.dtype),
            "whole numbers",
            f"{_NUMBERING} {cause}.",
        ) from cause
    # NaN fails the comparisons, so it is refused here as well.
    whole = numbers == np.floor(numbers)
    good = (numbers >= 0) & (numbers < limit) & whole
    _refuse_first(argument, raw, ~good, allowed, _NUMBERING if whole.all() else _FITTED)
    labels = np.array(numbers, dtype=np.int32, order="C")
    labels.flags.writeable = False
    return labels


def check_size(examples: int, numbers: int) -> None:
    """Refuse to draw more than a machine has room for.

    Raises:
        InvalidValueError: more than 2**31 numbers in all.
    """
    if examples * numbers > _MOST_NUMBERS:
        raise InvalidValueError(
            "n_train + n_test",
            examples,
            f"at most {_MOST_NUMBERS // numbers} examples of {numbers} numbers",
            "Draw fewer.",
        )


def count_classes(labels: Labels) -> int:
    """Return the number of classes of labels that number them from 0 without a gap.

    Raises:
        DataError: a class without an example, which the labels do not mean, or does not exist; or
            labels that are all different, as ids and measurements are.
    """
    found = np.unique(labels)
    if len(found) == 1:
        value = int(found[0])
        hint = f"Every label is {value}: pass classes= if meant."
        raise DataError("y", value, "labels of two classes or more", hint)
    if len(found) > _MANY and 2 * len(found) > labels.size:
        raise DataError(
            "y",
            f"{len(found)} different labels of {labels.size} examples",
            "labels of classes that have several examples each",
            f"Ids and measured values are no classes. {_FITTED} Or pass classes= if classes are"
            " meant.",
        )
    if len(found) != int(found[-1]) + 1:
        count = int(found[-1]) + 1
        listing = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
        raise DataError(
            "y",
            f"labels {listing} of {len(found)} classes",
            f"the labels 0 to {len(found) - 1}, each with an example",
            f"{_NUMBERING} Or pass classes={count} if classes without an example are meant."
            if count <= MOST_CLASSES
            else _NUMBERING,
        )
    return len(found)


def _refuse_first(
    argument: str, raw: NDArray[Any], bad: NDArray[np.bool_], allowed: str, hint: str
) -> None:
    if not bad.any():
        return
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    place = ", ".join(str(int(i)) for i in index)
    value = raw[index]
    raise DataError(
        f"{argument}[{place}]",
        value.item() if hasattr(value, "item") else value,
        allowed,
        f"{int(bad.sum())} of {bad.size} entries of {argument} are refused. {hint}",
    )


def as_numpy(argument: str, values: Arrays) -> NDArray[Any]:
    """Return an array of any library as NumPy's.

    Raises:
        DataError: it has none.
    """
    try:
        # __array__ first: it copies a JAX array from its device, where DLPack would refuse.
        if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            return np.from_dlpack(cast(Any, values))
        return np.asarray(values)
    except Exception as cause:  # each library refuses an export with an error class of its own
        raise DataError(
            f"type({argument})",
            type(values).__name__,  # not its repr, which may be as long as the data
            "an array that NumPy can read",
            "Make the rows of a list equally long; move a torch tensor with x.detach().cpu(). "
            f"{type(cause).__name__}: {cause}",
        ) from cause
