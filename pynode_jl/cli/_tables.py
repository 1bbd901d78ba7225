"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pynode_jl.analysis import SwapReport


def swap_table(reports: Mapping[str, SwapReport]) -> Table:
    """Accuracy by test solver (rows) and by run and factor (columns).

    Bold: the solver trained with. Dim: a solve with a larger error than it, on which the verdict
    does not rest. A failed solve shows its return code.
    """
    table = Table(title="Test accuracy when the solver is swapped")
    table.add_column("test solver", no_wrap=True)
    columns: list[tuple[pd.DataFrame, float]] = []
    for name, report in reports.items():
        rows = report.table
        for factor in [*sorted(rows["factor"].dropna().unique()), float("nan")]:
            chosen = (
                rows[rows["factor"].isna()] if pd.isna(factor) else rows[rows["factor"] == factor]
            )
            if chosen.empty:
                continue
            head = "as given" if pd.isna(factor) else f"x{factor:g}"
            trained = str(rows["train_solver"].iloc[0])
            columns.append((chosen, factor))
            table.add_column(f"{name}\n{trained}\n{head}", justify="right")
    names: dict[str, None] = {}
    for report in reports.values():
        for _, row in report.table.iterrows():
            names[_row_name(row)] = None
    for name in names:
        cells = [_cell(chosen, name) for chosen, _ in columns]
        table.add_row(name, *cells)
    return table


def _row_name(row: pd.Series) -> str:
    return str(row["label"]) if pd.isna(row["factor"]) else str(row["test_solver"])


def _cell(chosen: pd.DataFrame, name: str) -> Text:
    for _, row in chosen.iterrows():
        if _row_name(row) == name:
            if row["retcode"] != "Success":
                return Text(str(row["retcode"]), style="dim")
            style = "bold" if row["label"] == row["train_solver"] else ""
            return Text(f"{row['accuracy']:.1%}", style=style or ("" if row["finer"] else "dim"))
    return Text("")
