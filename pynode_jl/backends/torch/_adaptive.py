"""Adaptive steps in torch, by torchdiffeq's rule or by Julia's.

Both see the error in units of the tolerance. torchdiffeq's rule steps past the output times and
interpolates back; Julia's ends a step at each of them. Step sizes are constants of the gradient;
the times in `t` are not.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pynode_jl.backends.torch._events import bisected
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import Time, combined, runge_kutta
from pynode_jl.errors import InvalidValueError, SolveError

if TYPE_CHECKING:
    from pynode_jl.frontends.torch._methods import Method

_OPTIONS = (
    "min_step", "max_step", "first_step", "step_t", "jump_t", "safety", "ifactor", "dfactor",
    "max_num_steps", "dtype",
)  # fmt: skip


class Attempt(NamedTuple):
    """What a rule sees of a step: the step taken, the step it had proposed (longer where a stop
    cut it), the scaled error, and whether the step stands."""

    taken: float
    proposed: float
    error: float
    accepted: bool


Rule = Callable[[Attempt], float]


class Torchdiffeqs:
    """torchdiffeq's rule: an I controller that does not shrink a step after an accepted one."""

    def __init__(self, order: int, safety: float, ifactor: float, dfactor: float) -> None:
        self._exponent = 1.0 / order
        self._safety, self._ifactor, self._dfactor = safety, ifactor, dfactor

    def __call__(self, last: Attempt) -> float:
        """The next step to try."""
        if last.error == 0.0:
            return last.taken * self._ifactor
        if not math.isfinite(last.error):
            return last.taken * self._dfactor
        least = 1.0 if last.error < 1.0 else self._dfactor
        factor = max(self._safety / last.error**self._exponent, least)
        return float(last.taken * min(self._ifactor, factor))


class Julias:
    """`pynode_jl.solvers.Controller`, as the embedded backend runs it."""

    def __init__(self, control: Any) -> None:
        self._control = control
        self._old_error = control.qoldinit
        self._started = False

    def __call__(self, last: Attempt) -> float:
        """The next step to try."""
        c, h, error = self._control, last.taken, last.error
        if not math.isfinite(error):
            return float(h * c.qmin)
        q11 = max(error, torch.finfo(torch.float64).tiny) ** c.beta1
        if not last.accepted:
            return float(h / min(1 / c.qmin, q11 / c.gamma))
        qmax = c.qmax if self._started else c.qmax_first_step
        q = 1 / qmax if error == 0 else q11 / self._old_error**c.beta2 / c.gamma
        q = min(max(q, 1 / qmax), 1 / c.qmin)
        if c.qsteady_min <= q <= c.qsteady_max:
            q = 1.0
        self._old_error, self._started = max(error, c.qoldinit), True
        # A step cut by a stop says how far *it* could grow, and leaves the proposed one else.
        if h / q > last.proposed:
            return float(h / q)
        return float(last.proposed if h < last.proposed else last.proposed / q)


@dataclass
class _Piece:
    """The last accepted step: enough to interpolate in it."""

    t0: float
    t1: float
    y0: Tensor
    y1: Tensor
    f0: Tensor
    f1: Tensor
    middle: Tensor | None

    def __call__(self, t: Any, shift: Tensor | None) -> Tensor:
        """The state at t: a cubic, or the quartic that also meets `middle`."""
        if self.t1 == self.t0:
            return self.y1
        dt = self.t1 - self.t0
        x = (t - self.t0) / dt if shift is None else (t - (shift + self.t0)) / dt
        x = torch.as_tensor(x, dtype=self.y0.real.dtype, device=self.y0.device)
        y: Tensor = hermite(x, dt, self.y0, self.y1, self.f0, self.f1)
        if self.middle is not None:
            at_middle = (self.y0 + self.y1) / 2 + (self.f0 - self.f1) * (dt / 8)
            bubble: Tensor = 16 * x**2 * (1 - x) ** 2
            return y + bubble * (self.middle - at_middle)
        return y


def hermite(x: Any, dt: Any, y0: Tensor, y1: Tensor, f0: Tensor, f1: Tensor) -> Tensor:
    """The cubic that meets states and slopes at both ends, at the share x of the step."""
    change = y1 - y0
    bend = (1 - 2 * x) * change + (x - 1) * dt * f0 + x * dt * f1
    value: Tensor = y0 + x * change + x * (x - 1) * bend
    return value


