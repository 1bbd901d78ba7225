"""The critical step or tolerance: from where on does a model hold under finer solvers?

The paper (Ott et al. 2021, Table 1) trains a model at every step of a grid and looks for the
training step below which a check no longer fails. `critical` does that, or bisects in the logarithm
of the step, which needs far fewer trainings and rests on one more assumption: a model that holds at
a step holds at every finer one.

A trial *holds* if its verdict is valid and *fails* if it is tied. All other verdicts are *open*:
an undecided, untrained, overfitted, failed or non-finite model says nothing about the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import pandas as pd

from pynode_jl._display import ShortRepr, Viewed
from pynode_jl._validation import choice, items, optional_callable, real_number, whole_number
from pynode_jl.backends import Backend, BackendLike, RetCode, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics._equality import NanEqual
from pynode_jl.diagnostics._swap import swap
from pynode_jl.diagnostics._verdict import Criterion, check_rule
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.solvers import Solver
from pynode_jl.training import History, Trained, TrainedLike

Method = Literal["grid", "bisection"]
# The finer half of the paper's factors.
_FACTORS = (0.5, 1.0)


# A grid has at most so many steps: each is a training.
_MOST_TRIALS = 1000


@dataclass(frozen=True, eq=False)
class Trial(NanEqual):
    """One training and its swap test.

    Attributes:
        seed, solver: what was trained.
        accuracy: on the test set, as trained, or the task's score; nan where training has failed.
        drop: accuracy lost, or what the score gets worse by, under the worst solve that the verdict
            rests on (nan without).
        kind: the verdict's word.
        nf: evaluations of the right-hand side in one forward solve, over the whole training a mean
            (nan of a model without a history).
        training_nf: in all forward solves of the training.
        flips, low, high: share of answers that the decisive comparison changes, or its shift, and
            its interval (nan without one).
        metric, unit: of the score, and of shifts, as the task calls them.

    Example:
        >>> from pynode_jl.diagnostics import Trial
        >>> solver = pn.Solver("Euler", dt=0.5)
        >>> Trial(0, solver, accuracy=0.98, drop=0.0, kind="valid", nf=2.0, training_nf=2000).holds
        True
    """

    seed: int
    solver: Solver
    accuracy: float
    drop: float
    kind: str
    nf: float
    training_nf: int
    flips: float = math.nan
    low: float = math.nan
    high: float = math.nan
    metric: str = "accuracy"
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the model is a valid ODE."""
        return self.kind == "valid"

    @property
    def fails(self) -> bool:
        """Whether the model is tied to its solver."""
        return self.kind == "tied"

    @property
    def open(self) -> bool:
        """Whether it neither holds nor fails."""
        return not (self.holds or self.fails)

    @property
    def size(self) -> float:
        """Its step, or relative tolerance."""
        return self.solver.stepping.size


