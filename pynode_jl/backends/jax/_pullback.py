"""A solve that keeps its steps: forward now, the derivative when it is asked for.

The derivative is that of `_integrate.differentiable`, for states at several times and to the times
themselves: each recorded step is walked back through in turn, and where a step ended at a saved
time the cotangent of that state joins in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax import _fields, _integrate, _step
from pynode_jl.backends.jax._jit import jitted
from pynode_jl.fields import Field
from pynode_jl.solvers import Tableau, tableau


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
) -> Kept:
    """Integrate over `times`, ``(t0, *saved)``, with one row of `controls` for each saved time.

    The first `room` steps are kept; how many there were is the last of `ends`.
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
        _integrate.fresh_record(_integrate.Room(room), y0),
    )
    (_, _, tally, record), (states, ends) = jax.lax.scan(
        segment, begin, (controls, times[:-1], times[1:])
    )
    return Kept(states, ends, tally, record)


def walk_back(
    step: Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array],
    weights: Any,
    record: _integrate.Record,
    ends: jax.Array,
    cotangents: jax.Array,
) -> tuple[Any, jax.Array, jax.Array]:
    """Gradients to the weights, the initial state and the times of states with `cotangents`.

    `step` is ``(weights, t, dt, y) -> y`` at the end.
    """

    def body(carry: Any) -> Any:
        i, j, cotangent, total, to_times = carry
        # Step i belongs to saved time j; its end is that time where it is the last such step.
        last = i + 1 == ends[j]
        cotangent = jnp.where(last, cotangent + cotangents[j], cotangent)
        _, pull = jax.vjp(step, weights, record.t[i], record.dt[i], record.y[i])
        to_weights, to_t, to_dt, to_y = pull(cotangent)
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


@lru_cache(maxsize=256)
def forward(field: Field, name: str, fixed: bool, room: int) -> Callable[..., Kept]:
    """``(weights, controls, times, y0, limit) -> Kept``, compiled."""
    prepare, apply = _fields.right_hand_side(field)

    @jitted
    def kernel(weights: Any, controls: Any, times: Any, y0: Any, limit: Any) -> Kept:
        rhs = _step.RHS(apply, prepare(weights))
        return solve(rhs, tableau(name), controls, times, y0, limit, adaptive=not fixed, room=room)

    return kernel


@lru_cache(maxsize=256)
def backward(field: Field, name: str, room: int) -> Callable[..., Any]:
    """``(weights, record, ends, cotangents) -> (to weights, to y0, to times)``, compiled."""
    del room  # another record's shape is another compilation: a cache entry of its own
    prepare, apply = _fields.right_hand_side(field, reverse_only=tableau(name).explicit)

    @jitted
    def kernel(weights: Any, record: Any, ends: Any, cotangents: Any) -> Any:
        prepared, unprepare = jax.vjp(prepare, weights)
        step = partial(_stepped, apply, tableau(name))
        total, to_y0, to_times = walk_back(step, prepared, record, ends, cotangents)
        (to_weights,) = unprepare(total)
        return to_weights, to_y0, to_times

    return kernel


def _stepped(
    apply: Callable[..., Any], table: Tableau, prepared: Any, t: Any, dt: Any, y: Any
) -> jax.Array:
    rhs = _step.RHS(apply, prepared)
    return _step.unrolled(table, rhs, t, dt, y, with_error=False).y
