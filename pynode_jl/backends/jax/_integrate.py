"""From steps to solves: fixed grids, Julia's step size control, and gradients through both.

The number of steps is data: a `while_loop` runs as many as the step size or the tolerances ask for,
and changing them never recompiles. Reverse mode cannot go through such a loop, so `differentiable`
records the accepted steps and walks them backwards, each step's derivative taken at its recorded
state (discretise-then-optimise; the step sizes that a controller chose are constants). Where states
are large only every s-th is kept (`Room`), and those between are solved again. This is hand written
where diffrax has `RecursiveCheckpointAdjoint`: for small fields the plain recording is
several times faster (see benchmarks/), and it is exact in the same sense.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.jax._pieces import pulled_in_pieces
from pynode_jl.backends.jax._step import (
    RHS,
    Counts,
    PaddedTableau,
    StepResult,
    looped,
    rounding,
    unrolled,
    weighted,
)
from pynode_jl.solvers import (
    Attempt,
    Controller,
    ControlMemory,
    DenseMethod,
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
    """Tolerances and Julia's controller (`pynode_jl.solvers.Controller`), as data."""

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


Control: TypeAlias = FixedControl | AdaptiveControl


class Tally(NamedTuple):
    """Counts of a solve and its return code, an index into `CODES`."""

    nf: jax.Array
    njac: jax.Array
    naccept: jax.Array
    nreject: jax.Array
    code: jax.Array


class Room(NamedTuple):
    """Room to record `steps` steps, with the state of each `every`-th.

    A gradient then holds ``steps / every + every`` states, and solves ``every - 1`` of each `every`
    steps once more: every = 1 is the fastest, every = sqrt(steps) the smallest.
    """

    steps: int
    every: int = 1

    @property
    def states(self) -> int:
        """States that are held at the same time."""
        return -(-self.steps // self.every) + (self.every if self.every > 1 else 0)


_NO_ROOM = Room(0)


def rounded_up(n: int) -> int:
    """The next power of two: rooms of few sizes are few compilations."""
    return 1 << (n - 1).bit_length()


class Record(NamedTuple):
    """The accepted steps of a solve: where each began and how long it was; see `Room` for `y`.

    `stages`, where they are kept, has the value of each stage of the solution and what its
    evaluation left behind, ``(steps + 1, stages, ...)``: an FSAL step's last one is the next one's
    first.
    """

    t: jax.Array
    dt: jax.Array
    y: jax.Array
    stages: Any = None


class Dense(NamedTuple):
    """Times to interpolate at, the steps going over them, and the method that does."""

    times: jax.Array
    method: DenseMethod


class Outputs(NamedTuple):
    """The states at `Dense.times`, ``(times, *y.shape)``, the number of steps up to the end of the
    one that each lies in, and how many have been met."""

    states: jax.Array
    ends: jax.Array
    met: jax.Array


class Outcome(NamedTuple):
    """Where a solve ended: time and state, what the controller remembers, counts, its steps, and
    what was interpolated (None where nothing was to be)."""

    t: jax.Array
    y: jax.Array
    memory: ControlMemory
    tally: Tally
    record: Record
    outputs: Outputs | None = None


class Method(NamedTuple):
    """A step of some tableau and what the loop around it must know.

    `step(t, dt, y, k_first)` takes the first stage where it is known already. `explicit_first`: the
    first stage is f(t, y), so that it is. `fsal`: the last stage is the next step's first.
    """

    step: Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], StepResult]
    explicit_first: bool
    fsal: Any
    error_rule: str


def adaptive_control(
    controller: Controller, order: int, rtol: float, atol: float
) -> AdaptiveControl:
    """The traced numbers of an adaptive solve."""
    return AdaptiveControl(
        rtol,
        atol,
        float(order),
        controller.beta1,
        controller.beta2,
        controller.gamma,
        controller.qmin,
        controller.qmax,
        controller.qmax_first_step,
        controller.qsteady_min,
        controller.qsteady_max,
        controller.qoldinit,
    )


def fresh_memory(dtype: Any) -> ControlMemory:
    """The controller's memory before the first step."""
    return ControlMemory(jnp.zeros((), dtype), jnp.zeros((), dtype), jnp.bool_(False))


