"""``pynode-jl adapt`` and ``pynode-jl critical``: train so that the model stays an ODE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pynode_jl.cli._running import settings, train_with_bar

if TYPE_CHECKING:
    import pandas as pd

    from pynode_jl.analysis import Trial
    from pynode_jl.datasets import Dataset
    from pynode_jl.experiments import Config
    from pynode_jl.solvers import Solver
    from pynode_jl.training import Trained

_console = Console()

_ConfigFile = Annotated[
    Path | None,
    typer.Argument(help="A TOML file; default: Sphere 2D with Euler.", show_default=False),
]
_Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help='Change a key: "adapt.every=25". Repeatable.'),
]


def adapt(
    config: _ConfigFile = None,
    out: Annotated[Path, typer.Option(help="Where the runs, their table and figure go.")] = Path(
        "runs/adapt"
    ),
    controller: Annotated[
        str | None,
        typer.Option(help="steady (ours) or paper; default: the file's, or steady."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the file's on.")] = 1,
    setting: _Setting = None,
) -> None:
    """Adapt the step or tolerance in training; started again, it goes on."""
    import pandas as pd

    from pynode_jl import figures
    from pynode_jl.experiments import AdaptConfig, Run, adaptation_row, checks_table

    base = _base(config)
    wanted = controller or base.adapt.controller
    wanted = "steady" if wanted == "none" else wanted
    if wanted != base.adapt.controller:
        base = replace(base, adapt=AdaptConfig(wanted))
    # Settings last: an option belongs to the controller that is named.
    base = base.changed(settings(setting or []))
    rows, traces, fixed = [], {}, True
    for seed in range(base.seed, base.seed + seeds):
        run = Run.create(replace(base, seed=seed), out / f"{wanted}-s{seed}")
        train_with_bar(_console, run, run.folder.name)
        trained = run.trained
        rows.append(adaptation_row(trained, run.dataset, run.backend))
        traces[run.folder.name] = checks_table(trained.history)
        fixed = trained.solver.fixed
    table = pd.DataFrame(rows)
    table.to_csv(out / f"{wanted}.csv", index=False)
    paths = figures.save(
        figures.adaptation_trace(dict(list(traces.items())[:4]), fixed=fixed),
        out / f"{wanted}-trace",
    )
    _show_adapted(wanted, table)
    _console.print(f"table and traces: {out / wanted}.csv, {paths[0]}", soft_wrap=True)


def critical(
    config: _ConfigFile = None,
    out: Annotated[Path, typer.Option(help="Where the runs and the table go.")] = Path(
        "runs/critical"
    ),
    coarse: Annotated[str, typer.Option(help="The coarse end: dt=1/4, or tol=1e-1.")] = "dt=1/4",
    fine: Annotated[str, typer.Option(help="The fine end.")] = "dt=1/256",
    method: Annotated[
        str, typer.Option(help="bisection, or grid: the paper's, at every step.")
    ] = "bisection",
    ratio: Annotated[float, typer.Option(help="Between neighbouring steps.")] = 2.0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the file's on.")] = 1,
    setting: _Setting = None,
) -> None:
    """Find the step or tolerance below which models hold under finer solvers."""
    from pynode_jl.analysis import critical as search
    from pynode_jl.backends import get_backend
    from pynode_jl.experiments import AdaptConfig, Run
    from pynode_jl.solvers import Solver

    base = replace(_base(config).changed(settings(setting or [])), adapt=AdaptConfig())
    name = base.recipe().solver.name

    def train(solver: Solver, seed: int) -> tuple[Trained, Dataset]:
        wanted = replace(base, seed=seed, train=replace(base.train, solver=str(solver)))
        text = solver.label.split(" ", 1)[1].replace("/", "_").replace(" ", "-")
        run = Run.create(wanted, out / f"{name}-{text}-s{seed}")
        train_with_bar(_console, run, run.folder.name)
        return run.trained, run.dataset

    def show(trial: Trial) -> None:
        drop = "" if trial.drop != trial.drop else f", drop {trial.drop * 100:.1f} points"
        _console.print(
            f"seed {trial.seed}, {trial.solver.label}: {trial.kind}, accuracy"
            f" {trial.accuracy:.1%}{drop}",
            highlight=False,
        )

    report = search(
        train,
        Solver.parse(f"{name}:{coarse}"),
        Solver.parse(f"{name}:{fine}"),
        method=method,  # type: ignore[arg-type]  # checked there
        seeds=range(base.seed, base.seed + seeds),
        ratio=ratio,
        margin=base.swap.margin,
        backend=get_backend(base.backend, base.device or None),
        on_trial=show,
    )
    report.table.to_csv(out / "trials.csv", index=False)
    report.brackets.to_csv(out / "critical.csv", index=False)
    _console.print(_frame(f"{name}: where models begin to hold ({method})", report.brackets))
    _console.print(f"tables: {out}/critical.csv, {out}/trials.csv", soft_wrap=True)


def _base(config: Path | None) -> Config:
    from pynode_jl.experiments import Config, TrainConfig

    if config is None:
        return Config(train=TrainConfig(solver="Euler:dt=1/8"))
    return Config.from_toml(config)


def _show_adapted(name: str, table: pd.DataFrame) -> None:
    shown = table[["seed", "solver", "accuracy", "worst", "under", "verdict", "spread"]].copy()
    shown["evaluations"] = [
        f"{a:.1f} + {b:.1f}" for a, b in zip(table["nf_training"], table["nf_checks"], strict=True)
    ]
    for column in ("accuracy", "worst"):
        shown[column] = shown[column].map("{:.1%}".format)
    shown["spread"] = shown["spread"].map("{:.3f}".format)
    _console.print(_frame(f"{name} controller: evaluations in training + checks", shown))
    for seed, text in zip(table["seed"], table["validation"], strict=True):
        _console.print(f"seed {seed}, validation: {text}", highlight=False)
    total = table["nf_training"] + table["nf_checks"]
    _console.print(
        f"accuracy {_mean(100 * table['accuracy'])} %, under the worst finer solver"
        f" {_mean(100 * table['worst'])} %, evaluations an iteration {_mean(total)}",
        highlight=False,
    )


def _mean(values: pd.Series[float]) -> str:
    return f"{values.mean():.1f} +- {values.std(ddof=0):.1f}"


def _frame(title: str, frame: pd.DataFrame) -> Table:
    table = Table(title=title)
    for column in frame:
        table.add_column(str(column), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table
