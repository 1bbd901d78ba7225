"""The page and the figures of one or more runs, made from what their folders hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pynode_jl import figures
from pynode_jl.analysis import REFERENCE, SwapReport
from pynode_jl.experiments._panels import (
    FLOW,
    decision_panel,
    in_the_plane,
    trajectory_panel,
)
from pynode_jl.experiments._run import Run
from pynode_jl.report import Facts, Picture, Section, Table, Text, VerdictCard, write_report

_COLUMNS = {
    "label": "test solver",
    "factor": "factor",
    "accuracy": "accuracy",
    "agreement": "agreement",
    "logit_distance": "logit distance",
    "state_error": "state error",
    "finer": "finer",
    "nf": "evaluations",
    "seconds": "seconds",
    "retcode": "return code",
}
_FORMATS = {
    "accuracy": ".1%",
    "agreement": ".1%",
    "logit_distance": ".2g",
    "state_error": ".1e",
    "seconds": ".3f",
}


def write_run_report(runs: Mapping[str, Run], folder: Path, title: str) -> Path:
    """Write ``report.html`` and its figures, as PNG and PDF, to `folder`.

    Args:
        runs: trained and swapped runs by the name they are shown under.
        folder: where to write.
        title: the page's heading.

    Returns:
        The page's path.

    Raises:
        RunFolderError: a run that has no swap table yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reports = {name: run.stored_swap() for name, run in runs.items()}
    tables = {name: report.table for name, report in reports.items()}
    chance = min(report.chance for report in reports.values())
    cards = [
        VerdictCard(report.verdict.kind, f"{name}: {report.verdict.kind}", report.verdict.text)
        for name, report in reports.items()
    ]
    pictures = [
        _picture(
            folder / "swap",
            figures.swap_heatmap(tables, chance=chance),
            "Test accuracy under each test solver (rows) at each multiple of the training step or"
            " tolerance (columns). The outlined cell is the solver trained with; numbers in italics"
            " are solves that are not finer than it.",
        ),
        _picture(
            folder / "steps",
            figures.accuracy_against_step(tables, chance=chance),
            "Test accuracy against the step, in units of the training step: an ODE's curves are"
            " flat to the left of 1.",
        ),
    ]
    if all(in_the_plane(run.trained) for run in runs.values()):
        pictures += [
            _picture(
                folder / "trajectories",
                figures.trajectories(
                    [
                        trajectory_panel(
                            f"{name}, {run.trained.solver.label}",
                            run.trained,
                            run.dataset,
                            run.backend,
                        )
                        for name, run in runs.items()
                    ]
                ),
                "The same samples under the steps of the training solver and under the flow of the"
                " ODE that the model's field defines.",
            ),
            _picture(
                folder / "regions",
                figures.decision_regions(
                    [
                        decision_panel(
                            f"{name}, {how}: {{}}", run.trained, run.dataset, run.backend, solver
                        )
                        for name, run in runs.items()
                        for how, solver in (
                            (run.trained.solver.label, run.trained.solver),
                            ("as an ODE", FLOW),
                        )
                    ]
                ),
                "What each model answers over the plane, under its training solver and as an ODE.",
            ),
        ]
    pictures.append(
        _picture(
            folder / "training",
            figures.training_history({name: _history(run) for name, run in runs.items()}),
            "Loss and batch accuracy while training.",
        )
    )
    swaps = [
        Table(
            report.table[list(_COLUMNS)],
            _FORMATS,
            _COLUMNS,
            f"{name}: every test solve",
            folded=True,
        )
        for name, report in reports.items()
    ]
    return write_report(
        folder / "report.html",
        title=title,
        subtitle="Is the trained Neural ODE an ODE, or a ResNet tied to its solver?",
        sections=[
            Section(
                "Verdict", [*cards, Table(_summary(reports), {"worst finer": ".1%"} | _ACCURACY)]
            ),
            Section("Figures", pictures),
            Section("Every solve", [Text(_READING), *swaps]),
            Section("What was run", [_facts(name, run) for name, run in runs.items()]),
        ],
    )


_ACCURACY = {"as trained": ".1%", "as an ODE": ".1%", "chance": ".1%"}
_READING = (
    "agreement: share of test samples with the same answer as under the training solver. logit"
    " distance: mean norm of the difference to its logits, in units of their own mean norm. state"
    " error: mean distance of final states from those of the ODE, solved by"
    f" {REFERENCE.name} in float64 at a tolerance of {REFERENCE.rtol:g}, or one at which a tenfold"
    " tighter one changes states by less than a hundredth of the training solver's error; relative"
    " where states are large. finer: of at least the"
    " training solver's order at steps no longer (between fixed and adaptive solvers: of a state"
    " error no larger); the verdict rests on these rows."
)


def _summary(reports: Mapping[str, SwapReport]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": name,
            "as trained": report.trained,
            "as an ODE": report.ode,
            "worst finer": report.trained - report.verdict.drop,
            "under": report.verdict.worst,
            "chance": report.chance,
            "solves": len(report.table),
            "verdict": report.verdict.kind,
        }
        for name, report in reports.items()
    )


def _picture(path: Path, figure: Figure, caption: str) -> Picture:
    figures.save(figure, path)
    return Picture(figure, caption, caption)


def _history(run: Run) -> pd.DataFrame:
    history = run.trained.history
    return pd.DataFrame(
        {
            "loss": history.loss,
            "accuracy": history.accuracy,
            "nf": history.nf,
            "step": history.step,
        }
    )


def _facts(name: str, run: Run) -> Facts:
    trained = run.trained
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    packages = environment.pop("packages")
    return Facts(
        {
            "configuration": run.config.to_toml(),
            "iterations": trained.state.iteration,
            "evaluations of the right-hand side": int(trained.history.nf.sum()),
            "seconds of training": f"{trained.seconds:.1f}",
            **environment,
            "packages": ", ".join(f"{key} {value}" for key, value in packages.items()),
        },
        name,
    )
