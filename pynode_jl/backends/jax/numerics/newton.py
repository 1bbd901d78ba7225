"""An implicit stage k = f(t, base + scale k), by Newton's iteration with exact Jacobians.

The iteration runs to the precision of the state's dtype: a fixed step has no tolerance to stop at,
and the discrete model that the paper asks about is the solved stage, not a half-solved one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

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
    """Return the constant `k` with the derivatives that the implicit function theorem gives it.

    One more Newton update from the solution, its matrix held constant: the update's value is
    rounding, its derivative is (I - scale J)^-1 d(rhs), and no iteration is differentiated. For
    derivatives of higher order that derivative counts as a function of the solution, which has
    derivatives itself. What `rhs.apply` closes over may be traced if it is a `Partial`.
    """

    def update(
        apply: Partial,
        prepared: Any,
        time: jax.Array,
        base: jax.Array,
        scale: jax.Array,
        k: jax.Array,
    ) -> Callable[..., jax.Array]:
        matrix = _newton_matrix(RHS(apply, prepared), time, base + scale * k, scale)

        def again(
            apply: Partial, prepared: Any, time: jax.Array, base: jax.Array, scale: jax.Array
        ) -> jax.Array:
            residual = apply(prepared, time, base + scale * k) - k
            return k + _solved(matrix, residual)

        return again

    @jax.custom_jvp
    def solution(*inputs: Any) -> jax.Array:
        return update(*inputs)(*inputs[:-1])

    @solution.defjvp
    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        inputs, k = primals[:-1], primals[-1]
        solved = solution(*primals)
        again = update(*(*inputs, _with_derivative_of(k, solved)))
        value, tangent = jax.jvp(again, inputs, tangents[:-1])
        return _with_derivative_of(value, solved), tangent

    apply: Any = rhs.apply
    if not isinstance(apply, Partial):
        apply = Partial(apply)  # type: ignore[no-untyped-call]
    attached: jax.Array = solution(apply, rhs.prepared, time, base, scale, k)
    return attached


@jax.custom_jvp
def _with_derivative_of(value: jax.Array, other: jax.Array) -> jax.Array:
    """Return `value`, whose derivatives are those of `other`."""
    return value


@_with_derivative_of.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return _with_derivative_of(*primals), tangents[1]


def _newton_update(
    rhs: RHS, time: jax.Array, u: jax.Array, scale: jax.Array, residual: jax.Array
) -> jax.Array:
    """(I - scale J(u))^-1 residual, sample by sample."""
    return _solved(_newton_matrix(rhs, time, u, scale), residual)


def _newton_matrix(rhs: RHS, time: jax.Array, u: jax.Array, scale: jax.Array) -> jax.Array:
    """I - scale J(u) of each sample."""
    jacobian = sample_jacobian(lambda y: rhs(time, y), u)
    matrix: jax.Array = jnp.eye(jacobian.shape[-1], dtype=u.dtype) - scale * jacobian
    return matrix


def _solved(matrix: jax.Array, residual: jax.Array) -> jax.Array:
    flat = residual.reshape(residual.shape[0], -1, 1)
    update: jax.Array = jnp.linalg.solve(matrix, flat).reshape(residual.shape)
    return update


def sample_jacobian(function: Callable[[jax.Array], jax.Array], u: jax.Array) -> jax.Array:
    """Jacobian of a map of batches that mixes no samples, (batch, size, size)."""

    def one(flat: jax.Array) -> jax.Array:
        return function(flat.reshape(1, *u.shape[1:])).reshape(-1)

    jacobian: jax.Array = jax.vmap(jax.jacfwd(one))(u.reshape(u.shape[0], -1))
    return jacobian
