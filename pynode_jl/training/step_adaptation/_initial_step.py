"""The first step, from two slopes (Hairer, Norsett & Wanner, *Solving ODEs I*, II.4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pynode_jl import solvers
from pynode_jl.backends import Array
from pynode_jl.training.step_adaptation._step_adapter import Probe


def initial_step(probe: Probe, order: int) -> float:
    """Return a first step for a method of `order` on the probe's batch, without tolerances.

    Where Hairer divides by the tolerances, the paper's code takes plain norms; so do we, each over
    a whole sample, then the mean over the batch. Two evaluations. The step is at most the interval.

    Example:
        >>> from pynode_jl.training.step_adaptation import Probe, initial_step
        >>> all_of_it = (data.x_train, data.y_train)
        >>> samples = dict.fromkeys(("batch", "pool", "held"), all_of_it)
        >>> look = {"seed": 0, "iteration": 0, "iterations": 10, **samples}
        >>> probe = Probe(pn.get_backend("jax"), model, trained.weights, **look)
        >>> 0 < initial_step(probe, order=1) < 1
        True
    """
    model = probe.model
    span = model.t1 - model.t0
    y = model.initial_state(probe.x, probe.weights).astype(np.float64)
    slope = probe.slope(model.t0, y)

    def slope_change(size: float) -> Any:
        signed = math.copysign(size, span)
        return _mean_norm(probe.slope(model.t0 + signed, y + signed * slope) - slope)

    with np.errstate(all="ignore"):
        step = solvers.initial_step(
            np,
            _mean_norm(y),
            _mean_norm(slope),
            slope_change,
            order=order + 1,
            smallest=0.0,
            longest=abs(span),
        )
    return float(step)


def _mean_norm(y: Array) -> Any:
    return np.linalg.norm(y.reshape(len(y), -1), axis=1).mean()
