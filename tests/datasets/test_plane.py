"""Moons, circles, spirals and annuli: where their points are, by closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import pynode_jl as pn
from pynode_jl.datasets import Dataset, load
from pynode_jl.errors import InvalidValueError

NAMES = ("moons", "circles", "spirals", "annuli")


def parts(data: Dataset) -> list[tuple[Any, Any]]:
    return [(data.x_train.astype(float), data.y_train), (data.x_test.astype(float), data.y_test)]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_more_test_examples_leave_the_training_examples(name: str) -> None:
    few, again = load(name, n_train=31, n_test=4, seed=2), load(name, n_train=31, n_test=4, seed=2)
    many, other = load(name, n_train=31, n_test=80, seed=2), load(name, n_train=31, n_test=4)
    assert few.fingerprint == again.fingerprint != other.fingerprint
    assert np.array_equal(few.x_train, many.x_train)
    assert np.array_equal(few.y_train, many.y_train)
    assert (few.seed, few.classes, few.state_shape) == (2, 2, (2,))
    assert np.bincount(few.y_train).tolist() == [16, 15]


def test_moons_are_half_circles_about_two_centres() -> None:
    for x, y in parts(pn.moons(noise=0, seed=1)):
        centred = x - np.where(y[:, None] == 0, [0.0, 0.0], [1.0, 0.5])
        assert np.allclose(np.linalg.norm(centred, axis=1), 1, atol=1e-6)
        centred[y == 1] *= -1  # the lower moon, turned upright
        angle = np.arctan2(centred[:, 1], centred[:, 0])
        assert stats.kstest(angle, stats.uniform(0, np.pi).cdf).pvalue > 1e-3


def test_moons_agree_with_scikit_learn() -> None:
    """The same curves: every point of one is near a point of the other."""
    from sklearn.datasets import make_moons

    theirs, labels = make_moons(2000, noise=None)
    ours = pn.moons(noise=0)
    for label in (0, 1):
        a, b = ours.x_train[ours.y_train == label], theirs[labels == label]
        distance = np.linalg.norm(a[:, None] - b, axis=2)
        assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 0.02


def test_noise_has_its_standard_deviation() -> None:
    exact, noisy = pn.moons(noise=0), pn.moons(noise=0.1)
    # The training part: the stream goes on through the noise, whatever its size.
    difference = noisy.x_train.astype(float) - exact.x_train
    assert stats.kstest(difference.ravel() / 0.1, "norm").pvalue > 1e-3


@pytest.mark.parametrize("turns", [1.5, 3.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_spirals_have_their_arms(classes: int, turns: float) -> None:
    for x, y in parts(pn.spirals(classes, turns=turns, noise=0)):
        radius, angle = np.linalg.norm(x, axis=1), np.arctan2(x[:, 1], x[:, 0])
        off = np.exp(1j * angle) - np.exp(2j * np.pi * (turns * radius + y / classes))
        assert (abs(off) * radius).max() < 1e-5
        assert stats.kstest(radius**2, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim", [1, 2, 900])
def test_annuli_are_filled_evenly(dim: int) -> None:
    radii = [(0.0, 0.5), (1.0, 1.5), (0.6, 0.7)]
    for x, y in parts(pn.annuli(radii, dim=dim, n_train=900, n_test=300)):
        radius = np.linalg.norm(x, axis=1)
        for label, (inner, outer) in enumerate(radii):
            found = radius[y == label]
            assert len(found) == len(y) // 3
            share = (found / outer) ** dim
            least = (inner / outer) ** dim
            assert stats.kstest(share, stats.uniform(least, 1 - least).cdf).pvalue > 1e-3
        assert abs((x[:, 0] > 0).mean() - 0.5) < 0.1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: pn.moons(noise=-1), "noise = -1: .*noise=0 for none"),
        (lambda: pn.moons(n_train=1), "n_train = 1"),
        (lambda: pn.circles(factor=1), "factor = 1: .*between 0 and 1"),
        (lambda: pn.spirals(1), "classes = 1"),
        (lambda: pn.spirals(turns=0), "turns = 0"),
        (lambda: pn.spirals(3, n_train=2), "n_train = 2"),
        (lambda: pn.annuli([(0, 1)]), "two or more pairs"),
        (lambda: pn.annuli([(0, 1), (2, 2)]), r"radii = \(2, 2\)"),
        (lambda: pn.annuli([(0, 1), (-2, 2)]), "radii = -2"),
        (lambda: pn.annuli([(0, 1), (2, 3, 4)]), "two or more pairs"),
        (lambda: pn.annuli([(0, 1), (2, 3)], dim=0), "dim = 0"),
    ],
)
def test_wrong_numbers_are_refused(call: Any, text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        call()
