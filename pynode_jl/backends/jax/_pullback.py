"""A solve that keeps its steps: forward now, the derivative when it is asked for.

The derivative is that of `_integrate.differentiable`, for states at several times and to the times
themselves: each recorded step is walked back through in turn, and where a step ended at a saved
time the cotangent of that state joins in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.backends.jax import _fields, _integrate, _step
from pynode_jl.backends.jax._jit import jitted
from pynode_jl.fields import Field, VectorField
from pynode_jl.solvers import DenseMethod, Tableau

# Room for the steps that are kept; more where a solve has taken more.
_LEAST = 128
# Room for steps whose stages are kept too, or for fewer where that takes more bytes than these. And
# each number is to stand for so many products, or it takes longer to write than to make again.
_MOST_WITH_STAGES = 32
_STAGE_BYTES = 2**26
_WORTH_KEEPING = 16


class Kept(NamedTuple):
    """States at the saved times, the number of steps up to each, the counts, and the steps."""

    states: jax.Array
    ends: jax.Array
    tally: _integrate.Tally
    record: _integrate.Record


def solve(
    rhs: _step.RHS,
    table: Tableau,
    controls: Any,
    times: jax.Array,
    y0: jax.Array,
    limit: jax.Array,
    *,
    adaptive: bool,
    room: int,
    space: Any = None,
) -> Kept:
    """Integrate over `times`, ``(t0, *saved)``, with one row of `controls` for each saved time.

    The first `room` steps are kept; how many there were is the last of `ends`. Their stages are
    kept in `space` (`Record.stages`), where that is given.
    """
    method = _integrate.unrolled_method(table, rhs, with_error=adaptive)

    def segment(carry: Any, inputs: Any) -> Any:
        y, memory, tally, record = carry
        control, start, stop = inputs
        end = _integrate.solve(
            rhs, method, control, start, stop, y, memory, limit, record=record, begin=tally.naccept
        )
        code = jnp.where(tally.code != 0, tally.code, end.tally.code)
        total = jax.tree.map(jnp.add, tally, end.tally)._replace(code=code)
        return (end.y, end.memory, total, end.record), (end.y, total.naccept)

    zero = jnp.int32(0)
    begin = (
        y0,
        _integrate.fresh_memory(y0.dtype),
        _integrate.Tally(*[zero] * 5),
        _integrate.fresh_record(_integrate.Room(room), y0)._replace(stages=space),
    )
    (_, _, tally, record), (states, ends) = jax.lax.scan(
        segment, begin, (controls, times[:-1], times[1:])
    )
    return Kept(states, ends, tally, record)


def solve_dense(
    rhs: _step.RHS,
    method: DenseMethod,
    control: Any,
    times: jax.Array,
    y0: jax.Array,
    limit: jax.Array,
    *,
    room: int,
    space: Any = None,
) -> Kept:
    """`solve` with steps that go over the saved times."""
    record = _integrate.fresh_record(_integrate.Room(room), y0)._replace(stages=space)
    end = _integrate.solve(
        rhs,
        _integrate.unrolled_method(method.tableau, rhs, with_error=True),
        control,
        times[0],
        times[-1],
        y0,
        _integrate.fresh_memory(y0.dtype),
        limit,
        record=record,
        dense=_integrate.Dense(times[1:], method),
    )
    assert end.outputs is not None
    return Kept(end.outputs.states, end.outputs.ends, end.tally, end.record)


def walk_back(
    table: Tableau,
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
    weights: Any,
    record: _integrate.Record,
    ends: jax.Array,
    cotangents: jax.Array,
) -> tuple[Any, jax.Array, jax.Array]:
    """Gradients to the weights, the initial state and the times of states with `cotangents`.

    `apply` is the right-hand side, ``(weights, t, y) -> dy``.
    """
    rhs = _step.RHS(apply, weights, leaves=record.stages is not None)

    def body(carry: Any) -> Any:
        i, j, cotangent, total, to_times = carry
        t, dt, y = record.t[i], record.dt[i], record.y[i]
        # Step i belongs to saved time j; its end is that time where it is the last such step.
        last = i + 1 == ends[j]
        cotangent = jnp.where(last, cotangent + cotangents[j], cotangent)
        if table.explicit:
            stages = _stages(table, rhs, record, i)
            pulled = _step.pulled_through(table, stages, t, dt, cotangent)
        else:
            pulled = _step.pulled_back(table, rhs, t, dt, y, cotangent)
        to_weights, to_t, to_dt, to_y = pulled
        # All steps of a segment begin later if it does; its last one is that much shorter.
        stretch = jnp.where(last, to_dt, 0.0)
        to_times = to_times.at[j].add(to_t - stretch).at[j + 1].add(stretch)
        first = (j > 0) & (i == ends[jnp.maximum(j - 1, 0)])
        total = jax.tree.map(jnp.add, total, to_weights)
        return i - 1, jnp.where(first, j - 1, j), to_y, total, to_times

    times = ends.shape[0]
    begin = (
        ends[-1] - 1,
        jnp.int32(times - 1),
        jnp.zeros_like(cotangents[0]),
        jax.tree.map(jnp.zeros_like, weights),
        jnp.zeros(times + 1, cotangents.dtype),
    )
    _, _, to_y0, total, to_times = jax.lax.while_loop(lambda carry: carry[0] >= 0, body, begin)
    return total, to_y0, to_times


def _stages(
    table: Tableau, rhs: _step.RHS, record: _integrate.Record, i: jax.Array
) -> _step.Staged:
    """The stages of step i, recalled where they were kept, made once more where not."""
    t, dt, y = record.t[i], record.dt[i], record.y[i]
    if record.stages is None:
        return _step.staged(table, rhs, t, dt, y)
    kept = [_kept(record, i, stage) for stage in range(_step.stages_for_solution(table))]
    return _step.recalled(table, rhs, t, y, kept)


def _kept(record: _integrate.Record, i: jax.Array, stage: int) -> Any:
    return jax.tree.map(lambda rows: rows[i, stage], record.stages)


def walk_back_dense(
    method: DenseMethod,
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
    weights: Any,
    record: _integrate.Record,
    times: jax.Array,
    ends: jax.Array,
    cotangents: jax.Array,
) -> tuple[Any, jax.Array, jax.Array]:
    """`walk_back` for `solve_dense`. The steps keep their lengths, and all shift with t0."""
    table, rhs = method.tableau, _step.RHS(apply, weights, leaves=record.stages is not None)

    def body(carry: Any) -> Any:
        i, j, cotangent, total, to_times = carry
        t, dt, y = record.t[i], record.dt[i], record.y[i]
        stages = _stages(table, rhs, record, i)

        def with_outputs() -> Any:
            """What the times within this step give to its stages, its start and its end."""
            if record.stages is None:
                end = y + dt * _step.weighted(table.b[:-1], stages.ks)
                last, pull = jax.vjp(apply, weights, t + dt, end)
            else:
                last, left = _kept(record, i + 1, 0)
                pull = rhs.pull(t, y, left)
            ks = [*stages.ks, last]

            def within(carry: Any) -> Any:
                j = carry[0]
                return (j >= 0) & (ends[jnp.maximum(j, 0)] == i + 1)

            def add(carry: Any) -> Any:
                j, to_start, beside, to_times = carry
                x, seen = (times[j + 1] - t) / dt, cotangents[j]
                shares = method.weights(x)
                beside = [
                    given if share is None else given + share * seen
                    for given, share in zip(beside, shares, strict=True)
                ]
                to_t = jnp.sum(seen * _step.weighted(method.slopes(x), ks))
                to_times = to_times.at[j + 1].add(to_t).at[0].add(-to_t)
                return j - 1, to_start + seen, beside, to_times

            begin = (j, jnp.zeros_like(y), [jnp.zeros_like(y)] * table.stages, to_times)
            after, to_start, beside, to_each = jax.lax.while_loop(within, add, begin)
            to_weights, to_t, to_end = pull(dt * beside.pop())
            return after, cotangent + to_end, to_weights, to_start, beside, to_each.at[0].add(to_t)

        def without() -> Any:
            nothing = jnp.zeros_like(y)
            beside = [nothing] * (table.stages - 1)
            return j, cotangent, jax.tree.map(jnp.zeros_like, weights), nothing, beside, to_times

        j, cotangent, from_end, to_start, beside, to_times = jax.lax.cond(
            i + 1 == ends[j], with_outputs, without
        )
        to_weights, to_t, _, to_y = _step.pulled_through(table, stages, t, dt, cotangent, beside)
        total = jax.tree.map(lambda *each: sum(each), total, to_weights, from_end)
        return i - 1, j, to_y + to_start, total, to_times.at[0].add(to_t)

    begin = (
        ends[-1] - 1,
        jnp.int32(ends.shape[0] - 1),
        jnp.zeros_like(cotangents[0]),
        jax.tree.map(jnp.zeros_like, weights),
        jnp.zeros_like(times),
    )
    _, _, to_y0, total, to_times = jax.lax.while_loop(lambda carry: carry[0] >= 0, body, begin)
    return total, to_y0, to_times


class _Layout(NamedTuple):
    """A field's function in the layout of states that suits it, and the way there (and back)."""

    rhs: _fields.RightHandSide
    turned: Callable[[jax.Array], jax.Array]