def looped_method(
    tableau: PaddedTableau,
    rhs: RHS,
    *,
    implicit: bool,
    explicit_first: bool,
    fsal: Any,
    error_rule: str,
) -> Method:
    """A method with its tableau as data."""
    step = partial(looped, tableau, rhs, implicit=implicit)
    return Method(step, explicit_first, fsal, error_rule)


def unrolled_method(tableau: Tableau, rhs: RHS, *, with_error: bool) -> Method:
    """A method with its tableau written out, for gradients."""
    step = partial(unrolled, tableau, rhs, with_error=with_error)
    return Method(step, explicit_first(tableau), tableau.fsal, tableau.error_rule)


def explicit_first(tableau: Tableau) -> bool:
    """Whether the first stage is f(t, y)."""
    return bool(tableau.c[0] == 0.0 and tableau.a[0, 0] == 0.0)


def solve(
    rhs: RHS,
    method: Method,
    control: Control,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    *,
    room: Room = _NO_ROOM,
    record: Record | None = None,
    begin: Any = 0,
    dense: Dense | None = None,
) -> Outcome:
    """Integrate from (t0, y0) to t1 in at most `max_steps` tries; as many are recorded as `room`
    has room for, or those that fit are added to `record` from place `begin` on.

    With `dense` an adaptive solve of an explicit FSAL method does not end a step at t1, but goes on
    until it has passed the last of those times.
    """
    if record is None:
        record = fresh_record(room, y0)
    else:
        room = Room(record.t.shape[0])
    write = partial(_written, room, begin)
    if isinstance(control, FixedControl):
        return _fixed(method, control, t0, t1, y0, memory, max_steps, record, write)
    keep_first = partial(_keep, i=begin, stage=0)
    return _adaptive(
        rhs, method, control, t0, t1, y0, memory, max_steps, record, write, keep_first, dense
    )


_Write: TypeAlias = Callable[
    [Record, jax.Array, jax.Array, jax.Array, jax.Array, StepResult], Record
]


