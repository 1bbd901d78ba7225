"""The first step, from two slopes (Hairer, Norsett & Wanner, *Solving ODEs I*, II.4)."""

from __future__ import annotations

import math

import numpy as np

from pynode_jl.backends import Array
from pynode_jl.training.step_adaptation._base import Probe


def initial_step(probe: Probe, order: int) -> float:
    """A first step for a method of `order` on the probe's batch, without tolerances.

    Where Hairer divides by the tolerances, the paper's code takes plain norms; so do we, each over
    a whole sample, then the mean over the batch. Two evaluations. The step is at most the interval.
    """
    model = probe.model
    span = model.t1 - model.t0
    y = model.initial_state(probe.x).astype(np.float64)
    slope = probe.slope(model.t0, y)
    d0, d1 = _mean_norm(y), _mean_norm(slope)
    h0 = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    h0 = min(h0, abs(span))
    signed = math.copysign(h0, span)
    bent = probe.slope(model.t0 + signed, y + signed * slope)
    d2 = _mean_norm(bent - slope) / h0
    largest = max(d1, d2)
    h1 = max(1e-6, 1e-3 * h0) if largest < 1e-15 else (0.01 / largest) ** (1 / (order + 1))
    return min(100 * h0, h1, abs(span))


def _mean_norm(y: Array) -> float:
    return float(np.linalg.norm(y.reshape(len(y), -1), axis=1).mean())
