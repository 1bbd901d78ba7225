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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pynode_jl.backends.torch._events import bisected
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import Time, combined, runge_kutta
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.solvers import (
    SCALARS,
    Attempt,
    ControlMemory,
    error_scale,
    initial_step,
    interpolant,
    reaches_stop,
    scaled_error,
    torchdiffeq_controller,
    updated_memory,
)

if TYPE_CHECKING:
    from pynode_jl.backends.torch._coefficients import Row
    from pynode_jl.frontends.torch._methods import Method

_OPTIONS = (
    "min_step", "max_step", "first_step", "step_t", "jump_t", "safety", "ifactor", "dfactor",
    "max_num_steps", "dtype",
)  # fmt: skip
_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


@dataclass
class _Piece:
    """The last accepted step, to interpolate in."""

    t0: float
    t1: float
    y0: Tensor
    y1: Tensor
    f0: Tensor
    f1: Tensor
    stages: list[Tensor]
    middle: Row | None

    @cached_property
    def inside(self) -> Callable[[Any], Any]:
        """The interpolant: a cubic, or the quartic where `middle` has weights."""
        dt = self.t1 - self.t0
        middle = None
        if self.middle is not None:
            middle = combined(None, dt, self.middle, [*self.stages, self.f1])
        return interpolant(self.y1 - self.y0, dt * self.f0, dt * self.f1, middle)

    def __call__(self, t: Any, shift: Tensor | None) -> Tensor:
        """Return the state at t; `shift` is the start of the solve where it asks for a gradient."""
        if self.t1 == self.t0:
            return self.y1
        dt = self.t1 - self.t0
        x = (t - self.t0) / dt if shift is None else (t - (shift + self.t0)) / dt
        x = torch.as_tensor(x, dtype=self.y0.real.dtype, device=self.y0.device)
        state: Tensor = self.y0 + self.inside(x)
        return state


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
        self._control = method.control or torchdiffeq_controller(
            self._table.order,
            **{
                name: float(options[name])
                for name in ("safety", "ifactor", "dfactor")
                if name in options
            },
        )
        start = problem.t[0]
        self._shift = start - start.detach() if start.requires_grad else None
        self._t, self._y = float(start.detach()), problem.y0
        self._slope: Tensor | None = problem.rhs(self._time(self._t), self._y)
        self._steps = 0
        first = options.get("first_step")
        dt = float(first) if first is not None else self._initial_step()
        self._memory = ControlMemory(dt, self._control.qoldinit, False)
        self._piece = _Piece(
            self._t,
            self._t,
            self._y,
            self._y,
            self._slope,
            self._slope,
            [],
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
        _ = piece.inside  # made here, for the bisection runs without gradients
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
        proposed = min(max(self._memory.dt, self._min), self._max)
        problem.call_back("callback_step", self._time(t), y, proposed)
        if not t + proposed > t:
            raise SolveError(
                "DtLessThanMin",
                f"underflow in dt: the step {proposed:g} is lost beside t = {t:g}. Loosen the"
                " tolerances, solve in float64, or take an implicit method.",
            )
        dt, end, stop = proposed, t + proposed, self._next_stop(t)
        at_stop = stop < math.inf and reaches_stop(
            SCALARS, t, proposed, stop, _EPS if self._stops_at_outputs else 0.0
        )
        if at_stop:
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
        usable = math.isfinite(error)
        # torchdiffeq scales the step taken, Julia the step proposed.
        before = self._memory._replace(dt=proposed if self._stops_at_outputs else dt)
        attempt = Attempt(
            dt, self._stops_at_outputs and at_stop, error, usable, accepted and usable
        )
        self._memory = updated_memory(SCALARS, self._control, before, attempt)
        told = "callback_accept_step" if accepted else "callback_reject_step"
        problem.call_back(told, self._time(t), y, dt)
        if not accepted:
            return False
        if not bool(torch.isfinite(step.y).all()):
            raise SolveError(
                "Unstable", f"the state became NaN or infinite at t = {end:g}. Tighten tolerances."
            )
        slope = step.stages[-1] if table.fsal else problem.rhs(self._time(end), step.y, -1)
        self._piece = _Piece(t, end, y, step.y, self._slope, slope, step.stages, self._middle)
        # Beyond a jump f is another one: evaluate it on that side.
        beyond = problem.rhs(self._time(end), step.y, 1) if end in self._jumps else slope
        self._t, self._y, self._slope = end, step.y, beyond
        return True

    def _error(self, y: Tensor, new: Tensor, errors: tuple[Tensor, ...]) -> float:
        problem = self._problem
        with torch.no_grad():
            scale = error_scale(torch, problem.rtol, problem.atol, y, new)
            error: float = scaled_error(
                SCALARS,
                self._table.error_rule,
                errors,
                lambda each: float(abs(problem.norm(each / scale))),
            )
        return error

    def _initial_step(self) -> float:
        problem, t, y, slope = self._problem, self._t, self._y, self._slope
        assert slope is not None
        bounded = self._stops_at_outputs and problem.event is None

        def norm(x: Tensor) -> float:
            return float(abs(problem.norm(x / scale)))

        def slope_change(size: float) -> float:
            return norm(problem.rhs(self._time(t + float(size)), y + float(size) * slope) - slope)

        with torch.no_grad(), np.errstate(all="ignore"):
            scale = error_scale(torch, problem.rtol, problem.atol, y)
            step = initial_step(
                np,
                np.float64(norm(y)),
                np.float64(norm(slope)),
                slope_change,
                order=self._table.order,
                smallest=max(_EPS * abs(t), _TINY),
                longest=float(problem.t[-1].detach()) - t if bounded else math.inf,
            )
        return float(step)

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
