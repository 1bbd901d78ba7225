"""Which checkpoint policy a solve takes: how many steps there is capacity for, what is saved."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.backends.jax import columns
from pynode_jl.backends.jax.numerics.rhs import RHS
from pynode_jl.backends.jax.numerics.rk_step import stages_for_solution
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy, rounded_up
from pynode_jl.fields import Field, VectorField
from pynode_jl.solvers import Solver, Tableau

# Training: capacity for at least what dt = 1/512 needs, more for small states. Fixed steps of
# states too large for that in `_LEAST_BYTES` get what they need, rounded up: each iteration fills
# its space with zeros first (200 MB of them took 0.1 s, the rest of it 0.04 s).
_LEAST_STEPS = 512
_LEAST_BYTES = 2**24
_MOST_STEPS = 4096
_STEPS_BYTES = 2**26
# There is capacity for no more adaptive steps, whatever a solver allows: a solve that takes more
# ends there.
_MOST_ADAPTIVE = 2**20
# States may take this much before some are dropped and recomputed (`CheckpointPolicy.stride`).
_STATES_BYTES = 2**29
# Pullbacks: capacity at first; more where a solve has taken more.
_FIRST_STEPS = 128
# Steps whose residuals are saved too, or fewer where that takes more bytes than these. And each
# number is to stand for so many products, or it takes longer to write than to recompute.
_MOST_WITH_RESIDUALS = 32
_RESIDUAL_BYTES = 2**26
_WORTH_SAVING = 16


def training_policy(solver: Solver, steps: int, state_bytes: int) -> CheckpointPolicy:
    """Choose the policy of a training's solves, whose steps cannot be counted beforehand.

    `steps` are those of fixed steps, as many as are allowed; 0 where they adapt.
    """
    if solver.fixed:
        # Where states are small another step size finds the same capacity, and compiles nothing.
        small = _LEAST_STEPS * state_bytes <= _LEAST_BYTES
        capacity = max(steps, _LEAST_STEPS if small else 1)
    elif solver.max_steps is not None:
        capacity = min(solver.max_steps, _MOST_ADAPTIVE)
    else:
        fitting = _STEPS_BYTES // max(state_bytes, 1)
        capacity = min(max((fitting + 1) // 2, _LEAST_STEPS), _MOST_STEPS)
    return _strided(rounded_up(capacity), state_bytes)


def recording_capacity(solver: Solver, steps: int) -> int:
    """Return the capacity for the steps of a solve that are to be returned, few sizes in all."""
    if solver.fixed:
        return rounded_up(max(steps, 64))
    return rounded_up(min(solver.max_steps or _MOST_STEPS, _MOST_STEPS))


@lru_cache(maxsize=512)
def pullback_policy(
    field: Field,
    table: Tableau,
    fixed: bool,
    steps: int,
    batch: int,
    dtype: np.dtype[Any],
) -> CheckpointPolicy:
    """Choose the policy of a pullback for an expected number of steps.

    Saved residuals spare the stages' recomputation; they need `residual_space`.
    """
    stages = stages_for_solution(table)
    # Steps in which each stage is run, or is the last one of the step before.
    whole = table.explicit and (fixed or (table.fsal and table.stages == stages + 1))
    if whole and isinstance(field, VectorField):
        row = stages * sum(each.size for each in jax.tree.leaves(_residual_shapes(field, batch)))
        least = rounded_up(max(steps, 1))
        capacity = max(least, _MOST_WITH_RESIDUALS)
        while row and capacity >= least:
            if (capacity + 1) * row * dtype.itemsize <= _RESIDUAL_BYTES:
                return CheckpointPolicy(capacity, save_residuals=True)
            capacity //= 2
    return _strided(rounded_up(max(steps, _FIRST_STEPS)), batch * field.size * dtype.itemsize)


def residual_space(
    field: Field, table: Tableau, policy: CheckpointPolicy, batch: int, dtype: np.dtype[Any]
) -> Any:
    """Return space for the residuals of the saved steps; None where they are not saved."""
    if not (policy.save_residuals and isinstance(field, VectorField)):
        return None
    rows = (policy.capacity + 1, stages_for_solution(table))

    def space(each: Any) -> jax.Array:
        kind = dtype if each.dtype == np.float32 else each.dtype
        return jnp.zeros((*rows, *each.shape), kind)

    return jax.tree.map(space, _residual_shapes(field, batch))


def _strided(capacity: int, state_bytes: int) -> CheckpointPolicy:
    """Return the smallest stride that keeps the states within their bytes."""
    widest = capacity.bit_length() // 2
    policies = (CheckpointPolicy(capacity, 1 << i) for i in range(widest + 1))
    fitting = (each for each in policies if each.held_states * state_bytes <= _STATES_BYTES)
    return next(fitting, CheckpointPolicy(capacity, 1 << widest))


@lru_cache(maxsize=512)
def _residual_shapes(field: VectorField, batch: int) -> Any:
    """Shapes of an evaluation's value and residuals, in float32; None where they had better not be
    saved."""
    if not columns.suits_columns(field):
        return None
    prepare, apply = columns.right_hand_side(field)
    shapes = field.weight_shapes()

    def evaluate(weights: Any, t: jax.Array, y: jax.Array) -> Any:
        return RHS(apply, prepare(weights), save_residuals=True).evaluate(t, y)

    def shaped(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]

    weights = {name: shaped(*shape) for name, shape in shapes.items()}
    residuals = jax.eval_shape(evaluate, weights, shaped(), shaped(field.size, batch))
    numbers = sum(array.size for array in jax.tree.leaves(residuals)) // batch
    products = sum(math.prod(shape) for shape in shapes.values())
    return residuals if products >= _WORTH_SAVING * numbers else None
