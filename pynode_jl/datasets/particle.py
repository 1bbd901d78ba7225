"""The damped particle of the three minima: its potential, its field, and where it comes to rest.

x' = v, v' = -V'(x) - 0.2 v with V = 0.2 x (x-2)(x-0.5)(x+1)(x+0.6)(x-1.6).
"""

from __future__ import annotations

from math import ceil, inf

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from pynode_jl.datasets._arrays import Labels

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


def particle_field(states: _Doubles) -> _Doubles:
    """Return (v, -V'(x) - 0.2 v) at states (n, 2).

    Example:
        >>> from pynode_jl.datasets.particle import MINIMA, particle_field
        >>> at_rest = np.stack([MINIMA, np.zeros(3)], axis=1)
        >>> bool((abs(particle_field(at_rest)) < 1e-12).all())
        True
    """
    x, v = states[:, 0], states[:, 1]
    return np.stack([v, _acceleration(x, v)], axis=1)


def resting_minimum(x0: NDArray[np.floating], v0: NDArray[np.floating], t_end: float) -> Labels:
    """Return, for each particle, the index into `MINIMA` of the well that has caught it by `t_end`.

    It is -1 where none has.

    Args:
        x0, v0: initial positions and velocities, shape (n,).
        t_end: end of the integration (classical RK4, float64, particles apart from each other).

    Returns:
        int32, shape (n,).

    Example:
        >>> from pynode_jl.datasets.particle import MINIMA, resting_minimum
        >>> resting_minimum(MINIMA, np.zeros(3), t_end=1.0).tolist()
        [0, 1, 2]
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
        x, v = advance(x, v, t_end / steps)
    return labels


def advance(x: _Doubles, v: _Doubles, h: float) -> tuple[_Doubles, _Doubles]:
    """Return positions and velocities a step `h` later, by the classical Runge-Kutta method."""
    a1 = _acceleration(x, v)
    v2 = v + h / 2 * a1
    a2 = _acceleration(x + h / 2 * v, v2)
    v3 = v + h / 2 * a2
    a3 = _acceleration(x + h / 2 * v2, v3)
    v4 = v + h * a3
    a4 = _acceleration(x + h * v3, v4)
    return x + h / 6 * (v + 2 * (v2 + v3) + v4), v + h / 6 * (a1 + 2 * (a2 + a3) + a4)


def _well(x: _Doubles, v: _Doubles) -> Labels:
    """Return the index of the well that holds (x, v) for good; -1 where it can still leave."""
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
