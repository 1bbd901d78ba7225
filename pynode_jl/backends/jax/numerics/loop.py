"""The forward loop: fixed steps, or steps adapted by the rules of `pynode_jl.solvers`.

The number of steps is data: a `while_loop` runs as many as the step size or the tolerances ask for,
and changing them never recompiles. Between two save times lies a segment; the segments share one
budget of steps, the controller's memory, and one saved trajectory, through which `reverse.py` takes
the derivative (discretise-then-optimise; the step sizes that a controller chose are constants).
This is hand written where diffrax has `RecursiveCheckpointAdjoint`: for small fields the plain
recording is several times faster (see benchmarks/), and it is exact in the same sense.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax.numerics.adaptive import integrate_adaptively
from pynode_jl.backends.jax.numerics.rhs import RHS, StepCounts
from pynode_jl.backends.jax.numerics.segment import (
    MAX_ITERS,
    NEWTON,
    SUCCESS,
    UNSTABLE,
    Control,
    DenseTargets,
    FixedControl,
    Segment,
    SegmentEnd,
    SolveCounts,
    Stepper,
    first_of,
)
from pynode_jl.backends.jax.numerics.trajectory import (
    SAVE_NOTHING,
    CheckpointPolicy,
    SavedTrajectory,
)
from pynode_jl.solvers import ControlMemory, DenseMethod


class Solved(NamedTuple):
    """What `integrate` gives.

    Attributes:
        times: where each segment ended, ``(n,)``; short of its save time where the solve failed.
        states: the states there, ``(n, *y.shape)``.
        ends: accepted steps up to each save time, ``(n,)``.
        counts: of the whole solve.
        trajectory: the saved steps.
    """

    times: jax.Array
    states: jax.Array
    ends: jax.Array
    counts: SolveCounts
    trajectory: SavedTrajectory


def integrate(
    rhs: RHS,
    stepper: Stepper,
    controls: Control,
    times: jax.Array,
    y0: jax.Array,
    max_steps: jax.Array,
    *,
    policy: CheckpointPolicy = SAVE_NOTHING,
    trajectory: SavedTrajectory | None = None,
    dense: DenseMethod | None = None,
    past_failures: bool = False,
) -> Solved:
    """Integrate over `times`, in at most `max_steps` tries in all.

    Args:
        rhs: the right-hand side.
        stepper: how it steps.
        controls: one row for each segment.
        times: ``(t0, *saved)``, (n + 1,).
        y0: the state at t0.
        max_steps: the budget of steps of the whole solve.
        policy: what is saved of the steps.
        trajectory: where they are saved, its former content written over; default a new one.
        dense: an adaptive solve of this explicit FSAL method steps over the saved times, until it
            has passed the last, and interpolates there.
        past_failures: fixed steps go on to the last save time, whatever the state: their number
            then does not depend on it, and the solve vectorises. The code is the first failure's.
    """
    trajectory = trajectory or SavedTrajectory.empty(policy, y0)
    zero = jnp.int32(0)
    memory = ControlMemory(jnp.zeros((), y0.dtype), jnp.zeros((), y0.dtype), jnp.bool_(False))

    def solved(control: Control, segment: Segment, dense: DenseTargets | None) -> SegmentEnd:
        if isinstance(control, FixedControl):
            return _integrate_at_fixed_steps(stepper, policy, control, segment)
        return integrate_adaptively(rhs, stepper, policy, control, segment, dense)

    if dense is not None:
        (control,) = _rows(controls, 1)
        whole = Segment(times[0], times[-1], y0, memory, max_steps, trajectory, zero)
        end = solved(control, whole, DenseTargets(times[1:], dense))
        assert end.outputs is not None
        states, ends = end.outputs.states, end.outputs.ends
        return Solved(times[1:], states, ends, end.counts, end.trajectory)
    if times.shape[0] == 2:
        (control,) = _rows(controls, 1)
        whole = Segment(times[0], times[1], y0, memory, max_steps, trajectory, zero)
        end = solved(control, whole, None)
        naccept = end.counts.naccept
        return Solved(end.t[None], end.y[None], naccept[None], end.counts, end.trajectory)

    def next_segment(carry: Any, inputs: Any) -> Any:
        y, memory, counts, trajectory = carry
        control, start, stop = inputs
        # Once a segment has failed the rest is not solved: an empty interval, no steps.
        failed = counts.code != SUCCESS
        stop = jnp.where(failed, start, stop)
        if isinstance(control, FixedControl) and not past_failures:
            control = control._replace(n=jnp.where(failed, 0, control.n))
        left = max_steps - counts.naccept - counts.nreject
        segment = Segment(start, stop, y, memory, left, trajectory, counts.naccept)
        end = solved(control, segment, None)
        code = jnp.where(failed, counts.code, end.counts.code)
        total = SolveCounts(*map(jnp.add, counts, end.counts))._replace(code=code)
        return (end.y, end.memory, total, end.trajectory), (end.t, end.y, total.naccept)

    begin = (y0, memory, SolveCounts(*[zero] * 5), trajectory)
    (_, _, counts, trajectory), (reached, states, ends) = jax.lax.scan(
        next_segment, begin, (controls, times[:-1], times[1:])
    )
    return Solved(reached, states, ends, counts, trajectory)


def _rows(controls: Any, n: int) -> list[Any]:
    return [jax.tree.map(lambda each, i=i: each[i], controls) for i in range(n)]


def _integrate_at_fixed_steps(
    stepper: Stepper, policy: CheckpointPolicy, control: FixedControl, segment: Segment
) -> SegmentEnd:
    n, dt, dt_last = control
    t0, begin, max_steps = segment.t0, segment.begin, segment.max_steps
    n = jnp.minimum(jnp.asarray(n, jnp.int32), max_steps)

    def body(
        i: jax.Array, carry: tuple[jax.Array, StepCounts, SavedTrajectory]
    ) -> tuple[jax.Array, StepCounts, SavedTrajectory]:
        y, counts, trajectory = carry
        # i * dt, not a running sum, whose rounding would grow with the number of steps.
        t = t0 + i * dt
        h = jnp.where(i == n - 1, dt_last, dt)
        result = stepper.step(t, h, y, None)
        counts = counts.plus(result.counts)
        return result.y, counts, trajectory.write(policy, begin + i, t, h, y, result)

    start = StepCounts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    y, counts, trajectory = jax.lax.fori_loop(0, n, body, (segment.y0, start, segment.trajectory))
    code = first_of(
        (control.n > max_steps, MAX_ITERS),
        (~jnp.all(jnp.isfinite(y)), UNSTABLE),
        (~counts.converged, NEWTON),
    )
    reached = jnp.where(n == control.n, segment.t1, t0 + n * dt)
    total = SolveCounts(counts.nf, counts.njac, n, jnp.int32(0), code)
    return SegmentEnd(reached, y, segment.memory, total, trajectory)
