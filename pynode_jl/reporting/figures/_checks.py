"""Checks of the plain data that figures take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from pynode_jl.errors import InvalidValueError

_T = TypeVar("_T")


def some(argument: str, items: Sequence[_T]) -> Sequence[_T]:
    """Return `items`, of which there must be at least one."""
    if not len(items):
        raise InvalidValueError(argument, items, "at least one panel", "Give what is to be drawn.")
    return items


def named_tables(
    argument: str, tables: Mapping[str, Any], needed: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return `tables` as DataFrames: at least one, each with the columns `needed`."""
    if not isinstance(tables, Mapping) or not tables:
        raise InvalidValueError(
            argument,
            tables,
            "a mapping of at least one title to its table",
            'Pass {"Euler h=1/2": table}.',
        )
    checked = {str(key): pd.DataFrame(table) for key, table in tables.items()}
    for key, table in checked.items():
        missing = [column for column in needed if column not in table.columns]
        if missing:
            raise InvalidValueError(
                f"{argument}[{key!r}].columns",
                list(table.columns),
                f"columns {', '.join(needed)}",
                f"Missing: {', '.join(missing)}.",
            )
    return checked


def share(argument: str, value: float) -> float:
    """Return `value`, which must be a share below 1."""
    if not 0 <= value < 1:
        raise InvalidValueError(
            argument, value, "a share of at least 0 and below 1", "Chance is 1 / classes, say."
        )
    return float(value)


def array(argument: str, value: npt.ArrayLike, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """Return `value` as an array of `shape`, in which None is any length."""
    checked = np.asarray(value)
    fits = checked.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, checked.shape, strict=True)
    )
    if not fits:
        text = ", ".join("any" if length is None else str(length) for length in shape)
        raise InvalidValueError(
            f"{argument}.shape", checked.shape, f"({text})", "Give the array in that shape."
        )
    return checked
