"""The forward loop: fixed steps, or steps adapted by the rules of `pynode_jl.solvers`.

The number of steps is data: a `while_loop` runs as many as the step size or the tolerances ask for,
and changing them never recompiles. Between two save times lies a segment; the segments share one
budget of steps, the controller's memory, and one saved trajectory, through which `reverse.py` takes
the derivative (discretise-then-optimise; the step sizes that a controller chose are constants).
This is hand written where diffrax has `RecursiveCheckpointAdjoint`: for small fields the plain
recording is several times faster (see benchmarks/), and it is exact in the same sense.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.jax.numerics.rhs import RHS, StepCounts, rounding
from pynode_jl.backends.jax.numerics.rk_step import (
    PaddedTableau,
    StepResult,
    rk_step_padded,
    rk_step_static,
    weighted,
)
from pynode_jl.backends.jax.numerics.trajectory import (
    SAVE_NOTHING,
    CheckpointPolicy,
    SavedTrajectory,
)
from pynode_jl.solvers import (
    Attempt,
    Controller,
    ControlMemory,
    DenseMethod,
    ErrorRule,
    Tableau,
    error_scale,
    initial_step,
    reaches_stop,
    rms,
    scaled_error,
    updated_memory,
)

CODES = tuple(RetCode)
_SUCCESS, _MAX_ITERS, _DT_MIN, _UNSTABLE, _NEWTON = range(len(CODES))


class FixedControl(NamedTuple):
    """n steps of dt, the last one of dt_last; signed."""

    n: Any
    dt: Any
    dt_last: Any


class AdaptiveControl(NamedTuple):
    """Tolerances and a controller's numbers (`pynode_jl.solvers.Controller`), as data."""

    rtol: Any
    atol: Any
    order: Any
    beta1: Any
    beta2: Any
    gamma: Any
    qmin: Any
    qmax: Any
    qmax_first_step: Any
    qsteady_min: Any
    qsteady_max: Any
    qoldinit: Any

    @classmethod
    def of(cls, controller: Controller, order: int, rtol: float, atol: float) -> AdaptiveControl:
        """Return the traced numbers of an adaptive solve."""
        numbers = (getattr(controller, name) for name in cls._fields[3:])
        return cls(rtol, atol, float(order), *numbers)


Control: TypeAlias = FixedControl | AdaptiveControl


class SolveCounts(NamedTuple):
    """Counts of a solve and its return code, an index into `CODES`."""

    nf: jax.Array
    njac: jax.Array
    naccept: jax.Array
    nreject: jax.Array
    code: jax.Array


