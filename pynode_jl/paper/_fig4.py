"""Figure 4: accuracy under the paper's test solvers, for training steps and tolerances, a to d."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd

from pynode_jl.diagnostics import swap
from pynode_jl.paper._context import Desk, Plate
from pynode_jl.paper._experiments import Subject
from pynode_jl.paper._sphere_experiments import SPHERE
from pynode_jl.proportions import mean_interval
from pynode_jl.reporting.figures import accuracy_against_step
from pynode_jl.solvers import Solver


class Part(NamedTuple):
    """A panel: the training solver, its settings in the short protocol, and those that the full
    one adds."""

    solver: str
    short: tuple[str, ...]
    more: tuple[str, ...]


# By letter. The paper's own grid is not known; powers of two and of ten span it.
_PARTS = {
    "a": Part(
        "Euler", ("dt=1/2", "dt=1/4", "dt=1/16", "dt=1/64", "dt=1/256"), ("dt=1/8", "dt=1/32")
    ),
    "b": Part("RK4", ("dt=1", "dt=1/2", "dt=1/4", "dt=1/16"), ("dt=1/8", "dt=1/32")),
    "c": Part("Fehlberg21", ("tol=1e-1", "tol=1e-2", "tol=1e-3", "tol=1e-4"), ("tol=1e-5",)),
    "d": Part("DP5", ("tol=1e-1", "tol=1e-2", "tol=1e-3", "tol=1e-4"), ("tol=1e-5",)),
}


def make(desk: Desk) -> Plate:
    """A panel for each training solver: what becomes of accuracy at other steps and solvers."""
    return plate(desk, SPHERE, _PARTS)


def plate(desk: Desk, subject: Subject, parts: Mapping[str, Part]) -> Plate:
    """The panels of `parts`, by letter, for `subject`."""
    drawn, numbers = {}, []
    for letter, (name, short, more) in parts.items():
        settings = (*short, *more) if desk.full else short
        tables, chances = {}, []
        for setting in settings:
            solver = f"{name}:{setting}"
            runs = [subject.run(desk, solver, seed) for seed in range(desk.seeds)]
            reports = [swap(run.trained, run.dataset, backend=run.backend) for run in runs]
            tables[Solver.parse(solver).label] = _mean([report.table for report in reports])
            chances += [report.chance for report in reports]
        drawn[letter] = accuracy_against_step(
            tables, x="step", chance=fmean(chances), title=f"({letter}) trained with {name}"
        )
        numbers += [table.assign(part=letter) for table in tables.values()]
    return Plate(
        "Figure 4: when is the solver part of the model?",
        f"{subject.name}. Each line belongs to one training step (or tolerance) and one test"
        " solver; a star is the solver trained with, at its own step. a: trained with Euler, tested"
        " with Euler, Midpoint and RK4 at 0.5 to 2 times the training step. b: RK4 with itself. c:"
        " Fehlberg 2(1) with itself and DP5 at 0.1 to 10 times the tolerance. d: DP5 with itself."
        " An ODE's lines are level with its star and to the left of it."
        + (
            f" Means over {desk.seeds} seeds (the paper: 5), the bands their 95 % intervals"
            " (Student's; wide for few seeds)"
            if desk.seeds > 1
            else " One seed (the paper: 5), no interval"
        )
        + f", trained for {subject.words[desk.full]}"
        + ("." if desk.full else "; a reduced grid of training steps, --full has more of them."),
        None,
        pd.concat(numbers, ignore_index=True)[
            [
                *("part", "train_solver", "label", "accuracy", "low", "high"),
                *("lowest", "highest", "finer", "failed", "seeds"),
            ]
        ],
        dict.fromkeys(("accuracy", "low", "high", "lowest", "highest"), ".1%"),
        {"seeds": desk.seeds},
        drawn,
    )


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table for all seeds: mean accuracies with Student's 95 % interval over seeds.

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
