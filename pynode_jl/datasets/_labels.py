"""From the labels that people have to 0, ..., K - 1: one-hot rows, texts, and integers by request.

One-hot rows and texts can mean one thing only, and are mapped. Integers that leave a gap or are
negative may mean several: they are mapped where ``labels="map"`` asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import choice
from pynode_jl.datasets._arrays import Arrays, Labels, as_numpy
from pynode_jl.errors import DataError, InvalidValueError

#: Named arrays of labels; those of one data set are mapped together.
Parts: TypeAlias = Sequence[tuple[str, Arrays]]


@dataclass(frozen=True, eq=False)
class MappedLabels:
    """Labels of all parts as integers; the classes' names, and their number, where it is known."""

    parts: list[Any]
    names: tuple[str, ...] | None = None
    classes: int | None = None


def mapped_labels(parts: Parts, labels: str | None) -> MappedLabels:
    """Return the labels of all parts as integers.

    Labels that are whole numbers pass as they are, without names, unless `labels` is "map".

    Args:
        parts: for each part its argument's name and its values.
        labels: None, or "map": whole numbers too are mapped, in ascending order.

    Raises:
        InvalidValueError: another value of `labels`.
        DataError: rows that are not one-hot, texts that are missing, parts of different kinds.
    """
    if labels is not None:
        choice("labels", labels, ("map",), 'Use labels="map", or leave it out.')
    arrays = [(name, _flat(_read(name, values))) for name, values in parts]
    kinds = [_kind(array) for _, array in arrays]
    kind = kinds[0]
    if any(each != kind for each in kinds):
        raise DataError(
            arrays[-1][0],
            f"{kinds[-1]} labels",
            f"{kind} labels, as {arrays[0][0]} has them",
            "Give all parts in one form.",
        )
    if kind == "one-hot":
        width = arrays[0][1].shape[1]
        positions = [_positions(*each, width) for each in arrays]
        return MappedLabels(positions, _column_names(parts[0][1]), width)
    if kind == "text":
        return _ranks([_texts(*each) for each in arrays])
    if labels == "map":
        return _ranks([_whole(*each) for each in arrays])
    return MappedLabels([array for _, array in arrays])


def _column_names(rows: Any) -> tuple[str, ...] | None:
    """Return the names of a frame's columns, where they are texts."""
    columns = tuple(getattr(rows, "columns", ()))
    return columns if columns and all(isinstance(each, str) for each in columns) else None


def _read(name: str, values: Any) -> NDArray[Any]:
    # NumPy would make texts of the numbers beside a text.
    mixed = isinstance(values, list | tuple) and any(isinstance(each, str) for each in values)
    return np.array(values, dtype=object) if mixed else as_numpy(name, values)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return a column (n, 1) as (n,)."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _kind(array: NDArray[Any]) -> str:
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        return "one-hot"
    if array.dtype.kind in "SU" or (
        array.dtype.kind in "OT" and any(isinstance(each, str) for each in array.flat)
    ):
        return "text"
    return "numeric"


def _positions(name: str, rows: NDArray[Any], width: int) -> Labels:
    """Return the index of each row's one; every other entry must be zero."""
    if rows.shape[1] != width:
        raise DataError(
            f"{name}.shape", rows.shape, f"(n, {width}) as the others", "Give one column a class."
        )
    bad = ~(((rows == 0) | (rows == 1)).all(axis=1) & (np.count_nonzero(rows, axis=1) == 1))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{name}[{row}]",
            rows[row].tolist(),
            "one-hot: a single 1, all others 0",
            f"{int(bad.sum())} of {len(rows)} rows are not. Take the most probable class of each"
            f" with {name}.argmax(axis=1); or pass task=Regression({width}) if these are numbers"
            " to be fitted.",
        )
    positions: Labels = rows.argmax(axis=1).astype(np.int32)
    return positions


def _texts(name: str, array: NDArray[Any]) -> NDArray[np.str_]:
    _one_axis(name, array)
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError as cause:
            raise DataError(name, "bytes", "texts in UTF-8", f"Decode them first: {cause}.") from (
                cause
            )
    for index, each in enumerate(array.tolist()):
        if not isinstance(each, str):
            raise DataError(
                f"{name}[{index}]",
                each,
                "a text, as other labels are",
                "Give every example a label of one kind, or drop it.",
            )
    return np.array(array.tolist(), dtype=np.str_)


def _whole(name: str, array: NDArray[Any]) -> NDArray[Any]:
    _one_axis(name, array)
    try:
        if array.dtype.kind in "cmM":
            raise TypeError("complex numbers and times are none")
        numbers = array if array.dtype.kind in "iu" else array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as cause:
        raise DataError(
            f"{name}.dtype", str(array.dtype), "whole numbers or texts", f"Convert them: {cause}."
        ) from cause
    bad = numbers != np.floor(numbers)  # NaN too; infinity is met by the limit
    bad |= np.abs(numbers.astype(np.float64)) >= 2**53
    if bad.any():
        index = int(bad.argmax())
        raise DataError(
            f"{name}[{index}]",
            array[index].item() if hasattr(array[index], "item") else array[index],
            "a whole number, as labels are",
            f"{int(bad.sum())} of {bad.size} are none. Pass task=Regression() if they are measured"
            " values.",
        )
    return numbers.astype(np.int64)


def _one_axis(name: str, array: NDArray[Any]) -> None:
    if array.ndim != 1 or array.size == 0:
        raise DataError(
            f"{name}.shape",
            array.shape,
            "(n,) with n >= 1, one label per example",
            f"Make a column flat with {name}.ravel().",
        )


def _ranks(parts: list[NDArray[Any]]) -> MappedLabels:
    names, ranks = np.unique(np.concatenate(parts), return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return MappedLabels(np.split(ranks.astype(np.int32), ends), tuple(map(str, names)))


def checked_names(names: object, classes: int) -> tuple[str, ...]:
    """Return the names of all classes: different texts.

    Raises:
        InvalidValueError: it is none, or of another length.

    Example:
        >>> from pynode_jl.datasets import checked_names
        >>> checked_names(["no", "yes"], 2)
        ('no', 'yes')
    """
    given = tuple(names) if isinstance(names, list | tuple) else ()
    texts = all(isinstance(each, str) for each in given)
    if not texts or not len(given) == len(set(given)) == classes:
        raise InvalidValueError(
            "label_names", names, f"{classes} different texts, one for each class", "Name them all."
        )
    return given
