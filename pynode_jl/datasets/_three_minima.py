"""Three minima: in which well does a damped particle come to rest?"""

from __future__ import annotations

from math import ceil, inf

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from pynode_jl._validation import real_number, whole_number
from pynode_jl.datasets._arrays import Labels
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import DataError
from pynode_jl.seeding import generator

DAMPING = 0.2
POTENTIAL = 0.2 * Polynomial.fromroots([-1.0, -0.6, 0.0, 0.5, 1.6, 2.0])

# All five critical points are real: minimum, barrier, minimum, barrier, minimum.
_CRITICAL = np.sort(POTENTIAL.deriv().roots().real)
MINIMA, BARRIERS = _CRITICAL[0::2], _CRITICAL[1::2]

# A quarter of this step changed none of 60,000 labels. The margin is room for RK4's error in the
# energy (1e-8 at t = 5): no particle is called caught that in truth is just above its barrier.
_STEP = 1 / 128
_ENERGY_MARGIN = 1e-6
_STEPS_PER_CHECK = 64

_Doubles = NDArray[np.float64]


def three_minima(
    *, n_train: int = 2000, n_test: int = 1000, seed: int = 0, t_end: float = 100.0
) -> Dataset:
    """Initial states (x, v) of a damped particle; the class is the minimum that it ends in.

    x' = v, v' = -V'(x) - 0.2 v with V = 0.2 x (x-2)(x-0.5)(x+1)(x+0.6)(x-1.6); the minima near
    -0.850, 0.269 and 1.839 are classes 0, 1 and 2; x ~ U[-1, 2], v ~ U[-2, 2] (2022 data set of
    Ott et al.). A class is given only where it is certain: within `t_end` the particle must be
    in a well with less energy than the well's barriers. Energy never grows, so there it stays.

    Args:
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        seed: decides the data, bit for bit.
        t_end: time by which every particle must be caught, > 0. Most are by 20.

    Returns:
        States of shape (2,), drawn in float32 and integrated as stored.

    Raises:
        InvalidValueError: an argument that is not allowed.
        DataError: a particle not caught by `t_end`, with its index and initial state.
    """
    n_train = whole_number("n_train", n_train, 1)
    n_test = whole_number("n_test", n_test, 1)
    t_end = real_number("t_end", t_end, "Try t_end=100.", above=0)
    random = generator(seed, "data")
    states = random.uniform((-1.0, -2.0), (2.0, 2.0), (n_train + n_test, 2)).astype(np.float32)
    labels = resting_minimum(states[:, 0], states[:, 1], t_end)
    if (labels < 0).any():
        index = int((labels < 0).argmax())
        part, offset = ("train", 0) if index < n_train else ("test", n_train)
        raise DataError(
            f"x_{part}[{index - offset}]",
            tuple(states[index].tolist()),
            f"an initial state (x, v) whose well is decided by t_end = {t_end:g}",
            f"{int((labels < 0).sum())} of {labels.size} are not: raise t_end (its default is "
            "100), or take another seed.",
        )
    return Dataset(
        "three_minima",
        states[:n_train],
        labels[:n_train],
        states[n_train:],
        labels[n_train:],
        classes=3,
        seed=seed,
    )


def resting_minimum(x0: NDArray[np.floating], v0: NDArray[np.floating], t_end: float) -> Labels:
    """Index into `MINIMA` of the well that catches each particle by `t_end`; -1 where none has.

    Args:
        x0, v0: initial positions and velocities, shape (n,).
        t_end: end of the integration (classical RK4, float64, particles apart from each other).

    Returns:
        int32, shape (n,).
    """
    labels = np.full(x0.shape, -1, dtype=np.int32)
    active = np.arange(x0.size)
    x, v = x0.astype(np.float64), v0.astype(np.float64)
    steps = ceil(t_end / _STEP)
    for step in range(steps + 1):
        if step % _STEPS_PER_CHECK == 0 or step == steps:
            caught = _well(x, v)
            labels[active] = caught
            free = caught < 0
            active, x, v = active[free], x[free], v[free]
            if active.size == 0:
                break
        x, v = _rk4(x, v, t_end / steps)
    return labels


def slope(states: _Doubles) -> _Doubles:
    """The particle's field (v, -V'(x) - 0.2 v) at states (n, 2)."""
    x, v = states[:, 0], states[:, 1]
    return np.stack([v, _acceleration(x, v)], axis=1)


def _well(x: _Doubles, v: _Doubles) -> Labels:
    """Index of the well that holds (x, v) for good; -1 where the particle can still leave."""
    energy = 0.5 * v**2 + POTENTIAL(x)
    # Beyond the outer minima V grows without end: those wells have one barrier only.
    heights = np.concatenate([[inf], POTENTIAL(BARRIERS), [inf]])
    rim = np.minimum(heights[:-1], heights[1:])
    well = np.searchsorted(BARRIERS, x)
    return np.where(energy < rim[well] - _ENERGY_MARGIN, well, -1).astype(np.int32)


_SLOPE = POTENTIAL.deriv().coef


def _acceleration(x: _Doubles, v: _Doubles) -> _Doubles:
    slope = np.full_like(x, _SLOPE[-1])
    for coefficient in _SLOPE[-2::-1]:
        slope *= x
        slope += coefficient
    return -slope - DAMPING * v


def _rk4(x: _Doubles, v: _Doubles, h: float) -> tuple[_Doubles, _Doubles]:
    a1 = _acceleration(x, v)
    v2 = v + h / 2 * a1
    a2 = _acceleration(x + h / 2 * v, v2)
    v3 = v + h / 2 * a2
    a3 = _acceleration(x + h / 2 * v2, v3)
    v4 = v + h * a3
    a4 = _acceleration(x + h * v3, v4)
    return x + h / 6 * (v + 2 * (v2 + v3) + v4), v + h / 6 * (a1 + 2 * (a2 + a3) + a4)
