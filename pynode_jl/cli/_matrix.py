"""``pynode-jl matrix``: many training solvers by many test solvers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

_WORST = 10
_console = Console()


def matrix(
    folders: Annotated[
        list[Path], typer.Argument(help="Runs, or folders that hold runs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Where table, heat map and page go.")] = Path(
        "runs/matrix"
    ),
    solver: Annotated[
        list[str] | None,
        typer.Option(help="A test solver: a name, or with settings of its own. Repeatable."),
    ] = None,
    factor: Annotated[
        list[float] | None,
        typer.Option(help="A multiple of the training step or tolerance. Repeatable."),
    ] = None,
    zoo: Annotated[
        bool, typer.Option("--zoo", help="Every explicit Runge-Kutta method as a test solver.")
    ] = False,
) -> None:
    """Swap matrix: training solvers by test solvers by factors, seeds aggregated."""
    from pynode_jl.cli._progress import swap_bar
    from pynode_jl.experiments import explicit_zoo, find_runs, runs_matrix, write_matrix_report

    begun = time.monotonic()
    runs = find_runs(folders)
    tests = [*(solver or ()), *(explicit_zoo() if zoo else ())]
    with swap_bar(_console, f"{len(runs)} runs") as show:
        found = runs_matrix(runs, tests or None, factors=factor, on_solve=show)
    table = Table("trained with", "tested with", "damage", "accuracy", "seeds", title="by damage")
    for row in found.table[found.table["finer"]].head(_WORST).to_dict("records"):
        cells = (f"{row['damage']:+.1%}", f"{row['accuracy']:.1%}", str(row["seeds"]))
        table.add_row(str(row["train_solver"]), str(row["test"]), *cells)
    _console.print(table)
    page = write_matrix_report(runs, found, out)
    _console.print(
        f"{int(found.table['seeds'].sum())} evaluations of {len(runs)} runs,"
        f" {time.monotonic() - begun:.0f} s"
    )
    _console.print(f"matrix: {page}", soft_wrap=True, highlight=False)
