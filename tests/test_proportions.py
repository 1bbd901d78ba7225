"""Exact intervals and tests against SciPy's, and their coverage by counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pynode_jl.proportions import (
    lower_bound,
    mcnemar,
    mean_interval,
    paired_difference,
    samples_to_decide,
    upper_bound,
)


@pytest.mark.parametrize("total", [1, 20, 400])
@pytest.mark.parametrize("error", [0.1, 0.025, 1e-4])
def test_bounds_are_clopper_and_pearsons(total: int, error: float) -> None:
    for count in {0, 1, total // 3, total - 1, total}:
        exact = stats.binomtest(count, total).proportion_ci(1 - 2 * error, "exact")
        assert lower_bound(count, total, error) == pytest.approx(exact.low, abs=1e-9)
        assert upper_bound(count, total, error) == pytest.approx(exact.high, abs=1e-9)


def test_bounds_of_no_samples_say_nothing() -> None:
    assert lower_bound(0, 0, 0.025) == 0.0
    assert upper_bound(0, 0, 0.025) == 1.0


@pytest.mark.parametrize("share", [0.003, 0.03, 0.4])
def test_bounds_cover_the_true_share(share: float) -> None:
    counts = np.arange(301)
    odds = stats.binom.pmf(counts, 300, share)
    above = odds[lower_bound(counts, 300, 0.05) > share].sum()
    below = odds[upper_bound(counts, 300, 0.05) < share].sum()
    assert above <= 0.05
    assert below <= 0.05


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 5), (7, 3), (40, 40), (11, 30)])
def test_mcnemar_is_the_exact_sign_test(lost: int, won: int) -> None:
    exact = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(exact)


def test_paired_difference() -> None:
    difference, low, high = paired_difference(30, 10, 200, 0.95)
    assert difference == pytest.approx(0.1)
    theta = stats.binomtest(30, 40).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx(((2 * theta.low - 1) / 5, (2 * theta.high - 1) / 5))
    assert paired_difference(0, 0, 50, 0.95)[1:] == (0.0, 0.0)


@pytest.mark.parametrize("rate", [0.0, 0.01, 1 / 30, 0.1])
def test_so_many_samples_decide(rate: float) -> None:
    ends = {"lower_error": 0.0125, "upper_error": 0.025}
    n = samples_to_decide(rate, 0.03, **ends)
    assert n is not None

    def decided(n: float) -> bool:
        if rate > 0.03:
            return bool(lower_bound(rate * n, n, 0.0125) > 0.03)
        return bool(upper_bound(rate * n, n, 0.025) <= 0.03)

    assert decided(n)
    assert not decided(0.85 * n)
    assert samples_to_decide(0.03, 0.03, **ends) is None


def test_no_flips_pass_from_122_samples_on() -> None:
    # (1 - 0.03)^n = 0.025 at n = 121.1; rounded up to two digits.
    assert samples_to_decide(0.0, 0.03, lower_error=0.0125, upper_error=0.025) == 130


def test_mean_interval_is_students() -> None:
    values = [0.98, 0.99, 0.97, 0.995]
    mean, low, high = mean_interval(values)
    exact = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((exact.low, exact.high))
    assert mean == pytest.approx(np.mean(values))
    assert np.isnan(mean_interval([0.5])[1])
    assert mean_interval([0.5, np.nan])[0] == 0.5
