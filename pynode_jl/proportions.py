"""Exact statistics of counts: intervals of shares, paired differences, intervals over seeds.

Every interval of a share is Clopper and Pearson's (1934), from SciPy's beta quantiles: it covers
the true share with at least the stated probability, for any sample size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# No answer is given beyond so many samples: rates that close to the margin are never told apart.
_MOST_SAMPLES = 10**9


def lower_bound(count: npt.ArrayLike, total: npt.ArrayLike, error: npt.ArrayLike) -> Array:
    """Return the share that the true one exceeds but for a probability of at most `error`.

    Args:
        count: successes, real numbers of 0 or more; arrays broadcast.
        total: trials; 0 gives the bound 0.
        error: one-sided error probabilities, between 0 and 1.

    Example:
        >>> float(lower_bound(17, 17, 0.025).round(3))
        0.805
    """
    from scipy.special import betaincinv

    k, n, p = np.broadcast_arrays(*(np.asarray(each, float) for each in (count, total, error)))
    # The beta quantile's parameters must be positive: a count of zero is answered apart.
    bound = betaincinv(np.where(k > 0, k, 1.0), n - k + 1.0, p)
    return np.where(k > 0, bound, 0.0)


def upper_bound(count: npt.ArrayLike, total: npt.ArrayLike, error: npt.ArrayLike) -> Array:
    """Return the share that the true one stays below but for a probability of at most `error`.

    Args: as for `lower_bound`; no trials give the bound 1.

    `count` of `total` trials had it.

    Example:
        >>> float(upper_bound(0, 30, 0.05).round(3))
        0.095
    """
    n = np.asarray(total, float)
    return np.asarray(1.0 - lower_bound(n - np.asarray(count, float), n, error))


def mcnemar(lost: npt.ArrayLike, won: npt.ArrayLike) -> Array:
    """Return the two-sided p-value of McNemar's exact test.

    Of two classifiers on the same samples, `lost` are right under the first only and `won` under
    the second only; were both equally accurate, both kinds would have equal odds.

    Example:
        >>> float(mcnemar(0, 5))
        0.0625
    """
    from scipy.special import bdtr

    first, second = np.asarray(lost), np.asarray(won)
    one_sided = bdtr(np.minimum(first, second), first + second, 0.5)
    return np.asarray(np.minimum(1.0, 2.0 * one_sided))


def paired_difference(
    more: int, fewer: int, total: int, confidence: float
) -> tuple[float, float, float]:
    """Return how much more accurate one classifier is than another, with an exact interval.

    Args:
        more, fewer: samples that only the first, and only the second, answers right.
        total: all samples.
        confidence: of the interval, given the number of discordant samples.

    Returns:
        Difference of accuracies, lower end, upper end.

    Example:
        >>> [round(each, 3) for each in paired_difference(12, 2, 1000, confidence=0.95)]
        [0.01, 0.002, 0.014]
    """
    discordant, error = more + fewer, (1.0 - confidence) / 2.0
    ends = (lower_bound(more, discordant, error), upper_bound(more, discordant, error))
    low, high = ((2.0 * float(end) - 1.0) * discordant / total for end in ends)
    return (more - fewer) / total, low, high


def samples_to_decide(
    rate: float, margin: float, *, lower_error: float, upper_error: float
) -> int | None:
    """Return how many samples would put an interval on one side of a margin, at a given rate.

    Args:
        rate: the share that is seen, and would be seen of more samples.
        margin: what the interval must not contain.
        lower_error, upper_error: error probabilities of its two ends.

    Returns:
        The number, rounded up to two digits; None where the rate is too close to the margin.

    Example:
        >>> samples_to_decide(0.01, 0.03, lower_error=0.025, upper_error=0.025)
        280
    """

    def decided(n: int) -> bool:
        if rate > margin:
            return float(lower_bound(rate * n, n, lower_error)) > margin
        return float(upper_bound(rate * n, n, upper_error)) <= margin

    if not decided(_MOST_SAMPLES):
        return None
    low, high = 0, _MOST_SAMPLES
    while high - low > max(1, high // 200):
        middle = (low + high) // 2 if low else high // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    unit = 10 ** max(0, len(str(high)) - 2)
    return int(-(-high // unit) * unit)


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return a mean and Student's interval of it, over seeds for example.

    The interval is nan for a single value, which has no deviation; values that are not finite are
    left out.

    `values` are (n,); `confidence` is that of the interval.

    Example:
        >>> tuple(round(each, 2) for each in mean_interval([0.9, 1.0]))
        (0.95, 0.31, 1.59)
    """
    from scipy.special import stdtrit

    given = np.asarray(values, float)
    given = given[np.isfinite(given)]
    if not given.size:
        return math.nan, math.nan, math.nan
    mean = float(given.mean())
    if given.size == 1:
        return mean, math.nan, math.nan
    quantile = float(stdtrit(given.size - 1, (1 + confidence) / 2))
    half = quantile * float(given.std(ddof=1)) / given.size**0.5
    return mean, mean - half, mean + half
