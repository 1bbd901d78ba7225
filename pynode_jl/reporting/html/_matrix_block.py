"""A matrix on a page: cells in colours, told one by one, whose value and order can be chosen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pynode_jl.errors import InvalidValueError

#: How many colours values are sorted into; the style sheet has a class for each.
LEVELS = 21


@dataclass(frozen=True, eq=False)
class Layer:
    """One value of each cell.

    Attributes:
        name: what it is: "accuracy".
        values: rows by columns, as text; "" for none.
        shades: of the same shape, from 0 (dark: worst) to 1 (light: best); nan for no colour.
        ends: what stands at the dark and at the light end of the scale.

    Example:
        >>> from pynode_jl.reporting.html import Layer
        >>> Layer("accuracy", [["50", "100"]], [[0.0, 1.0]], ("50 %", "100 %")).levels
        [[0, 20]]
    """

    name: str
    values: Sequence[Sequence[str]]
    shades: npt.ArrayLike
    ends: tuple[str, str] = ("worse", "better")

    @property
    def levels(self) -> list[list[int]]:
        """The number of each cell's colour; -1 for none."""
        shades = np.atleast_2d(np.asarray(self.shades, float))
        known = np.isfinite(shades)
        levels = np.rint(np.clip(np.where(known, shades, 0.0), 0.0, 1.0) * (LEVELS - 1))
        return [[int(each) for each in row] for row in np.where(known, levels, -1)]


class MatrixCell(NamedTuple):
    """A cell as the page shows it first."""

    text: str
    classes: str