def _layout(field: Field, table: Tableau) -> _Layout:
    # Implicit stages see samples as rows.
    if table.explicit and isinstance(field, VectorField) and _fields.is_dense(field):
        columns = _fields.right_hand_side_of_columns(field)
        return _Layout(columns, lambda y: jnp.swapaxes(y, -1, -2))
    rows = _fields.right_hand_side(field, reverse_only=table.explicit)
    return _Layout(rows, lambda y: y)


class Keeping(NamedTuple):
    """Room for how many steps to keep, and whether for their stages too."""

    steps: int
    stages: bool = False


@lru_cache(maxsize=512)
def keeping(
    field: Field,
    method: Tableau | DenseMethod,
    fixed: bool,
    steps: int,
    batch: int,
    dtype: np.dtype[Any],
) -> Keeping:
    """What a solve of about so many steps had better keep. Stages that are kept are not solved
    again, and take `space`."""
    table = _table(method)
    stages = _step.stages_for_solution(table)
    # Steps in which each stage is run, or is the last one of the step before.
    whole = table.explicit and (fixed or (table.fsal and table.stages == stages + 1))
    if whole and isinstance(field, VectorField):
        row = stages * sum(each.size for each in jax.tree.leaves(_left_behind(field, batch)))
        least = _integrate.rounded_up(max(steps, 1))
        room = max(least, _MOST_WITH_STAGES)
        while row and room >= least:
            if (room + 1) * row * dtype.itemsize <= _STAGE_BYTES:
                return Keeping(room, stages=True)
            room //= 2
    return Keeping(_integrate.rounded_up(max(steps, _LEAST)))


