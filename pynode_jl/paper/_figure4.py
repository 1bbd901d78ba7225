"""Figure 4: accuracy under the paper's test solvers, for training steps and tolerances, a to d."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd

from pynode_jl.diagnostics import swap
from pynode_jl.paper._context import FigureResult, ReproductionContext
from pynode_jl.paper._experiments import ExperimentSpec
from pynode_jl.paper._image_experiments import image_experiment
from pynode_jl.paper._sphere_experiments import SPHERE
from pynode_jl.proportions import mean_interval
from pynode_jl.reporting.figures import accuracy_against_step
from pynode_jl.solvers import Solver


class PanelSpec(NamedTuple):
    """A panel: the training solver, its settings in the short protocol, and the full one's more."""

    solver: str
    short: tuple[str, ...]
    more: tuple[str, ...]


# By letter. The paper's own grid is not known; powers of two and of ten span it.
_SPHERE_PANELS = {
    "a": PanelSpec(
        "Euler", ("dt=1/2", "dt=1/4", "dt=1/16", "dt=1/64", "dt=1/256"), ("dt=1/8", "dt=1/32")
    ),
    "b": PanelSpec("RK4", ("dt=1", "dt=1/2", "dt=1/4", "dt=1/16"), ("dt=1/8", "dt=1/32")),
    "c": PanelSpec("Fehlberg21", ("tol=1e-1", "tol=1e-2", "tol=1e-3", "tol=1e-4"), ("tol=1e-5",)),
    "d": PanelSpec("DP5", ("tol=1e-1", "tol=1e-2", "tol=1e-3", "tol=1e-4"), ("tol=1e-5",)),
}
_IMAGE_PANELS = {
    "a": PanelSpec("Euler", ("dt=1/2", "dt=1/4", "dt=1/16", "dt=1/64"), ("dt=1/8", "dt=1/32")),
    "b": PanelSpec("RK4", ("dt=1", "dt=1/2", "dt=1/8"), ("dt=1/4", "dt=1/16")),
    "c": PanelSpec("Fehlberg21", ("tol=1", "tol=1e-1", "tol=1e-2"), ("tol=1e-3", "tol=1e-4")),
    "d": PanelSpec("DP5", ("tol=1", "tol=1e-1", "tol=1e-2"), ("tol=1e-3", "tol=1e-4")),
}


def make(context: ReproductionContext) -> FigureResult:
    """Draw a panel for each training solver: accuracy under other steps and solvers."""
    return make_figure(context, SPHERE, _SPHERE_PANELS)


def make_for_images(context: ReproductionContext) -> FigureResult:
    """Draw the same for digits, or for CIFAR-10 in the full protocol."""
    return make_figure(context, image_experiment(context), _IMAGE_PANELS)


def make_figure(
    context: ReproductionContext, spec: ExperimentSpec, panels: Mapping[str, PanelSpec]
) -> FigureResult:
    """Draw the `panels`, by letter, for an experiment."""
    drawn, numbers = {}, []
    for letter, (name, short, more) in panels.items():
        settings = (*short, *more) if context.full else short
        tables, chances = {}, []
        for setting in settings:
            solver = f"{name}:{setting}"
            runs = [spec.run(context, solver, seed) for seed in range(context.seeds)]
            reports = [swap(run.trained, run.dataset, backend=run.backend) for run in runs]
            tables[Solver.parse(solver).label] = _mean([report.table for report in reports])
            chances += [report.chance for report in reports]
        drawn[letter] = accuracy_against_step(
            tables, x="step", chance=fmean(chances), title=f"({letter}) trained with {name}"
        )
        numbers += [table.assign(part=letter) for table in tables.values()]
    return FigureResult(
        "Figure 4: when is the solver part of the model?",
        f"{spec.name}. Each line belongs to one training step (or tolerance) and one test"
        " solver; a star is the solver trained with, at its own step. a: trained with Euler, tested"
        " with Euler, Midpoint and RK4 at 0.5 to 2 times the training step. b: RK4 with itself. c:"
        " Fehlberg 2(1) with itself and DP5 at 0.1 to 10 times the tolerance. d: DP5 with itself."
        " An ODE's lines are level with its star and to the left of it. The line across is chance."
        + (
            f" Means over {context.seeds} seeds (the paper: 5), the bands their 95 % intervals"
            " (Student's; wide for few seeds)"
            if context.seeds > 1
            else " One seed (the paper: 5), no interval"
        )
        + f", trained for {spec.words[context.full]}"
        + ("." if context.full else "; a reduced grid of training steps, --full has more of them."),
        None,
        pd.concat(numbers, ignore_index=True)[
            [
                *("part", "train_solver", "label", "accuracy", "low", "high"),
                *("lowest", "highest", "finer", "failed", "seeds"),
            ]
        ],
        facts={"seeds": context.seeds},
        more=drawn,
    )


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one table for all seeds: mean accuracies with Student's 95 % interval over seeds.

    A solve that failed for one seed has failed, and `failed` counts the seeds. The interval is cut
    off at 0 and 1, and nan for one seed.
    """
    table = tables[0].copy()
    accuracies = pd.DataFrame({i: each["accuracy"] for i, each in enumerate(tables)})
    table["accuracy"] = accuracies.mean(axis=1)
    ends = [mean_interval(row)[1:] for row in accuracies.to_numpy(float)]
    table[["low", "high"]] = np.clip(np.array(ends, float).reshape(-1, 2), 0.0, 1.0)
    table["lowest"], table["highest"] = accuracies.min(axis=1), accuracies.max(axis=1)
    table["seeds"] = len(tables)
    table["failed"] = sum((each["retcode"] != "Success").astype(int) for each in tables)
    for other in tables[1:]:
        table["retcode"] = other["retcode"].where(table["retcode"] == "Success", table["retcode"])
        table["finer"] &= other["finer"]
    return table
