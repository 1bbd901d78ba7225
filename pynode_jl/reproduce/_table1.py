"""Table 1: grid search against adaptation, the paper's figures beside ours."""

from __future__ import annotations

import pandas as pd

from pynode_jl.analysis import critical
from pynode_jl.datasets import Dataset
from pynode_jl.reproduce._adapted import adapted_rows
from pynode_jl.reproduce._desk import Desk, Plate
from pynode_jl.reproduce._spheres import protocol, sphere_run
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

# The ends of the search for the critical step; a wider one for the paper's protocol.
_COARSE, _FINE, _FINEST = 1 / 16, 1 / 256, 1 / 512
# Published: evaluations (every one counted, the checks' too) and accuracy, mean +- deviation.
_PAPER = {
    "grid search": ("65-129", "98.7 +- 1.0 %"),
    "adaptation, the paper's": ("100.5", "98.9 +- 0.6 %"),
}
_NAMES = {"paper": "adaptation, the paper's", "steady": "adaptation, ours (steady)"}


def make(desk: Desk) -> Plate:
    """Sphere 2D, Euler: the critical step by bisection, and both controllers, over seeds."""
    adapted = adapted_rows(desk)
    found = search(desk)
    rows = [_grid_row(found)]
    rows += [_adapted_row(_NAMES[str(name)], part) for name, part in adapted.groupby("controller")]
    table = pd.DataFrame(rows)
    each = adapted[["controller", "seed", "solver", "accuracy", "worst", "under", "spread"]]
    return Plate(
        "Table 1: grid search and adaptation",
        "Sphere 2D, Euler. evaluations: of the right-hand side an iteration; for the search in one"
        " forward solve at the step that fails and at the one that holds, for adaptation over all"
        " of training, the controllers' checks included (and apart). drop: accuracy lost under the"
        " worst of Midpoint, RK4 at the step in force and half of it, Tsit5 at 1e-6 and the ODE"
        " itself. spread: standard deviation of log h over the last half of training. The search"
        " bisects on powers of two, where the paper takes every step of its grid. Means +-"
        f" standard deviations over {desk.seeds} seeds (the paper: 5). Trained for"
        f" {protocol(desk.full)}. CIFAR10, the paper's second row, is not run here.",
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


def search(desk: Desk) -> pd.DataFrame:
    """The critical step's bracket for every seed, from runs on the shelf or new."""

    def train(solver: Solver, seed: int) -> tuple[Trained, Dataset]:
        run = sphere_run(desk, str(solver), seed)
        return run.trained, run.dataset

    return critical(
        train,
        Solver("Euler", dt=_COARSE),
        Solver("Euler", dt=_FINEST if desk.full else _FINE),
        seeds=range(desk.seeds),
        backend=desk.integrator,
    ).brackets


def _grid_row(found: pd.DataFrame) -> dict[str, object]:
    published = _PAPER["grid search"]
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


def _adapted_row(name: str, part: pd.DataFrame) -> dict[str, object]:
    published = _PAPER.get(name, ("", ""))
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