class MatrixRow(NamedTuple):
    """A row as the page shows it first."""

    name: str
    cells: list[MatrixCell]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Values by row and column. Its headings stay in sight; a cell is told under the pointer.

    Where it has more columns than rows it is turned: a page is longer than wide, and so is paper.

    Attributes:
        layers: what cells can show; the first one at first.
        rows, columns: their names.
        sides: what the rows and what the columns are: ("trained with", "tested with").
        caption: what is shown.
        details: by name, texts by cell, told with it; "" is left out.
        own, failed: by cell, whether it has a frame, and whether it is hatched.
        orders: by name, positions of the rows and of the columns; the first one at first.

    Raises:
        InvalidValueError: no layer, or one of another shape.

    Example:
        >>> from pynode_jl.reporting.html import Layer, Matrix
        >>> layer = Layer("accuracy", [["50", "100"]], [[0.0, 1.0]])
        >>> matrix = Matrix([layer], ["Euler h=1/2"], ["RK4", "Euler"])
        >>> matrix.rows  # turned
        ['RK4', 'Euler']
    """

    template: ClassVar[str] = "matrix.html"
    levels: ClassVar[int] = LEVELS

    layers: Sequence[Layer]
    rows: Sequence[str]
    columns: Sequence[str]
    sides: tuple[str, str] = ("row", "column")
    caption: str = ""
    details: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    own: npt.ArrayLike | None = None
    failed: npt.ArrayLike | None = None
    orders: Mapping[str, tuple[Sequence[int], Sequence[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = len(self.rows), len(self.columns)
        if not self.layers or not all(shape):
            hint = "Give a value for each row and column."
            raise InvalidValueError("layers", len(self.layers), "one or more, with cells", hint)
        for name, cells in self._all_cells():
            found = len(cells), *{len(row) for row in cells}
            if found != shape:
                expected = f"{shape[0]} rows of {shape[1]} cells"
                raise InvalidValueError(name, found, expected, "Give one for each cell.")
        if shape[1] > shape[0]:
            self._turn()

    def _all_cells(self) -> Iterator[tuple[str, Sequence[Sequence[object]]]]:
        for layer in self.layers:
            yield f"layers[{layer.name!r}].values", layer.values
            yield f"layers[{layer.name!r}].shades", layer.levels
        for name, cells in self.details.items():
            yield f"details[{name!r}]", cells

    def _turn(self) -> None:
        """Make rows of the columns."""
        turned = {
            "layers": [
                Layer(each.name, _turned(each.values), np.asarray(each.shades).T, each.ends)
                for each in self.layers
            ],
            "rows": list(self.columns),
            "columns": list(self.rows),
            "sides": self.sides[::-1],
            "details": {name: _turned(cells) for name, cells in self.details.items()},
            "own": None if self.own is None else np.asarray(self.own).T,
            "failed": None if self.failed is None else np.asarray(self.failed).T,
            "orders": {name: order[::-1] for name, order in self.orders.items()},
        }
        for name, value in turned.items():
            object.__setattr__(self, name, value)

    @property
    def label(self) -> str:
        """What the region that holds the matrix is called."""
        return f"Matrix of {self.layers[0].name}: {self.sides[0]} by {self.sides[1]}"

    def cells(self) -> Iterator[MatrixRow]:
        """Give the rows as they are shown first."""
        shown, marks = self.layers[0], self._marks()
        for name, values, levels, kept in zip(
            self.rows, shown.values, shown.levels, marks, strict=True
        ):
            yield MatrixRow(
                str(name),
                [
                    MatrixCell("\N{MULTIPLICATION X}" if "failed" in mark else text, classes)
                    for text, mark, classes in zip(
                        values,
                        kept,
                        [
                            f"l{level} {mark}".strip()
                            for level, mark in zip(levels, kept, strict=True)
                        ],
                        strict=True,
                    )
                ],
            )

    def _marks(self) -> list[list[str]]:
        shape = len(self.rows), len(self.columns)
        own, failed = (
            np.zeros(shape, bool) if each is None else np.asarray(each, bool).reshape(shape)
            for each in (self.own, self.failed)
        )
        names = np.where(own, "own", "").astype(object) + np.where(failed, " failed", "")
        return [[str(mark).strip() for mark in row] for row in names]

    def to_json(self) -> str:
        """Return all layers, orders and details as JSON; details that are empty left out."""
        here = list(range(len(self.rows))), list(range(len(self.columns)))
        orders = self.orders or {"as given": here}
        return json.dumps(
            {
                "sides": self.sides,
                "layers": [
                    {
                        "name": each.name,
                        "values": [list(row) for row in each.values],
                        "levels": each.levels,
                        "ends": each.ends,
                    }
                    for each in self.layers
                ],
                "marks": self._marks(),
                "details": [
                    [name, [list(row) for row in texts]] for name, texts in self.details.items()
                ],
                "orders": [
                    {"name": name, "rows": [*map(int, down)], "columns": [*map(int, across)]}
                    for name, (down, across) in orders.items()
                ],
            },
            separators=(",", ":"),
        )


def shades(
    values: npt.ArrayLike, low: float, high: float, *, log: bool = False
) -> npt.NDArray[np.float64]:
    """Return values as shades: `low` is 0 and `high` is 1, whichever of them is larger.

    Example:
        >>> from pynode_jl.reporting.html import shades
        >>> shades([0.1, 0.01], 1.0, 0.01, log=True).tolist()
        [0.5, 1.0]
    """
    given = np.asarray(values, float)
    if log and low > 0 and high > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            given, low, high = np.log10(given), math.log10(low), math.log10(high)
    if low == high:
        return np.where(np.isfinite(given), 1.0, np.nan)
    with np.errstate(invalid="ignore"):
        found = np.clip((given - low) / (high - low), 0.0, 1.0)
    return np.where(np.isnan(given), np.nan, found)


def texts(grid: pd.DataFrame, form: str) -> list[list[str]]:
    """Return a grid's numbers as texts of one format, "" where there is none.

    `form` is what `format` takes.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.html import texts
        >>> texts(pd.DataFrame([[0.5, None]]), ".1%")
        [['50.0%', '']]
    """
    return [
        ["" if pd.isna(value) else format(value, form) for value in row]
        for row in grid.to_numpy(object)
    ]


def _turned(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(column) for column in zip(*cells, strict=True)]
