"""One Runge-Kutta step, explicit or diagonally implicit, in two forms of the same arithmetic.

`unrolled` has its tableau as constants: the stages are written out and zero weights vanish. It is
what gradients are taken through, and the fast one to train with. `looped` has its tableau as
*data*, padded to a common number of stages: one compilation then serves every solver, which is what
a swap over dozens of them wants. Both see `rhs(t, y)` on a whole batch.

An implicit stage k = f(t_i, u), u = base + dt g k is solved by Newton's iteration with the exact
Jacobian of each sample (the fields mix no samples), to the precision of the state's dtype: a fixed
step has no tolerance to stop at, and the discrete model that the paper asks about is the solved
stage, not a half-solved one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.solvers import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, Tableau, newton_change


@dataclass(frozen=True)
class RHS:
    """f(t, y) with its weights in hand, so that they can be held constant.

    `leaves`: whether an evaluation leaves behind what its derivative needs.
    """

    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]
    prepared: Any
    leaves: bool = False

    def __call__(self, t: jax.Array, y: jax.Array) -> jax.Array:
        return self.apply(self.prepared, t, y)

    def evaluate(self, t: jax.Array, y: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """The value, and all that `pull` needs beside the weights; nothing unless it `leaves`."""
        if not self.leaves:
            return self(t, y), []
        value, pull = jax.vjp(self.apply, self.prepared, t, y)
        return value, [each for each in jax.tree.leaves(pull) if not self._has(each)]

    def pull(
        self, t: jax.Array, y: jax.Array, left: list[jax.Array]
    ) -> Callable[[jax.Array], tuple[Any, jax.Array, jax.Array]]:
        """The derivative in reverse of an evaluation, from what it `left` behind. Of `t` and `y`
        only the shapes count."""
        _, pull = jax.vjp(self.apply, self.prepared, t, y)  # for its structure; it is never run
        leaves, structure = jax.tree.flatten(pull)
        rest = iter(left)
        own = [each if self._has(each) else next(rest) for each in leaves]
        restored: Callable[..., Any] = jax.tree.unflatten(structure, own)
        return restored

    def _has(self, array: Any) -> bool:
        return any(array is each for each in jax.tree.leaves(self.prepared))

    def constant(self) -> RHS:
        """The same function, through whose weights no derivative passes."""
        return RHS(self.apply, jax.lax.stop_gradient(self.prepared))


class Counts(NamedTuple):
    """Evaluations of the right-hand side and of its Jacobian, and whether Newton converged."""

    nf: jax.Array
    njac: jax.Array
    converged: jax.Array


class StepResult(NamedTuple):
    """The state after a step, its error estimates (one per row of weights), its stages (all of
    them, as a list or along the first axis), f where the last one stands (FSAL), the counts, and
    what each explicit stage's evaluation left behind (`RHS.evaluate`)."""

    y: jax.Array
    errors: tuple[jax.Array, ...]
    stages: Any
    k_last: jax.Array
    counts: Counts
    left: list[list[jax.Array]]


class PaddedTableau(NamedTuple):
    """A tableau as data: NumPy arrays outside a kernel, traced ones inside. Weights are padded with
    zeros; `stages` are those to run."""

    c: Any
    a: Any
    b: Any
    b_errors: Any
    stages: Any


def stages_for_solution(tableau: Tableau) -> int:
    """Stages that the solution needs; those behind them serve the error estimate or FSAL only."""
    used = tableau.stages
    while used > 1 and tableau.b[used - 1] == 0.0:
        used -= 1
    return used


def padded(tableau: Tableau, stages: int, *, with_error: bool, dtype: Any) -> PaddedTableau:
    """`tableau` padded to `stages` stages, idle last ones left out where no error is wanted."""
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


