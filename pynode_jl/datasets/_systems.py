"""Trajectories of five textbook systems, observed at given or random times, with noise and gaps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import flag, real_number, whole_number
from pynode_jl.datasets._arrays import check_size
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import InvalidValueError
from pynode_jl.seeding import generator
from pynode_jl.tasks import Trajectory

_Doubles: TypeAlias = NDArray[np.float64]
_RTOL, _ATOL = 1e-10, 1e-12
# Of the right-hand side in one solve, some ten seconds.
_MOST_EVALUATIONS = 250_000


@dataclass(frozen=True)
class _System:
    """A right-hand side of states (dim, n), and the box that initial states are drawn from."""

    name: str
    rates: Callable[[_Doubles], _Doubles]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spin_up: float = 0.0


@dataclass(frozen=True)
class _Observations:
    """What all systems take: how many trajectories, seen when, and how well."""

    n_train: int
    n_test: int
    n_times: int
    t1: float
    noise: float
    irregular: bool
    missing: float
    seed: int

    def checked(self, dim: int) -> _Observations:
        """Return the same as Python's own numbers.

        Raises:
            InvalidValueError: a value that is not allowed.
        """
        n_train, n_test = whole_number("n_train", self.n_train), whole_number("n_test", self.n_test)
        n_times = whole_number("n_times", self.n_times)
        check_size(n_train + n_test, n_times * dim)
        return _Observations(
            n_train,
            n_test,
            n_times,
            real_number("t1", self.t1, "Try t1=5.0.", above=0),
            real_number("noise", self.noise, "Use noise=0 for none.", least=0),
            flag("irregular", self.irregular),
            real_number("missing", self.missing, "Use missing=0 for none.", least=0, below=1),
            self.seed,
        )


def lotka_volterra(
    *,
    alpha: float = 1.3,
    beta: float = 0.9,
    gamma: float = 0.8,
    delta: float = 1.8,
    n_train: int = 200,
    n_test: int = 200,
    n_times: int = 20,
    t1: float = 5.0,
    noise: float = 0.0,
    irregular: bool = False,
    missing: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Trajectories of prey x and predators y: x' = (alpha - beta y) x, y' = (gamma x - delta) y.

    The parameters are those of Rackauckas et al. 2020 (Universal Differential Equations). Initial
    states are uniform in [1/2, 4]^2. The rest is as in all systems of this package: see Args.

    Args:
        alpha, beta, gamma, delta: rates, > 0.
        n_train, n_test: numbers of trajectories. More test trajectories leave the training
            trajectories as they were.
        n_times: number of times of observation; all trajectories share them.
        t1: end of the interval from 0; regular times are t1 / n_times apart, the last is t1.
        noise: standard deviation of the Gaussian noise on each observed number, in its unit, in
            both parts; initial states have none.
        irregular: times are a sorted draw from U(0, t1) instead.
        missing: fraction of the times, 0 <= missing < 1, at which a trajectory is not observed
            (NaN), drawn for each; one time at least is.
        seed: decides the data.

    Returns:
        States x (n, 2) at time 0, targets y (n, n_times, 2), task `Trajectory(times)`. They are
        solved by SciPy's DOP853 with rtol = 1e-10, atol = 1e-12, in float64, and kept in float32.

    Raises:
        InvalidValueError: an argument that is not allowed, or parameters whose solution fails.

    Example:
        >>> gappy = pn.lotka_volterra(n_train=8, n_test=4, irregular=True, missing=0.25)
        >>> gappy.y_train.shape, int(np.isnan(gappy.y_train[0, :, 0]).sum())
        ((8, 20, 2), 5)
    """
    a, b, c, d = (
        real_number(name, value, "Try 1.0.", above=0)
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("delta", delta))
    )

    def rates(state: _Doubles) -> _Doubles:
        prey, predators = state
        return np.stack([(a - b * predators) * prey, (c * prey - d) * predators])

    system = _System("lotka_volterra", rates, (0.5, 0.5), (4.0, 4.0))
    return _observed(
        system,
        _Observations(n_train, n_test, n_times, t1, noise, irregular, missing, seed),
    )


