"""``pynode-jl adapt`` and ``pynode-jl critical``: find steps at which a model stays an ODE."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pynode_jl._io import write_text
from pynode_jl.cli._commands import Check, exit_by_verdict
from pynode_jl.cli._console import frame_table, note, show
from pynode_jl.cli._running import (
    Settings,
    expanded,
    keep_earlier,
    settings,
    train_with_bar,
    writable,
)
from pynode_jl.errors import DivergedError

if TYPE_CHECKING:
    import pandas as pd

    from pynode_jl.datasets import Dataset
    from pynode_jl.diagnostics import Trial
    from pynode_jl.runs import Config
    from pynode_jl.solvers import Solver
    from pynode_jl.tasks import Task
    from pynode_jl.training import Trained


_ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        callback=expanded, help="A TOML file; default: Sphere 2D with Euler.", show_default=False
    ),
]


_COSTS = (
    "evaluations: of the field, an iteration, in training + checks. answer: evaluations of an"
    " answer, with the solver at the end."
)
_BRACKETS = (
    "fails: the finest setting, above all that hold, whose model is tied to its solver. holds: the"
    " coarsest from which on all that were tried are valid ODEs. open: undecided ones between the"
    " two. reversed: tied ones below one that is valid. nf: evaluations of a solve. cost: those of"
    " all trainings."
)


def adapt(
    config: _ConfigFile = None,
    out: Annotated[
        Path, typer.Option(callback=expanded, help="Folder for the runs, their table and figure.")
    ] = Path("runs/adapt"),
    controller: Annotated[
        str | None,
        typer.Option(help="steady (ours) or paper; default: the file's, or steady."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the file's on.")] = 1,
    setting: Settings = None,
    check: Check = False,
) -> None:
    """Adapt the step or tolerance while training; run again, it resumes."""
    import pandas as pd

    from pynode_jl.reporting import figures
    from pynode_jl.runs import AdaptConfig, Run, adaptation_row, checks_table

    base = _base(config)
    wanted = controller or base.adapt.controller
    wanted = "steady" if wanted == "none" else wanted
    if wanted != base.adapt.controller:
        base = replace(base, adapt=AdaptConfig(wanted))
    # Settings last: an option belongs to the controller that is named.
    base = base.changed(settings(setting or []))
    writable(out)
    rows, traces, fixed, task = [], {}, True, None
    for seed in range(base.seed, base.seed + seeds):
        run = Run.create(replace(base, seed=seed), out / f"{wanted}-s{seed}")
        train_with_bar(run, run.folder.name)
        trained = run.trained
        rows.append(adaptation_row(trained, run.dataset, run.backend))
        traces[run.folder.name] = checks_table(trained.history)
        fixed, task = trained.solver.fixed, trained.model.task
    assert task is not None  # there is one seed at least
    table = pd.DataFrame(rows)
    text = table.to_csv(index=False)
    keep_earlier(out / f"{wanted}.csv", text, f"{wanted}.csv", f"{wanted}-trace.*")
    write_text(out / f"{wanted}.csv", text)
    paths = figures.save(
        figures.adaptation_trace(
            dict(list(traces.items())[:4]), fixed=fixed, metric=task.metric, unit=task.unit
        ),
        out / f"{wanted}-trace",
    )
    _show_adapted(wanted, table, task)
    note(f"table and traces: {out / wanted}.csv, {paths[0]}")
    if check:
        exit_by_verdict(table["verdict"])


def critical(
    config: _ConfigFile = None,
    out: Annotated[
        Path, typer.Option(callback=expanded, help="Folder for the runs and the table.")
    ] = Path("runs/critical"),
    coarse: Annotated[str, typer.Option(help="The coarse end: dt=1/4, or tol=1e-1.")] = "dt=1/4",
    fine: Annotated[str, typer.Option(help="The fine end.")] = "dt=1/256",
    method: Annotated[
        str, typer.Option(help="bisection, or grid: the paper's, at every step.")
    ] = "bisection",
    ratio: Annotated[float, typer.Option(help="Between neighbouring steps.")] = 2.0,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="flips, three-points or ten-points (the paper's check); default: the file's.",
            show_default=False,
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Of the verdicts; default: the file's.", show_default=False),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from the file's on.")] = 1,
    setting: Settings = None,
) -> None:
    """Find the step or tolerance below which models hold under finer solvers."""
    from pynode_jl.backends import get_backend
    from pynode_jl.diagnostics import critical as search
    from pynode_jl.runs import AdaptConfig, Run
    from pynode_jl.solvers import Solver

    base = replace(_base(config).changed(settings(setting or [])), adapt=AdaptConfig())
    name = base.recipe().solver.name
    writable(out)

    def train(solver: Solver, seed: int) -> tuple[Trained, Dataset]:
        wanted = replace(base, seed=seed, train=replace(base.train, solver=str(solver)))
        text = solver.stepping.label.replace("/", "_").replace(" ", "-")
        run = Run.create(wanted, out / f"{name}-{text}-s{seed}")
        try:
            train_with_bar(run, run.folder.name)
        except DivergedError as error:
            # A step at which training fails is a trial too. It says nothing about finer ones.
            note(f"{run.folder.name}: {error}")
        return run.trained, run.dataset

    report = search(
        train,
        Solver.parse(f"{name}:{coarse}"),
        Solver.parse(f"{name}:{fine}"),
        method=cast(Any, method),  # checked there, as is the criterion
        criterion=cast(Any, criterion or base.swap.criterion),
        seeds=range(base.seed, base.seed + seeds),
        ratio=ratio,
        margin=base.swap.margin,
        confidence=base.swap.confidence if confidence is None else confidence,
        backend=get_backend(base.backend, base.device or None),
        on_trial=_show_trial,
    )
    trials = report.table.to_csv(index=False)
    keep_earlier(out / "trials.csv", trials, "trials.csv", "critical.csv")
    write_text(out / "trials.csv", trials)
    write_text(out / "critical.csv", report.brackets.to_csv(index=False))
    shifts = report.criterion == "flips" and {trial.metric for trial in report.trials} != {
        "accuracy"
    }
    rule = "shifts" if shifts else report.criterion
    title = f"{name}: where models begin to hold ({method}, by {rule})"
    show(
        lambda: {"brackets": report.brackets, "trials": report.table},
        frame_table(title, report.brackets, _BRACKETS),
    )
    note(f"tables: {out}/critical.csv, {out}/trials.csv")


def _show_trial(trial: Trial) -> None:
    from pynode_jl.diagnostics import amount_text, interval_text

    labels = trial.metric == "accuracy"
    text = f"seed {trial.seed}, {trial.solver.label}: {trial.kind}"
    for value, said in (
        (trial.accuracy, f", {_said(trial)}"),
        (trial.drop, f", drop {trial.drop * 100:.1f} points" if labels else ""),
        (
            trial.flips,
            f", flips {trial.flips:.1%} ({trial.low * 100:.1f} to {trial.high * 100:.1f}%)"
            if labels
            else f", shift {amount_text(trial.flips, trial.unit)}"
            f" ({interval_text(trial.low, trial.high, trial.unit)})",
        ),
    ):
        text += "" if math.isnan(value) else said
    note(text)


def _said(trial: Trial) -> str:
    from pynode_jl.diagnostics import score_text

    score = score_text(trial.accuracy, trial.metric)
    return f"accuracy {score}" if trial.metric == "accuracy" else score


def _base(config: Path | None) -> Config:
    from pynode_jl.runs import Config, TrainConfig

    if config is None:
        return Config(train=TrainConfig(solver="Euler:dt=1/8"))
    return Config.from_toml(config)


def _show_adapted(name: str, table: pd.DataFrame, task: Task) -> None:
    from pynode_jl.diagnostics import amount_text, interval_text
    from pynode_jl.runs import over_seeds

    labels = task.comparison == "flips"
    score, change = ("accuracy", "flips") if labels else ("score", "shift")
    shown = table[["seed", "solver", score, change, "under", "verdict", "ode", "spread"]].copy()
    ends = zip(*(table[f"{change}{end}"] for end in ("", "_low", "_high")), strict=True)
    shown[change] = [
        ""
        if math.isnan(share)
        else f"{share:.1%} ({100 * low:.1f} to {100 * high:.1f}%)"
        if labels
        else f"{amount_text(share, task.unit)} ({interval_text(low, high, task.unit)})"
        for share, low, high in ends
    ]
    shown["evaluations"] = [
        f"{a:.1f} + {b:.1f}" for a, b in zip(table["nf_training"], table["nf_checks"], strict=True)
    ]
    shown["answer"] = table["nf"].map("{:.4g}".format)
    # An untrained model has no ODE's score.
    own = "{:.1%}" if labels else "{:.4g}"
    for column, form in {score: own, "ode": own, "spread": "{:.3f}"}.items():
        shown[column] = shown[column].map(form.format, na_action="ignore")
    validations = [
        f"seed {seed}, validation: {text}"
        for seed, text in zip(table["seed"], table["validation"], strict=True)
    ]
    total = table["nf_training"] + table["nf_checks"]
    counts = ", ".join(f"{n} {kind}" for kind, n in table["verdict"].value_counts().items())

    def over_scores(column: str) -> str:
        text = over_seeds(100 * table[column]) if labels else over_seeds(table[column], 4)
        return f"{text} %" if labels and text != "-" else text

    show(
        lambda: table,
        frame_table(f"{name} controller", shown, _COSTS),
        *validations,
        f"{counts}: {task.metric} {over_scores(score)}, of the ODE {over_scores('ode')},"
        f" evaluations an iteration {over_seeds(total)}, of an answer {over_seeds(table['nf'])}"
        + (" (mean +- sample deviation over seeds)" if len(table) > 1 else ""),
    )
