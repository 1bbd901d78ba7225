"""Trajectories: states at given times, from an initial state."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from pynode_jl._validation import items, real_number
from pynode_jl.errors import InvalidValueError
from pynode_jl.tasks._task import Array, Task, float_targets, namespace


@dataclass(frozen=True)
class Trajectory(Task):
    """Answer with states at `times`, by least squares over what was observed.

    A sample is one trajectory: its input is the state at the model's t0, its target ``(times,
    *state)``, with NaN where nothing was observed. Trajectories with times of their own share the
    union of all times. Scores and shift are those of `Regression`, over observed numbers.

    Attributes:
        times: strictly increasing, all after the model's t0; the last is its t1.

    Example:
        >>> task = pn.Trajectory(times=(0.5, 1.0))
        >>> y0, y = np.ones((20, 1)), np.exp(-np.outer(np.ones(20), task.times))[..., None]
        >>> pn.Dataset.from_arrays(y0, y, task=task).y_test.shape
        (4, 2, 1)
    """

    kind = "trajectory"
    metric = "RMSE"
    unit = "of their error"
    root = True

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        expected, hint = "times that increase strictly", "Sort them, each once."
        given = self.times.tolist() if hasattr(self.times, "tolist") else self.times
        times = tuple(real_number("times", t, hint) for t in items("times", given, expected, hint))
        if not times or any(b <= a for a, b in pairwise(times)):
            raise InvalidValueError("times", self.times, expected, hint)
        object.__setattr__(self, "times", times)

    @property
    def default_head(self) -> Literal["linear", "none"]:
        """None: the state itself is the answer."""
        return "none"

    def stops(self, t1: float) -> tuple[float, ...]:
        """Return `times`."""
        return self.times

    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an observed state."""
        return observed

    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return ``(n, times, *state)`` float32 with NaN for what is missing."""
        axes = max(np.ndim(y), 3) - 2
        return float_targets(argument, y, n, (len(self.times), *[None] * axes), missing=True)

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return the mean squared error of each trajectory over its observed numbers."""
        xp = namespace(outputs)
        seen = xp.isfinite(targets)
        # The difference itself must be finite: NaN times zero is NaN, in gradients too.
        nothing = xp.zeros_like(outputs)
        errors = xp.where(seen, outputs - xp.where(seen, targets, nothing), nothing)
        n = outputs.shape[0]
        count = xp.sum(xp.reshape(xp.astype(seen, outputs.dtype), (n, -1)), axis=1)
        total = xp.sum(xp.reshape(errors**2, (n, -1)), axis=1)
        return total / xp.where(count > 0, count, xp.ones_like(count))

    scores = losses

    def chance_scores(self, x: Array, targets: Array) -> Array | None:
        """Return the squared errors of the mean state of all observations."""
        flat = targets.reshape(-1, *targets.shape[2:]).astype(np.float64)
        mean = np.nanmean(flat, axis=0)
        return np.asarray(self.losses(np.broadcast_to(mean, targets.shape), targets), np.float64)

    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return mean squared changes where something was observed."""
        with np.errstate(over="ignore", invalid="ignore"):
            seen = np.where(np.isfinite(targets), own.astype(np.float64), np.nan)
            return np.asarray(self.losses(other.astype(np.float64), seen), np.float64)

    def scale(self, own: Array, targets: Array) -> Array:
        """Return the squared errors of `own`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.losses(own.astype(np.float64), targets), np.float64)
