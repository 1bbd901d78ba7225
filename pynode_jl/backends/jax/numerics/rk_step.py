"""One Runge-Kutta step, explicit or diagonally implicit, in two forms of the same arithmetic.

`rk_step_static` has its tableau as constants: the stages are written out and zero weights vanish.
It is what gradients are taken through, and the fast one to train with. `rk_step_padded` has its
tableau as *data*, padded to a common number of stages: one compilation then serves every solver,
which is what a swap over dozens of them wants. Both see `rhs(t, y)` on a whole batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.backends.jax.batching import vjp_in_batches
from pynode_jl.backends.jax.numerics.newton import attach_exact_derivative, solve_stage
from pynode_jl.backends.jax.numerics.rhs import RHS, Apply, StepCounts
from pynode_jl.solvers import Tableau


class StepResult(NamedTuple):
    """The state after a step, its error estimates (one per row of weights), its stages (all of
    them, as a list or along the first axis), f where the last one stands (FSAL), the counts, and
    the residuals of each explicit stage (`RHS.evaluate`)."""

    y: jax.Array
    errors: tuple[jax.Array, ...]
    stages: Any
    k_last: jax.Array
    counts: StepCounts
    residuals: list[list[jax.Array]]


class PaddedTableau(NamedTuple):
    """A tableau as data: NumPy arrays outside a kernel, traced ones inside. Weights are padded with
    zeros; `stages` are those to run."""

    c: Any
    a: Any
    b: Any
    b_errors: Any
    stages: Any


def stages_for_solution(tableau: Tableau) -> int:
    """Count the stages that the solution needs; the rest serve the error estimate or FSAL only."""
    used = tableau.stages
    while used > 1 and tableau.b[used - 1] == 0.0:
        used -= 1
    return used


def padded(tableau: Tableau, stages: int, *, with_error: bool, dtype: Any) -> PaddedTableau:
    """Pad `tableau` to `stages` stages; idle last ones are left out where no error is wanted."""
    rows = [row for row in (tableau.b_error, tableau.b_error2) if row is not None]
    errors = np.zeros((2, stages))
    for i, row in enumerate(rows):
        errors[i, : tableau.stages] = row
    a = np.zeros((stages, stages))
    a[: tableau.stages, : tableau.stages] = tableau.a
    return PaddedTableau(
        _pad(tableau.c, stages).astype(dtype),
        a.astype(dtype),
        _pad(tableau.b, stages).astype(dtype),
        errors.astype(dtype),
        np.int32(tableau.stages if with_error else stages_for_solution(tableau)),
    )


def rk_step_static(
    tableau: Tableau,
    rhs: RHS,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    k_first: jax.Array | None = None,
    *,
    with_error: bool,
) -> StepResult:
    """Make a step from (t, y) of length dt, the tableau written out. Differentiable in reverse.

    `k_first`, where given, is the first stage already known.
    """
    stages = tableau.stages if with_error else stages_for_solution(tableau)
    ks: list[jax.Array] = [] if k_first is None else [k_first]
    residuals: list[list[jax.Array]] = []
    counts = StepCounts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    for i in range(len(ks), stages):
        base = _combine(y, dt, tableau.a[i, :i], ks)
        diagonal = float(tableau.a[i, i])
        time = t + float(tableau.c[i]) * dt
        if diagonal == 0.0:
            k, left = rhs.evaluate(time, base)
            ks.append(k)
            residuals.append(left)
            counts = counts._replace(nf=counts.nf + 1)
        else:
            guess = ks[-1] if ks else jnp.zeros_like(y)
            k, stage = solve_stage(rhs, time, base, diagonal * dt, guess)
            ks.append(attach_exact_derivative(rhs, time, base, diagonal * dt, k))
            counts = counts.plus(stage)
            counts = counts._replace(nf=counts.nf + 1, njac=counts.njac + 1)
    rows = (tableau.b_error, tableau.b_error2) if with_error else ()
    errors = tuple(
        _combine(jnp.zeros_like(y), dt, row[:stages], ks) for row in rows if row is not None
    )
    return StepResult(
        _combine(y, dt, tableau.b[:stages], ks), errors, ks, ks[-1], counts, residuals
    )


class StepVJP(NamedTuple):
    """Cotangents of a step's weights (prepared), start, length and initial state."""

    weights: Any
    t: jax.Array
    dt: jax.Array
    y: jax.Array


