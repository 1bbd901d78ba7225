"""The trajectories of five systems against closed forms, first integrals and another method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import ellipj, ellipk

import pynode_jl as pn
from pynode_jl.datasets import Dataset, load
from pynode_jl.datasets import _systems as systems
from pynode_jl.errors import InvalidValueError, PyNODEError

NAMES = ("lotka_volterra", "spiral", "pendulum", "lorenz63", "van_der_pol")
FEW: dict[str, Any] = {"n_train": 6, "n_test": 3}


def times(data: Dataset) -> NDArray[np.float64]:
    return np.array(data.task.times)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_more_test_trajectories_leave_the_training_ones(name: str) -> None:
    few, other = load(name, **FEW, t1=0.5), load(name, **FEW, t1=0.5, seed=1)
    many = load(name, n_train=6, n_test=20, t1=0.5)
    assert not np.isin(other.x_train, few.x_train).any()
    assert np.array_equal(few.x_train, many.x_train)
    assert np.array_equal(few.y_train, many.y_train)
    assert few.seed == 0
    assert few.y_test.shape == (3, 20, *few.state_shape)
    assert few.y_train.dtype == np.float32


def test_the_spiral_has_its_closed_form() -> None:
    for irregular in (False, True):
        data = pn.spiral(decay=0.2, frequency=3.0, t1=4.0, irregular=irregular, **FEW)
        x = data.x_train[:, 0] + 1j * data.x_train[:, 1].astype(float)
        y = data.y_train[..., 0] + 1j * data.y_train[..., 1].astype(float)
        assert abs(y - x[:, None] * np.exp((-0.2 + 3j) * times(data))).max() < 1e-6


def test_the_pendulum_swings_as_jacobi_says() -> None:
    """From rest at an angle a: angle(t) = 2 asin(k sn(K + t, k^2)), k = sin(a / 2)."""
    start = np.array([[-2.0, 0.0], [0.3, 0.0], [1.7, 0.0]])
    system = systems._System("", lambda s: np.stack([s[1], -np.sin(s[0])]), (0, 0), (0, 0))
    t = np.linspace(0.5, 12, 7)
    found = systems._solved(system, start, t)[..., 0]
    k = np.sin(start[:, :1] / 2)
    exact = 2 * np.arcsin(k * ellipj(ellipk(k**2) + t, k**2)[0])
    assert abs(found - exact).max() < 1e-8
    data = pn.pendulum(**FEW)  # and the data are of that system
    energy = [v**2 / 2 - np.cos(a) for a, v in (data.x_train.T, np.moveaxis(data.y_train, 2, 0))]
    assert np.ptp(np.concatenate([energy[0][:, None], energy[1]], axis=1), axis=1).max() < 1e-5
    assert energy[0].max() < 1  # none turns over
    damped = pn.pendulum(damping=0.5, **FEW)
    assert abs(damped.y_train[:, -1]).max() < abs(data.y_train[:, -1]).max()


def test_lotka_volterra_keeps_its_first_integral() -> None:
    rates = {"alpha": 1.5, "beta": 1.0, "gamma": 0.7, "delta": 3.0}
    data = pn.lotka_volterra(**rates, **FEW)

    def integral(state: Any) -> Any:
        x, y = np.moveaxis(state.astype(float), -1, 0)
        return 0.7 * x - 3.0 * np.log(x) + 1.0 * y - 1.5 * np.log(y)

    assert np.allclose(integral(data.y_train), integral(data.x_train)[:, None], rtol=1e-5)
    assert np.ptp(data.y_train, axis=1).min() > 0.1  # and moves


@pytest.mark.parametrize("name", ["lorenz63", "van_der_pol"])
def test_trajectories_agree_with_another_method(name: str) -> None:
    """SciPy's LSODA, with the right-hand sides written once more, one trajectory at a time."""
    fields = {
        "lorenz63": lambda t, s: [
            10 * (s[1] - s[0]),
            s[0] * (28 - s[2]) - s[1],
            s[0] * s[1] - 8 / 3 * s[2],
        ],
        "van_der_pol": lambda t, s: [s[1], (1 - s[0] ** 2) * s[1] - s[0]],
    }
    data = load(name, **FEW)
    t = times(data)
    for start, states in zip(data.x_train, data.y_train, strict=True):
        found = solve_ivp(
            fields[name], (0, t[-1]), start, method="LSODA", t_eval=t, rtol=1e-11, atol=1e-12
        )
        assert np.allclose(states, found.y.T, rtol=1e-5, atol=1e-5)


