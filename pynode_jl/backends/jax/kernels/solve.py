"""Solves without a gradient: the tableau is data, so that one compilation serves many solvers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax.numpy as jnp

from pynode_jl.backends._precision import Precision
from pynode_jl.backends._times import Clock
from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.controls import PaddedArguments, PaddedKind, Timeline
from pynode_jl.backends.jax.jit import jitted
from pynode_jl.backends.jax.numerics.loop import integrate
from pynode_jl.backends.jax.numerics.rhs import RHS, counted_from
from pynode_jl.backends.jax.numerics.segment import Control
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.fields import Field
from pynode_jl.models import Model, ModelWeights


@lru_cache(maxsize=256)
def solve_kernel(field: Field, kind: PaddedKind, policy: CheckpointPolicy) -> Callable[..., Any]:
    """Return ``(weights, tableau, controls, timeline, y0, max_steps) -> (times, states, counts,
    trajectory)``, compiled; times come counted from the timeline's origin."""
    prepare, apply = field_eval.right_hand_side(field)

    @jitted
    def kernel(
        weights: Any,
        table: PaddedArguments,
        controls: Control,
        timeline: Timeline,
        y0: Any,
        max_steps: Any,
    ) -> Any:
        rhs = RHS(counted_from(timeline.origin, apply), prepare(weights))
        found = integrate(
            rhs, table.stepper(kind, rhs), controls, timeline.times, y0, max_steps, policy=policy
        )
        return found.times, found.states, found.counts, found.trajectory

    return kernel


@lru_cache(maxsize=256)
def evaluate_kernel(model: Model, kind: PaddedKind, precision: Precision) -> Callable[..., Any]:
    """Return ``(weights, tableau, controls, x, max_steps) -> (outputs, states, counts)``."""
    prepare, apply = field_eval.right_hand_side(model.field, precision=precision)
    clock = Clock.of(model.times)

    @jitted
    def kernel(
        weights: Any, table: PaddedArguments, controls: Control, x: Any, max_steps: Any
    ) -> Any:
        parts = ModelWeights.from_dict(weights)
        rhs = RHS(counted_from(clock.origin, apply), prepare(parts.field))
        times = jnp.array(clock.times, x.dtype)
        y0 = model.initial_state(x, parts)
        found = integrate(rhs, table.stepper(kind, rhs), controls, times, y0, max_steps)
        return model.read_out(found.states, parts), found.states, found.counts

    return kernel
