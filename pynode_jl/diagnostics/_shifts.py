"""Answers that are numbers: how far other solves shift them.

The shift is that of the task: rms(a - o) / rms(a - y) of answers a as trained, o of the ODE and
data y; for a density the mean change in nats per dimension; for a score of the user's own the mean
change of the score. Intervals are bootstrapped over samples, by the rules of error probabilities
that flips have (`diagnostics._verdict`). What the reference's own error may add to a shift, or take
from it, widens the ODE's interval: a shift is a norm, so that it can do no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pynode_jl.backends import Array
from pynode_jl.diagnostics._equality import NanEqual
from pynode_jl.resampling import Intervals, ratio_intervals
from pynode_jl.tasks import Task

#: The label of the comparison with the reference solve.
ODE = "its ODE"


@dataclass(frozen=True, eq=False)
class Shift(NanEqual):
    """The answers of one solve beside those of the training solver, on the same samples.

    Attributes:
        label: the solve.
        samples: how many samples.
        shift: how far its answers are from the trained ones, in the task's measure.
        doubt: how much of that the reference's own error may be; 0 for other solves.
        low, high: interval of the shift in the data's distribution.
        score: of this solve.
        difference: its score minus that as trained, of means over samples.
        difference_low, difference_high: interval of that, each end at half of what the confidence
            leaves.

    Example:
        >>> from pynode_jl.diagnostics import Shift
        >>> Shift("its ODE", 200, 0.3, 0.0, 0.25, 0.36, 0.12, 0.01, 0.005, 0.02).share
        0.3
    """

    label: str
    samples: int
    shift: float
    doubt: float
    low: float
    high: float
    score: float
    difference: float
    difference_low: float
    difference_high: float

    @property
    def share(self) -> float:
        """The shift, by the name that flips have for theirs."""
        return self.shift


@dataclass(frozen=True)
class ShiftComparisons:
    """Every solve's answers against the training solver's: arrays over the solves, the ODE last."""

    task: Task
    labels: tuple[str, ...]
    samples: int
    shift: Array
    doubt: float
    low: Array
    high: Array
    score: Array
    difference: Intervals
    solved: bool

    @property
    def changed(self) -> Array:
        """(solves,), how much answers change."""
        return self.shift

    def better(self, i: int) -> bool:
        """Whether a solve surely scores better than the training solver."""
        sign = 1.0 if self.task.higher_is_better else -1.0
        end = self.difference.low if sign > 0 else self.difference.high
        return bool(sign * end[i] > 0)

    def worst(self, rows: Array) -> int:
        """Return the one of `rows` with the worst score."""
        score = np.where(np.isfinite(self.score), self.score, np.inf)[rows]
        return int(rows[np.argmin(score) if self.task.higher_is_better else np.argmax(score)])

    def of(self, i: int) -> Shift:
        """One solve's comparison."""
        last = i == len(self.labels) - 1
        return Shift(
            self.labels[i],
            self.samples,
            float(self.shift[i]),
            self.doubt if last else 0.0,
            float(self.low[i]),
            float(self.high[i]),
            float(self.score[i]),
            *(float(each[i]) for each in self.difference),
        )

    def settled(self, i: int, margin: float) -> bool:
        """Whether a solve would be within the margin without the reference's own error."""
        last = i == len(self.labels) - 1
        return last and self.doubt > 0 and float(self.high[i]) - 2 * self.doubt <= margin

    def needed(self, i: int, margin: float) -> int | None:
        """Return about how many samples would decide: an interval narrows as their root grows."""
        value, end = (
            float(self.shift[i]),
            float(self.high[i] if self.shift[i] <= margin else self.low[i]),
        )
        if not math.isfinite(end) or value == margin:
            return None
        needed = self.samples * ((end - value) / (margin - value)) ** 2
        if not 0 < needed < 1e9:
            return None
        unit = 10 ** max(0, len(str(math.ceil(needed))) - 2)
        return int(-(-needed // unit) * unit)


def compare_shifts(
    task: Task,
    labels: Sequence[str],
    answers: Sequence[Array],
    own: Array,
    ode: Array | None,
    doubt: Array,
    targets: Array,
    *,
    counted: Array,
    confidence: float,
) -> ShiftComparisons:
    """Compare the answers of many solves with the training solver's.

    Args:
        task: whose measure it is.
        labels: of the solves, without the ODE's.
        answers: their outputs, each (n, ...).
        own: the training solver's.
        ode: the ODE's; None where there is no reference.
        doubt: (n,), how far its own error may change the ODE's answers.
        targets: of the samples.
        counted: (solves,), which solves the verdict rests on.
        confidence: of the intervals.
    """
    given = [*answers, own if ode is None else ode]
    changes = np.stack([task.changes(own, each, targets) for each in given])
    scale = task.scale(own, targets)
    tail, finer = (1.0 - confidence) / 2.0, int(np.sum(counted))
    lower_error = np.full(len(given), tail / 2.0 / max(finer, 1))
    lower_error[-1] = tail / 2.0
    found = ratio_intervals(
        changes, scale, lower_error=lower_error, upper_error=tail, root=task.root
    )
    own_scores = np.asarray(task.scores(own, targets), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = np.stack([np.asarray(task.scores(each, targets), np.float64) for each in given])
        differences = scores - own_scores
    open_ = 0.0 if ode is None else task.shift(doubt, scale)
    low, high = found.low.copy(), found.high.copy()
    low[-1], high[-1] = max(0.0, low[-1] - open_), high[-1] + open_
    return ShiftComparisons(
        task,
        (*labels, ODE),
        len(own),
        found.value,
        open_,
        low,
        high,
        np.array([task.score(each) for each in scores]),
        ratio_intervals(differences, np.ones(len(own)), lower_error=tail, upper_error=tail),
        ode is not None,
    )


def shift_interval(
    task: Task,
    answers: Array,
    exact: Array,
    scale: Array,
    doubt: Array,
    targets: Array,
    error: float,
) -> Intervals:
    """Return how far one solve's answers are from the ODE's, with its interval.

    Args:
        task: whose measure it is.
        answers, exact: outputs, (n, ...).
        scale: (n,), what changes are measured against (`Task.scale`).
        doubt: (n,), how far the reference's own error may change its answers.
        targets: of the samples.
        error: probability that an end is wrong.
    """
    changes = task.changes(answers, exact, targets)
    found = ratio_intervals(changes, scale, lower_error=error, upper_error=error, root=task.root)
    open_ = task.shift(doubt, scale)
    return Intervals(found.value, np.maximum(found.low - open_, 0.0), found.high + open_)
