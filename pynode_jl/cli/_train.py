"""``pynode-jl quickstart``, ``train`` and ``swap``: the main job."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pynode_jl._io import read_bytes, write_bytes
from pynode_jl.cli._commands import Check, exit_by_verdict
from pynode_jl.cli._console import note, show, stderr
from pynode_jl.cli._running import (
    Folder,
    Settings,
    SolverOption,
    expanded,
    settings,
    train_with_bar,
)

if TYPE_CHECKING:
    from pynode_jl.diagnostics import SwapReport
    from pynode_jl.runs import Run


def quickstart(
    out: Annotated[
        Path, typer.Option(callback=expanded, help="Folder for the runs and the report.")
    ] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Decides data, weights and batches.")] = 0,
) -> None:
    """Train Sphere 2D with a coarse and a fine Euler step, swap solvers, report. Takes minutes."""
    from pynode_jl.runs import Run, quickstart_configs

    begun = time.monotonic()
    runs = {
        name: Run.create(config, out / name) for name, config in quickstart_configs(seed).items()
    }
    for name, run in runs.items():
        train_with_bar(run, name)
    reports = _swapped(runs)
    page = _write_page(runs, out, "Quickstart: one model, a coarse and a fine training solver")
    _show_swaps(runs, reports, page)
    note(f"{time.monotonic() - begun:.0f} s in all")


def train(
    config: Annotated[
        Path, typer.Argument(callback=expanded, help="A TOML file.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(callback=expanded, help="The run's folder: new, or a run to resume.")
    ],
    setting: Settings = None,
) -> None:
    """Train the run of a configuration; run again, it resumes from its checkpoint."""
    from pynode_jl.cli._progress import task_score
    from pynode_jl.runs import Config, Run

    run = Run.create(Config.from_toml(config).changed(settings(setting or [])), out)
    trained = train_with_bar(run, out.name)
    history = trained.history
    last = slice(-trained.recipe.chunk, None)
    found = {
        "run": str(out),
        "solver": trained.solver.label,
        "iterations": trained.state.iteration,
        "loss": float(history.loss[last].mean()),
        trained.model.task.metric: trained.model.task.score(history.accuracy[last]),
        "seconds": trained.seconds,
    }
    show(
        lambda: found,
        f"{out.name}: {found['iterations']} iterations, loss {found['loss']:.4g},"
        f" {task_score(trained.model.task, history.accuracy[last])} on the last batches",
    )
    note(f"next: pynode-jl swap {out}")


def swap(
    folder: Folder,
    solver: SolverOption = None,
    factor: Annotated[
        list[float] | None,
        typer.Option(help="A multiple of the training step or tolerance. Repeatable."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="The change of answers that is allowed.", show_default=False),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Of the verdict's intervals.", show_default=False)
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="flips, or a rule of the paper: three-points, ten-points.", show_default=False
        ),
    ] = None,
    check: Check = False,
) -> None:
    """Evaluate a trained run under other solvers; without options, as its configuration says.

    The run's folder has the results of the last swap. Those of each swap are in its folder swaps,
    by their settings: none is written over.
    """
    from pynode_jl.runs import Run

    run = Run.open(folder)
    rule: dict[str, Any] = {"margin": margin, "confidence": confidence, "criterion": criterion}
    chosen = replace(
        run.config.swap,
        solvers=tuple(solver or run.config.swap.solvers),
        factors=tuple(factor or run.config.swap.factors),
        **{name: value for name, value in rule.items() if value is not None},
    )
    name = folder.resolve().name
    runs = {name: run.with_swap(chosen)}
    reports = _swapped(runs)
    own = runs[name].swap_folder
    page = _write_page(runs, own, f"Run {name}")
    for file in page.parent.iterdir():
        if file.suffix in (".html", ".png", ".pdf"):
            write_bytes(folder / file.name, read_bytes(file))
    note(f"kept: {own}")
    _show_swaps(runs, reports, folder / page.name)
    if check:
        exit_by_verdict(report.verdict.kind for report in reports.values())


def _swapped(runs: dict[str, Run]) -> dict[str, SwapReport]:
    from pynode_jl.cli._progress import swap_bar

    reports = {}
    for name, run in runs.items():
        with swap_bar(stderr, name) as on_solve:
            reports[name] = run.swap(on_solve)
    return reports


def _write_page(runs: dict[str, Run], folder: Path, title: str) -> Path:
    from pynode_jl.reporting.pages import write_run_report

    return write_run_report(runs, folder, title)


def _show_swaps(runs: dict[str, Run], reports: dict[str, SwapReport], page: Path) -> None:
    from pynode_jl.cli._tables import swap_table

    def values() -> dict[str, Any]:
        found = {
            name: {
                "folder": str(runs[name].folder),
                **report.to_dict(),
                "text": report.verdict.text,
                "table": report.table,
            }
            for name, report in reports.items()
        }
        return {"runs": found, "page": str(page)}

    blocks: list[Any] = []
    for name, report in reports.items():
        blocks += [swap_table(name, report), f"{name}: {report.verdict.text}"]
        blocks += [] if report.cost is None else [report.cost.text]
    show(values, *blocks)
    note(f"report: {page}")