@dataclass(frozen=True, repr=False)
class CriticalReport(ShortRepr, Viewed):
    """Where models begin to hold.

    Attributes:
        method: how it was looked for.
        criterion: the rule of the verdicts.
        trials: every training that was made.

    Example:
        >>> def train(solver, seed):  # in place of a training: the field is the same for every step
        ...     return pn.TrainedModel(model, trained.weights, solver), data
        >>> coarse, fine = pn.Solver("Euler", dt=1 / 2), pn.Solver("Euler", dt=1 / 4)
        >>> pn.critical(train, coarse, fine, backend="jax").table["step"].tolist()
        [0.5, 0.25]
    """

    method: Method
    criterion: Criterion
    trials: tuple[Trial, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row a trial: seed, solver, step, accuracy, drop, flips (share), low, high, verdict,
        nf, training_nf; where answers are numbers, score and shift for accuracy and flips."""
        return pd.DataFrame(
            {
                "seed": trial.seed,
                "solver": trial.solver.label,
                "step": trial.size,
                "accuracy": trial.accuracy,
                "drop": trial.drop,
                "flips": trial.flips,
                "low": trial.low,
                "high": trial.high,
                "verdict": trial.kind,
                "nf": trial.nf,
                "training_nf": trial.training_nf,
            }
            for trial in self.trials
        ).rename(columns=self._names)

    def bracket(self, seed: int) -> tuple[Trial | None, Trial | None]:
        """Return the finest failing and the coarsest holding trial of `seed`.

        The first is the finest that fails above every trial that holds; the second is the coarsest
        that holds such that every finer one that was tried holds too. None for the first if nothing
        fails above, for the second if the finest trial does not hold.
        """
        trials = self._by_size(seed)
        first = next((i for i, trial in enumerate(trials) if trial.holds), len(trials))
        failing = [trial for trial in trials[:first] if trial.fails]
        last = max((i for i, trial in enumerate(trials) if not trial.holds), default=-1)
        holds = trials[last + 1] if last + 1 < len(trials) else None
        return (failing[-1] if failing else None), holds

    @property
    def brackets(self) -> pd.DataFrame:
        """One row a seed, made of `bracket` and of all trials.

        Columns: seed; fails, holds (steps or tolerances; nan without); open (open trials between
        the two); reversed (trials that fail although a coarser one holds); nf_fails, nf_holds;
        accuracy_fails, accuracy (where it holds); trainings; cost (evaluations of the right-hand
        side in all trainings of the search).
        """
        rows = []
        for seed in dict.fromkeys(trial.seed for trial in self.trials):
            trials = self._by_size(seed)
            fails, holds = self.bracket(seed)
            above = math.inf if fails is None else fails.size
            below = 0.0 if holds is None else holds.size
            first = next((i for i, trial in enumerate(trials) if trial.holds), len(trials))
            rows.append(
                {
                    "seed": seed,
                    "fails": math.nan if fails is None else fails.size,
                    "holds": math.nan if holds is None else holds.size,
                    "open": sum(trial.open and below < trial.size < above for trial in trials),
                    "reversed": sum(trial.fails for trial in trials[first:]),
                    "nf_fails": math.nan if fails is None else fails.nf,
                    "nf_holds": math.nan if holds is None else holds.nf,
                    "accuracy_fails": math.nan if fails is None else fails.accuracy,
                    "accuracy": math.nan if holds is None else holds.accuracy,
                    "trainings": len(trials),
                    "cost": sum(trial.training_nf for trial in trials),
                }
            )
        return pd.DataFrame(rows).rename(columns=self._names)

    @property
    def _names(self) -> dict[str, str]:
        """What columns are called where answers are numbers."""
        if all(trial.metric == "accuracy" for trial in self.trials):
            return {}
        return {"accuracy": "score", "accuracy_fails": "score_fails", "flips": "shift"}

    def _by_size(self, seed: int) -> list[Trial]:
        """Return the trials of a seed, the coarsest first."""
        return sorted((t for t in self.trials if t.seed == seed), key=lambda t: -t.size)


def critical(
    train: Callable[[Solver, int], tuple[TrainedLike, Dataset]],
    coarse: Solver,
    fine: Solver,
    *,
    method: Method = "bisection",
    criterion: Criterion = "flips",
    seeds: Sequence[int] = (0,),
    ratio: float = 2.0,
    margin: float | None = None,
    confidence: float = 0.95,
    backend: BackendLike = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> CriticalReport:
    """Search for the critical step (or tolerance) of training between two.

    Bisection tries both ends first. Where the coarse end holds, or the fine end does not, there is
    nothing to bracket. Otherwise it halves the gap between the finest step that fails and the
    coarsest that holds. An open trial moves neither, as it is evidence for neither side: the middle
    one of the untried steps that are left comes next. So each open trial costs one more training,
    at the worst as many as the grid has, and none moves the bracket.

    Args:
        train: trains a model with a solver and a seed to its end; returns it and its data. It may
            well take up stored runs. A `Trained` whose training has failed (`Trained.retcode`) is a
            trial of the kind "failed". A `TrainedModel` has no history: its cost is not counted.
        coarse, fine: the same method at the two ends.
        method: "grid" trains at all steps, each `ratio` times finer than the one before;
            "bisection" at the ends and at grid points between them.
        criterion: what a verdict rests on, as in `swap`: "flips", "three-points", or "ten-points",
            the paper's own check for its Table 1.
        seeds: a search for each.
        ratio: between neighbouring steps, and so the width of the bracket; above 1.
        margin, confidence: as in `swap`; the margin's default is the task's.
        backend: what evaluates, or its name; default `get_backend()`.
        on_trial: called after each trial.

    Returns:
        `CriticalReport`.

    Raises:
        WrongSolverError: `coarse` and `fine` are not one method, or not of one kind of steps.
        InvalidValueError: `fine` is not finer, a ratio of 1 or less, an unknown method or
            criterion, a margin or confidence out of range, no seed.

    Example:
        >>> def train(solver, seed):  # in place of a training: the field is the same for every step
        ...     return pn.TrainedModel(model, trained.weights, solver), data
        >>> coarse, fine = pn.Solver("Euler", dt=1 / 2), pn.Solver("Euler", dt=1 / 4)
        >>> pn.critical(train, coarse, fine, backend="jax").brackets.columns[:2].tolist()
        ['seed', 'fails']
    """
    if not callable(train):
        raise InvalidValueError("train", train, "a function of (solver, seed)", "Write one.")
    optional_callable("on_trial", on_trial)
    grid = _grid(Solver.of(coarse), Solver.of(fine), ratio)
    choice("method", method, get_args(Method))
    expected, hint = "a list of integers, one or more", "The paper has five."
    seeds = [
        whole_number("seeds", each, 0, hint=hint) for each in items("seeds", seeds, expected, hint)
    ]
    if not seeds:
        raise InvalidValueError("seeds", seeds, "at least one seed", "The paper has five.")
    check_rule(margin, confidence, criterion)
    backend = as_backend(backend)
    trials: list[Trial] = []

    def attempt(seed: int, solver: Solver) -> Trial:
        expected, hint = "a trained model and its data", "Return both: return trained, data."
        pair = items("train(solver, seed)", train(solver, seed), expected, hint)
        if len(pair) != 2:
            raise InvalidValueError("train(solver, seed)", pair, expected, hint)
        trained, dataset = pair
        trial = _trial(seed, solver, trained, dataset, margin, confidence, criterion, backend)
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
        return trial

    for seed in seeds:
        if method == "grid":
            for solver in grid:
                attempt(seed, solver)
        else:
            _bisect(grid, partial(attempt, seed))
    return CriticalReport(method, criterion, tuple(trials))


def _trial(
    seed: int,
    solver: Solver,
    trained: TrainedLike,
    dataset: Dataset,
    margin: float | None,
    confidence: float,
    criterion: Criterion,
    backend: Backend,
) -> Trial:
    """Return what a training comes to: its cost and, unless it has failed, its verdict."""
    history, failed = History(), False
    if isinstance(trained, Trained):
        history, failed = trained.history, trained.retcode != RetCode.Success
    nf = float(history.nf.mean()) if len(history) else math.nan
    if failed:
        task = trained.model.task
        return Trial(
            seed,
            solver,
            math.nan,
            math.nan,
            "failed",
            nf,
            history.training_nf,
            metric=task.metric,
            unit=task.unit,
        )
    report = swap(
        trained,
        dataset,
        # The paper's check has a test solver of its own.
        () if criterion == "ten-points" else None,
        factors=_FACTORS,
        margin=margin,
        confidence=confidence,
        criterion=criterion,
        backend=backend,
        progress=False,
    )
    verdict, found = report.verdict, report.verdict.decisive
    shares = (math.nan,) * 3 if found is None else (found.share, found.low, found.high)
    return Trial(
        seed,
        solver,
        report.trained,
        verdict.drop,
        verdict.kind,
        nf,
        history.training_nf,
        *shares,
        verdict.metric,
        verdict.unit,
    )


def _bisect(grid: Sequence[Solver], attempt: Callable[[Solver], Trial]) -> None:
    """Try grid points until none is left between the finest that fails and the coarsest that holds.

    Args:
        grid: from coarse to fine.
        attempt: trains and judges one.
    """
    if attempt(grid[0]).holds or not attempt(grid[-1]).holds:
        return
    untried = list(range(1, len(grid) - 1))
    while untried:
        middle = untried[(len(untried) - 1) // 2]
        trial = attempt(grid[middle])
        untried = [
            i
            for i in untried
            if i != middle and not (trial.holds and i > middle) and not (trial.fails and i < middle)
        ]


def _grid(coarse: Solver, fine: Solver, ratio: float) -> list[Solver]:
    """From `coarse`, each step `ratio` times finer; the last is `fine` itself."""
    if coarse.name != fine.name or coarse.fixed != fine.fixed:
        raise WrongSolverError(
            "fine", fine.label, f"{coarse.name} again, stepping as {coarse.label}", "Change one."
        )
    real_number("ratio", ratio, "2 halves the step.", above=1)
    span = coarse.stepping.size / fine.stepping.size
    if span <= 1:
        raise InvalidValueError(
            "fine", fine.label, f"finer than {coarse.label}", "Exchange the two."
        )
    if math.log(span) > _MOST_TRIALS * math.log(ratio):
        raise InvalidValueError(
            "ratio", ratio, f"one that leads from {coarse.label} to {fine.label} in at most"
            f" {_MOST_TRIALS} steps", "2 halves the step.",
        )  # fmt: skip
    count = max(1, math.ceil(math.log(span) / math.log(ratio) - 1e-9))
    return [*(coarse.scaled(ratio**-i) for i in range(count)), fine]
