"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from rich.text import Text

from pynode_jl.cli._console import plain_table
from pynode_jl.diagnostics import NOT_RUN

if TYPE_CHECKING:
    from rich.table import Table

    from pynode_jl.diagnostics import SwapReport

_AS_GIVEN = "as given"
_MARKS = "* as trained. ( ): farther from the ODE than that, so that no verdict rests on it."
_NAMED = 3


def swap_table(name: str, report: SwapReport) -> Table:
    """Return the test score by test solver (rows) and factor on the training step (columns).

    Marked by a star and bold: the solver trained with. In brackets and dim: a solve on which the
    verdict does not rest.
    """
    rows = report.table
    named = rows.assign(
        row=rows["test_solver"].where(rows["factor"].notna(), rows["label"]),
        column=["x" + format(f, "g") if pd.notna(f) else _AS_GIVEN for f in rows["factor"]],
    )
    columns = [f"x{factor:g}" for factor in sorted(rows["factor"].dropna().unique())]
    if rows["factor"].isna().any():
        columns.append(_AS_GIVEN)
    table = plain_table(
        f"{name}: test {report.verdict.metric}, trained with {rows['train_solver'].iloc[0]}",
        ("test solver", *columns),
        " ".join((_MARKS, *_failures(rows))),
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row, cells in named.groupby("row", sort=False):
        shown = {str(cell["column"]): _cell(cell) for _, cell in cells.iterrows()}
        table.add_row(str(row), *(shown.get(column, "") for column in columns))
    return table


def _failures(rows: pd.DataFrame) -> Iterator[str]:
    """Say why solves failed or were not run, each reason once, with the first of its solves."""
    bad = rows[rows["retcode"] != "Success"]
    for reason, labels in bad.groupby("reason", sort=False)["label"]:
        named = ", ".join(labels[:_NAMED])
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        yield f"{named}{more}: {reason}"


def _cell(cell: pd.Series) -> Text:
    if cell["retcode"] == NOT_RUN:
        return Text("not run", style="dim")
    if cell["retcode"] != "Success":
        return Text("failed", style="dim")
    text = f"{cell['score']:.4g}" if "score" in cell else f"{cell['accuracy']:.1%}"
    if cell["label"] == cell["train_solver"]:
        return Text(f"{text}*", style="bold")
    # Figures stand below figures, whatever mark they have.
    return Text(f"{text} ") if cell["finer"] else Text(f"({text})", style="dim")
