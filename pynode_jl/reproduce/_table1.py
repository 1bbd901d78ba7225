"""Table 1: grid search against adaptation, the paper's figures beside ours; one data set a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pynode_jl.analysis import critical
from pynode_jl.datasets import Dataset
from pynode_jl.experiments import adaptation_row
from pynode_jl.reproduce._desk import Desk, Plate
from pynode_jl.reproduce._spheres import SPHERE
from pynode_jl.reproduce._subject import CONTROLLERS, Subject
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained


@dataclass(frozen=True, kw_only=True)
class Problem(Subject):
    """A row of the paper's table.

    Attributes:
        coarse, fine: the steps that the search for the critical one goes between.
        paper: published evaluations (every one counted, the checks' too) and accuracy, mean +-
            deviation, by the row's name.
    """

    coarse: float
    fine: float
    paper: Mapping[str, tuple[str, str]]


SPHERE2 = Problem(
    **vars(SPHERE),
    coarse=1 / 16,
    fine=1 / 256,
    paper={
        "grid search": ("65-129", "98.7 +- 1.0 %"),
        "adaptation, the paper's": ("100.5", "98.9 +- 0.6 %"),
    },
)
_NAMES = {"paper": "adaptation, the paper's", "steady": "adaptation, ours (steady)"}


def make(desk: Desk) -> Plate:
    """The row of Sphere 2D."""
    return row(desk, SPHERE2)


def row(desk: Desk, problem: Problem) -> Plate:
    """`problem`, Euler: the critical step by bisection, and both controllers, over seeds."""
    adapted = adapted_rows(desk, problem)
    found = search(desk, problem)
    paper = problem.paper
    rows = [_grid_row(found, paper["grid search"])]
    rows += [
        _adapted_row(_NAMES[str(name)], part, paper.get(_NAMES[str(name)], ("", "")))
        for name, part in adapted.groupby("controller")
    ]
    table = pd.DataFrame(rows)
    each = adapted[["controller", "seed", "solver", "accuracy", "worst", "under", "spread"]]
    return Plate(
        "Table 1: grid search and adaptation",
        f"{problem.name}, Euler. evaluations: of the right-hand side an iteration; for the"
        " search in one forward solve at the step that fails and at the one that holds, for"
        " adaptation over all of training, the controllers' checks included (and apart). drop:"
        " accuracy lost under the worst of Midpoint, RK4 at the step in force and half of it,"
        " Tsit5 at 1e-6 and the ODE itself. spread: standard deviation of log h over the last"
        " half of training. The search bisects on powers of two, where the paper takes every"
        f" step of its grid. Means +- standard deviations over {desk.seeds} seeds (the paper: 5)."
        " Trained for"
        f" {problem.words[desk.full]}.",
        None,
        table,
        {"largest drop": ".1%", "spread": ".3f"},
        {
            "seeds": desk.seeds,
            "search": found.to_dict("records"),
            "adaptation": each.to_dict("records"),
            "validations": dict(
                zip(
                    adapted["controller"] + " s" + adapted["seed"].astype(str),
                    adapted["validation"],
                    strict=True,
                )
            ),
        },
    )


def adapted_rows(desk: Desk, subject: Subject) -> pd.DataFrame:
    """One row for each controller and seed (`adaptation_row`)."""
    rows = []
    for seed in range(desk.seeds):
        for controller in CONTROLLERS:
            run = subject.adapted(desk, controller, seed)
            row = adaptation_row(run.trained, run.dataset, run.backend)
            rows.append({"controller": controller, **row})
    return pd.DataFrame(rows)


def search(desk: Desk, problem: Problem = SPHERE2) -> pd.DataFrame:
    """The critical step's bracket for every seed, from runs on the shelf or new."""

    def train(solver: Solver, seed: int) -> tuple[Trained, Dataset]:
        run = problem.run(desk, str(solver), seed)
        return run.trained, run.dataset

    return critical(
        train,
        Solver("Euler", dt=problem.coarse),
        Solver("Euler", dt=problem.fine),
        seeds=range(desk.seeds),
        backend=desk.integrator,
    ).brackets


def _grid_row(found: pd.DataFrame, published: tuple[str, str]) -> dict[str, object]:
    low, high = found["nf_fails"].mean(), found["nf_holds"].mean()
    return {
        "how": "critical step, by bisection",
        "evaluations": f"{low:.0f}-{high:.0f}",
        "of them checks": "",
        "accuracy": _mean(found["accuracy"]),
        "largest drop": float("nan"),
        "spread": 0.0,
        "evaluations (paper)": published[0],
        "accuracy (paper)": published[1],
    }


def _adapted_row(name: str, part: pd.DataFrame, published: tuple[str, str]) -> dict[str, object]:
    total = part["nf_training"] + part["nf_checks"]
    return {
        "how": name,
        "evaluations": f"{total.mean():.1f} +- {total.std(ddof=0):.1f}",
        "of them checks": f"{part['nf_checks'].mean():.1f}",
        "accuracy": _mean(part["accuracy"]),
        "largest drop": float(part["drop"].max()),
        "spread": float(part["spread"].mean()),
        "evaluations (paper)": published[0],
        "accuracy (paper)": published[1],
    }


def _mean(accuracy: pd.Series[float]) -> str:
    return f"{100 * accuracy.mean():.1f} +- {100 * accuracy.std(ddof=0):.1f} %"
