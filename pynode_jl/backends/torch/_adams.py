"""Adams' methods in torch, as torchdiffeq runs them: the grid is taken for equidistant."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import Time, rk_step
from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import tableau

# torchdiffeq's: Adams from four values of f on, of at most eleven; below that, the 3/8 rule.
_MIN_VALUES, MAX_VALUES = 4, 12


def adams_step(
    problem: Problem, *, implicit: bool, most: int, rounds: int, side: int
) -> Callable[[Time, Time, Time, Tensor], tuple[Tensor, Tensor]]:
    """Return Adams-Bashforth's step ``(t, dt, end, y) -> (y at the end, f at the start)``.

    Args:
        problem: what it steps through, from the start on.
        implicit: whether to correct the step by Adams-Moulton's method.
        most: the most values of f that a step uses, and one.
        rounds: the most corrections of a step.
        side: the side of a possible jump that f is evaluated on; see `rk_step`.

    Raises:
        InvalidValueError: `most` is out of range.
    """
    if not 1 <= most <= MAX_VALUES:
        raise InvalidValueError("max_order", most, f"1 to {MAX_VALUES}", "Lower it.")
    if most < _MIN_VALUES:
        warnings.warn(f"max_order below {_MIN_VALUES}: the 3/8 rule runs alone", stacklevel=5)
    history: collections.deque[Tensor] = collections.deque(maxlen=most - 1 or 1)
    starter = tableau("RK38")

    def as_time(t: Time) -> Tensor:
        return torch.as_tensor(t, dtype=torch.float64, device=problem.y0.device)

    def weighted(weights: tuple[float, ...]) -> Tensor:
        total = history[0] * weights[0]
        for weight, slope in zip(weights[1:], list(history)[1:], strict=True):
            total = torch.add(total, slope, alpha=weight)
        return total

    def step(t: Time, dt: Time, end: Time, y: Tensor) -> tuple[Tensor, Tensor]:
        slope = problem.f(as_time(t), y, side)
        history.appendleft(slope)
        size = len(history)
        if size < _MIN_VALUES - 1:
            started = rk_step(starter, problem.f, t, dt, end, y, slope, side_last=-side)
            return started.y, slope
        change = dt * weighted(adams_weights(size, implicit=False))
        if implicit:
            ahead, *behind = adams_weights(size + 1, implicit=True)
            known = dt * weighted(tuple(behind))
            for _ in range(rounds):
                old = change
                value = problem.f(as_time(end), y + old, -side)
                change = known + dt * ahead * value
                scale = problem.atol + problem.rtol * torch.maximum(old.abs(), change.abs())
                if bool(((old - change).abs() / scale).max() < 1):
                    break
            else:
                warnings.warn(
                    "Functional iteration did not converge. Solution may be incorrect.",
                    stacklevel=5,
                )
                history.pop()
        return y + change, slope

    return step


@cache
def adams_weights(steps: int, *, implicit: bool) -> tuple[float, ...]:
    """Return the weights of f at the times 0, -1, -2, ... in the Adams method of so many values.

    With `implicit`, f at 1 stands in front. The grid has step 1; the weights are the integrals over
    [0, 1] of the Lagrange polynomials (Hairer, Norsett, Wanner, *Solving ODEs I*, III.1).
    """
    first = 1 if implicit else 0
    nodes = [Fraction(first - j) for j in range(steps)]
    weights = []
    for j, node in enumerate(nodes):
        polynomial = [Fraction(1)]  # coefficients, lowest power first
        for other in nodes[:j] + nodes[j + 1 :]:
            shifted = [Fraction(0), *polynomial]
            scaled = [other * each for each in polynomial] + [Fraction(0)]
            polynomial = [(s - t) / (node - other) for s, t in zip(shifted, scaled, strict=True)]
        weights.append(float(sum(each / (k + 1) for k, each in enumerate(polynomial))))
    return tuple(weights)