def unrolled(
    tableau: Tableau,
    rhs: RHS,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    k_first: jax.Array | None = None,
    *,
    with_error: bool,
) -> StepResult:
    """A step from (t, y) of length dt with the tableau written out. Differentiable in reverse.

    `k_first`, where given, is the first stage already known.
    """
    stages = tableau.stages if with_error else stages_for_solution(tableau)
    ks: list[jax.Array] = [] if k_first is None else [k_first]
    left: list[list[jax.Array]] = []
    counts = Counts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    for i in range(len(ks), stages):
        base = _combine(y, dt, tableau.a[i, :i], ks)
        diagonal = float(tableau.a[i, i])
        time = t + float(tableau.c[i]) * dt
        if diagonal == 0.0:
            k, behind = rhs.evaluate(time, base)
            ks.append(k)
            left.append(behind)
            counts = counts._replace(nf=counts.nf + 1)
        else:
            guess = ks[-1] if ks else jnp.zeros_like(y)
            k, stage = _solved_stage(rhs, time, base, diagonal * dt, guess)
            ks.append(_with_exact_derivative(rhs, time, base, diagonal * dt, k))
            counts = _added(counts, stage)
            counts = counts._replace(nf=counts.nf + 1, njac=counts.njac + 1)
    rows = (tableau.b_error, tableau.b_error2) if with_error else ()
    errors = tuple(
        _combine(jnp.zeros_like(y), dt, row[:stages], ks) for row in rows if row is not None
    )
    return StepResult(_combine(y, dt, tableau.b[:stages], ks), errors, ks, ks[-1], counts, left)


class Staged(NamedTuple):
    """The stages of an explicit step, each with its derivative in reverse and the weighted sum of
    those before it (None where it is the first)."""

    ks: list[jax.Array]
    pulls: list[Callable[[jax.Array], Any]]
    slopes: list[Any]


def pulled_back(
    tableau: Tableau,
    rhs: RHS,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    cotangent: jax.Array,
) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """Cotangents to (prepared, t, dt, y) of any step's end `cotangent`, the step made once more."""

    def end(prepared: Any, t: jax.Array, dt: jax.Array, y: jax.Array) -> jax.Array:
        return unrolled(tableau, RHS(rhs.apply, prepared), t, dt, y, with_error=False).y

    _, pull = jax.vjp(end, rhs.prepared, t, dt, y)
    pulled: tuple[Any, jax.Array, jax.Array, jax.Array] = pull(cotangent)
    return pulled


def staged(tableau: Tableau, rhs: RHS, t: jax.Array, dt: jax.Array, y: jax.Array) -> Staged:
    """The stages of an explicit step that its solution needs, made once more."""
    stages = Staged([], [], [])
    for i in range(stages_for_solution(tableau)):
        slope = weighted(tableau.a[i, :i], stages.ks)
        base = y if slope is None else y + dt * slope
        k, pull = jax.vjp(rhs.apply, rhs.prepared, t + float(tableau.c[i]) * dt, base)
        stages.ks.append(k)
        stages.pulls.append(pull)
        stages.slopes.append(slope)
    return stages


def recalled(
    tableau: Tableau,
    rhs: RHS,
    t: jax.Array,
    y: jax.Array,
    kept: list[tuple[jax.Array, list[jax.Array]]],
) -> Staged:
    """The same from their values and what their evaluations left behind."""
    ks = [k for k, _ in kept]
    slopes = [weighted(tableau.a[i, :i], ks[:i]) for i in range(len(ks))]
    return Staged(ks, [rhs.pull(t, y, left) for _, left in kept], slopes)


def pulled_through(
    tableau: Tableau,
    stages: Staged,
    t: jax.Array,
    dt: jax.Array,
    cotangent: jax.Array,
    beside: list[jax.Array] | None = None,
) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """Cotangents to (prepared, t, dt, y) of an explicit step's end `cotangent`.

    Written out: the transposed tableau, and one sum over the batch for dt where each stage's own
    would cost as much as the stage. `beside` are cotangents that dt times each stage has by another
    way than the step's end; what they are to dt is not counted.
    """
    ks, pulls, slopes = stages
    size = len(ks)
    to_y, to_t, to_dt = cotangent, jnp.zeros_like(t), jnp.zeros_like(dt)
    along = cotangent * weighted(tableau.b[:size], ks)
    to_prepared = None
    bars: list[jax.Array] = []  # of the stages' states, the last one's first
    for i in reversed(range(size)):
        weights = [float(tableau.b[i]), *tableau.a[i + 1 : size, i][::-1]]
        k_bar = weighted(weights, [cotangent, *bars])
        if beside is not None:
            k_bar = beside[i] if k_bar is None else k_bar + beside[i]
        if k_bar is None:  # nothing depends on the stage
            bars.append(jnp.zeros_like(to_y))
            continue
        stage_to_prepared, stage_to_t, bar = pulls[i](dt * k_bar)
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
    return to_prepared, to_t, to_dt + jnp.sum(along), to_y


