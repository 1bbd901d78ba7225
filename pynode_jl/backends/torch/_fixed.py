"""Steps on a grid in torch, of Runge-Kutta methods and Adams'."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pynode_jl._validation import real_number
from pynode_jl.backends._results import RetCode
from pynode_jl.backends.torch._adams import MAX_VALUES, adams_step
from pynode_jl.backends.torch._events import MAX_EVENT_STEPS, bisect_event, no_event
from pynode_jl.backends.torch._method import Method
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import RKStep, Time, rk_step
from pynode_jl.backends.torch._transforms import numbers_of
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.solvers import Solver, interpolant

_OPTIONS = ("step_size", "grid_constructor", "interp", "perturb", "max_iters", "max_num_steps")
_ADAMS_OPTIONS = (*_OPTIONS, "max_order")

# (t, dt, end, y) -> (y at the end, f at the start)
Stepper = Callable[[Time, Time, Time, Tensor], tuple[Tensor, Tensor]]


class _Interval(NamedTuple):
    t: Time
    dt: Time
    end: Time


class Fixed:
    """A solve on a grid, in progress.

    `states` are those at the output times so far; `t` and `y` are where it stands.

    The grid is the times themselves, unless options give a `step_size` or a `grid_constructor`.
    By torchdiffeq's rules the grid of a step size runs from the first time to the last, and the
    states at times between its points are interpolated, linearly unless `interp` is "cubic". By
    Julia's it ends a step at each time.
    """

    def __init__(self, problem: Problem, method: Method) -> None:
        options = dict(problem.options)
        known = _ADAMS_OPTIONS if method.kind == "adams" else _OPTIONS
        unknown = {key: options.pop(key) for key in list(options) if key not in known}
        if unknown:
            warnings.warn(f"{method.name}: Unexpected arguments {unknown}", stacklevel=4)
        unsupported = set(problem.callbacks) - {"callback_step"}
        if unsupported:
            warnings.warn(
                f"method {method.name!r} does not support callbacks {unsupported}", stacklevel=4
            )
        self._problem, self._julia = problem, method.julia
        self._interp = options.get("interp", "linear")
        if self._interp not in ("linear", "cubic"):
            raise InvalidValueError(
                "interp", self._interp, '"linear" or "cubic"', "Use one of them."
            )
        self._side = 1 if options.get("perturb", False) else 0
        self._step_size, self._constructor = (
            options.get(name) for name in ("step_size", "grid_constructor")
        )
        if self._step_size is not None and self._constructor is not None:
            raise InvalidValueError(
                "grid_constructor", self._constructor, "None where step_size is given", "Drop one."
            )
        if self._step_size is not None:
            real_number("step_size", float(self._step_size), "Give a positive step.", above=0.0)
        self._limit = float(options.get("max_num_steps", math.inf))
        self.t, self.y = _value(problem.t[0]), problem.y0
        self.states = [self.y]
        self._step: Stepper
        if method.kind == "adams":
            most = int(options.get("max_order", MAX_VALUES))
            rounds = int(options.get("max_iters", 4))
            self._step = adams_step(
                problem, implicit=method.implicit, most=most, rounds=rounds, side=self._side
            )
        else:
            self._step = self._rk(method)

    def solution(self) -> Tensor:
        """Return the states at all times of the problem, stacked.

        Raises:
            SolveError: the solve failed.
        """
        problem, counts = self._problem, self._problem.counts
        t = problem.t
        outputs = numbers_of(t)
        j = 1
        for interval in self._grid():
            if counts.naccept >= self._limit:
                raise SolveError(RetCode.MaxIters, RetCode.MaxIters.meaning)
            problem.call_back("callback_step", interval.t, self.y, interval.dt)
            y, (new, slope) = self.y, self._step(*interval, self.y)
            counts.naccept += 1
            end = _value(interval.end)
            self.t, self.y = end, new
            while j < len(outputs) and end >= outputs[j]:
                if problem.strict and not bool(torch.isfinite(new).all()):
                    raise SolveError(RetCode.Unstable, RetCode.Unstable.meaning)
                self.states.append(self._between(interval, y, new, slope, t[j], outputs[j]))
                j += 1
        return torch.stack(self.states)

    def until_event(self) -> tuple[Tensor, Tensor]:
        """Return the time where the event value meets zero, and the states at start and there."""
        problem, event = self._problem, self._problem.event
        assert event is not None
        if self._step_size is None:
            raise InvalidValueError(
                "options['step_size']", None, "a step, where event_fn is given", "Give one."
            )
        like = problem.t[0].detach().to(problem.y0.real.dtype)
        t, y, dt = float(like), problem.y0, float(self._step_size)

        def sign(t: float, y: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.sign(event(torch.full_like(like, t), y))

        first = sign(t, y)
        limit = self._limit if math.isfinite(self._limit) else MAX_EVENT_STEPS
        for _ in range(int(limit)):
            new, slope = self._step(t, dt, t + dt, y)
            if not bool(sign(t + dt, new) == first):
                break
            t, y = t + dt, new
        else:
            raise SolveError(
                RetCode.MaxIters,
                f"{no_event(problem, t, limit)} Take a larger step_size, or raise max_num_steps.",
            )
        interval = _Interval(t, dt, t + dt)

        def inside(time: Tensor) -> Tensor:
            return self._between(interval, y, new, slope, time, float(time))

        tolerance = float(torch.as_tensor(problem.atol).min())
        time = bisect_event(inside, event, first, t, t + dt, tolerance, like)
        return time, torch.stack([problem.y0, inside(time)])

    def _rk(self, method: Method) -> Stepper:
        assert method.tableau is not None
        table, problem, side = method.tableau, self._problem, self._side
        explicit = table.explicit_first

        def step(t: Time, dt: Time, end: Time, y: Tensor) -> tuple[Tensor, Tensor]:
            result = rk_step(
                table,
                problem.f,
                t,
                dt,
                end,
                y,
                samples=problem.samples,
                orders=problem.orders,
                with_error=False,
                side_first=side,
                side_last=-side if explicit else -1,
            )
            problem.counts.njac += result.njac
            _check_newton(result, t)
            # f at the start serves cubic interpolation.
            if explicit or self._interp == "linear":
                return result.y, result.stages[0]
            return result.y, problem.f(self._tensor(t), y, side)

        return step

    def _tensor(self, t: Time) -> Tensor:
        y = self._problem.y0
        return torch.as_tensor(t, dtype=torch.float64, device=y.device)

    def _grid(self) -> list[_Interval]:
        t = self._problem.t
        if len(t) == 1:
            return []
        if self._constructor is not None:
            points = self._constructor(self._problem.rhs, self._problem.y0, t)
            if [_value(points[0]), _value(points[-1])] != [_value(t[0]), _value(t[-1])]:
                raise InvalidValueError(
                    "grid_constructor",
                    points,
                    "a grid from the first time to the last",
                    "Correct it.",
                )
        elif self._step_size is None:
            points = t
        else:
            parts = pairwise(t) if self._julia else [(t[0], t[-1])]
            points = torch.cat([t[:1], *(self._part(a, b) for a, b in parts)])
        if points.requires_grad:
            return [_Interval(a, b - a, b) for a, b in pairwise(points)]
        return [_Interval(a, b - a, b) for a, b in pairwise(numbers_of(points))]

    def _part(self, a: Tensor, b: Tensor) -> Tensor:
        """Return points from a (left out) to b, `step_size` apart, the last step shortened."""
        assert self._step_size is not None
        begin, end = _value(a), _value(b)
        grid = Solver("Euler", dt=min(float(self._step_size), end - begin)).grid(begin, end)
        # More points than the budget of steps has use for may not fit in memory.
        count = int(min(grid.n, self._limit + 2))
        inner = torch.arange(1, count, dtype=b.dtype, device=b.device)
        return torch.cat([a + inner * grid.dt, b.reshape(1)])

    def _between(
        self, interval: _Interval, y0: Tensor, y1: Tensor, slope: Tensor, t: Tensor, value: float
    ) -> Tensor:
        """Return the state at t (of that value) within a step."""
        start, dt, end = interval
        x = ((t - start) / dt).to(y0.real.dtype)
        dt = torch.as_tensor(dt, dtype=x.dtype, device=x.device)
        if self._interp == "cubic":
            last = self._problem.f(self._tensor(end), y1)
            inside = interpolant(y1 - y0, dt * slope, dt * last)
            return y0 + inside(x)  # type: ignore[no-any-return]
        return y1 if value == _value(end) else y0 + x * (y1 - y0)


def _value(t: Time) -> float:
    return float(t.detach()) if isinstance(t, Tensor) else t


def _check_newton(step: RKStep, t: Time) -> None:
    if step.converged:
        return
    finite = bool(torch.isfinite(step.y).all())
    raise SolveError(
        RetCode.ConvergenceFailure if finite else RetCode.Unstable,
        f"Newton's iteration for an implicit stage of the step at t = {_value(t):g} did not"
        " converge. Take a smaller step.",
    )
