"""Whether a model has learned anything: its score against the best answer without an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pynode_jl import proportions
from pynode_jl.backends import Array, Evaluation
from pynode_jl.diagnostics._equality import NanEqual
from pynode_jl.resampling import ratio_intervals
from pynode_jl.tasks import Task


@dataclass(frozen=True, eq=False)
class Skill(NanEqual):
    """How much better a model is than the best answer that looks at no input.

    Attributes:
        accuracy, frequent: the score of the model, and that of always answering the most frequent
            label, the mean of the targets, or the base density.
        low, high: interval of what the model gains over it; exact for accuracies, from the samples
            that only one gets right; of mean scores of other tasks, bootstrapped.
        samples: how many samples.

    Example:
        >>> from pynode_jl.diagnostics import Skill
        >>> Skill(accuracy=0.9, frequent=0.5, low=0.35, high=0.45, samples=1000).low > 0
        True
    """

    accuracy: float
    frequent: float
    low: float
    high: float
    samples: int

    @property
    def sure(self) -> bool:
        """Whether the model is surely better."""
        return self.low > 0.0


class Samples(NamedTuple):
    """Inputs and targets of the same samples."""

    x: Array
    y: Array


def skill(
    task: Task, evaluation: Evaluation, data: Samples, confidence: float = 0.95
) -> Skill | None:
    """Compare a model's answers with those that look at no input; None of a task without any.

    Args:
        task: the model's.
        evaluation: its answers.
        data: inputs and targets of the same samples.
        confidence: of the interval.
    """
    chance = task.chance_scores(*data)
    if chance is None:
        return None
    if task.comparison == "flips":
        right, frequent = evaluation.predictions == data.y, chance > 0
        _, low, high = proportions.paired_difference(
            int((right & ~frequent).sum()), int((frequent & ~right).sum()), len(right), confidence
        )
        return Skill(float(right.mean()), float(frequent.mean()), low, high, len(right))
    with np.errstate(over="ignore", invalid="ignore"):
        scores = np.asarray(task.scores(evaluation.outputs, data.y), np.float64)
    gained = (scores - chance) if task.higher_is_better else (chance - scores)
    tail = (1 - confidence) / 2
    found = ratio_intervals(gained, np.ones(len(gained)), lower_error=tail, upper_error=tail)
    ends = float(found.low[0]), float(found.high[0])
    return Skill(task.score(scores), task.score(chance), *ends, len(gained))
