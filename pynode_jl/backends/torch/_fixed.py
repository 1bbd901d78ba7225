"""Steps on a grid in torch: Runge-Kutta methods and Adams', as torchdiffeq runs them."""

from __future__ import annotations

import collections
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.torch._events import bisect_event
from pynode_jl.backends.torch._method import Method
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import RKStep, Time, rk_step
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.solvers import Solver, interpolant, tableau

_OPTIONS = ("step_size", "grid_constructor", "interp", "perturb", "max_iters", "max_num_steps")
_ADAMS_OPTIONS = (*_OPTIONS, "max_order")
_MAX_EVENT_STEPS = 20_000
# torchdiffeq's: Adams from four values of f on, of at most eleven; below that, the 3/8 rule.
_ADAMS_MIN, _ADAMS_MAX = 4, 12

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
        self._limit = float(options.get("max_num_steps", math.inf)) if problem.strict else math.inf
        self.t, self.y = _value(problem.t[0]), problem.y0
        self.states = [self.y]
        self._step = self._adams(method, options) if method.kind == "adams" else self._rk(method)

    def solution(self) -> Tensor:
        """Return the states at all times of the problem, stacked.

        Raises:
            SolveError: the solve failed.
        """
        problem, counts = self._problem, self._problem.counts
        t = problem.t
        outputs = t.detach().tolist()
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
        for _ in range(_MAX_EVENT_STEPS):
            new, slope = self._step(t, dt, t + dt, y)
            if not bool(sign(t + dt, new) == first):
                break
            t, y = t + dt, new
        else:
            raise SolveError(
                RetCode.MaxIters, f"no event in {_MAX_EVENT_STEPS} steps. Take a larger step_size."
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

    def _adams(self, method: Method, options: dict[str, Any]) -> Stepper:
        """Return Adams-Bashforth's step, corrected by Adams-Moulton's if the method is implicit.

        The grid is taken for equidistant.
        """
        most = int(options.get("max_order", _ADAMS_MAX))
        if not 1 <= most <= _ADAMS_MAX:
            raise InvalidValueError("max_order", most, f"1 to {_ADAMS_MAX}", "Lower it.")
        if most < _ADAMS_MIN:
            warnings.warn(f"max_order below {_ADAMS_MIN}: the 3/8 rule runs alone", stacklevel=5)
        problem, side = self._problem, self._side
        rounds = int(options.get("max_iters", 4))
        history: collections.deque[Tensor] = collections.deque(maxlen=most - 1 or 1)
        starter = tableau("RK38")

        def weighted(weights: tuple[float, ...]) -> Tensor:
            total = history[0] * weights[0]
            for weight, slope in zip(weights[1:], list(history)[1:], strict=True):
                total = torch.add(total, slope, alpha=weight)
            return total

        def step(t: Time, dt: Time, end: Time, y: Tensor) -> tuple[Tensor, Tensor]:
            slope = problem.f(self._tensor(t), y, side)
            history.appendleft(slope)
            size = len(history)
            if size < _ADAMS_MIN - 1:
                started = rk_step(starter, problem.f, t, dt, end, y, slope, side_last=-side)
                return started.y, slope
            change = dt * weighted(adams_weights(size, implicit=False))
            if method.implicit:
                ahead, *behind = adams_weights(size + 1, implicit=True)
                known = dt * weighted(tuple(behind))
                for _ in range(rounds):
                    old = change
                    value = problem.f(self._tensor(end), y + old, -side)
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
                    "grid_constructor", points, "a grid from the first time to the last", "Mend it."
                )
        elif self._step_size is None:
            points = t
        else:
            parts = pairwise(t) if self._julia else [(t[0], t[-1])]
            points = torch.cat([t[:1], *(self._part(a, b) for a, b in parts)])
        if points.requires_grad:
            return [_Interval(a, b - a, b) for a, b in pairwise(points)]
        return [_Interval(a, b - a, b) for a, b in pairwise(points.tolist())]

    def _part(self, a: Tensor, b: Tensor) -> Tensor:
        """Return points from a (left out) to b, `step_size` apart, the last step shortened."""
        assert self._step_size is not None
        begin, end = _value(a), _value(b)
        grid = Solver("Euler", dt=min(float(self._step_size), end - begin)).grid(begin, end)
        inner = torch.arange(1, grid.n, dtype=b.dtype, device=b.device)
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


@cache
def adams_weights(steps: int, *, implicit: bool) -> tuple[float, ...]:
    """Weights of f at the times 0, -1, -2, ... (with f at 1 in front if `implicit`) in the Adams
    method that uses `steps` of them, for an equidistant grid of step 1: the integrals over [0, 1]
    of the Lagrange polynomials (Hairer, Norsett, Wanner, *Solving ODEs I*, III.1)."""
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
