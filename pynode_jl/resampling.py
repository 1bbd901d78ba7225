"""Bootstrap intervals of ratios of means, for many solves on the same samples at once.

SciPy's `bootstrap` draws indices anew for each statistic; here all solves share one set of draws,
so that the means of all are two matrix products. Tests hold it to SciPy's intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pynode_jl.seeding import generator

Array = npt.NDArray[Any]

#: Resamples: a few of them are in the tail that each of twenty comparisons has for itself.
RESAMPLES = 10_000
#: Fewer samples say nothing of their own spread.
LEAST_SAMPLES = 8
# Weights that are made at once.
_NUMBERS = 4_000_000
# And so many of them, bytes, that are kept.
_KEPT = 50_000_000


class Intervals(NamedTuple):
    """Values, and the ends of their intervals; arrays over the solves.

    `value`, `low` and `high` have one number for each solve.

    Example:
        >>> Intervals(np.array([0.1]), np.array([0.05]), np.array([0.2])).low
        array([0.05])
    """

    value: Array
    low: Array
    high: Array


def ratio_intervals(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    lower_error: npt.ArrayLike,
    upper_error: npt.ArrayLike,
    root: bool = False,
) -> Intervals:
    """Return means of numerators over the mean of denominators, with intervals (BCa, Efron 1987).

    The draws are the same in every call. Values of samples that all agree have intervals of no
    width. Of fewer than `LEAST_SAMPLES` samples, or where a number is not finite, an interval is as
    wide as it can be.

    Args:
        numerators: (solves, n).
        denominators: (n,).
        lower_error, upper_error: probabilities that an end is wrong, (solves,) or one for all.
        root: take square roots of the ratios; numerators are then 0 or more.

    Example:
        >>> found = ratio_intervals([[1.0, 2.0] * 50], np.ones(100), lower_error=0.025,
        ...     upper_error=0.025)
        >>> found.value.tolist(), bool(1.3 < found.low[0] < 1.5 < found.high[0] < 1.7)
        ([1.5], True)
    """
    given, below = np.atleast_2d(np.asarray(numerators, float)), np.asarray(denominators, float)
    solves, n = given.shape
    errors = [np.broadcast_to(np.asarray(e, float), (solves,)) for e in (lower_error, upper_error)]
    finite = np.isfinite(given).all(axis=1) & bool(np.isfinite(below).all())
    rows = np.where(finite[:, None], given, 0.0)
    below = np.where(np.isfinite(below), below, 1.0)

    def transformed(over: Array, under: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = over / under
        # No change against no error is no change.
        ratio = np.where(over == 0, 0.0, ratio)
        return np.sqrt(np.maximum(ratio, 0.0)) if root else ratio

    value = transformed(rows.sum(axis=1), below.sum())
    value = np.where(finite, value, np.inf)
    widest = 0.0 if root or (rows >= 0).all() else -np.inf
    low, high = np.full(solves, widest), np.full(solves, np.inf)
    usable = finite & np.isfinite(value)
    if n >= LEAST_SAMPLES and usable.any():
        drawn = _resampled(rows[usable], below, transformed)
        # Leave one out: how the statistic leans on single samples.
        left_out = transformed(
            rows[usable].sum(axis=1)[:, None] - rows[usable], below.sum() - below
        )
        ends = _bca(value[usable], drawn, left_out, [error[usable] for error in errors])
        low[usable], high[usable] = ends
    return Intervals(value, low, high)


def _resampled(rows: Array, below: Array, transformed: Any) -> Array:
    """Return the statistic of every resample, (solves, RESAMPLES)."""
    n = len(below)
    stacked = np.concatenate([rows, below[None]]).astype(np.float64)
    found = []
    # The draws of one certificate's dozen of calls are the same.
    kept = _kept_draws(n, RESAMPLES) if n * RESAMPLES <= _KEPT else _draws(n, RESAMPLES)
    for counts in kept:
        sums = counts.astype(np.float64) @ stacked.T
        found.append(transformed(sums[:, :-1], sums[:, -1:]).T)
    return np.concatenate(found, axis=1)


def _draws(n: int, resamples: int) -> Iterator[Array]:
    """Yield how often each resample has each sample, (part of them, n), in small integers.

    Poisson's numbers: as counts of draws, but for their sum, which a ratio does not see.
    """
    random, block = generator(0, "resampling", n), max(1, _NUMBERS // n)
    for start in range(0, resamples, block):
        yield random.poisson(1.0, (min(block, resamples - start), n)).astype(np.uint8)


@lru_cache(maxsize=2)
def _kept_draws(n: int, resamples: int) -> tuple[Array, ...]:
    return tuple(_draws(n, resamples))


def _bca(value: Array, drawn: Array, left_out: Array, errors: list[Array]) -> tuple[Array, Array]:
    from scipy.special import ndtr, ndtri

    share = np.mean(drawn < value[:, None], axis=1) + 0.5 * np.mean(drawn == value[:, None], axis=1)
    bias = ndtri(np.clip(share, 1e-6, 1 - 1e-6))
    spread = left_out.mean(axis=1, keepdims=True) - left_out
    with np.errstate(divide="ignore", invalid="ignore"):
        lean = np.sum(spread**3, axis=1) / (6.0 * np.sum(spread**2, axis=1) ** 1.5)
    lean = np.nan_to_num(lean)

    def end(quantile: Array) -> Array:
        normal = bias + ndtri(quantile)
        level = ndtr(bias + normal / (1.0 - lean * normal))
        return np.array([np.quantile(row, float(at)) for row, at in zip(drawn, level, strict=True)])

    return end(errors[0]), end(1.0 - errors[1])