class StageVJPs(NamedTuple):
    """The stages of an explicit step, each with its VJP and the weighted sum of those before it
    (None where it is the first)."""

    ks: list[jax.Array]
    vjps: list[Callable[[jax.Array], Any]]
    slopes: list[Any]


def vjp_of_step(
    tableau: Tableau,
    apply: Apply,
    prepared: Any,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    cotangent: jax.Array,
    *,
    wrt_times: bool,
    batch_width: int = 0,
) -> StepVJP:
    """Recompute any step and take its end's `cotangent` back by automatic differentiation.

    Without `wrt_times` the cotangents of t and dt are 0. `batch_width` is what `vjp_in_batches`
    takes.
    """

    def end(prepared: Any, t: jax.Array, dt: jax.Array, y: jax.Array) -> jax.Array:
        return rk_step_static(tableau, RHS(apply, prepared), t, dt, y, with_error=False).y

    def vjp(shared: Any, y: jax.Array, cotangent: jax.Array) -> tuple[Any, jax.Array]:
        prepared, t, dt = shared
        if wrt_times:
            _, back = jax.vjp(end, prepared, t, dt, y)
            *to_shared, to_y = back(cotangent)
            return tuple(to_shared), to_y
        _, back = jax.vjp(lambda prepared, y: end(prepared, t, dt, y), prepared, y)
        to_prepared, to_y = back(cotangent)
        return (to_prepared, jnp.zeros_like(t), jnp.zeros_like(dt)), to_y

    to_shared, to_y = vjp_in_batches(vjp, (prepared, t, dt), y, cotangent, batch_width)
    return StepVJP(to_shared[0], to_shared[1], to_shared[2], to_y)


def recompute_stages(
    tableau: Tableau, rhs: RHS, t: jax.Array, dt: jax.Array, y: jax.Array
) -> StageVJPs:
    """Recompute the stages of an explicit step that its solution needs."""
    stages = StageVJPs([], [], [])
    for i in range(stages_for_solution(tableau)):
        slope = weighted(tableau.a[i, :i], stages.ks)
        base = y if slope is None else y + dt * slope
        k, vjp = jax.vjp(rhs.apply, rhs.prepared, t + float(tableau.c[i]) * dt, base)
        stages.ks.append(k)
        stages.vjps.append(vjp)
        stages.slopes.append(slope)
    return stages


def restore_stages(
    tableau: Tableau,
    rhs: RHS,
    t: jax.Array,
    y: jax.Array,
    saved: list[tuple[jax.Array, list[jax.Array]]],
) -> StageVJPs:
    """Make the same from the stages' values and residuals."""
    ks = [k for k, _ in saved]
    slopes = [weighted(tableau.a[i, :i], ks[:i]) for i in range(len(ks))]
    return StageVJPs(ks, [rhs.vjp(t, y, left) for _, left in saved], slopes)