def fresh_record(room: Room, y0: jax.Array) -> Record:
    """A record with that room, and nothing in it."""
    # One place more, where states that are not to be kept go.
    kept = -(-room.steps // room.every) + (room.every > 1)
    return Record(
        jnp.zeros(room.steps, y0.dtype),
        jnp.zeros(room.steps, y0.dtype),
        jnp.zeros((kept, *y0.shape), y0.dtype),
    )


def _written(
    room: Room,
    begin: Any,
    record: Record,
    i: jax.Array,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    step: StepResult,
) -> Record:
    if room.steps == 0:
        return record
    place = i = begin + i
    if record.stages is not None:
        # The first stage of an FSAL step is another's last: it was known, and left nothing here.
        known = len(step.stages) - len(step.left)
        for stage, kept in enumerate(zip(step.stages[known:], step.left, strict=True), known):
            record = _keep(record, kept, i, stage)
    if room.every > 1:
        place = jnp.where(i % room.every == 0, i // room.every, record.y.shape[0] - 1)
    return record._replace(
        t=record.t.at[i].set(t), dt=record.dt.at[i].set(dt), y=record.y.at[place].set(y)
    )


def _keep(record: Record, kept: tuple[jax.Array, list[jax.Array]], i: Any, stage: int) -> Record:
    """`record` with a stage of step i; those past the last of the solution are the next step's."""
    size = record.stages[0].shape[1]
    place = (i + stage // size, stage % size)
    stages = jax.tree.map(lambda rows, x: rows.at[place].set(x), record.stages, kept)
    return record._replace(stages=stages)


def _fixed(
    method: Method,
    control: FixedControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    record: Record,
    write: _Write,
) -> Outcome:
    n, dt, dt_last = control
    n = jnp.minimum(jnp.asarray(n, jnp.int32), max_steps)

    def body(
        i: jax.Array, carry: tuple[jax.Array, Counts, Record]
    ) -> tuple[jax.Array, Counts, Record]:
        y, counts, record = carry
        # i * dt, not a running sum, whose rounding would grow with the number of steps.
        t = t0 + i * dt
        h = jnp.where(i == n - 1, dt_last, dt)
        result = method.step(t, h, y, None)
        new = result.counts
        counts = Counts(
            counts.nf + new.nf, counts.njac + new.njac, counts.converged & new.converged
        )
        return result.y, counts, write(record, i, t, h, y, result)

    start = Counts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    y, counts, record = jax.lax.fori_loop(0, n, body, (y0, start, record))
    code = _first_of(
        (control.n > max_steps, _MAX_ITERS),
        (~jnp.all(jnp.isfinite(y)), _UNSTABLE),
        (~counts.converged, _NEWTON),
    )
    tally = Tally(counts.nf, counts.njac, n, jnp.int32(0), code)
    reached = jnp.where(n == control.n, t1, t0 + n * dt)
    return Outcome(reached, y, memory, tally, record)


def _first_of(*cases: tuple[jax.Array, int]) -> jax.Array:
    """The code of the first case that holds. (`jnp.select` makes a search of it, at every step.)"""
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
    tally: Tally
    record: Record
    outputs: Outputs | None
    finished: jax.Array


def _adaptive(
    rhs: RHS,
    method: Method,
    control: AdaptiveControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    memory: ControlMemory,
    max_steps: jax.Array,
    record: Record,
    write: _Write,
    keep_first: Callable[[Record, tuple[jax.Array, list[jax.Array]]], Record],
    dense: Dense | None,
) -> Outcome:
    direction = jnp.sign(t1 - t0)
    eps = rounding(y0)
    longest = jnp.abs(t1 - t0) if dense is None else jnp.asarray(jnp.inf, y0.dtype)

    # Where the last stage always is the next step's first, f is taken once, before the loop.
    ahead = method.explicit_first and method.fsal is True
    f0 = jnp.zeros_like(y0)
    if ahead:
        f0, left = rhs.evaluate(t0, y0)
        if record.stages is not None:
            record = keep_first(record, (f0, left))

    def first_step() -> tuple[jax.Array, jax.Array]:
        # Julia takes f0 once more.
        slope = f0 if dense is not None else rhs(t0, y0)
        size = _initial_step(rhs, control, t0, t1, y0, slope, longest).astype(y0.dtype)
        return direction * size, jnp.int32(2 if dense is None else 1)

    def next_step() -> tuple[jax.Array, jax.Array]:
        return memory.dt, jnp.int32(0)

    dt0, nf0 = jax.lax.cond(memory.dt == 0, first_step, next_step)
    memory = ControlMemory(
        dt0, jnp.where(memory.started, memory.error, control.qoldinit), memory.started
    )
    zero = jnp.int32(0)
    tally = Tally(nf0 + ahead, zero, zero, zero, jnp.int32(_SUCCESS))

    def body(loop: _Loop) -> _Loop:
        t, y, k_first, k_known, memory, tally, record, outputs, _ = loop
        if dense is None:
            reaches = reaches_stop(jnp, t, memory.dt, t1, eps)
            h = jnp.where(reaches, t1 - t, memory.dt)
        else:
            reaches, h = jnp.bool_(False), memory.dt
        if ahead:
            result = method.step(t, h, y, k_first)
            nf = tally.nf + result.counts.nf
        elif method.explicit_first:
            k_first = jax.lax.cond(k_known, lambda: k_first, lambda: rhs(t, y))
            result = method.step(t, h, y, k_first)
            nf = tally.nf + result.counts.nf + ~k_known
        else:
            result = method.step(t, h, y, None)
            nf = tally.nf + result.counts.nf
        counts = result.counts
        scale = error_scale(jnp, control.rtol, control.atol, y, result.y)
        error = scaled_error(
            jnp, method.error_rule, result.errors, lambda each: rms(jnp, each / scale)
        )
        usable = jnp.isfinite(error) & counts.converged
        accept = usable & (error <= 1)
        attempt = Attempt(h, reaches, error, usable, accept)
        memory = updated_memory(jnp, control, memory, attempt)
        memory = memory._replace(dt=memory.dt.astype(y.dtype))

        too_small = ~accept & (
            jnp.abs(memory.dt) <= 4 * eps * jnp.maximum(jnp.abs(t), jnp.abs(t1 - t0))
        )
        naccept = tally.naccept + accept
        nreject = tally.nreject + ~accept
        finished = accept & reaches
        if dense is not None:
            assert outputs is not None
            outputs = _interpolated(dense, outputs, accept, naccept, direction, t, h, y, result)
            finished = outputs.met == dense.times.shape[0]
        exhausted = ~finished & (naccept + nreject >= max_steps)
        code = _first_of(
            (too_small & ~jnp.isfinite(error), _UNSTABLE),
            (too_small & ~counts.converged, _NEWTON),
            (too_small, _DT_MIN),
            (exhausted, _MAX_ITERS),
        )
        # A rejected step writes too: the next one, from the same place, writes over it.
        record = write(record, tally.naccept, t, h, y, result)
        return _Loop(
            jnp.where(accept, jnp.where(reaches, t1, t + h), t),
            jnp.where(accept, result.y, y),
            jnp.where(accept, result.k_last, k_first),
            ~accept | method.fsal,
            memory,
            Tally(nf, tally.njac + counts.njac, naccept, nreject, code),
            record,
            outputs,
            finished | (code != _SUCCESS),
        )

    loop = jax.lax.while_loop(
        lambda loop: ~loop.finished,
        body,
        _Loop(
            t0,
            y0,
            f0,
            jnp.bool_(ahead),
            memory,
            tally,
            record,
            None if dense is None else _no_outputs(dense, y0),
            t0 == t1,
        ),
    )
    return Outcome(loop.t, loop.y, loop.memory, loop.tally, loop.record, loop.outputs)


def _no_outputs(dense: Dense, y0: jax.Array) -> Outputs:
    (n,) = dense.times.shape
    return Outputs(jnp.zeros((n, *y0.shape), y0.dtype), jnp.zeros(n, jnp.int32), jnp.int32(0))


def _interpolated(
    dense: Dense,
    outputs: Outputs,
    accept: jax.Array,
    naccept: jax.Array,
    direction: jax.Array,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    step: StepResult,
) -> Outputs:
    """`outputs` and the states at the times that an accepted step has passed."""

    def passed(outputs: Outputs) -> jax.Array:
        time = dense.times.at[outputs.met].get(mode="clip")
        waiting = outputs.met < dense.times.shape[0]
        return accept & waiting & (direction * (time - (t + dt)) <= 0)

    def add(outputs: Outputs) -> Outputs:
        j = outputs.met
        weights = dense.method.weights((dense.times[j] - t) / dt)
        state = y + dt * weighted(weights, step.stages)
        return Outputs(outputs.states.at[j].set(state), outputs.ends.at[j].set(naccept), j + 1)

    return jax.lax.while_loop(passed, add, outputs)


def _initial_step(
    rhs: RHS,
    control: AdaptiveControl,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    f0: jax.Array,
    longest: jax.Array,
) -> jax.Array:
    """Julia's first step (absolute value)."""
    span, direction = jnp.abs(t1 - t0), jnp.sign(t1 - t0)
    scale = error_scale(jnp, control.rtol, control.atol, y0)

    def slope_change(size: jax.Array) -> Any:
        f1 = rhs(t0 + direction * size, y0 + direction * size * f0)
        return rms(jnp, (f1 - f0) / scale)

    step: jax.Array = initial_step(
        jnp,
        rms(jnp, y0 / scale),
        rms(jnp, f0 / scale),
        slope_change,
        order=control.order,
        smallest=rounding(y0) * jnp.maximum(jnp.abs(t0), span),
        longest=longest,
    )
    return step


def differentiable(
    prepare: Callable[[Any], Any],
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
    apply_reverse: Callable[[Any, jax.Array, jax.Array], jax.Array],
    tableau: Tableau,
    *,
    adaptive: bool,
    room: Room,
    width: int,
) -> Callable[..., tuple[jax.Array, Tally]]:
    """A solve ``(weights, control, limit, t0, t1, y0) -> (y1, tally)`` with a reverse derivative.

    It tries at most `limit` steps, data too, and has `room` to record as many. Derivatives are to
    `weights` and `y0`. `apply_reverse` is `apply` with derivatives in reverse mode only: explicit
    steps are pulled back through it, batches of `width` in pieces.
    """
    # Newton's Jacobians are taken in forward mode.
    pulled = apply_reverse if tableau.explicit else apply

    def forward(
        weights: Any, control: Control, limit: jax.Array, t0: Any, t1: Any, y0: Any, record: Room
    ) -> Outcome:
        rhs = RHS(apply, prepare(weights))
        method = unrolled_method(tableau, rhs, with_error=adaptive)
        memory = fresh_memory(y0.dtype)
        return solve(rhs, method, control, t0, t1, y0, memory, limit, room=record)

    @jax.custom_vjp
    def run(
        weights: Any, control: Control, limit: Any, t0: Any, t1: Any, y0: Any
    ) -> tuple[jax.Array, Tally]:
        end = forward(weights, control, limit, t0, t1, y0, _NO_ROOM)
        return end.y, end.tally

    def run_forward(
        weights: Any, control: Control, limit: Any, t0: Any, t1: Any, y0: Any
    ) -> tuple[tuple[jax.Array, Tally], Any]:
        end = forward(weights, control, limit, t0, t1, y0, room)
        return (end.y, end.tally), (weights, end.record, end.tally.naccept)

    def run_backward(residuals: Any, cotangents: Any) -> tuple[Any, ...]:
        weights, record, steps = residuals
        cotangent, _ = cotangents
        prepared, unprepare = jax.vjp(prepare, weights)
        start = (cotangent, jax.tree.map(jnp.zeros_like, prepared))
        if room.every == 1:
            to_y0, total = _walked_back(pull, prepared, record, record.y, 0, steps, start)
        else:
            to_y0, total = by_segments(prepared, record, steps, start)
        (to_weights,) = unprepare(total)
        return to_weights, None, None, None, None, to_y0

    def advance(apply: Any, prepared: Any, t: Any, dt: Any, y: jax.Array) -> jax.Array:
        return unrolled(tableau, RHS(apply, prepared), t, dt, y, with_error=False).y

    def pull(prepared: Any, t: Any, dt: Any, y: jax.Array, cotangent: jax.Array) -> Any:
        def pull_piece(shared: Any, y: jax.Array, cotangent: jax.Array) -> Any:
            prepared, t, dt = shared
            _, back = jax.vjp(lambda p, y: advance(pulled, p, t, dt, y), prepared, y)
            to_prepared, to_y = back(cotangent)
            return (to_prepared, jnp.zeros_like(t), jnp.zeros_like(dt)), to_y

        (total, _, _), to_y = pulled_in_pieces(pull_piece, (prepared, t, dt), y, cotangent, width)
        return total, to_y

    def by_segments(prepared: Any, record: Record, steps: Any, start: Any) -> Any:
        """Segment by segment from the last: its states solved again, then walked back."""

        def body(carry: Any) -> Any:
            first, carried = carry
            last = jnp.minimum(first + room.every, steps)
            states = jnp.zeros((room.every, *record.y.shape[1:]), record.y.dtype)
            begin = record.y[first // room.every]

            def again(i: jax.Array, carry: Any) -> Any:
                y, states = carry
                y = advance(apply, prepared, record.t[i - 1], record.dt[i - 1], y)
                return y, states.at[i - first].set(y)

            _, states = jax.lax.fori_loop(first + 1, last, again, (begin, states.at[0].set(begin)))
            carried = _walked_back(pull, prepared, record, states, first, last, carried)
            return first - room.every, carried

        newest = (steps - 1) // room.every * room.every
        _, carried = jax.lax.while_loop(lambda carry: carry[0] >= 0, body, (newest, start))
        return carried

    run.defvjp(run_forward, run_backward)
    return run


def _walked_back(
    pull: Callable[..., Any],
    prepared: Any,
    record: Record,
    states: jax.Array,
    first: Any,
    last: Any,
    start: tuple[jax.Array, Any],
) -> tuple[jax.Array, Any]:
    """Cotangents of the state and of the weights, taken back over steps `first` to `last` - 1.

    `states` are those that the steps begin at.
    """

    def body(carry: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, Any]:
        i, cotangent, total = carry
        to_weights, to_y = pull(prepared, record.t[i], record.dt[i], states[i - first], cotangent)
        return i - 1, to_y, jax.tree.map(jnp.add, total, to_weights)

    _, cotangent, total = jax.lax.while_loop(
        lambda carry: carry[0] >= first, body, (last - 1, *start)
    )
    return cotangent, total
