"""``pynode-jl matrix``: many training solvers by many test solvers."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pynode_jl.cli._commands import Check, exit_by_verdict
from pynode_jl.cli._console import note, plain_table, show, stderr
from pynode_jl.cli._running import SolverOption, expanded, keep_earlier, writable

if TYPE_CHECKING:
    from rich.table import Table

    from pynode_jl.diagnostics import SwapMatrix

_WORST = 10


def matrix(
    folders: Annotated[
        list[Path], typer.Argument(help="Runs, or folders that hold runs.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(callback=expanded, help="Folder for table, heat map and page.")
    ] = Path("runs/matrix"),
    solver: SolverOption = None,
    factor: Annotated[
        list[float] | None,
        typer.Option(help="A multiple of the training step or tolerance. Repeatable."),
    ] = None,
    zoo: Annotated[
        bool, typer.Option("--zoo", help="Every explicit Runge-Kutta method as a test solver.")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="The change of answers that is allowed.", show_default="the task's"),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the verdicts' intervals.")] = 0.95,
    criterion: Annotated[
        str, typer.Option(help="flips, or a rule of the paper: three-points, ten-points.")
    ] = "flips",
    check: Check = False,
) -> None:
    """Make a swap matrix: training solvers by test solvers, seeds averaged."""
    from pynode_jl.cli._progress import swap_bar
    from pynode_jl.reporting.pages import write_matrix_report
    from pynode_jl.runs import explicit_zoo, find_runs, of_one_task, runs_matrix

    begun = time.monotonic()

    left_out: dict[Path, str] = {}

    def skip(folder: Path, reason: str) -> None:
        left_out[folder] = reason
        note(f"skipped {folder}: {reason}")

    runs = of_one_task(find_runs(folders, skip), skip)
    writable(out)
    tests = [*(solver or ()), *(explicit_zoo() if zoo else ())]
    with swap_bar(stderr, "matrix") as on_solve:
        found = runs_matrix(
            runs,
            tests or None,
            factors=factor,
            margin=margin,
            confidence=confidence,
            criterion=cast(Any, criterion),  # checked there
            on_solve=on_solve,
            on_skip=skip,
        )
    keep_earlier(out / "matrix.csv", found.table.to_csv(index=False), "matrix.*")
    page = write_matrix_report(runs, found, out, skipped=left_out)
    show(
        lambda: {"matrix": found.table, "trained": found.trained, "page": str(page)},
        _damage_table(found),
        "",
        _verdicts_table(found),
    )
    note(
        f"evaluations: {int(found.table['seeds'].sum())}, runs: {len(runs)},"
        f" {time.monotonic() - begun:.0f} s"
    )
    note(f"matrix: {page}")
    if check:
        exit_by_verdict(_kinds(found))


def _kinds(found: SwapMatrix) -> list[str]:
    """Return the kinds of verdict that occur."""
    from pynode_jl.reporting.html import VERDICTS

    return [name for name in VERDICTS if name in found.trained and found.trained[name].sum()]


def _damage_table(found: SwapMatrix) -> Table:
    """Return the worst of finer solves: accuracies and flips, or scores and shifts."""
    shares = "accuracy" in found.table
    score, change = ("accuracy", "flips") if shares else ("score", "shift")
    verdict = None if found.report is None else found.report.verdict
    metric, unit = ("accuracy", "") if verdict is None else (verdict.metric, verdict.unit)
    table = plain_table(
        "finer solves by damage, with intervals",
        ("trained with", "tested with", "damage", metric, change, "seeds"),
    )
    ends = [f"{change}{end}" for end in ("", "_low", "_high")]
    for row in found.table[found.table["finer"]].head(_WORST).to_dict("records"):
        changed = row[ends[0]], row[ends[1]], row[ends[2]]
        table.add_row(
            str(row["train_solver"]),
            str(row["test"]),
            f"{row['damage']:+.1%}" if shares else f"{row['damage']:+.3g}",
            _with_interval(row[score], row["low"], row["high"], shares),
            _with_interval(*changed, unit in ("", "of their error")),
            str(row["seeds"]),
        )
    return table


def _verdicts_table(found: SwapMatrix) -> Table:
    """Return each training solver's scores, and its seeds by verdict."""
    shares, kinds = "accuracy" in found.table, _kinds(found)
    verdicts = plain_table("seeds by verdict", ("trained with", "as trained", "as an ODE", *kinds))
    for row in found.trained.to_dict("records"):
        scores = [
            _with_interval(row[name], row[f"{name}, low"], row[f"{name}, high"], shares)
            for name in ("as trained", "as an ODE")
        ]
        verdicts.add_row(str(row["train_solver"]), *scores, *(str(row[kind]) for kind in kinds))
    return verdicts


def _with_interval(value: float, low: float, high: float, share: bool = True) -> str:
    """Return a share or number, with its interval if it has one: "84.8% (82.1 to 87.2)"."""
    if math.isnan(value):
        return "-"
    if not share:
        return f"{value:.3g}" + ("" if math.isnan(low) else f" ({low:.3g} to {high:.3g})")
    return f"{value:.1%}" + ("" if math.isnan(low) else f" ({100 * low:.1f} to {100 * high:.1f})")