def vjp_from_stages(
    tableau: Tableau,
    stages: StageVJPs,
    t: jax.Array,
    dt: jax.Array,
    cotangent: jax.Array,
    stage_cotangents: list[jax.Array] | None = None,
) -> StepVJP:
    """Take the `cotangent` of an explicit step's end back through its stages.

    The transposed tableau is written out, with one sum over the batch for dt where each stage's own
    would cost as much as the stage. `stage_cotangents` are those that dt times each stage has by
    another way than the step's end; what they are to dt is not counted.
    """
    ks, vjps, slopes = stages
    size = len(ks)
    to_y, to_t, to_dt = cotangent, jnp.zeros_like(t), jnp.zeros_like(dt)
    along = cotangent * weighted(tableau.b[:size], ks)
    to_prepared = None
    bars: list[jax.Array] = []  # of the stages' states, the last one's first
    for i in reversed(range(size)):
        weights = [float(tableau.b[i]), *tableau.a[i + 1 : size, i][::-1]]
        k_bar = weighted(weights, [cotangent, *bars])
        if stage_cotangents is not None:
            k_bar = stage_cotangents[i] if k_bar is None else k_bar + stage_cotangents[i]
        if k_bar is None:  # nothing depends on the stage
            bars.append(jnp.zeros_like(to_y))
            continue
        stage_to_prepared, stage_to_t, bar = vjps[i](dt * k_bar)
        bars.append(bar)
        to_y = to_y + bar
        to_t = to_t + stage_to_t
        to_dt = to_dt + float(tableau.c[i]) * stage_to_t
        if slopes[i] is not None:
            along = along + bar * slopes[i]
        to_prepared = (
            stage_to_prepared
            if to_prepared is None
            else jax.tree.map(jnp.add, to_prepared, stage_to_prepared)
        )
    return StepVJP(to_prepared, to_t, to_dt + jnp.sum(along), to_y)


def rk_step_padded(
    tableau: PaddedTableau,
    rhs: RHS,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    k_first: jax.Array | None,
    *,
    implicit: bool,
) -> StepResult:
    """Make a step, the tableau as data. `k_first`, where given, is the known first stage."""
    size = tableau.b.shape[0]
    ks = jnp.zeros((size, *y.shape), y.dtype)
    counts = StepCounts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    start = jnp.int32(0)
    if k_first is not None:
        ks = ks.at[0].set(k_first)
        start = jnp.int32(1)

    def stage(i: jax.Array, carry: tuple[jax.Array, StepCounts]) -> tuple[jax.Array, StepCounts]:
        ks, counts = carry
        # Rows of a are zero from i on, but for the diagonal, and stage i of ks is still zero.
        base = y + dt * jnp.tensordot(tableau.a[i], ks, 1)
        time = t + tableau.c[i] * dt

        def explicit_stage() -> tuple[jax.Array, StepCounts]:
            return rhs(time, base), StepCounts(jnp.int32(1), jnp.int32(0), jnp.bool_(True))

        def implicit_stage() -> tuple[jax.Array, StepCounts]:
            guess = ks[jnp.maximum(i - 1, 0)]
            return solve_stage(rhs, time, base, tableau.a[i, i] * dt, guess)

        if implicit:
            k, new = jax.lax.cond(tableau.a[i, i] == 0, explicit_stage, implicit_stage)
        else:
            k, new = explicit_stage()
        return ks.at[i].set(k), counts.plus(new)

    ks, counts = jax.lax.fori_loop(start, tableau.stages, stage, (ks, counts))
    errors = dt * jnp.tensordot(tableau.b_errors, ks, 1)
    y_new = y + dt * jnp.tensordot(tableau.b, ks, 1)
    return StepResult(y_new, (errors[0], errors[1]), ks, ks[tableau.stages - 1], counts, [])


def _combine(y: jax.Array, dt: jax.Array, weights: np.ndarray, ks: list[jax.Array]) -> jax.Array:
    """y + dt * sum of weights[j] ks[j], without the terms whose weight is zero."""
    total = weighted(weights, ks)
    return y if total is None else y + dt * total


def weighted(weights: Iterable[Any], ks: list[jax.Array]) -> Any:
    """Return the sum of weights[j] ks[j], without weights that are 0 or None; None of no terms.

    Weights are numbers or traced scalars.
    """
    pairs = zip(weights, ks, strict=True)
    terms = [
        (w if isinstance(w, jax.Array) else float(w)) * k
        for w, k in pairs
        if w is not None and (isinstance(w, jax.Array) or w != 0.0)
    ]
    return reduce(operator.add, terms) if terms else None


def _pad(row: np.ndarray, stages: int) -> np.ndarray:
    return np.pad(row, (0, stages - row.shape[0]))
