"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table
from rich.text import Text

from pynode_jl.diagnostics import NOT_RUN

if TYPE_CHECKING:
    from pynode_jl.diagnostics import SwapReport

_AS_GIVEN = "as given"


def swap_table(name: str, report: SwapReport) -> Table:
    """Return the test score by test solver (rows) and factor on the training step (columns).

    Bold: the solver trained with. Dim: a solve on which the verdict does not rest.
    """
    rows = report.table
    named = rows.assign(
        row=rows["test_solver"].where(rows["factor"].notna(), rows["label"]),
        column=["x" + format(f, "g") if pd.notna(f) else _AS_GIVEN for f in rows["factor"]],
    )
    columns = [f"x{factor:g}" for factor in sorted(rows["factor"].dropna().unique())]
    if rows["factor"].isna().any():
        columns.append(_AS_GIVEN)
    table = Table(
        title=f"{name}: test {report.verdict.metric}, trained with {rows['train_solver'].iloc[0]}",
        caption="bold: as trained. dim: failed, or farther from the ODE than that",
    )
    table.add_column("test solver", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row, cells in named.groupby("row", sort=False):
        shown = {str(cell["column"]): _cell(cell) for _, cell in cells.iterrows()}
        table.add_row(str(row), *(shown.get(column, Text("")) for column in columns))
    return table


def _cell(cell: pd.Series) -> Text:
    if cell["retcode"] == NOT_RUN:
        return Text("not run", style="dim")
    if cell["retcode"] != "Success":
        return Text("failed", style="dim")
    text = f"{cell['score']:.4g}" if "score" in cell else f"{cell['accuracy']:.1%}"
    if cell["label"] == cell["train_solver"]:
        return Text(text, style="bold")
    return Text(text, style="" if cell["finer"] else "dim")