def spiral(
    *,
    decay: float = 0.1,
    frequency: float = 2.0,
    n_train: int = 200,
    n_test: int = 200,
    n_times: int = 20,
    t1: float = 5.0,
    noise: float = 0.0,
    irregular: bool = False,
    missing: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Trajectories of a linear focus, which spiral into the origin.

    x' = -decay x - frequency y, y' = frequency x - decay y. The matrix is that of torchdiffeq's
    demonstration (Chen et al. 2018), which applies it to the cubes of the state; here it is linear,
    with a closed form. Initial states are uniform in [-2, 2]^2.

    Args:
        decay: rate at which the radius shrinks, any number.
        frequency: angular velocity, any number.
        n_train, n_test, n_times, t1, noise, irregular, missing, seed: as in `lotka_volterra`.

    Returns:
        States x (n, 2) at time 0, targets y (n, n_times, 2), task `Trajectory(times)`.

    Raises:
        InvalidValueError: an argument that is not allowed, or parameters whose solution fails.

    Example:
        >>> data = pn.spiral(n_train=8, n_test=4, t1=1.0)
        >>> before, after = (np.hypot(*each.T) for each in (data.x_train, data.y_train[:, -1]))
        >>> bool(np.allclose(after / before, np.exp(-0.1)))
        True
    """
    decay = real_number("decay", decay, "Try decay=0.1.")
    frequency = real_number("frequency", frequency, "Try frequency=2.0.")

    def rates(state: _Doubles) -> _Doubles:
        x, y = state
        return np.stack([-decay * x - frequency * y, frequency * x - decay * y])

    system = _System("spiral", rates, (-2.0, -2.0), (2.0, 2.0))
    return _observed(
        system,
        _Observations(n_train, n_test, n_times, t1, noise, irregular, missing, seed),
    )


def pendulum(
    *,
    damping: float = 0.0,
    n_train: int = 200,
    n_test: int = 200,
    n_times: int = 20,
    t1: float = 10.0,
    noise: float = 0.0,
    irregular: bool = False,
    missing: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Trajectories (angle, velocity) of a pendulum, in its own unit of time.

    angle' = velocity, velocity' = -sin(angle) - damping velocity. Initial angles are uniform in
    [-2, 2], velocities in [-1, 1]: all swing, none turns over.

    Args:
        damping: >= 0; without it the energy velocity^2 / 2 - cos(angle) is constant.
        n_train, n_test, n_times, t1, noise, irregular, missing, seed: as in `lotka_volterra`.

    Returns:
        States x (n, 2) at time 0, targets y (n, n_times, 2), task `Trajectory(times)`.

    Raises:
        InvalidValueError: an argument that is not allowed, or parameters whose solution fails.

    Example:
        >>> pn.pendulum(n_train=8, n_test=4, n_times=5).y_test.shape
        (4, 5, 2)
    """
    damping = real_number("damping", damping, "Use damping=0 for none.", least=0)

    def rates(state: _Doubles) -> _Doubles:
        angle, velocity = state
        return np.stack([velocity, -np.sin(angle) - damping * velocity])

    system = _System("pendulum", rates, (-2.0, -1.0), (2.0, 1.0))
    return _observed(
        system,
        _Observations(n_train, n_test, n_times, t1, noise, irregular, missing, seed),
    )


def lorenz63(
    *,
    sigma: float = 10.0,
    rho: float = 28.0,
    beta: float = 8 / 3,
    n_train: int = 200,
    n_test: int = 200,
    n_times: int = 20,
    t1: float = 1.0,
    noise: float = 0.0,
    irregular: bool = False,
    missing: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Trajectories of Lorenz's convection, on its attractor.

    x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z. The parameters are those of Lorenz
    1963, where the system is chaotic: errors grow e-fold in about 1.1 units of time. Trajectories
    start on the attractor: uniform draws from [-15, 15]^2 x [10, 40] are solved for 5 units of time
    first.

    Args:
        sigma, rho, beta: Prandtl's number, Rayleigh's number over its critical value, and the
            cells' shape; > 0.
        n_train, n_test, n_times, t1, noise, irregular, missing, seed: as in `lotka_volterra`.

    Returns:
        States x (n, 3) at time 0, targets y (n, n_times, 3), task `Trajectory(times)`.

    Raises:
        InvalidValueError: an argument that is not allowed, or parameters whose solution fails.

    Example:
        >>> pn.lorenz63(n_train=8, n_test=4).state_shape
        (3,)
    """
    s, r, b = (
        real_number(name, value, "Lorenz has 10, 28 and 8/3.", above=0)
        for name, value in (("sigma", sigma), ("rho", rho), ("beta", beta))
    )

    def rates(state: _Doubles) -> _Doubles:
        x, y, z = state
        return np.stack([s * (y - x), x * (r - z) - y, x * y - b * z])

    system = _System("lorenz63", rates, (-15.0, -15.0, 10.0), (15.0, 15.0, 40.0), spin_up=5.0)
    return _observed(
        system,
        _Observations(n_train, n_test, n_times, t1, noise, irregular, missing, seed),
    )


def van_der_pol(
    *,
    mu: float = 1.0,
    n_train: int = 200,
    n_test: int = 200,
    n_times: int = 20,
    t1: float = 7.0,
    noise: float = 0.0,
    irregular: bool = False,
    missing: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Trajectories (x, v) of van der Pol's oscillator (1926): x' = v, v' = mu (1 - x^2) v - x.

    With mu = 1 its limit cycle has the period 6.663; large mu make it stiff. Initial states are
    uniform in [-2, 2]^2.

    Args:
        mu: strength of the nonlinear damping, >= 0.
        n_train, n_test, n_times, t1, noise, irregular, missing, seed: as in `lotka_volterra`.

    Returns:
        States x (n, 2) at time 0, targets y (n, n_times, 2), task `Trajectory(times)`.

    Raises:
        InvalidValueError: an argument that is not allowed, or parameters whose solution fails.

    Example:
        >>> pn.van_der_pol(n_train=8, n_test=4).name
        'van_der_pol'
    """
    mu = real_number("mu", mu, "Try mu=1.0.", least=0)

    def rates(state: _Doubles) -> _Doubles:
        x, v = state
        return np.stack([v, mu * (1 - x**2) * v - x])

    system = _System("van_der_pol", rates, (-2.0, -2.0), (2.0, 2.0))
    return _observed(
        system,
        _Observations(n_train, n_test, n_times, t1, noise, irregular, missing, seed),
    )


def _observed(system: _System, given: _Observations) -> Dataset:
    """Draw initial states, solve from them, and observe the solutions."""
    wanted = given.checked(len(system.low))
    random = generator(wanted.seed, "data")
    if wanted.irregular:
        # 1 - U is in (0, 1]: no observation at time 0, where the state is given.
        times = wanted.t1 * np.sort(1 - random.random(wanted.n_times))
    else:
        times = wanted.t1 * (np.arange(1, wanted.n_times + 1) / wanted.n_times)
    task = Trajectory(times.tolist())  # checks that they differ
    x, y = _part(system, wanted, wanted.n_train, times, random)
    x_test, y_test = _part(system, wanted, wanted.n_test, times, random)
    data = Dataset.from_arrays(x, y, x_test=x_test, y_test=y_test, task=task, name=system.name)
    return replace(data, seed=wanted.seed)


def _part(
    system: _System,
    wanted: _Observations,
    n: int,
    times: _Doubles,
    random: np.random.Generator,
) -> tuple[_Doubles, _Doubles]:
    """Return initial states (n, dim) and observations (n, times, dim)."""
    x = random.uniform(system.low, system.high, (n, len(system.low)))
    if system.spin_up:
        x = _solved(system, x, np.array([system.spin_up]))[:, 0]
    # As the model sees them: the solution starts at what float32 keeps.
    x = x.astype(np.float32).astype(np.float64)
    y = _solved(system, x, times)
    with np.errstate(over="ignore"):  # refused by `Dataset`
        y += wanted.noise * random.standard_normal(y.shape)
    gaps = min(round(wanted.missing * len(times)), len(times) - 1)
    hidden = np.argsort(random.random((n, len(times))), axis=1) < gaps
    y[hidden] = np.nan
    return x, y


def _solved(system: _System, x: _Doubles, times: _Doubles) -> _Doubles:
    """Return the states (n, times, dim) at `times`, all trajectories in one solve.

    Raises:
        InvalidValueError: the solution has no end.
    """
    from scipy.integrate import solve_ivp  # here: it takes a third of a second to import

    def refusal(why: str) -> InvalidValueError:
        return InvalidValueError(
            "t1",
            float(times[-1]),
            f"an interval over which {system.name} is solved with these parameters",
            f"Shorten it, or take other parameters. {why}",
        )

    evaluations = itertools.count()

    def rates(_: float, state: _Doubles) -> _Doubles:
        if next(evaluations) == _MOST_EVALUATIONS:
            raise refusal(f"{_MOST_EVALUATIONS} evaluations do not suffice: is it stiff?")
        return system.rates(state.reshape(x.T.shape)).ravel()

    with np.errstate(all="ignore"):
        found = solve_ivp(
            rates,
            (0.0, times[-1]),
            x.T.ravel(),
            method="DOP853",
            t_eval=times,
            rtol=_RTOL,
            atol=_ATOL,
        )
    if not found.success or not np.isfinite(found.y).all():
        raise refusal(str(found.message))
    states: _Doubles = found.y.T.reshape(len(times), *x.T.shape).transpose(2, 0, 1)
    return states
