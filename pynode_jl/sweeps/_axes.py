"""The axes of a sweep: what is varied, as dotted keys of a configuration, and all combinations."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pynode_jl._io import user_path
from pynode_jl.backends import Optimizer
from pynode_jl.errors import SweepError
from pynode_jl.runs import TABLES, plain
from pynode_jl.solvers import Solver

#: An axis: its points, each with the settings that it makes.
Axis = tuple[Mapping[str, Any], ...]

_PATHS = ("data.path", "data.test_path", "data.folder")
_MOST_RUNS = 1_000_000


def grid_axes(grid: object) -> dict[str, tuple[Any, ...]]:
    """Return lists by dotted key, whether these were written as texts or as nested tables.

    Raises:
        SweepError: a value that is no list, or an empty one.
    """
    return {key: _listed(f"grid.{key}", values) for key, values in _flat("grid", grid, math.inf)}


def zip_axes(zips: object) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """Return tables of lists; those of one table are of one length.

    Raises:
        SweepError: they are not.
    """
    found = []
    for number, table in enumerate(_tables("zip", zips)):
        lists = {
            key: _listed(f"zip[{number}].{key}", values)
            for key, values in _flat("zip", table, math.inf)
        }
        lengths = {key: len(values) for key, values in lists.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            hint = "Give each the same number of values; [grid] takes all combinations."
            raise SweepError(f"zip[{number}]", said, "lists of one length", hint)
        if lists:
            found.append(lists)
    return tuple(found)


def point_axis(points: object) -> tuple[dict[str, Any], ...]:
    """Return tables of settings, by dotted key.

    Raises:
        SweepError: they are none.
    """
    return tuple(
        {key: _written(key, value) for key, value in _flat("points", table, 1)}
        for table in _tables("points", points)
    )


def combinations(
    grid: Mapping[str, tuple[Any, ...]],
    zips: Sequence[Mapping[str, tuple[Any, ...]]],
    points: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the settings of every combination; the last key of the grid changes fastest.

    Raises:
        SweepError: a key on two axes, or too many combinations.
    """
    axes: list[Axis] = []
    if points:
        axes.append(tuple(points))
    for table in zips:
        axes.append(
            tuple(dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))
        )
    axes += [tuple({key: value} for value in values) for key, values in grid.items()]
    seen: set[str] = set()
    for axis in axes:
        keys = {key for point in axis for key in point}
        if twice := sorted(keys & seen):
            raise SweepError(
                "sweep", twice[0], "each key on one axis", "Remove it from the others."
            )
        seen |= keys
    count = math.prod(map(len, axes))
    if count > _MOST_RUNS:
        raise SweepError("sweep", count, f"at most {_MOST_RUNS:,} runs", "Split it.")
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def with_paths_from(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return settings, or lists of them, with the paths of data absolute, from `folder`."""
    made = dict(settings)
    for key in _PATHS:
        value = made.get(key)
        if isinstance(value, str):
            made[key] = _absolute(key, value, folder)
        elif isinstance(value, tuple):
            made[key] = tuple(_absolute(key, each, folder) for each in value)
    return made


def _absolute(key: str, path: Any, folder: Path) -> Any:
    return os.path.abspath(folder / user_path(key, path)) if isinstance(path, str) else path


def _tables(name: str, given: object) -> Sequence[Mapping[str, Any]]:
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, (list, tuple)) or not all(isinstance(t, Mapping) for t in given):
        raise SweepError(name, given, "a list of tables", f"Write [[{name}]] and its keys below.")
    return given


def _flat(name: str, given: object, depth: float, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values by dotted key: tables are opened `depth` deep where a configuration has them."""
    if not isinstance(given, Mapping):
        raise SweepError(name, given, "a table", f"Write [{name}] and its keys below.")
    for key, value in given.items():
        if not isinstance(key, str):
            raise SweepError(f"{name} key", key, "a name", "Write it as text.")
        whole = f"{above}{key}"
        if isinstance(value, Mapping) and (above or key in TABLES) and depth > 0:
            yield from _flat(name, value, depth - 1, f"{whole}.")
        else:
            yield whole, value


def _listed(name: str, values: object) -> tuple[Any, ...]:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        hint = "Write [...]; what is one for all runs belongs to [run]."
        raise SweepError(name, values, "a list", hint)
    found = tuple(_written(name, value) for value in values)
    if not found:
        raise SweepError(name, values, "a list with a value or more", "Add one, or remove the key.")
    return found


def _written(name: str, value: Any) -> Any:
    """Return a value as a TOML file has it."""
    if isinstance(value, Solver | Optimizer):
        value = value.to_dict()
    value = plain(value)
    if value is None:
        raise SweepError(name, None, "a value", "Leave the key out where the default is meant.")
    return value