def looped(
    tableau: PaddedTableau,
    rhs: RHS,
    t: jax.Array,
    dt: jax.Array,
    y: jax.Array,
    k_first: jax.Array | None,
    *,
    implicit: bool,
) -> StepResult:
    """A step with the tableau as data. `k_first`, where given, is the first stage already known."""
    size = tableau.b.shape[0]
    ks = jnp.zeros((size, *y.shape), y.dtype)
    counts = Counts(jnp.int32(0), jnp.int32(0), jnp.bool_(True))
    start = jnp.int32(0)
    if k_first is not None:
        ks = ks.at[0].set(k_first)
        start = jnp.int32(1)

    def stage(i: jax.Array, carry: tuple[jax.Array, Counts]) -> tuple[jax.Array, Counts]:
        ks, counts = carry
        # Rows of a are zero from i on, but for the diagonal, and stage i of ks is still zero.
        base = y + dt * jnp.tensordot(tableau.a[i], ks, 1)
        time = t + tableau.c[i] * dt

        def explicit_stage() -> tuple[jax.Array, Counts]:
            return rhs(time, base), Counts(jnp.int32(1), jnp.int32(0), jnp.bool_(True))

        def implicit_stage() -> tuple[jax.Array, Counts]:
            guess = ks[jnp.maximum(i - 1, 0)]
            return _solved_stage(rhs, time, base, tableau.a[i, i] * dt, guess)

        if implicit:
            k, new = jax.lax.cond(tableau.a[i, i] == 0, explicit_stage, implicit_stage)
        else:
            k, new = explicit_stage()
        return ks.at[i].set(k), _added(counts, new)

    ks, counts = jax.lax.fori_loop(start, tableau.stages, stage, (ks, counts))
    errors = dt * jnp.tensordot(tableau.b_errors, ks, 1)
    y_new = y + dt * jnp.tensordot(tableau.b, ks, 1)
    return StepResult(y_new, (errors[0], errors[1]), ks, ks[tableau.stages - 1], counts, [])


def _combine(y: jax.Array, dt: jax.Array, weights: np.ndarray, ks: list[jax.Array]) -> jax.Array:
    """y + dt * sum of weights[j] ks[j], without the terms whose weight is zero."""
    total = weighted(weights, ks)
    return y if total is None else y + dt * total


def weighted(weights: Iterable[Any], ks: list[jax.Array]) -> Any:
    """The sum of weights[j] ks[j], without terms whose weight is 0 or None; None of no terms.

    Weights are numbers or traced scalars.
    """
    pairs = zip(weights, ks, strict=True)
    terms = [
        (w if isinstance(w, jax.Array) else float(w)) * k
        for w, k in pairs
        if w is not None and (isinstance(w, jax.Array) or w != 0.0)
    ]
    return reduce(operator.add, terms) if terms else None


def _added(counts: Counts, new: Counts) -> Counts:
    return Counts(counts.nf + new.nf, counts.njac + new.njac, counts.converged & new.converged)


def _solved_stage(
    rhs: RHS, time: jax.Array, base: jax.Array, scale: jax.Array, guess: jax.Array
) -> tuple[jax.Array, Counts]:
    """k with k = rhs(time, base + scale k), as a constant: see `_with_exact_derivative`."""
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
    return k, Counts(iterations, iterations, change <= tolerance)


def _with_exact_derivative(
    rhs: RHS, time: jax.Array, base: jax.Array, scale: jax.Array, k: jax.Array
) -> jax.Array:
    """The constant `k` with the derivative that the implicit function theorem gives it.

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


def rounding(x: jax.Array) -> float:
    """Machine epsilon of an array's dtype."""
    return float(np.finfo(x.dtype).eps)


def _pad(row: np.ndarray, stages: int) -> np.ndarray:
    return np.pad(row, (0, stages - row.shape[0]))
