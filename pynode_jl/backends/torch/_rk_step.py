"""One Runge-Kutta step on torch tensors, for any tableau. Autograd runs through it.

Times are floats where nothing asks for their gradient, which spares an operation for every stage,
and tensors where something does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from pynode_jl.backends.torch._transforms import (
    derivatives_in_progress,
    is_transformed,
    records_derivatives,
    takes_derivatives_forward,
    up_to_order,
)
from pynode_jl.solvers import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, Tableau, newton_change

Time: TypeAlias = float | Tensor
RHS: TypeAlias = Callable[..., Tensor]
Row: TypeAlias = tuple[float, ...]


class RKStep(NamedTuple):
    """A step.

    Attributes:
        y: the state at its end.
        errors: its error estimates, one for each row of the tableau's.
        stages: the values of f.
        njac: evaluations of the Jacobian.
        converged: whether Newton's iteration has converged in every implicit stage.
    """

    y: Tensor
    errors: tuple[Tensor, ...]
    stages: list[Tensor]
    njac: int = 0
    converged: bool = True


class _Coefficients(NamedTuple):
    """A tableau in Python's floats, which torch takes ten times as fast as NumPy's.

    `coupled` holds `Tableau.coupled` of each stage; `needed` is the number of stages that the
    solution needs: the rest serve the error estimate or the next step.
    """

    c: Row
    a: tuple[Row, ...]
    b: Row
    errors: tuple[Row, ...]
    coupled: tuple[int, ...]
    needed: int


@lru_cache(maxsize=512)
def _coefficients(table: Tableau) -> _Coefficients:
    return _Coefficients(
        tuple(table.c.tolist()),
        tuple(map(tuple, table.a.tolist())),
        tuple(table.b.tolist()),
        tuple(tuple(row.tolist()) for row in table.error_weights),
        tuple(map(table.coupled, range(table.stages))),
        max(i + 1 for i, weight in enumerate(table.b) if weight != 0.0),
    )


def rk_step(
    tableau: Tableau,
    rhs: RHS,
    t: Time,
    dt: Time,
    end: Time,
    y: Tensor,
    first: Tensor | None = None,
    *,
    samples: int = 1,
    with_error: bool = True,
    orders: int = 1,
    side_first: int = 0,
    side_last: int = 0,
) -> RKStep:
    """Return the step from (t, y) of length dt.

    Args:
        tableau: the method.
        rhs: ``(t, y, side) -> f``.
        end: t + dt, exactly, for stages at the end.
        first: f(t, y), if it is known and is the first stage.
        samples: how many independent systems `y` holds along its first axis: an implicit stage is
            solved for each of them. 1 takes `y` as one system, whatever its shape.
        with_error: whether to run the stages that only the error estimate or the next step needs.
        orders: the orders of derivatives through implicit stages that are to be right.
        side_first, side_last: the side of a possible jump in t that the stages at t and at `end`
            look at: 1 for the limit from above, -1 from below.
    """

    table = _coefficients(tableau)

    def at(i: int) -> tuple[Tensor, int]:
        c = table.c[i]
        if c == 1.0:
            return _as_time(end, y), side_last
        return _as_time(t if c == 0.0 else t + c * dt, y), side_first if c == 0.0 else 0

    stages: list[Tensor] = [] if first is None else [first]
    njac, converged = 0, True
    size = len(table.b) if with_error else table.needed
    while len(stages) < size:
        i = len(stages)
        until = table.coupled[i]
        if until == i:
            time, side = at(i)
            stages.append(rhs(time, combine(y, dt, table.a[i], stages), side))
            continue
        solved = _ImplicitStages(table, rhs, dt, y, stages, until, at, samples, orders).solve()
        stages += solved.stages
        njac, converged = njac + solved.njac, converged and solved.converged
    errors = tuple(combine(None, dt, row, stages) for row in table.errors) if with_error else ()
    return RKStep(combine(y, dt, table.b, stages), errors, stages, njac, converged)


def combine(y: Tensor | None, dt: Time, weights: Row, stages: list[Tensor]) -> Tensor:
    """Return y + dt * sum of weights[j] stages[j]; without y if it is None."""
    pairs = [(w, k) for w, k in zip(weights, stages, strict=False) if w != 0.0]
    if not pairs:
        return torch.zeros_like(stages[0]) if y is None else y
    (weight, stage), *rest = pairs
    # The increment first: added to y term by term, each term would round at y's size.
    scale = dt if isinstance(dt, float) else 1.0
    total = stage * (weight * scale)
    for weight, stage in rest:
        total = torch.add(total, stage, alpha=weight * scale)
    if isinstance(dt, Tensor):
        total = total * dt.to(total.real.dtype)
    return total if y is None else y + total


def _as_time(t: Time, y: Tensor) -> Tensor:
    real = y.real.dtype
    return t.to(real) if isinstance(t, Tensor) else torch.tensor(t, dtype=real, device=y.device)


class _Solved(NamedTuple):
    stages: list[Tensor]
    njac: int
    converged: bool


class _ImplicitStages:
    """The stages of one step from len(known) to `until`, coupled: K = f(base + dt A K).

    Newton's iteration with the exact Jacobian of each sample, to the precision of the dtype. No
    iteration is differentiated. From the solution K, `orders` more updates are recorded, with the
    matrix held constant: the first has the derivative of the implicit function theorem, and each
    has one order of derivatives more that is right. (If an update's error begins with the p-th
    power of a change in the parameters, the next one's begins with power p + 1.)
    """

    def __init__(
        self,
        table: _Coefficients,
        rhs: RHS,
        dt: Time,
        y: Tensor,
        known: list[Tensor],
        until: int,
        at: Callable[[int], tuple[Tensor, int]],
        samples: int,
        orders: int,
    ) -> None:
        begin = len(known)
        self._rows = [table.a[i][begin:until] for i in range(begin, until)]
        self._coupling = torch.tensor(self._rows, dtype=y.dtype, device=y.device)
        self._bases = [combine(y, dt, table.a[i][:begin], known) for i in range(begin, until)]
        self._times = [at(i) for i in range(begin, until)]
        self._guess = known[-1].detach() if known else torch.zeros_like(y)
        self._rhs, self._dt, self._samples, self._orders = rhs, dt, samples, orders
        self._step = float(dt.detach()) if isinstance(dt, Tensor) else dt

    def solve(self) -> _Solved:
        count, njac, converged = len(self._rows), 0, False
        with torch.no_grad():
            ks = torch.stack([self._guess] * count)
            bases = [base.detach() for base in self._bases]
            centre, tolerance = torch.stack(bases), NEWTON_ROUNDINGS * torch.finfo(ks.dtype).eps
            for _ in range(NEWTON_ITERATIONS):
                values, matrix = self._linearised(ks, bases, self._step)
                update = self._solved(matrix, values - ks)
                njac += count
                change = newton_change(
                    torch, self._increments(update), centre, self._increments(ks)
                )
                ks = ks + update
                converged = bool(change <= tolerance)
                if converged or not bool(torch.isfinite(change)):
                    break
        if records_derivatives():
            ks, njac = self._recorded(ks), njac + count
        return _Solved(list(ks), njac, converged)

    def _recorded(self, ks: Tensor) -> Tensor:
        """Return the solution as a function that can be differentiated."""
        ks, orders = ks.detach(), max(self._orders, derivatives_in_progress())
        most = orders
        if torch.is_grad_enabled() and not is_transformed() and not takes_derivatives_forward():
            values, matrix = self._linearised(ks, self._bases, self._dt)
            ks, orders = ks + self._solved(matrix, values - ks), orders - 1
        else:
            with torch.no_grad():
                _, matrix = self._linearised(ks, self._bases, self._dt)
            matrix = matrix.detach()
        for _ in range(orders):
            points = self._points(ks, self._bases, self._dt)
            values = torch.stack([function(point) for function, point in points])
            ks = ks + self._solved(matrix, values - ks)
        return up_to_order(
            ks,
            most,
            "the order of a derivative through implicit stages",
            "Use an explicit method, or pynode_jl.jax, where they may have any order.",
        )

    def _increments(self, ks: Tensor) -> Tensor:
        return self._step * torch.einsum("ij,j...->i...", self._coupling, ks)

    def _points(
        self, ks: Tensor, bases: list[Tensor], dt: Time
    ) -> list[tuple[Callable[[Tensor], Tensor], Tensor]]:
        """Return f at each stage's time, and the state there."""
        return [
            (partial(self._rhs, time, side=side), combine(base, dt, row, list(ks)))
            for base, row, (time, side) in zip(bases, self._rows, self._times, strict=True)
        ]

    def _linearised(self, ks: Tensor, bases: list[Tensor], dt: Time) -> tuple[Tensor, Tensor]:
        """Return f(base + dt A K) of all stages, and I - dt A J of each sample, a constant."""
        found = [
            value_and_jacobian(function, point, self._samples)
            for function, point in self._points(ks, bases, dt)
        ]
        stacked = torch.stack([jacobian for _, jacobian in found])  # (stages, samples, size, size)
        count, samples, size, _ = stacked.shape
        blocks = torch.einsum("ij,isab->siajb", self._coupling * self._step, stacked)
        identity = torch.eye(count * size, dtype=ks.dtype, device=ks.device)
        matrix = identity - blocks.reshape(samples, count * size, count * size)
        return torch.stack([value for value, _ in found]), matrix

    def _solved(self, matrix: Tensor, residual: Tensor) -> Tensor:
        """Return the update (I - dt A J)^-1 residual."""
        samples, count = self._samples, len(residual)
        columns = residual.reshape(count, samples, -1).movedim(0, 1).reshape(samples, -1, 1)
        # Without the check of `solve`: a singular matrix gives an update that does not converge.
        update: Tensor = torch.linalg.solve_ex(matrix, columns).result
        return update.reshape(samples, count, -1).movedim(1, 0).reshape(residual.shape)


def value_and_jacobian(
    function: Callable[[Tensor], Tensor], u: Tensor, samples: int, *, at_once: int = 1
) -> tuple[Tensor, Tensor]:
    """Return a map's value, and its Jacobian as a constant, ``(samples, size, size)``.

    By reverse mode, `at_once` rows at a time for all samples: any function that mixes no samples.
    Where gradients are recorded the value has one.
    """
    size = u.numel() // samples
    if is_transformed():  # torch.func's transforms allow only themselves inside
        value, pull, *_ = torch.func.vjp(function, u.detach())
        rows = []
        for i in range(size):
            cotangent = torch.zeros_like(value).reshape(samples, size)
            cotangent[:, i] = 1.0
            rows.append(pull(cotangent.reshape(value.shape))[0].reshape(samples, size))
        return value, torch.stack(rows, 1)
    record = torch.is_grad_enabled()
    with torch.enable_grad():
        point = u if record and u.requires_grad else u.detach().requires_grad_()
        value = function(point)
        jacobian = torch.zeros(size, samples, size, dtype=u.dtype, device=u.device)
        if value.requires_grad:
            flat = value.reshape(samples, size)
            try:
                _fill(jacobian, flat, point, at_once)
            except RuntimeError:  # an operation whose gradient is not made for many at once
                _fill(jacobian, flat, point, 1)
    return value if record else value.detach(), jacobian.movedim(0, 1)


def _fill(jacobian: Tensor, value: Tensor, point: Tensor, at_once: int) -> None:
    size, samples, _ = jacobian.shape
    if at_once == 1:
        for i, row in enumerate(value.T):
            (slopes,) = torch.autograd.grad(row.sum(), point, retain_graph=True, allow_unused=True)
            if slopes is not None:
                jacobian[i] = slopes.reshape(samples, size)
        return
    axes = torch.eye(size, dtype=value.dtype, device=value.device)
    for first in range(0, size, at_once):
        rows = axes[first : first + at_once, None, :].expand(-1, samples, -1)
        (slopes,) = torch.autograd.grad(
            value, point, rows, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        if slopes is not None:
            jacobian[first : first + at_once] = slopes.reshape(len(rows), samples, size)
