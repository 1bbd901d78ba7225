"""Times of a solve: whether its precision can hold them, and where it counts them from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import Solver, StepGrid

# An interval is far from zero where it is shorter than this share of its times.
_FAR = 2.0**-8
# An interval shorter than so many roundings of its times is no interval.
_LEAST_ROUNDINGS = 8


class Clock(NamedTuple):
    """Times as a solve counts them: from `origin`.

    Attributes:
        origin: what is added before the field sees a time. It is t0 for a short interval far from
            zero, where the rounding of t itself would be a part of each step; else 0.
        times: the given times, less the origin.

    Example:
        >>> from pynode_jl.backends import Clock
        >>> Clock.of((1e6, 1e6 + 1)).times
        (0.0, 1.0)
    """

    origin: float
    times: tuple[float, ...]

    @classmethod
    def of(cls, times: Sequence[float]) -> Clock:
        """Return the clock of a solve over `times`."""
        start, stop = times[0], times[-1]
        if abs(stop - start) < _FAR * max(abs(start), abs(stop)):
            return cls(start, tuple(time - start for time in times))
        return cls(0.0, tuple(times))


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float, float]:
    """Return the shortest interval as a share of its times, the shortest of all, and the largest
    time."""
    limits = np.finfo(dtype)
    shortest = float(limits.tiny) / float(limits.eps)
    return _LEAST_ROUNDINGS * float(limits.eps), shortest, float(limits.max)


def check_within(times: Sequence[float], dtype: np.dtype[Any]) -> None:
    """Refuse times that are too large for a precision, themselves or the interval between them."""
    _, _, most = _limits(dtype)
    if max(map(abs, times)) > most or not math.isfinite(times[-1] - times[0]):
        raise InvalidValueError(
            "t_span" if len(times) > 1 else "t",
            tuple(times),
            f"times of at most {most:.3g}, the largest of {dtype}",
            "Measure time in another unit.",
        )


def check_resolved(times: Sequence[float], dtype: np.dtype[Any]) -> None:
    """Refuse times that are one, or none, in the precision of a solve.

    Args:
        times: t0, the save times, and the end.
        dtype: of the states.

    Raises:
        InvalidValueError: they are.

    Example:
        >>> from pynode_jl.backends import check_resolved
        >>> check_resolved((1e8, 1e8 + 1), np.dtype("f4"))
        Traceback (most recent call last):
        pynode_jl.errors.InvalidValueError: t_span = (100000000.0, 100000001.0): expected ...
    """
    start, stop = times[0], times[-1]
    check_within((start, stop), dtype)
    share, shortest, _ = _limits(dtype)
    least = max(share * max(abs(start), abs(stop)), shortest)
    if abs(stop - start) < least:
        raise InvalidValueError(
            "t_span",
            (start, stop),
            f"an interval that {dtype} resolves: there, one of {least:.2g} or more",
            "Count time from the start of the interval, or solve in float64.",
        )
    if len(times) > 2 and (np.diff(np.array(Clock.of(times).times, dtype)) == 0).any():
        raise InvalidValueError(
            "save_at", times, f"times that differ in {dtype}", "Space them, or use float64."
        )


def segment_grids(solver: Solver, times: Sequence[float]) -> list[StepGrid]:
    """Return the fixed steps between each two of `times`: a save time cuts a longer step.

    Raises:
        InvalidValueError: the step is longer than the whole interval.
        WrongSolverError: the solver adapts its steps.
    """
    if len(times) == 2:
        return [solver.grid(*times)]
    solver.grid(times[0], times[-1])
    return [_cut(solver, abs(stop - start)).grid(start, stop) for start, stop in pairwise(times)]


def _cut(solver: Solver, span: float) -> Solver:
    return solver.with_step(span) if solver.dt is not None and solver.dt > span else solver