class Stepper(NamedTuple):
    """A step of some tableau and what the loop around it must know.

    `step(t, dt, y, k_first)` takes the first stage where it is known already. `explicit_first`: the
    first stage is f(t, y), so that it is. `fsal`: the last stage is the next step's first.
    """

    step: Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], StepResult]
    explicit_first: bool
    fsal: Any
    error_rule: ErrorRule

    @classmethod
    def static(cls, tableau: Tableau, rhs: RHS, *, with_error: bool) -> Stepper:
        """Step by a tableau written out, for gradients."""
        step = partial(rk_step_static, tableau, rhs, with_error=with_error)
        return cls(step, tableau.explicit_first, tableau.fsal, tableau.error_rule)

    @classmethod
    def padded(
        cls,
        tableau: PaddedTableau,
        rhs: RHS,
        *,
        implicit: bool,
        explicit_first: bool,
        fsal: Any,
        error_rule: ErrorRule,
    ) -> Stepper:
        """Step by a tableau that is data."""
        step = partial(rk_step_padded, tableau, rhs, implicit=implicit)
        return cls(step, explicit_first, fsal, error_rule)


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
    residuals: Any = None,
    dense: DenseMethod | None = None,
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
        residuals: space for the stages' residuals (`SavedTrajectory`), where they are to be saved.
        dense: an adaptive solve of this explicit FSAL method steps over the saved times, until it
            has passed the last, and interpolates there.
    """
    trajectory = SavedTrajectory.empty(policy, y0, residuals)
    zero = jnp.int32(0)
    memory = ControlMemory(jnp.zeros((), y0.dtype), jnp.zeros((), y0.dtype), jnp.bool_(False))
    segment = partial(_segment, rhs, stepper, policy)
    if dense is not None:
        (control,) = _rows(controls, 1)
        targets = _DenseTargets(times[1:], dense)
        end = segment(
            control, times[0], times[-1], y0, memory, max_steps, trajectory, zero, targets
        )
        assert end.outputs is not None
        states, ends = end.outputs.states, end.outputs.ends
        return Solved(times[1:], states, ends, end.counts, end.trajectory)
    if times.shape[0] == 2:
        (control,) = _rows(controls, 1)
        end = segment(control, times[0], times[1], y0, memory, max_steps, trajectory, zero)
        naccept = end.counts.naccept
        return Solved(end.t[None], end.y[None], naccept[None], end.counts, end.trajectory)

    def next_segment(carry: Any, inputs: Any) -> Any:
        y, memory, counts, trajectory = carry
        control, start, stop = inputs
        # Once a segment has failed the rest is not solved: an empty interval, no steps.
        failed = counts.code != _SUCCESS
        stop = jnp.where(failed, start, stop)
        if isinstance(control, FixedControl):
            control = control._replace(n=jnp.where(failed, 0, control.n))
        left = max_steps - counts.naccept - counts.nreject
        end = segment(control, start, stop, y, memory, left, trajectory, counts.naccept)
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


class _DenseTargets(NamedTuple):
    """Times to interpolate at, the steps going over them, and the method that does."""

    times: jax.Array
    method: DenseMethod


class _DenseOutputs(NamedTuple):
    """The states at the target times, the number of steps up to the end of the one that each lies
    in, and how many have been met."""

    states: jax.Array
    ends: jax.Array
    met: jax.Array


class _SegmentEnd(NamedTuple):
    """Where a segment ended: time and state, what the controller remembers, counts, the saved
    steps, and what was interpolated (None where nothing was to be)."""

    t: jax.Array
    y: jax.Array
    memory: ControlMemory
    counts: SolveCounts
    trajectory: SavedTrajectory
    outputs: _DenseOutputs | None = None


def _segment(
    rhs: RHS,
    stepper: Stepper,
    policy: CheckpointPolicy,
    control: Control,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    trajectory: SavedTrajectory,
    begin: jax.Array,
    dense: _DenseTargets | None = None,
) -> _SegmentEnd:
    """Integrate from t0 to t1 in at most `max_steps` tries; `begin` steps are saved already."""
    if isinstance(control, FixedControl):
        return _fixed(stepper, policy, control, t0, t1, y0, memory, max_steps, trajectory, begin)
    return _adaptive(
        rhs, stepper, policy, control, t0, t1, y0, memory, max_steps, trajectory, begin, dense
    )


def _fixed(
    stepper: Stepper,
    policy: CheckpointPolicy,
    control: FixedControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    trajectory: SavedTrajectory,
    begin: jax.Array,
) -> _SegmentEnd:
    n, dt, dt_last = control
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
    y, counts, trajectory = jax.lax.fori_loop(0, n, body, (y0, start, trajectory))
    code = _first_of(
        (control.n > max_steps, _MAX_ITERS),
        (~jnp.all(jnp.isfinite(y)), _UNSTABLE),
        (~counts.converged, _NEWTON),
    )
    reached = jnp.where(n == control.n, t1, t0 + n * dt)
    total = SolveCounts(counts.nf, counts.njac, n, jnp.int32(0), code)
    return _SegmentEnd(reached, y, memory, total, trajectory)


def _first_of(*cases: tuple[jax.Array, int]) -> jax.Array:
    """Return the code of the first case that holds.

    (`jnp.select` makes a search of it, at every step.)
    """
    code: jax.Array = jnp.int32(_SUCCESS)
    for holds, value in reversed(cases):
        code = jnp.where(holds, jnp.int32(value), code)
    return code


class _Loop(NamedTuple):
    t: jax.Array
    y: jax.Array
    k_first: jax.Array  # f(t, y) where `k_known`
    k_known: jax.Array
    memory: ControlMemory
    counts: SolveCounts
    trajectory: SavedTrajectory
    outputs: _DenseOutputs | None
    finished: jax.Array


def _adaptive(
    rhs: RHS,
    stepper: Stepper,
    policy: CheckpointPolicy,
    control: AdaptiveControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    trajectory: SavedTrajectory,
    begin: jax.Array,
    dense: _DenseTargets | None,
) -> _SegmentEnd:
    direction = jnp.sign(t1 - t0)
    eps = rounding(y0)

    # Where the last stage always is the next step's first, f is taken once, before the loop.
    ahead = stepper.explicit_first and stepper.fsal is True
    f0 = jnp.zeros_like(y0)
    if ahead:
        f0, left = rhs.evaluate(t0, y0)
        if trajectory.residuals is not None:
            trajectory = trajectory.write_stage((f0, left), begin, 0)
    memory, nf0 = _ready(rhs, control, t0, t1, y0, f0, memory, beyond=dense is not None)
    zero = jnp.int32(0)
    counts = SolveCounts(nf0 + ahead, zero, zero, zero, jnp.int32(_SUCCESS))

    def step(t: jax.Array, dt: jax.Array, loop: _Loop) -> tuple[StepResult, jax.Array, jax.Array]:
        """Make a step; return it, f(t, y) and the evaluations."""
        y, k_first = loop.y, loop.k_first
        if not stepper.explicit_first:
            result = stepper.step(t, dt, y, None)
            return result, k_first, result.counts.nf
        if not ahead:
            k_first = jax.lax.cond(loop.k_known, lambda: k_first, lambda: rhs(t, y))
        result = stepper.step(t, dt, y, k_first)
        nf = result.counts.nf
        return result, k_first, nf if ahead else nf + ~loop.k_known

    def body(loop: _Loop) -> _Loop:
        t, y, memory, counts, outputs = loop.t, loop.y, loop.memory, loop.counts, loop.outputs
        if dense is None:
            reaches = reaches_stop(jnp, t, memory.dt, t1, eps)
            h = jnp.where(reaches, t1 - t, memory.dt)
        else:
            reaches, h = jnp.bool_(False), memory.dt
        result, k_first, nf = step(t, h, loop)
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

        # Below this a step is lost in the rounding of the time.
        least = 4 * eps * jnp.maximum(jnp.abs(t), jnp.abs(t1 - t0))
        too_small = ~accept & (jnp.abs(memory.dt) <= least)
        naccept, nreject = counts.naccept + accept, counts.nreject + ~accept
        finished = accept & reaches
        if dense is not None:
            assert outputs is not None
            outputs = _interpolated(dense, outputs, accept, naccept, direction, t, h, y, result)
            finished = outputs.met == dense.times.shape[0]
        exhausted = ~finished & (naccept + nreject >= max_steps)
        code = _first_of(
            (too_small & ~jnp.isfinite(error), _UNSTABLE),
            (too_small & ~converged, _NEWTON),
            (too_small, _DT_MIN),
            (exhausted, _MAX_ITERS),
        )
        # A rejected step writes too: the next one, from the same place, writes over it.
        trajectory = loop.trajectory.write(policy, begin + counts.naccept, t, h, y, result)
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
            finished | (code != _SUCCESS),
        )

    outputs = None if dense is None else _no_outputs(dense, y0)
    start = _Loop(
        t0, y0, f0, jnp.bool_(ahead), memory, counts, trajectory, outputs, t0 == t1
    )  # fmt: skip
    end = jax.lax.while_loop(lambda loop: ~loop.finished, body, start)
    return _SegmentEnd(end.t, end.y, end.memory, end.counts, end.trajectory, end.outputs)


def _ready(
    rhs: RHS,
    control: AdaptiveControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    f0: jax.Array,
    memory: ControlMemory,
    *,
    beyond: bool,
) -> tuple[ControlMemory, jax.Array]:
    """Return the memory with a step to try, and the evaluations that choosing it took.

    `beyond`: steps may go beyond t1, and `f0` is f(t0, y0), which Julia takes once more.
    """

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


def _no_outputs(dense: _DenseTargets, y0: jax.Array) -> _DenseOutputs:
    (n,) = dense.times.shape
    return _DenseOutputs(jnp.zeros((n, *y0.shape), y0.dtype), jnp.zeros(n, jnp.int32), jnp.int32(0))


def _interpolated(
    dense: _DenseTargets,
    outputs: _DenseOutputs,
    accept: jax.Array,
    naccept: jax.Array,
    direction: jax.Array,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    step: StepResult,
) -> _DenseOutputs:
    """Add the states at the times that an accepted step has passed."""

    def passed(outputs: _DenseOutputs) -> jax.Array:
        time = dense.times.at[outputs.met].get(mode="clip")
        waiting = outputs.met < dense.times.shape[0]
        return accept & waiting & (direction * (time - (t + dt)) <= 0)

    def add(outputs: _DenseOutputs) -> _DenseOutputs:
        j = outputs.met
        weights = dense.method.weights((dense.times[j] - t) / dt)
        state = y + dt * weighted(weights, step.stages)
        return _DenseOutputs(
            outputs.states.at[j].set(state), outputs.ends.at[j].set(naccept), j + 1
        )

    found: _DenseOutputs = jax.lax.while_loop(passed, add, outputs)
    return found
