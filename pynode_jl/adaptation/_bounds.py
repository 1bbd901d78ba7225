"""Exact confidence bounds for a share, from counts (Clopper & Pearson 1934)."""

from __future__ import annotations

import math
from collections.abc import Callable


def upper_bound(count: int, total: int, confidence: float) -> float:
    """The share p at which `count` or fewer of `total` have probability 1 - `confidence`.

    With probability `confidence` or more the true share is below it. 1 where nothing was seen.
    """
    if count >= total:
        return 1.0
    return _root(lambda p: _at_most(count, total, p) - (1 - confidence))


def lower_bound(count: int, total: int, confidence: float) -> float:
    """The share that the true one exceeds with probability `confidence` or more."""
    return 0.0 if count <= 0 else 1.0 - upper_bound(total - count, total, confidence)


def _at_most(count: int, total: int, p: float) -> float:
    """P(X <= count) for X binomial; 0 < p < 1."""
    log_p, log_q = math.log(p), math.log1p(-p)
    choose = math.lgamma(total + 1)
    terms = (
        choose - math.lgamma(k + 1) - math.lgamma(total - k + 1) + k * log_p + (total - k) * log_q
        for k in range(count + 1)
    )
    return math.fsum(math.exp(term) for term in terms)


def _root(falling: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return high
