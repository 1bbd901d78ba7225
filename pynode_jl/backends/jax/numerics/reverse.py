"""The reverse sweep: cotangents taken back through the saved steps of a solve, last to first.

Two things differ between its uses. *Where cotangents enter*: at the end of a step, where steps end
at the saved times, or within a step, where the states there were interpolated. *How one step is
taken back*: by automatic differentiation of the recomputed step (any tableau, large batches in
parts), or through the stages of an explicit step by the transposed tableau, the stages restored
from saved residuals or recomputed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax.numerics.rhs import RHS, Apply
from pynode_jl.backends.jax.numerics.rk_step import (
    StageVJPs,
    StepVJP,
    recompute_stages,
    restore_stages,
    rk_step_static,
    stages_for_solution,
    vjp_from_stages,
    vjp_of_step,
    weighted,
)
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy, SavedTrajectory
from pynode_jl.solvers import DenseMethod, Tableau


class Gradient(NamedTuple):
    """Gradients to the prepared weights, the initial state, and the times ``(t0, *saved)`` (None
    where they are not wanted)."""

    weights: Any
    y0: jax.Array
    times: jax.Array | None


class _Carry(NamedTuple):
    """What the sweep carries: the saved time that is next (None where there is one only), the
    cotangent of the state, and the sums of the gradients to weights and times."""

    j: jax.Array | None
    cotangent: jax.Array
    weights: Any
    times: jax.Array | None


#: ``(i, y, carry) -> carry``: take the cotangents back over step i, which begins at state y.
_StepBack = Callable[[jax.Array, jax.Array, _Carry], _Carry]


def reverse_sweep(
    tableau: Tableau,
    apply: Apply,
    prepared: Any,
    trajectory: SavedTrajectory,
    policy: CheckpointPolicy,
    ends: jax.Array,
    cotangents: jax.Array,
    *,
    wrt_times: bool = True,
    through_stages: bool = False,
    batch_width: int = 0,
    recompute_apply: Apply | None = None,
) -> Gradient:
    """Take the cotangents of the states at the saved times back to weights, y0 and times.

    Args:
        tableau: the method of the steps.
        apply: the right-hand side, ``(prepared, t, y) -> dy``.
        prepared: its weights.
        trajectory, policy: the saved steps, and what was saved of them.
        ends: steps up to each saved time, ``(n,)``; steps end there.
        cotangents: of the states there, ``(n, *y.shape)``.
        wrt_times: whether gradients to the times are wanted. The steps keep their lengths, but for
            the last one before each saved time, which ends there.
        through_stages: take explicit steps back by the transposed tableau.
        batch_width: as for `vjp_in_batches`, without `through_stages`.
        recompute_apply: what dropped states are recomputed with; `apply` unless given.
    """
    rhs = RHS(apply, prepared, save_residuals=trajectory.residuals is not None)
    (n,) = ends.shape

    def vjp_step(i: jax.Array, y: jax.Array, cotangent: jax.Array) -> StepVJP:
        t, dt = trajectory.t[i], trajectory.dt[i]
        if through_stages:
            return vjp_from_stages(
                tableau, _stages(tableau, rhs, trajectory, i, y), t, dt, cotangent
            )
        return vjp_of_step(
            tableau, apply, prepared, t, dt, y, cotangent,
            wrt_times=wrt_times, batch_width=batch_width,
        )  # fmt: skip

    def step_back(i: jax.Array, y: jax.Array, carry: _Carry) -> _Carry:
        j, cotangent, total, to_times = carry
        # Step i belongs to saved time j; its end is that time where it is the last such step.
        last = i + 1 == (ends[0] if j is None else ends[j])
        if j is not None:
            cotangent = jnp.where(last, cotangent + cotangents[j], cotangent)
        step = vjp_step(i, y, cotangent)
        if to_times is not None:
            # All steps of a segment begin later if it does; its last one is that much shorter.
            stretch = jnp.where(last, step.dt, 0.0)
            at = 0 if j is None else j
            to_times = to_times.at[at].add(step.t - stretch).at[at + 1].add(stretch)
        if j is not None:
            first = (j > 0) & (i == ends[jnp.maximum(j - 1, 0)])
            j = jnp.where(first, j - 1, j)
        return _Carry(j, step.y, jax.tree.map(jnp.add, total, step.weights), to_times)

    start = _Carry(
        None if n == 1 else jnp.int32(n - 1),
        cotangents[0] if n == 1 else jnp.zeros_like(cotangents[0]),
        jax.tree.map(jnp.zeros_like, prepared),
        jnp.zeros(n + 1, cotangents.dtype) if wrt_times else None,
    )
    advance = _advance(tableau, recompute_apply or apply, prepared, trajectory)
    end = _sweep(step_back, advance, trajectory, policy, ends[-1], start)
    return Gradient(end.weights, end.cotangent, end.times)


def reverse_sweep_dense(
    method: DenseMethod,
    apply: Apply,
    prepared: Any,
    trajectory: SavedTrajectory,
    policy: CheckpointPolicy,
    times: jax.Array,
    ends: jax.Array,
    cotangents: jax.Array,
) -> Gradient:
    """Take the cotangents of interpolated states back; the arguments are those of `reverse_sweep`.

    The steps keep their lengths, and all shift with t0.
    """
    table = method.tableau
    rhs = RHS(apply, prepared, save_residuals=trajectory.residuals is not None)

    def step_back(i: jax.Array, y: jax.Array, carry: _Carry) -> _Carry:
        j, cotangent, total, to_times = carry
        assert j is not None
        assert to_times is not None
        t, dt = trajectory.t[i], trajectory.dt[i]
        stages = _stages(table, rhs, trajectory, i, y)

        def with_outputs() -> Any:
            """Return the cotangents that outputs within this step give its stages and ends."""
            if trajectory.residuals is None:
                end = y + dt * weighted(table.b[:-1], stages.ks)
                last, vjp = jax.vjp(apply, prepared, t + dt, end)
            else:
                last, left = trajectory.stage(i + 1, 0)
                vjp = rhs.vjp(t, y, left)
            ks = [*stages.ks, last]

            def within(carry: Any) -> Any:
                j = carry[0]
                return (j >= 0) & (ends[jnp.maximum(j, 0)] == i + 1)

            def add(carry: Any) -> Any:
                j, to_start, to_stages, to_times = carry
                x, seen = (times[j + 1] - t) / dt, cotangents[j]
                to_stages = [
                    given if share is None else given + share * seen
                    for given, share in zip(to_stages, method.weights(x), strict=True)
                ]
                to_t = jnp.sum(seen * weighted(method.slopes(x), ks))
                to_times = to_times.at[j + 1].add(to_t).at[0].add(-to_t)
                return j - 1, to_start + seen, to_stages, to_times

            begin = (j, jnp.zeros_like(y), [jnp.zeros_like(y)] * table.stages, to_times)
            after, to_start, to_stages, to_each = jax.lax.while_loop(within, add, begin)
            to_weights, to_t, to_end = vjp(dt * to_stages.pop())
            return (
                after, cotangent + to_end, to_weights, to_start, to_stages, to_each.at[0].add(to_t)
            )  # fmt: skip

        def without() -> Any:
            nothing = jnp.zeros_like(y)
            to_stages = [nothing] * (table.stages - 1)
            no_weights = jax.tree.map(jnp.zeros_like, prepared)
            return j, cotangent, no_weights, nothing, to_stages, to_times

        j, cotangent, from_end, to_start, to_stages, times_so_far = jax.lax.cond(
            i + 1 == ends[j], with_outputs, without
        )
        step = vjp_from_stages(table, stages, t, dt, cotangent, to_stages)
        total = jax.tree.map(lambda *each: sum(each), total, step.weights, from_end)
        return _Carry(j, step.y + to_start, total, times_so_far.at[0].add(step.t))

    start = _Carry(
        jnp.int32(ends.shape[0] - 1),
        jnp.zeros_like(cotangents[0]),
        jax.tree.map(jnp.zeros_like, prepared),
        jnp.zeros_like(times),
    )
    advance = _advance(table, apply, prepared, trajectory)
    end = _sweep(step_back, advance, trajectory, policy, ends[-1], start)
    return Gradient(end.weights, end.cotangent, end.times)


def _sweep(
    step_back: _StepBack,
    advance: Callable[[jax.Array, jax.Array], jax.Array],
    trajectory: SavedTrajectory,
    policy: CheckpointPolicy,
    steps: jax.Array,
    start: _Carry,
) -> _Carry:
    """Run `step_back` over all steps, the last one first; dropped states are recomputed."""
    if policy.stride == 1:
        return _back_over(step_back, trajectory.y, 0, steps, start)
    stride = policy.stride

    def block(carry: tuple[jax.Array, _Carry]) -> tuple[jax.Array, _Carry]:
        """Recompute the states from a checkpoint on, and go back over their steps."""
        first, carried = carry
        last = jnp.minimum(first + stride, steps)
        checkpoint = trajectory.y[first // stride]
        states = jnp.zeros((stride, *checkpoint.shape), checkpoint.dtype)

        def again(i: jax.Array, carry: Any) -> Any:
            y, states = carry
            y = advance(i - 1, y)
            return y, states.at[i - first].set(y)

        begin = (checkpoint, states.at[0].set(checkpoint))
        _, states = jax.lax.fori_loop(first + 1, last, again, begin)
        return first - stride, _back_over(step_back, states, first, last, carried)

    newest = (steps - 1) // stride * stride
    _, carried = jax.lax.while_loop(lambda carry: carry[0] >= 0, block, (newest, start))
    return carried


def _back_over(
    step_back: _StepBack, states: jax.Array, first: Any, last: Any, start: _Carry
) -> _Carry:
    """Run `step_back` over steps `last - 1` to `first`, which begin at `states`."""

    def body(carry: tuple[jax.Array, _Carry]) -> tuple[jax.Array, _Carry]:
        i, carried = carry
        return i - 1, step_back(i, states[i - first], carried)

    _, carried = jax.lax.while_loop(lambda carry: carry[0] >= first, body, (last - 1, start))
    return carried


def _advance(
    tableau: Tableau, apply: Apply, prepared: Any, trajectory: SavedTrajectory
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def advance(i: jax.Array, y: jax.Array) -> jax.Array:
        t, dt = trajectory.t[i], trajectory.dt[i]
        return rk_step_static(tableau, RHS(apply, prepared), t, dt, y, with_error=False).y

    return advance


def _stages(
    tableau: Tableau, rhs: RHS, trajectory: SavedTrajectory, i: jax.Array, y: jax.Array
) -> StageVJPs:
    """Return the stages of step i: restored if their residuals were saved, else recomputed."""
    if trajectory.residuals is None:
        return recompute_stages(tableau, rhs, trajectory.t[i], trajectory.dt[i], y)
    saved = [trajectory.stage(i, stage) for stage in range(stages_for_solution(tableau))]
    return restore_stages(tableau, rhs, trajectory.t[i], y, saved)