def test_van_der_pol_comes_back_after_its_period() -> None:
    """Its limit cycle at mu = 1 has the period 6.66328685932..., a number of the literature."""
    period = 6.66328685932313
    data = pn.van_der_pol(n_times=5, t1=5 * period, **FEW)
    assert np.allclose(data.y_train[:, -1], data.y_train[:, -2], atol=1e-5)
    assert not np.allclose(data.y_train[:, 0], data.x_train, atol=1e-2)


def test_lorenz_starts_on_the_attractor() -> None:
    x = pn.lorenz63(n_train=100, n_test=1).x_train
    assert (abs(x[:, 0]) < 20).all()
    assert ((x[:, 2] > 1) & (x[:, 2] < 48)).all()
    # Of the box's draws hardly any lie near the thin attractor, where x and y are alike.
    assert np.corrcoef(x[:, 0], x[:, 1])[0, 1] > 0.8


def test_noise_gaps_and_irregular_times() -> None:
    exact = pn.spiral(n_train=300, n_test=100)
    noisy = pn.spiral(n_train=300, n_test=100, noise=0.1)
    assert np.array_equal(exact.x_train, noisy.x_train)  # initial states have none
    assert np.std(noisy.y_train - exact.y_train) == pytest.approx(0.1, rel=0.03)
    gappy = pn.spiral(n_train=300, n_test=100, missing=0.3, irregular=True)
    hidden = np.isnan(gappy.y_train)
    assert (hidden[..., 0] == hidden[..., 1]).all()
    assert (hidden[..., 0].sum(axis=1) == 6).all()
    assert abs(hidden[..., 0].mean(axis=0) - 0.3).max() < 0.12  # at every time
    assert np.isnan(pn.spiral(**FEW, n_times=2, missing=0.99).y_train).mean() == 0.5
    t = times(gappy)
    assert (np.diff(t) > 0).all()
    assert 0 < t[0] < t[-1] <= 5.0
    assert np.ptp(np.diff(t)) > 0.1
    assert np.allclose(np.diff(times(exact)), 0.25)
    assert times(exact)[-1] == 5.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: pn.lotka_volterra(alpha=0), "alpha = 0: .*above 0"),
        (lambda: pn.pendulum(damping=-1), "damping = -1"),
        (lambda: pn.spiral(n_times=0), "n_times = 0"),
        (lambda: pn.spiral(missing=1), "missing = 1: .*missing=0 for none"),
        (lambda: pn.spiral(irregular="yes"), "irregular = 'yes': expected True or False"),  # type: ignore[arg-type]
        (lambda: pn.spiral(t1=-1), "t1 = -1"),
        (lambda: pn.van_der_pol(mu=1e300), "t1 = 7.*van_der_pol.*other parameters"),
        (lambda: pn.spiral(decay=-60, t1=2.0), "y.* float32"),
    ],
)
def test_wrong_numbers_are_refused(call: Any, text: str) -> None:
    with pytest.raises(InvalidValueError, match=text):
        call()


def test_a_stiff_system_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "_MOST_EVALUATIONS", 1000)
    with pytest.raises(PyNODEError, match="1000 evaluations do not suffice: is it stiff"):
        pn.van_der_pol(mu=1e6, **FEW)