def space(
    field: Field, method: Tableau | DenseMethod, keep: Keeping, batch: int, dtype: np.dtype[Any]
) -> Any:
    """Room for the stages of the steps that are kept (`Record.stages`); None where they are not."""
    if not (keep.stages and isinstance(field, VectorField)):
        return None
    rows = (keep.steps + 1, _step.stages_for_solution(_table(method)))

    def room(each: Any) -> jax.Array:
        kind = dtype if each.dtype == np.float32 else each.dtype
        return jnp.zeros((*rows, *each.shape), kind)

    return jax.tree.map(room, _left_behind(field, batch))


@lru_cache(maxsize=512)
def _left_behind(field: VectorField, batch: int) -> Any:
    """Shapes of an evaluation's value and of what it leaves behind, in float32; None where that had
    better not be kept."""
    if not _fields.is_dense(field):
        return None
    prepare, apply = _fields.right_hand_side_of_columns(field)
    shapes = field.weight_shapes()

    def evaluate(weights: Any, t: jax.Array, y: jax.Array) -> Any:
        return _step.RHS(apply, prepare(weights), leaves=True).evaluate(t, y)

    def shaped(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]

    weights = {name: shaped(*shape) for name, shape in shapes.items()}
    left = jax.eval_shape(evaluate, weights, shaped(), shaped(field.size, batch))
    numbers = sum(array.size for array in jax.tree.leaves(left)) // batch
    products = sum(math.prod(shape) for shape in shapes.values())
    return left if products >= _WORTH_KEEPING * numbers else None


@lru_cache(maxsize=256)
def forward(
    field: Field, method: Tableau | DenseMethod, fixed: bool, keep: Keeping
) -> Callable[..., Any]:
    """``(weights, controls, times, y0, limit, space) -> (states, tally, (record, ends))``,
    compiled; the tally as one array, in the order of its fields. `space` is taken over."""
    (prepare, apply), turned = _layout(field, _table(method))

    def kernel(weights: Any, controls: Any, times: Any, y0: Any, limit: Any, space: Any) -> Any:
        rhs = _step.RHS(apply, prepare(weights), leaves=keep.stages)
        begin = turned(y0)
        if isinstance(method, DenseMethod):
            control = jax.tree.map(lambda each: each[0], controls)
            kept = solve_dense(
                rhs, method, control, times, begin, limit, room=keep.steps, space=space
            )
        else:
            kept = solve(
                rhs, method, controls, times, begin, limit,
                adaptive=not fixed, room=keep.steps, space=space,
            )  # fmt: skip
        return turned(kept.states), jnp.stack(kept.tally), (kept.record, kept.ends)

    return jitted(kernel, emitters=True, donated=5)


@lru_cache(maxsize=256)
def backward(
    field: Field, method: Tableau | DenseMethod, keep: Keeping
) -> Callable[..., jax.Array]:
    """``(weights, times, (record, ends), cotangents) -> gradients``, compiled: those to the
    weights, to y0 and to the times in one flat array, which is one array to make instead of many.
    """
    del keep  # another record's shape is another compilation: a cache entry of its own
    (prepare, apply), turned = _layout(field, _table(method))

    def kernel(weights: Any, times: Any, steps: Any, cotangents: Any) -> jax.Array:
        prepared, unprepare = jax.vjp(prepare, weights)
        record, ends = steps
        seen = turned(cotangents)
        if isinstance(method, DenseMethod):
            pulled = walk_back_dense(method, apply, prepared, record, times, ends, seen)
        else:
            pulled = walk_back(method, apply, prepared, record, ends, seen)
        total, to_y0, to_times = pulled
        (to_weights,) = unprepare(total)
        parts = [*(to_weights[name] for name in field.weight_shapes()), turned(to_y0), to_times]
        return jnp.concatenate([part.ravel() for part in parts])

    return jitted(kernel, emitters=True)


def _table(method: Tableau | DenseMethod) -> Tableau:
    return method.tableau if isinstance(method, DenseMethod) else method
