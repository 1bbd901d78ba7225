"""The critical step or tolerance: from where on does a model hold under finer solvers?

The paper (Ott et al. 2021, Table 1) trains a model at every step of a grid and looks for the step
below which the swap test no longer fails. `critical` does that, or bisects in the logarithm of the
step, which needs far fewer trainings and rests on one more assumption: that what holds at a step
holds at every finer one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pynode_jl.analysis._swap import swap
from pynode_jl.backends import Backend, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

Method = Literal["grid", "bisection"]
# The finer half of the paper's factors.
_FACTORS = (0.5, 1.0)


@dataclass(frozen=True)
class Trial:
    """One training and its swap test.

    Attributes:
        seed, solver: what was trained.
        accuracy: on the test set, as trained.
        drop: accuracy lost under the worst finer solve (nan where undecided or untrained).
        kind: the verdict's word; only "valid" holds.
        nf: evaluations of the right-hand side in one forward solve, over the whole training a mean.
        training_nf: in all forward solves of the training.
    """

    seed: int
    solver: Solver
    accuracy: float
    drop: float
    kind: str
    nf: float
    training_nf: int

    @property
    def holds(self) -> bool:
        """Whether the model kept its accuracy under every finer solve."""
        return self.kind == "valid"

    @property
    def size(self) -> float:
        """Its step, or relative tolerance."""
        return _size(self.solver)


@dataclass(frozen=True)
class CriticalReport:
    """Where models begin to hold.

    Attributes:
        method: how it was looked for.
        trials: every training that was made.
    """

    method: Method
    trials: tuple[Trial, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row a trial: seed, solver, step, accuracy, drop, verdict, nf, training_nf."""
        return pd.DataFrame(
            {
                "seed": trial.seed,
                "solver": trial.solver.label,
                "step": trial.size,
                "accuracy": trial.accuracy,
                "drop": trial.drop,
                "verdict": trial.kind,
                "nf": trial.nf,
                "training_nf": trial.training_nf,
            }
            for trial in self.trials
        )

    def bracket(self, seed: int) -> tuple[Trial | None, Trial | None]:
        """The finest trial of `seed` that fails, and the coarsest below it, which holds.

        None for the first if all hold, for the second if the finest one fails.
        """
        trials = sorted((t for t in self.trials if t.seed == seed), key=lambda t: -t.size)
        failing = [i for i, trial in enumerate(trials) if not trial.holds]
        last = failing[-1] if failing else -1
        holds = trials[last + 1] if last + 1 < len(trials) else None
        return (trials[last] if failing else None), holds

    @property
    def brackets(self) -> pd.DataFrame:
        """One row a seed: fails, holds (steps or tolerances), nf at both, accuracy where it holds,
        and evaluations that all trainings of the search cost."""
        rows = []
        for seed in dict.fromkeys(trial.seed for trial in self.trials):
            fails, holds = self.bracket(seed)
            rows.append(
                {
                    "seed": seed,
                    "fails": math.nan if fails is None else fails.size,
                    "holds": math.nan if holds is None else holds.size,
                    "nf_fails": math.nan if fails is None else fails.nf,
                    "nf_holds": math.nan if holds is None else holds.nf,
                    "accuracy": math.nan if holds is None else holds.accuracy,
                    "trainings": sum(t.seed == seed for t in self.trials),
                    "cost": sum(t.training_nf for t in self.trials if t.seed == seed),
                }
            )
        return pd.DataFrame(rows)


def critical(
    train: Callable[[Solver, int], tuple[Trained, Dataset]],
    coarse: Solver,
    fine: Solver,
    *,
    method: Method = "bisection",
    seeds: Sequence[int] = (0,),
    ratio: float = 2.0,
    margin: float = 0.03,
    backend: Backend | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> CriticalReport:
    """Search for the critical step (or tolerance) between two.

    Args:
        train: trains a model with a solver and a seed to its end; gives it and its data. It may
            well take up stored runs.
        coarse, fine: the same method at the two ends.
        method: "grid" trains at all steps, each `ratio` times finer than the one before;
            "bisection" at the two ends, and then at grid points in between, halving the gap.
        seeds: a search for each.
        ratio: between neighbouring steps, and so the width of the bracket; above 1.
        margin: the loss of accuracy up to which a model holds, as in `swap`.
        backend: what evaluates; default `get_backend()`.
        on_trial: called after each trial.

    Returns:
        `CriticalReport`.

    Raises:
        WrongSolverError: `coarse` and `fine` are not one method, or not of one kind of steps.
        InvalidValueError: `fine` is not finer, a ratio of 1 or less, an unknown method, no seed.
    """
    grid = _grid(coarse, fine, ratio)
    if method not in ("grid", "bisection"):
        raise InvalidValueError("method", method, "'grid' or 'bisection'", "Take one.")
    if not seeds:
        raise InvalidValueError("seeds", seeds, "at least one seed", "The paper has five.")
    backend = get_backend() if backend is None else backend
    trials: list[Trial] = []

    def holds(solver: Solver, seed: int) -> bool:
        trained, dataset = train(solver, seed)
        report = swap(trained, dataset, factors=_FACTORS, margin=margin, backend=backend)
        history = trained.history
        trial = Trial(
            seed,
            solver,
            report.trained,
            report.verdict.drop,
            report.verdict.kind,
            float(history.nf.mean()) if len(history) else math.nan,
            history.training_nf,
        )
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
        return trial.holds

    for seed in seeds:
        if method == "grid":
            for solver in grid:
                holds(solver, seed)
            continue
        low, high = 0, len(grid) - 1
        if holds(grid[low], seed) or not holds(grid[high], seed):
            continue  # nothing to bracket: the ends say so
        while high - low > 1:
            middle = (low + high) // 2
            if holds(grid[middle], seed):
                high = middle
            else:
                low = middle
    return CriticalReport(method, tuple(trials))


def _grid(coarse: Solver, fine: Solver, ratio: float) -> list[Solver]:
    """From `coarse`, each step `ratio` times finer; the last is `fine` itself."""
    if coarse.name != fine.name or coarse.fixed != fine.fixed:
        raise WrongSolverError(
            "fine", fine.label, f"{coarse.name} again, stepping as {coarse.label}", "Change one."
        )
    if not math.isfinite(ratio) or ratio <= 1:
        raise InvalidValueError("ratio", ratio, "a number above 1", "2 halves the step.")
    span = _size(coarse) / _size(fine)
    if span <= 1:
        raise InvalidValueError(
            "fine", fine.label, f"finer than {coarse.label}", "Exchange the two."
        )
    count = max(1, math.ceil(math.log(span) / math.log(ratio) - 1e-9))
    return [*(coarse.scaled(ratio**-i) for i in range(count)), fine]


def _size(solver: Solver) -> float:
    size = solver.dt if solver.dt is not None else solver.rtol
    assert size is not None
    return size
