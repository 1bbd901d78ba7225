"""Tables of a report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.formats import counted

_MISSING = "\N{EN DASH}"
# "0.3", "+1.2%", "1/16", "12 of 1000 (0.5 to 2%)"; "2D spheres" and "3-point" are names.
_NUMBER = re.compile(r"[+-]?(\d[\d,]*\.?\d*|\.\d+)(e[+-]?\d+)?(?=$|[\s%(/])")


class Cell(NamedTuple):
    """A table's cell as it is shown."""

    text: str
    number: bool


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers and names, whose rows a page sorts and filters.

    Its index is not shown: reset it if it should be. The first column names the rows.

    Attributes:
        frame: the rows; columns are shown in its order.
        formats: by column, a format such as ".3f" or ".1%", or a function from value to text.
            Other floats are shown with four significant digits, whatever is missing as a dash.
        headers: by column, a heading other than its name.
        caption: what the table shows.
        folded: closed at first, with the caption to open it by; for long tables.

    Raises:
        InvalidValueError: `formats` or `headers` of a column that the table does not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.html import Table
        >>> table = Table(pd.DataFrame({"accuracy": [0.987]}), {"accuracy": ".1%"})
        >>> table.rows[0][0].text
        '98.7%'
    """

    template: ClassVar[str] = "table.html"

    frame: pd.DataFrame
    formats: Mapping[str, str | Callable[[Any], str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        columns = list(self.frame.columns)
        for argument, given in (("formats", self.formats), ("headers", self.headers)):
            unknown = [column for column in given if column not in columns]
            if unknown:
                raise InvalidValueError(
                    argument,
                    unknown[0],
                    f"columns of the table: {', '.join(map(str, columns))}",
                    f"Remove {unknown[0]!r}, or add the column.",
                )

    @property
    def heading(self) -> list[Cell]:
        """The heading of each column, with whether numbers stand under it."""
        return [
            Cell(str(self.headers.get(column, column)), self._numeric(place))
            for place, column in enumerate(self.frame.columns)
        ]

    @cached_property
    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        # Column by column: a row of a DataFrame has one type for all, which turns 12 into 12.0.
        columns = [
            [Cell(self._shown(column, value), self._numeric(place)) for value in values]
            for place, (column, values) in enumerate(self.frame.items())
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def label(self) -> str:
        """What the region that holds the table is called."""
        return self.caption or f"Table of {', '.join(cell.text for cell in self.heading)}"

    @property
    def counted(self) -> str:
        """How many rows it has: "1 row", "12 rows"."""
        return counted(len(self.frame), "row")

    @property
    def sorted_as_numbers(self) -> list[bool]:
        """By column, whether its cells begin with numbers, by which they are then sorted."""
        return [
            cell.number or _all_numbers([row[place].text for row in self.rows])
            for place, cell in enumerate(self.heading)
        ]

    def _numeric(self, place: int) -> bool:
        dtype = self.frame.dtypes.iloc[place]
        return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)

    def _shown(self, column: Any, value: Any) -> str:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return _MISSING
        if pd.api.types.is_float(value):
            value += 0.0  # 0, and not -0
        form = self.formats.get(column)
        if callable(form):
            return form(value)
        if form is not None:
            return format(value, form)
        if pd.api.types.is_bool(value):
            return "yes" if value else "no"
        if pd.api.types.is_float(value):
            return format(value, ".4g")
        return str(value)


def _all_numbers(texts: Sequence[str]) -> bool:
    known = [text for text in texts if text != _MISSING]
    return bool(known) and all(_NUMBER.match(text) for text in known)
