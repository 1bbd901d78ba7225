"""Regression: numbers for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pynode_jl._validation import whole_number
from pynode_jl.tasks._task import Array, Task, float_targets, sample_mean


@dataclass(frozen=True)
class Regression(Task):
    """Answer with `targets` numbers a sample, by least squares.

    The shift of answers is rms(a - o) / rms(a - y): how far the ODE's answers o are from the
    trained ones a, against how far these are from the data y. A shift of rho changes the mean
    squared error by a share of at most 2 rho + rho^2.

    Attributes:
        targets: numbers in one answer.

    Example:
        >>> x = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
        >>> task = pn.Regression()
        >>> line = pn.Dataset.from_arrays(x, 2 * x, task=task)
        >>> pn.Model(pn.MLP(1), task=task).weight_shapes()["head.weight"], line.y_train.shape
        ((1, 1), (40, 1))
    """

    kind = "regression"
    metric = "RMSE"
    unit = "of their error"
    root = True

    targets: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", whole_number("targets", self.targets, most=2**20))

    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(targets,)``."""
        return (self.targets,)

    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return ``(n, targets)`` float32; ``(n,)`` is taken for one number a sample."""
        return float_targets(argument, y, n, (self.targets,))

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return mean squared errors."""
        return sample_mean((outputs - targets) ** 2)

    scores = losses

    def chance_scores(self, x: Array, targets: Array) -> Array | None:
        """Return the squared errors of the mean of the targets."""
        return np.asarray(sample_mean((targets - targets.mean(axis=0)) ** 2.0), np.float64)

    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return mean squared changes."""
        return _squares(own, other)

    def scale(self, own: Array, targets: Array) -> Array:
        """Return the squared errors of `own`."""
        return _squares(own, targets)


def _squares(a: Array, b: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = (a.astype(np.float64) - b) ** 2
    return np.asarray(sample_mean(squares), np.float64)
