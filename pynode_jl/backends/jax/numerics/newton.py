"""An implicit stage k = f(t, base + scale k), by Newton's iteration with exact Jacobians.

The iteration runs to the precision of the state's dtype: a fixed step has no tolerance to stop at,
and the discrete model that the paper asks about is the solved stage, not a half-solved one.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax.numerics.rhs import RHS, StepCounts, rounding
from pynode_jl.solvers import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, newton_change


def solve_stage(
    rhs: RHS, time: jax.Array, base: jax.Array, scale: jax.Array, guess: jax.Array
) -> tuple[jax.Array, StepCounts]:
    """k with k = rhs(time, base + scale k), as a constant: see `attach_exact_derivative`."""
    rhs = rhs.constant()
    time, base, scale, guess = jax.lax.stop_gradient((time, base, scale, guess))
    tolerance = NEWTON_ROUNDINGS * rounding(base)

    def unfinished(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, change, i = carry
        # `not <=`, so that a NaN goes on to the limit and is reported as not converged.
        return ~(change <= tolerance) & (i < NEWTON_ITERATIONS)

    def iterate(
        carry: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        k, _, i = carry
        u = base + scale * k
        update = _newton_update(rhs, time, u, scale, rhs(time, u) - k)
        change = newton_change(jnp, scale * update, base, scale * k)
        return k + update, change, i + 1

    start = (guess, jnp.asarray(jnp.inf, base.dtype), jnp.int32(0))
    k, change, iterations = jax.lax.while_loop(unfinished, iterate, start)
    return k, StepCounts(iterations, iterations, change <= tolerance)


def attach_exact_derivative(
    rhs: RHS, time: jax.Array, base: jax.Array, scale: jax.Array, k: jax.Array
) -> jax.Array:
    """Return the constant `k` with the derivative that the implicit function theorem gives it.

    One more Newton update from the solution, its matrix held constant: the update's value is
    rounding, its derivative is (I - scale J)^-1 d(rhs), and no iteration is differentiated.
    """
    u = base + scale * k
    stopped_time, stopped_u, stopped_scale = jax.lax.stop_gradient((time, u, scale))
    return k + _newton_update(
        rhs.constant(), stopped_time, stopped_u, stopped_scale, rhs(time, u) - k
    )


def _newton_update(
    rhs: RHS, time: jax.Array, u: jax.Array, scale: jax.Array, residual: jax.Array
) -> jax.Array:
    """(I - scale J(u))^-1 residual, sample by sample."""
    jacobian = sample_jacobian(lambda y: rhs(time, y), u)
    matrix = jnp.eye(jacobian.shape[-1], dtype=u.dtype) - scale * jacobian
    flat = residual.reshape(u.shape[0], -1, 1)
    update: jax.Array = jnp.linalg.solve(matrix, flat).reshape(u.shape)
    return update


def sample_jacobian(function: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """Jacobian of a map of batches that mixes no samples, (batch, size, size)."""

    def one(flat: jax.Array) -> jax.Array:
        return function(flat.reshape(1, *u.shape[1:])).reshape(-1)

    jacobian: jax.Array = jax.vmap(jax.jacfwd(one))(u.reshape(u.shape[0], -1))
    return jacobian
