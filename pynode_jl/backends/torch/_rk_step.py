"""One Runge-Kutta step on torch tensors, any tableau; autograd runs through it.

Time is a float where nothing asks for its gradient, which spares an operation for every stage, and
a tensor where something does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from pynode_jl.backends.torch._coefficients import Coefficients, Row
from pynode_jl.errors import SolveError
from pynode_jl.solvers import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, newton_change

Time: TypeAlias = float | Tensor
RHS: TypeAlias = Callable[..., Tensor]


class Step(NamedTuple):
    """The state at the end of a step, its error estimates, and its stages."""

    y: Tensor
    errors: tuple[Tensor, ...]
    stages: list[Tensor]


def runge_kutta(
    table: Coefficients,
    rhs: RHS,
    t: Time,
    dt: Time,
    end: Time,
    y: Tensor,
    first: Tensor | None = None,
    *,
    nudge_first: int = 0,
    nudge_last: int = 0,
) -> Step:
    """A step from (t, y) of length dt.

    Args:
        table: the method.
        rhs: ``(t, y, nudge) -> f``.
        end: t + dt, exactly, for stages that stand there.
        first: f(t, y), where it is known and the first stage is that.
        nudge_first, nudge_last: on which side of a possible jump the stages at t and at `end` look:
            1 after it, -1 before it.
    """

    def at(i: int) -> tuple[Tensor, int]:
        c = table.c[i]
        if c == 1.0:
            return _time(end, y), nudge_last
        return _time(t if c == 0.0 else t + c * dt, y), nudge_first if c == 0.0 else 0

    stages: list[Tensor] = []
    while len(stages) < len(table.b):
        i = len(stages)
        if i == 0 and first is not None:
            stages.append(first)
            continue
        until = table.coupled(i)
        if until == i:
            time, nudge = at(i)
            stages.append(rhs(time, combined(y, dt, table.a[i], stages), nudge))
        else:
            guess = stages[-1] if stages else rhs(_time(t, y), y, nudge_first)
            stages += _solved(table, rhs, dt, y, stages, until, at, guess)
    errors = tuple(combined(None, dt, row, stages) for row in table.errors)
    return Step(combined(y, dt, table.b, stages), errors, stages)


def combined(y: Tensor | None, dt: Time, weights: Row, stages: list[Tensor]) -> Tensor:
    """y + dt * sum of weights[j] stages[j]; without y where it is None."""
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


def _time(t: Time, y: Tensor) -> Tensor:
    real = y.real.dtype
    return t.to(real) if isinstance(t, Tensor) else torch.tensor(t, dtype=real, device=y.device)


def _solved(
    table: Coefficients,
    rhs: RHS,
    dt: Time,
    y: Tensor,
    known: list[Tensor],
    until: int,
    at: Callable[[int], tuple[Tensor, int]],
    guess: Tensor,
) -> list[Tensor]:
    """The stages from len(known) to `until`, which hold each other: K = f(base + dt A K).

    Newton's iteration with the dense Jacobian of the whole state, to the precision of the dtype.
    The derivative is the implicit function theorem's: one more update from the solution, its matrix
    held constant, so that no iteration is differentiated (and no second derivative is right).
    """
    begin, size = len(known), y.numel()
    rows = [table.a[i] for i in range(begin, until)]
    bases = [combined(y, dt, row[:begin], known) if known else y for row in rows]
    coupling = torch.tensor([row[begin:until] for row in rows], dtype=y.dtype, device=y.device)
    step = float(dt.detach()) if isinstance(dt, Tensor) else dt

    def residual(ks: Tensor, dt: Time, bases: list[Tensor]) -> Tensor:
        values = []
        for i in range(until - begin):
            u = combined(bases[i], dt, rows[i][begin:until], list(ks))
            time, nudge = at(begin + i)
            values.append(rhs(time, u, nudge))
        return torch.stack(values) - ks

    def matrix(ks: Tensor) -> Tensor:
        whole = torch.eye((until - begin) * size, dtype=y.dtype, device=y.device)
        for i in range(until - begin):
            u = combined(bases[i].detach(), step, rows[i][begin:until], list(ks))
            time, nudge = at(begin + i)
            jacobian = _jacobian(partial(rhs, time.detach(), nudge=nudge), u)
            block = step * torch.einsum("j,ab->ajb", coupling[i], jacobian)
            whole[i * size : (i + 1) * size] -= block.reshape(size, -1)
        return whole

    def increments(ks: Tensor) -> Tensor:
        return step * torch.einsum("ij,j...->i...", coupling, ks)

    with torch.no_grad():
        ks = guess.detach().expand(until - begin, *y.shape).clone()
        still = [base.detach() for base in bases]
        centre = torch.stack(still)
        tolerance = NEWTON_ROUNDINGS * torch.finfo(y.dtype).eps
        for _ in range(NEWTON_ITERATIONS):
            update = _solve(matrix(ks), residual(ks, step, still))
            change = newton_change(torch, increments(update), centre, increments(ks))
            ks = ks + update
            if not bool(change > tolerance):
                break
        else:
            change = change * float("nan")
        if not bool(torch.isfinite(change)):
            moment = float(at(begin)[0].detach())
            raise SolveError(
                "ConvergenceFailure",
                f"Newton's iteration for an implicit stage at t = {moment:g} did not converge."
                " Take a smaller step.",
            )
        final = matrix(ks)
    return list(ks + _solve(final, residual(ks, dt, bases)))


def _solve(matrix: Tensor, residual: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve(matrix, residual.reshape(-1, 1)).reshape(residual.shape)
    return solution


def _jacobian(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The Jacobian of a map of tensors, (numbers, numbers), row by row: any Python function."""
    with torch.enable_grad():
        point = u.detach().requires_grad_()
        value = function(point)
        if not value.requires_grad:
            return torch.zeros(u.numel(), u.numel(), dtype=u.dtype, device=u.device)
        rows = [
            torch.autograd.grad(each, point, retain_graph=True, allow_unused=True)[0]
            for each in value.reshape(-1)
        ]
    return torch.stack([torch.zeros_like(u) if row is None else row for row in rows]).reshape(
        u.numel(), -1
    )
