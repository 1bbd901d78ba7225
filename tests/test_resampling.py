"""Bootstrap intervals: against SciPy's, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pynode_jl import resampling
from pynode_jl.resampling import LEAST_SAMPLES, ratio_intervals

RANDOM = np.random.default_rng(0)


def test_ends_are_those_of_scipys_bca() -> None:
    u, v = RANDOM.exponential(size=120), RANDOM.exponential(size=120) + 0.5
    found = ratio_intervals(u, v, lower_error=0.025, upper_error=0.025, root=True)
    theirs = stats.bootstrap(
        (u, v),
        lambda a, b, axis: np.sqrt(a.mean(axis) / b.mean(axis)),
        paired=True,
        vectorized=True,
        method="BCa",
        n_resamples=20_000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    assert found.value[0] == pytest.approx(np.sqrt(u.mean() / v.mean()))
    assert found.low[0] == pytest.approx(theirs.low, rel=0.01)
    assert found.high[0] == pytest.approx(theirs.high, rel=0.01)


def test_solves_that_share_samples_have_the_intervals_that_each_has_alone() -> None:
    u, v = RANDOM.exponential(size=(3, 60)), np.ones(60)
    errors = np.array([0.05, 0.01, 0.001])
    together = ratio_intervals(u, v, lower_error=errors, upper_error=0.025)
    for i in range(3):
        alone = ratio_intervals(u[i], v, lower_error=errors[i], upper_error=0.025)
        assert together.low[i] == pytest.approx(alone.low[0], rel=1e-12)
        assert together.high[i] == pytest.approx(alone.high[0], rel=1e-12)


@pytest.mark.parametrize("n", [60, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_either_end_is_wrong_as_rarely_as_it_says(
    n: int, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ratios of skewed squares, as errors of models are."""
    monkeypatch.setattr(resampling, "RESAMPLES", 2000)
    random, trials, truth = np.random.default_rng(n), 200, 0.1
    below = above = 0
    for _ in range(trials):
        scale = random.lognormal(sigma=sigma, size=n)
        change = truth * random.normal(size=n) * scale
        error = random.normal(size=n) * scale
        found = ratio_intervals(
            change**2, error**2, lower_error=0.025, upper_error=0.025, root=True
        )
        below += found.high[0] < truth
        above += found.low[0] > truth
    allowed = stats.binom.ppf(0.999, trials, 0.05)
    assert below <= allowed
    assert above <= allowed


def test_what_cannot_be_told_is_as_wide_as_can_be() -> None:
    few = ratio_intervals(np.ones(LEAST_SAMPLES - 1), np.ones(LEAST_SAMPLES - 1),
                          lower_error=0.025, upper_error=0.025)  # fmt: skip
    assert (few.low[0], few.high[0]) == (0.0, np.inf)
    lost = ratio_intervals([1.0] * 9 + [np.inf], np.ones(10), lower_error=0.025, upper_error=0.025)
    assert (lost.value[0], lost.low[0], lost.high[0]) == (np.inf, 0.0, np.inf)
    none = ratio_intervals(np.zeros(20), np.zeros(20), lower_error=0.025, upper_error=0.025)
    assert tuple(each[0] for each in none) == (0.0, 0.0, 0.0)