class Adaptive:
    """An adaptive solve under way."""

    def __init__(self, problem: Problem, method: Method) -> None:
        assert method.coefficients is not None
        if not method.coefficients.errors:
            raise InvalidValueError(
                "method", method.name, "one with an error estimate", "Give options step_size."
            )
        options = dict(problem.options)
        unknown = {key: options.pop(key) for key in list(options) if key not in _OPTIONS}
        if unknown:
            warnings.warn(f"{method.name}: Unexpected arguments {unknown}", stacklevel=4)
        self._problem, self._table, self._middle = problem, method.coefficients, method.middle
        self._min, self._max = (
            float(options.get(name, default))
            for name, default in (("min_step", 0.0), ("max_step", math.inf))
        )
        self._limit = float(options.get("max_num_steps", math.inf))
        self._stops_at_outputs = method.julia
        self._precision = torch.promote_types(
            options.get("dtype", torch.float64), problem.y0.real.dtype
        )
        order = self._table.order
        self._rule: Rule = (
            Julias(method.control)
            if method.control is not None
            else Torchdiffeqs(
                order,
                *(
                    float(options.get(name, default))
                    for name, default in (("safety", 0.9), ("ifactor", 10.0), ("dfactor", 0.2))
                ),
            )
        )
        start = problem.t[0]
        self._shift = start - start.detach() if start.requires_grad else None
        self._t, self._y = float(start.detach()), problem.y0
        self._slope: Tensor | None = problem.rhs(self._time(self._t), self._y)
        self._steps = 0
        first = options.get("first_step")
        self._dt = float(first) if first is not None else self._initial_step(method)
        self._piece = _Piece(
            self._t,
            self._t,
            self._y,
            self._y,
            self._slope,
            self._slope,
            None,
        )
        self._jumps, self._stops = self._checked_stops(options)

    # Times are floats; a tensor where the start asks for a gradient, since all shift with it.
    def _time(self, t: float) -> Any:
        y = self._problem.y0
        at: Time = t if self._shift is None else self._shift + t
        return torch.as_tensor(at, dtype=self._precision, device=y.device)

    def solution(self) -> Tensor:
        """The states at all times of the problem, stacked."""
        t = self._problem.t
        outputs = t.detach().tolist()
        if self._stops_at_outputs:
            self._stops = sorted({*self._stops, *outputs[1:]})
        states = [self._y]
        for i in range(1, len(outputs)):
            while outputs[i] > self._t:
                self._advance()
            exactly = t[i].to(self._precision) if t.requires_grad else outputs[i]
            states.append(self._piece(exactly, self._shift))
        return torch.stack(states)

    def until_event(self) -> tuple[Tensor, Tensor]:
        """The time where the event value first meets zero, and the states at start and there."""
        event, start = self._problem.event, self._problem.y0
        assert event is not None

        def side() -> Tensor:
            with torch.no_grad():
                return torch.sign(event(self._time(self._t), self._y))

        first = side()
        if float(first) == 0.0:
            return self._time(self._t), torch.stack([start, self._y])
        while bool(side() == first):
            self._advance()
        piece = self._piece
        tolerance = float(torch.as_tensor(self._problem.atol).min())
        time = bisected(
            lambda t: piece(t, None), event, first, piece.t0, piece.t1, tolerance, self._time(0.0)
        )
        end = piece(time if self._shift is None else time + self._shift, self._shift)
        return time, torch.stack([start, end])

    def _advance(self) -> None:
        """One accepted step."""
        accepted = False
        while not accepted:
            if self._steps >= self._limit:
                raise SolveError(
                    "MaxIters", f"max_num_steps = {self._limit:g} steps were not enough. Raise it."
                )
            self._steps += 1
            accepted = self._try()

    def _try(self) -> bool:
        problem, table, t, y = self._problem, self._table, self._t, self._y
        proposed = min(max(self._dt, self._min), self._max)
        problem.call_back("callback_step", self._time(t), y, proposed)
        if not t + proposed > t:
            raise SolveError(
                "DtLessThanMin",
                f"underflow in dt: the step {proposed:g} is lost beside t = {t:g}. Loosen the"
                " tolerances, solve in float64, or take an implicit method.",
            )
        dt, end, stop = proposed, t + proposed, self._next_stop(t)
        rounding = 100 * torch.finfo(torch.float64).eps * max(abs(t), abs(end))
        if end > stop - (rounding if self._stops_at_outputs else 0.0):
            dt, end = stop - t, stop
        if self._slope is None:
            self._slope = problem.rhs(self._time(t), y)
        start = self._time(t) if self._shift is not None else t
        step = runge_kutta(
            table,
            problem.rhs,
            start,
            dt,
            self._time(end) if self._shift is not None else end,
            y,
            self._slope if table.explicit_first else None,
            nudge_last=-1,
        )
        error = self._error(y, step.y, step.errors)
        accepted = (error <= 1.0 and dt <= self._max) or dt <= self._min
        self._dt = self._rule(Attempt(dt, proposed, error, accepted))
        told = "callback_accept_step" if accepted else "callback_reject_step"
        problem.call_back(told, self._time(t), y, dt)
        if not accepted:
            return False
        if not bool(torch.isfinite(step.y).all()):
            raise SolveError(
                "Unstable", f"the state became NaN or infinite at t = {end:g}. Tighten tolerances."
            )
        slope = step.stages[-1] if table.fsal else problem.rhs(self._time(end), step.y, -1)
        self._piece = _Piece(
            t, end, y, step.y, self._slope, slope, self._middle_state(y, dt, step.stages, slope)
        )
        # Beyond a jump f is another one: evaluate it on that side.
        beyond = problem.rhs(self._time(end), step.y, 1) if end in self._jumps else slope
        self._t, self._y, self._slope = end, step.y, beyond
        return True

    def _middle_state(
        self, y: Tensor, dt: float, stages: list[Tensor], slope: Tensor
    ) -> Tensor | None:
        if self._middle is None:
            return None
        return combined(y, dt, self._middle, [*stages, slope])

    def _error(self, y: Tensor, new: Tensor, errors: tuple[Tensor, ...]) -> float:
        problem = self._problem
        with torch.no_grad():
            scale = problem.atol + problem.rtol * torch.maximum(y.abs(), new.abs())
            norms = [float(abs(problem.norm(each / scale))) for each in errors]
        if self._table.error_rule == "single" or not all(map(math.isfinite, norms)):
            return norms[0] if math.isfinite(norms[0]) else math.inf
        first, second = norms
        if self._table.error_rule == "max":
            return max(first, second)
        total = first**2 + 0.01 * second**2
        return first**2 / math.sqrt(total) if total > 0 else 0.0

    def _initial_step(self, method: Method) -> float:
        """Hairer, Norsett, Wanner, *Solving ODEs I*, II.4; both rules run it so."""
        problem, norm = self._problem, self._problem.norm
        with torch.no_grad():
            y, slope = self._y, self._slope
            assert slope is not None
            scale = problem.atol + problem.rtol * y.abs()
            d0, d1 = (float(abs(norm(each / scale))) for each in (y, slope))
            guess = 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1
            if not math.isfinite(guess):
                return 1e-6
            after = problem.rhs(self._time(self._t + guess), y + guess * slope)
            d2 = float(abs(norm((after - slope) / scale))) / guess
        steepest = max(d1, d2)
        if steepest <= 1e-15:
            best = max(1e-6, guess * 1e-3)
        else:
            best = (0.01 / steepest) ** (1.0 / self._table.order)
        step = min(100 * guess, best)
        if method.julia and problem.event is None:
            step = min(step, float(problem.t[-1].detach()) - self._t)
        return step if math.isfinite(step) and step > 0 else 1e-6

    def _checked_stops(self, options: dict[str, Any]) -> tuple[set[float], list[float]]:
        begin = self._t
        lists = [
            [float(each) for each in torch.as_tensor(options[name]).reshape(-1)]
            if options.get(name) is not None
            else []
            for name in ("step_t", "jump_t")
        ]
        inside = [[each for each in values if each >= begin] for values in lists]
        if len({*inside[0], *inside[1]}) < len(inside[0]) + len(inside[1]):
            raise InvalidValueError(
                "step_t, jump_t", lists, "times that differ from each other", "Drop the repeats."
            )
        return set(inside[1]), sorted(inside[0] + inside[1])

    def _next_stop(self, t: float) -> float:
        i = bisect.bisect_right(self._stops, t)
        return self._stops[i] if i < len(self._stops) else math.inf
