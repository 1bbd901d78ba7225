"""A solve that saves its trajectory, and its reverse sweep when the cotangents are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.columns import layout_of
from pynode_jl.backends.jax.controls import Timeline
from pynode_jl.backends.jax.jit import jitted
from pynode_jl.backends.jax.kernels.gradient import adjoint_solve
from pynode_jl.backends.jax.numerics.loop import integrate
from pynode_jl.backends.jax.numerics.reverse import reverse_sweep, reverse_sweep_dense
from pynode_jl.backends.jax.numerics.rhs import RHS, counted_from
from pynode_jl.backends.jax.numerics.segment import Stepper
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy, SavedTrajectory
from pynode_jl.fields import Field
from pynode_jl.solvers import DenseMethod, Tableau


@lru_cache(maxsize=256)
def forward_kernel(
    field: Field,
    table: Tableau,
    dense: DenseMethod | None,
    fixed: bool,
    policy: CheckpointPolicy,
) -> Callable[..., Any]:
    """Return ``(weights, controls, timeline, y0, max_steps, residuals) -> (states, counts,
    (trajectory, ends))``, compiled.

    The counts come as one array, in the order of their fields. `residuals`, space for them, is
    taken over.
    """
    (prepare, apply), transpose = layout_of(field, table)

    def kernel(
        weights: Any, controls: Any, timeline: Timeline, y0: Any, max_steps: Any, residuals: Any
    ) -> Any:
        shifted = counted_from(timeline.origin, apply)
        rhs = RHS(shifted, prepare(weights), save_residuals=policy.save_residuals)
        start = transpose(y0)
        found = integrate(
            rhs,
            Stepper.static(table, rhs, with_error=not fixed),
            controls,
            timeline.times,
            start,
            max_steps,
            policy=policy,
            trajectory=SavedTrajectory.empty(policy, start, residuals),
            dense=dense,
        )
        return transpose(found.states), jnp.stack(found.counts), (found.trajectory, found.ends)

    return jitted(kernel, emitters=True, donated=5)


@lru_cache(maxsize=256)
def reverse_kernel(
    field: Field, table: Tableau, dense: DenseMethod | None, policy: CheckpointPolicy
) -> Callable[..., jax.Array]:
    """Return ``(weights, timeline, (trajectory, ends), cotangents) -> gradients``, compiled.

    Those to the weights, to y0 and to the times come in one flat array, which is one array to make
    instead of many.
    """
    (prepare, apply), transpose = layout_of(field, table)
    width = field_eval.width(field)

    def kernel(weights: Any, timeline: Timeline, steps: Any, cotangents: Any) -> jax.Array:
        prepared, unprepare = jax.vjp(prepare, weights)
        shifted = counted_from(timeline.origin, apply)
        trajectory, ends = steps
        seen = transpose(cotangents)
        if dense is not None:
            gradient = reverse_sweep_dense(
                dense, shifted, prepared, trajectory, policy, timeline.times, ends, seen
            )
        else:
            gradient = reverse_sweep(
                table, shifted, prepared, trajectory, policy, ends, seen,
                through_stages=table.explicit and not width, batch_width=width,
            )  # fmt: skip
        (to_weights,) = unprepare(gradient.weights)
        parts = [*(to_weights[name] for name in field.weight_shapes()), transpose(gradient.y0)]
        assert gradient.times is not None
        return jnp.concatenate([part.ravel() for part in (*parts, gradient.times)])

    return jitted(kernel, emitters=True)


@lru_cache(maxsize=64)
def adjoint_kernel(field: Field, table: Tableau, policy: CheckpointPolicy) -> Callable[..., Any]:
    """Return ``(weights, controls, times, y0, cotangent) -> (gradients, y1, counts)``, compiled,
    by the adjoint ODE."""
    solve = adjoint_solve(field, table, policy)
    prepare, apply = field_eval.right_hand_side(field)

    @jitted
    def kernel(weights: Any, controls: Any, times: Any, y0: Any, cotangent: Any) -> Any:
        def end(weights: Any, y0: Any) -> Any:
            states, counts = solve(weights, controls, times, policy.capacity, y0)
            return states[0], counts

        y1, pull, counts = jax.vjp(end, weights, y0, has_aux=True)
        to_weights, to_y0 = pull(cotangent)
        prepared = prepare(weights)
        # The flow's own: dy(t1)/dt1 = f(t1, y1), dy(t1)/dt0 = -dy(t1)/dy0 f(t0, y0).
        to_t0 = -jnp.sum(to_y0 * apply(prepared, times[0], y0))
        to_t1 = jnp.sum(cotangent * apply(prepared, times[1], y1))
        return (to_weights, to_y0, jnp.stack([to_t0, to_t1])), y1, counts

    return kernel
