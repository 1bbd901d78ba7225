"""How often is a verdict wrong? Small here; `benchmarks/calibrate_verdicts.py` does it in full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from verdict_models import random_model

from pynode_jl.diagnostics import Verdict, swap
from pynode_jl.diagnostics._verdict import compare, judge

MARGIN = 0.03


def plain(own: np.ndarray) -> Verdict:
    return Verdict("undecided", "", "flips", "Euler h=1/2", own.size, 0.95, MARGIN, 1.0)


def simulated(rate: float, n: int, finer: int, random: np.random.Generator) -> str:
    """The verdict on a model whose ODE and finer solves all change a share `rate` of answers."""
    own = random.integers(0, 2, n)
    # Finer solves mostly change the answers that the ODE changes.
    base = random.random(n) < rate
    moved = (random.random((finer + 1, n)) < 0.1) & base
    flips = base ^ moved
    flips[-1] = base
    answers = np.where(flips, 1 - own, own)
    labels = [str(i) for i in range(finer)]
    counted = np.ones(finer, bool)
    found = compare(
        labels, answers[:finer], own, answers[-1], np.zeros(n, bool), own, counted=counted
    )
    return judge(plain(own), found, counted).kind


@pytest.mark.parametrize("n", [30, 360, 1000])
@pytest.mark.parametrize("finer", [0, 12])
def test_wrong_verdicts_are_rare_at_the_margin_itself(n: int, finer: int) -> None:
    random, trials = np.random.default_rng(n + finer), 400
    # Just above and just below the margin: the hardest rates.
    called_valid = sum(
        simulated(1.001 * MARGIN, n, finer, random) == "valid" for _ in range(trials)
    )
    called_tied = sum(simulated(0.999 * MARGIN, n, finer, random) == "tied" for _ in range(trials))
    most = stats.binom.ppf(0.999, trials, 0.05)
    assert called_valid <= most
    assert called_tied <= most


@pytest.mark.parametrize(("rate", "kind"), [(MARGIN / 3, "valid"), (2.5 * MARGIN, "tied")])
def test_a_thousand_samples_decide_clear_cases(rate: float, kind: str) -> None:
    random = np.random.default_rng(1)
    found = [simulated(rate, 1000, 12, random) for _ in range(200)]
    assert found.count(kind) >= 0.95 * len(found)


@pytest.mark.slow
def test_random_linear_models_are_judged_rightly() -> None:
    # Two sizes, for each is compiled; benchmarks/calibrate_verdicts.py has all, and 1,200 models.
    models = [random_model(seed, 30_000, (100, 1000)) for seed in range(10_000, 10_018)]
    kinds = [swap(model.trained, model.dataset, margin=MARGIN).verdict.kind for model in models]
    above = np.array([model.rate > MARGIN for model in models])
    within = np.array([max(model.rate, model.class_rate) <= MARGIN for model in models])
    found = np.array(kinds)
    assert above.sum() > 4
    assert within.sum() > 4
    assert (found[above] == "valid").sum() <= stats.binom.ppf(0.999, above.sum(), 0.05)
    assert (found[within] == "tied").sum() <= stats.binom.ppf(0.999, within.sum(), 0.05)
    # It decides something: clear cases with many samples are not left open.
    large = np.array([model.dataset.n_test >= 1000 for model in models])
    clear = np.array([not MARGIN / 2 <= model.rate <= 2 * MARGIN for model in models])
    asked = np.isin(found, ["valid", "tied", "undecided"])
    some = large & clear & asked
    assert (found[some] == "undecided").sum() <= stats.binom.ppf(0.999, some.sum(), 0.05)


@settings(max_examples=60)
@given(
    n=st.integers(1, 80),
    solves=st.integers(0, 5),
    classes=st.integers(2, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_comparisons_are_those_of_a_loop(n: int, solves: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    own, truth = random.integers(-1, classes, (2, n))
    truth = np.maximum(truth, 0)
    answers = np.where(random.random((solves + 1, n)) < 0.3, random.integers(0, classes, n), own)
    unsure = random.random(n) < 0.1
    counted = random.random(solves) < 0.5
    found = compare(
        [str(i) for i in range(solves)],
        answers[:solves],
        own,
        answers[-1],
        unsure,
        truth,
        counted=counted,
    )
    for i, row in enumerate(answers):
        assert found.flips[i] == sum(a != b for a, b in zip(row, own, strict=True))
        pairs = list(zip(own == truth, row == truth, strict=True))
        assert found.lost[i] == pairs.count((True, False))
        assert found.won[i] == pairs.count((False, True))
        assert found.accuracy[i] == pytest.approx(np.mean(row == truth))
        assert 0 <= found.low[i] <= found.flips[i] / n <= found.high[i] <= 1
        for j, label in enumerate(found.classes):
            members = truth == label
            assert found.class_samples[j] == members.sum()
            assert found.class_flips[i, j] == (row != own)[members].sum()
    if solves:
        # Over all solves and classes that count, the lower ends share 2.5 %.
        comparisons = counted.sum() + found.classes.size * (counted.sum() + 1)
        whole = found.lower_error[-1] + comparisons * found.lower_error[0]
        assert whole == pytest.approx(0.025)
    verdict = judge(plain(own), found, counted)
    assert verdict.kind in ("valid", "tied", "undecided")
    assert Verdict.from_dict(verdict.to_dict()) == verdict
