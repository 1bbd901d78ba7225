"""What commands print, and where: results on standard output, everything else on standard error.

Nothing that they print is markup: a run may be named [/red]. Tables have no boxes; in a terminal
long cells are folded, in a pipe or file nothing is. With ``--json`` nothing but JSON is a result.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pynode_jl._io import json_values

if TYPE_CHECKING:
    import pandas as pd

console = Console(markup=False, emoji=False, highlight=False)
#: Notes and progress; `--quiet` silences it.
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)
#: What a command was refused for: never silenced.
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

_UNBOUNDED = 10_000


class _Wanted:
    """How the running command was asked to print."""

    as_json = False


def set_output(as_json: bool, quiet: bool) -> None:
    """Take what a command was asked for: JSON or text, with or without notes."""
    _Wanted.as_json = as_json
    stderr.quiet = quiet


def note(text: str, style: str = "") -> None:
    """Print a line on standard error, unless ``--quiet`` is given."""
    stderr.print(text, style=style or None, soft_wrap=True)


def show(values: Callable[[], Any], *blocks: Table | Text | str) -> None:
    """Print a result: `values` as JSON if that is asked for, else `blocks`, one below another."""
    if _Wanted.as_json:
        print(json.dumps(json_values(_records(values())), indent=1, ensure_ascii=False))
        return
    for block in blocks:
        if isinstance(block, Table):
            _print_table(block)
        else:
            console.print(block, soft_wrap=not console.is_terminal)


def stream(*texts: Text | str) -> None:
    """Print a line of a result that grows, unless JSON is asked for: that comes at the end."""
    if not _Wanted.as_json:
        console.print(Text.assemble(*texts), soft_wrap=True)


def plain_table(title: str, columns: Iterable[str], caption: str = "") -> Table:
    """Return a table of these columns, the first of them names, which are never broken."""
    table = Table(title=title or None, caption=caption or None)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    return table


def frame_table(title: str, frame: pd.DataFrame, caption: str = "") -> Table:
    """Return a table of a data frame, numbers to four digits, "-" where there is none."""
    table = plain_table(title, map(str, frame), caption)
    for row in frame.itertuples(index=False):
        table.add_row(*map(_frame_cell, row))
    return table


def _frame_cell(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return "-" if math.isnan(cell) else f"{cell:.4g}"


def _print_table(table: Table) -> None:
    # Rich wraps them to the width of the columns.
    title, table.title = table.title, None
    caption, table.caption = table.caption, None
    if title:
        title = title if table.row_count else f"{title}: none"
        console.print(title, style="bold", soft_wrap=not console.is_terminal)
    if table.row_count:
        _print_columns(table)
    if caption:
        console.print(caption, soft_wrap=not console.is_terminal)


def _print_columns(table: Table) -> None:
    table.box = None
    table.pad_edge = False
    if console.is_terminal and console.measure(table).minimum <= console.width:
        console.print(table)
        return
    # Never cut: wider than the terminal, lines go on below.
    wide = Console(file=sys.stdout, width=_UNBOUNDED, markup=False, emoji=False, highlight=False)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")


def _records(values: Any) -> Any:
    """Return nested values, a data frame as a list of its rows."""
    if hasattr(values, "itertuples"):  # pandas is not imported for what has no frames
        return values.to_dict("records")
    if isinstance(values, Mapping):
        return {key: _records(each) for key, each in values.items()}
    if isinstance(values, list | tuple):
        return [_records(each) for each in values]
    return values
