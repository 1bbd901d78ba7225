"""A segment whose steps are adapted, by the rules of `pynode_jl.solvers`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax.numerics.rhs import RHS, rounding
from pynode_jl.backends.jax.numerics.rk_step import StepResult, weighted
from pynode_jl.backends.jax.numerics.segment import (
    DT_MIN,
    MAX_ITERS,
    NEWTON,
    SUCCESS,
    UNSTABLE,
    AdaptiveControl,
    DenseOutputs,
    DenseTargets,
    Segment,
    SegmentEnd,
    SolveCounts,
    Stepper,
    first_of,
)
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy, SavedTrajectory
from pynode_jl.solvers import (
    Attempt,
    ControlMemory,
    error_scale,
    initial_step,
    lost_step,
    reaches_stop,
    rms,
    scaled_error,
    updated_memory,
)


class _Loop(NamedTuple):
    t: jax.Array
    y: jax.Array
    k_first: jax.Array  # f(t, y) where `k_known`
    k_known: jax.Array
    memory: ControlMemory
    counts: SolveCounts
    trajectory: SavedTrajectory
    outputs: DenseOutputs | None
    finished: jax.Array


def integrate_adaptively(
    rhs: RHS,
    stepper: Stepper,
    policy: CheckpointPolicy,
    control: AdaptiveControl,
    segment: Segment,
    dense: DenseTargets | None,
) -> SegmentEnd:
    """Integrate a segment; with `dense`, step beyond its end and interpolate at the targets."""
    t0, t1, y0, trajectory = segment.t0, segment.t1, segment.y0, segment.trajectory
    # Where the last stage always is the next step's first, f is taken once, before the loop.
    ahead = stepper.explicit_first and stepper.fsal is True
    f0 = jnp.zeros_like(y0)
    if ahead:
        f0, left = rhs.evaluate(t0, y0)
        if trajectory.residuals is not None:
            trajectory = trajectory.write_stage((f0, left), segment.begin, 0)
    memory, nf0 = _ready(rhs, control, segment, f0, beyond=dense is not None)
    zero = jnp.int32(0)
    counts = SolveCounts(nf0 + ahead, zero, zero, zero, jnp.int32(SUCCESS))

    def body(loop: _Loop) -> _Loop:
        t, y, memory, counts, outputs = loop.t, loop.y, loop.memory, loop.counts, loop.outputs
        if dense is None:
            reaches = reaches_stop(jnp, t, memory.dt, t1, rounding(y0))
            h = jnp.where(reaches, t1 - t, jax.lax.stop_gradient(memory.dt))
        else:
            reaches, h = jnp.bool_(False), jax.lax.stop_gradient(memory.dt)
        result, k_first, nf = _try_step(rhs, stepper, ahead, loop, h)
        scale = error_scale(jnp, control.rtol, control.atol, y, result.y)
        error = scaled_error(
            jnp, stepper.error_rule, result.errors, lambda each: rms(jnp, each / scale)
        )
        converged = result.counts.converged
        usable = jnp.isfinite(error) & converged
        accept = usable & (error <= 1)
        attempt = Attempt(h, reaches, error, usable, accept)
        memory = updated_memory(jnp, control, memory, attempt)
        memory = memory._replace(dt=memory.dt.astype(y.dtype))

        too_small = ~accept & (jnp.abs(memory.dt) <= lost_step(jnp, t, t1 - t0, rounding(y0)))
        naccept, nreject = counts.naccept + accept, counts.nreject + ~accept
        finished = accept & reaches
        if dense is not None:
            assert outputs is not None
            outputs = _interpolated(
                dense, outputs, accept, naccept, jnp.sign(t1 - t0), t, h, y, result
            )
            finished = outputs.met == dense.times.shape[0]
        exhausted = ~finished & (naccept + nreject >= segment.max_steps)
        code = first_of(
            (too_small & ~jnp.isfinite(error), UNSTABLE),
            (too_small & ~converged, NEWTON),
            (too_small, DT_MIN),
            (exhausted, MAX_ITERS),
        )
        # A rejected step writes too: the next one, from the same place, writes over it.
        trajectory = loop.trajectory.write(policy, segment.begin + counts.naccept, t, h, y, result)
        njac = counts.njac + result.counts.njac
        return _Loop(
            jnp.where(accept, jnp.where(reaches, t1, t + h), t),
            jnp.where(accept, result.y, y),
            jnp.where(accept, result.k_last, k_first),
            ~accept | stepper.fsal,
            memory,
            SolveCounts(counts.nf + nf, njac, naccept, nreject, code),
            trajectory,
            outputs,
            finished | (code != SUCCESS),
        )

    outputs = None if dense is None else _no_outputs(dense, y0)
    start = _Loop(
        t0, y0, f0, jnp.bool_(ahead), memory, counts, trajectory, outputs, t0 == t1
    )  # fmt: skip
    end = jax.lax.while_loop(lambda loop: ~loop.finished, body, start)
    return SegmentEnd(end.t, end.y, end.memory, end.counts, end.trajectory, end.outputs)


def _try_step(
    rhs: RHS, stepper: Stepper, ahead: bool, loop: _Loop, dt: jax.Array
) -> tuple[StepResult, jax.Array, jax.Array]:
    """Make a step; return it, f(t, y) and the evaluations."""
    t, y, k_first = loop.t, loop.y, loop.k_first
    if not stepper.explicit_first:
        result = stepper.step(t, dt, y, None)
        return result, k_first, result.counts.nf
    if not ahead:
        k_first = jax.lax.cond(loop.k_known, lambda: k_first, lambda: rhs(t, y))
    result = stepper.step(t, dt, y, k_first)
    nf = result.counts.nf
    return result, k_first, nf if ahead else nf + ~loop.k_known


def _ready(
    rhs: RHS,
    control: AdaptiveControl,
    segment: Segment,
    f0: jax.Array,
    *,
    beyond: bool,
) -> tuple[ControlMemory, jax.Array]:
    """Return the memory with a step to try, and the evaluations that choosing it took.

    `beyond`: steps may go beyond t1, and `f0` is f(t0, y0), which Julia takes once more.
    """

    t0, t1, y0, memory = segment.t0, segment.t1, segment.y0, segment.memory

    def first_step() -> tuple[jax.Array, jax.Array]:
        slope = f0 if beyond else rhs(t0, y0)
        span, direction = jnp.abs(t1 - t0), jnp.sign(t1 - t0)
        scale = error_scale(jnp, control.rtol, control.atol, y0)

        def slope_change(size: jax.Array) -> jax.Array:
            f1 = rhs(t0 + direction * size, y0 + direction * size * slope)
            change: jax.Array = rms(jnp, (f1 - slope) / scale)
            return change

        size = initial_step(
            jnp,
            rms(jnp, y0 / scale),
            rms(jnp, slope / scale),
            slope_change,
            order=control.order,
            smallest=rounding(y0) * jnp.maximum(jnp.abs(t0), span),
            longest=jnp.asarray(jnp.inf, y0.dtype) if beyond else span,
        )
        return direction * size.astype(y0.dtype), jnp.int32(1 if beyond else 2)

    def next_step() -> tuple[jax.Array, jax.Array]:
        return memory.dt, jnp.int32(0)

    dt, nf = jax.lax.cond(memory.dt == 0, first_step, next_step)
    error = jnp.where(memory.started, memory.error, control.qoldinit)
    return ControlMemory(dt, error, memory.started), nf


def _no_outputs(dense: DenseTargets, y0: jax.Array) -> DenseOutputs:
    (n,) = dense.times.shape
    return DenseOutputs(jnp.zeros((n, *y0.shape), y0.dtype), jnp.zeros(n, jnp.int32), jnp.int32(0))


def _interpolated(
    dense: DenseTargets,
    outputs: DenseOutputs,
    accept: jax.Array,
    naccept: jax.Array,
    direction: jax.Array,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    step: StepResult,
) -> DenseOutputs:
    """Add the states at the times that an accepted step has passed."""

    def passed(outputs: DenseOutputs) -> jax.Array:
        time = dense.times.at[outputs.met].get(mode="clip")
        waiting = outputs.met < dense.times.shape[0]
        return accept & waiting & (direction * (time - (t + dt)) <= 0)

    def add(outputs: DenseOutputs) -> DenseOutputs:
        j = outputs.met
        weights = dense.method.weights((dense.times[j] - t) / dt)
        state = y + dt * weighted(weights, step.stages)
        return DenseOutputs(outputs.states.at[j].set(state), outputs.ends.at[j].set(naccept), j + 1)

    found: DenseOutputs = jax.lax.while_loop(passed, add, outputs)
    return found
