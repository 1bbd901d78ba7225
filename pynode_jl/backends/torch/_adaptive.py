"""Adaptive steps in torch, by torchdiffeq's rules or by Julia's.

Both see the error in units of the tolerance. torchdiffeq's steps go over the output times, and
states are interpolated; Julia's end at each of them. Step sizes are constants of the gradient; the
times in `t` are not.
"""

from __future__ import annotations

import bisect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.torch._events import MAX_EVENT_STEPS, bisect_event, no_event
from pynode_jl.backends.torch._method import Method
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._rk_step import RKStep, Row, Time, combine, rk_step
from pynode_jl.backends.torch._transforms import numbers_of
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.solvers import (
    SCALARS,
    Attempt,
    ControlMemory,
    error_scale,
    initial_step,
    interpolant,
    lost_step,
    reaches_stop,
    scaled_error,
    torchdiffeq_controller,
    updated_memory,
)

_OPTIONS = (
    "min_step", "max_step", "first_step", "step_t", "jump_t", "safety", "ifactor", "dfactor",
    "max_num_steps", "dtype",
)  # fmt: skip
_TINY = float(np.finfo(np.float64).tiny)


@dataclass
class _Piece:
    """An accepted step, to interpolate in."""

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
            middle = combine(None, dt, self.middle, [*self.stages, self.f1])
        return interpolant(self.y1 - self.y0, dt * self.f0, dt * self.f1, middle)

    def __call__(self, t: Any, shift: Tensor | None) -> Tensor:
        """Return the state at t; `shift` is the start of the solve where it asks for a gradient."""
        dt = self.t1 - self.t0
        x = (t - self.t0) / dt if shift is None else (t - (shift + self.t0)) / dt
        x = torch.as_tensor(x, dtype=self.y0.real.dtype, device=self.y0.device)
        state: Tensor = self.y0 + self.inside(x)
        return state


class _Last(NamedTuple):
    """An accepted step: its ends, its state and, if known, f at its start, and what came of it."""

    t: float
    end: float
    y: Tensor
    slope: Tensor | None
    step: RKStep


class Adaptive:
    """An adaptive solve in progress.

    `states` are those at the output times so far; `t` and `y` are where it stands.
    """

    def __init__(self, problem: Problem, method: Method) -> None:
        assert method.tableau is not None
        if method.tableau.b_error is None:
            raise InvalidValueError(
                "method", method.name, "one with an error estimate", "Give options step_size."
            )
        _check_precision(problem)
        options = dict(problem.options)
        unknown = {key: options.pop(key) for key in list(options) if key not in _OPTIONS}
        if unknown:
            warnings.warn(f"{method.name}: Unexpected arguments {unknown}", stacklevel=4)
        self._problem, self._table, self._middle = problem, method.tableau, method.middle
        self._explicit_first, self._fsal = method.tableau.explicit_first, method.tableau.fsal
        self._min, self._max = (
            float(options.get(name, default))
            for name, default in (("min_step", 0.0), ("max_step", math.inf))
        )
        default = math.inf if problem.event is None else MAX_EVENT_STEPS
        self._limit = float(options.get("max_num_steps", default))
        self._julia = method.julia
        # A backend's steps cannot be shorter than its precision resolves; those of `odeint` can.
        precision = problem.y0.real.dtype if problem.strict else torch.float64
        self._eps = float(torch.finfo(precision).eps)
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
        # A zero that carries the gradient to the start of the steps (of the whole solve, or with
        # Julia's rules since the last output): they all shift with it.
        self._shift = start - start.detach() if start.requires_grad else None
        self.t, self.y = float(start.detach()), problem.y0
        self.states = [self.y]
        # With an event the second time says the direction only.
        outputs = numbers_of(problem.t)[: 1 if problem.event is not None else None]
        self._outputs = {output: i for i, output in enumerate(outputs)}
        self._last_output = self.t
        self._jumps, self._stops = _checked_stops(options, self.t)
        if self._julia:
            self._stops = sorted({*self._stops, *outputs[1:]})
        self._slope: Tensor | None = None  # f(t, y), once it is known
        self._last: _Last | None = None
        self._piece: _Piece | None = None
        first = options.get("first_step")
        dt = float(first) if first is not None else self._initial_step()
        self._memory = ControlMemory(dt, self._control.qoldinit, False)
        self._finite = True  # the error of the last step that was tried

    def solution(self) -> Tensor:
        """Return the states at all times of the problem, stacked.

        Raises:
            SolveError: the solve failed.
        """
        t = self._problem.t
        for output, i in list(self._outputs.items())[1:]:
            while output > self.t:
                self._advance()
            if self._julia:
                self.states.append(self.y)
            else:
                exactly = t[i].to(self._precision) if t.requires_grad else output
                self.states.append(self._last_piece()(exactly, self._shift))
        return torch.stack(self.states)

    def until_event(self) -> tuple[Tensor, Tensor]:
        """Return the time where the event value meets zero, and the states at start and there."""
        event, start = self._problem.event, self._problem.y0
        assert event is not None

        def sign() -> Tensor:
            with torch.no_grad():
                return torch.sign(event(self._time(self.t), self.y))

        first = sign()
        if float(first) == 0.0:
            return self._time(self.t), torch.stack([start, self.y])
        while bool(sign() == first):
            self._advance()
        piece = self._last_piece()
        _ = piece.inside  # made here, since the bisection runs without gradients
        tolerance = float(torch.as_tensor(self._problem.atol).min())
        time = bisect_event(
            lambda t: piece(t, None), event, first, piece.t0, piece.t1, tolerance, self._time(0.0)
        )
        end = piece(time if self._shift is None else time + self._shift, self._shift)
        return time, torch.stack([start, end])

    def _time(self, t: float) -> Tensor:
        at: Time = t if self._shift is None else self._shift + t
        return torch.as_tensor(at, dtype=self._precision, device=self._problem.y0.device)

    def _slope_here(self) -> Tensor:
        """Return f(t, y) where the solve stands, beyond a jump there."""
        if self._slope is None:
            self._slope = self._problem.f(
                self._time(self.t), self.y, 1 if self.t in self._jumps else 0
            )
        return self._slope

    def _advance(self) -> None:
        """Take one accepted step."""
        counts = self._problem.counts
        accepted = False
        while not accepted:
            if counts.naccept + counts.nreject >= self._limit:
                message = f"max_num_steps = {self._limit:g} steps were not enough. Raise it."
                if self._problem.event is not None:
                    message = f"{no_event(self._problem, self.t, self._limit)} {message}"
                raise SolveError(RetCode.MaxIters, message)
            accepted = self._try_step()

    def _try_step(self) -> bool:
        problem, t, y = self._problem, self.t, self.y
        proposed = min(max(self._memory.dt, self._min), self._max)
        problem.call_back("callback_step", self._time(t), y, proposed)
        if problem.event is not None and math.isinf(t + proposed):
            tried = problem.counts.naccept + problem.counts.nreject
            raise SolveError(RetCode.MaxIters, no_event(problem, t, tried))
        if not t + proposed > t:
            if not self._finite:
                raise SolveError(
                    RetCode.Unstable,
                    f"func gives NaN or infinite numbers just beyond t = {t:g}, with the shortest"
                    " steps. Mend it: no step or tolerance would help.",
                )
            raise SolveError(
                RetCode.DtLessThanMin,
                f"underflow in dt: the step {proposed:g} is lost beside t = {t:g}. Loosen the"
                " tolerances, solve in float64, or take an implicit method.",
            )
        dt, end, at_stop = self._cut(t, proposed)
        step = self._step(t, dt, end)
        problem.counts.njac += step.njac
        error = self._error(y, step)
        self._finite = math.isfinite(error)
        usable = self._finite and step.converged
        accepted = (usable and error <= 1.0 and dt <= self._max) or dt <= self._min
        # torchdiffeq scales the step taken, Julia the step proposed.
        before = self._memory._replace(dt=proposed if self._julia else dt)
        attempt = Attempt(dt, self._julia and at_stop, error, usable, accepted and usable)
        with np.errstate(over="ignore"):  # of a step that was as long as floats go
            self._memory = updated_memory(SCALARS, self._control, before, attempt)
        name = "callback_accept_step" if accepted else "callback_reject_step"
        problem.call_back(name, self._time(t), y, dt)
        if not accepted:
            problem.counts.nreject += 1
            self._check_size(error, step.converged)
            return False
        problem.counts.naccept += 1
        self._accept(end, step)
        return True

    def _cut(self, t: float, proposed: float) -> tuple[float, float, bool]:
        """Return the step's length, its end, and whether that is a stop."""
        i = bisect.bisect_right(self._stops, t)
        if i < len(self._stops):
            stop = self._stops[i]
            if reaches_stop(SCALARS, t, proposed, stop, self._eps if self._julia else 0.0):
                return stop - t, stop, True
        return proposed, t + proposed, False

    def _step(self, t: float, dt: float, end: float) -> RKStep:
        first = self._slope_here() if self._explicit_first else None
        start_time: Time = t
        end_time: Time = end
        length: Time = dt
        if self._shift is not None:
            start_time = self._time(t)
            output = self._output_at(end)
            end_time = self._time(end) if output is None else output
            length = dt if output is None else output - start_time
        return rk_step(
            self._table,
            self._problem.f,
            start_time,
            length,
            end_time,
            self.y,
            first,
            samples=self._problem.samples,
            orders=self._problem.orders,
            side_last=-1,
        )

    def _output_at(self, end: float) -> Tensor | None:
        """Return the output time at which Julia's step ends, with its gradient."""
        if not self._julia or end not in self._outputs:
            return None
        return self._problem.t[self._outputs[end]].to(self._precision)

    def _accept(self, end: float, step: RKStep) -> None:
        if not bool(torch.isfinite(step.y).all()):
            raise SolveError(
                RetCode.Unstable,
                f"the state became NaN or infinite at t = {end:g}. Tighten tolerances.",
            )
        self._last, self._piece = _Last(self.t, end, self.y, self._slope, step), None
        if end in self._outputs:
            self._last_output = end
            output = self._output_at(end)
            if self._shift is not None and output is not None:
                self._shift = output - output.detach()
        self.t, self.y = end, step.y
        # Beyond a jump f is another one.
        known = self._fsal and end not in self._jumps
        # A backend takes f once more at each save time, as the JAX backend does.
        known = known and not (self._problem.strict and end in self._outputs)
        self._slope = step.stages[-1] if known else None

    def _last_piece(self) -> _Piece:
        """Return the last accepted step, to interpolate in."""
        if self._piece is None:
            assert self._last is not None
            t, end, y, f0, step = self._last
            if f0 is None:
                f0 = self._problem.f(self._time(t), y)
            if self._fsal:
                f1 = step.stages[-1]
            elif end in self._jumps:
                f1 = self._problem.f(self._time(end), step.y, -1)
            else:
                f1 = self._slope_here()
            self._piece = _Piece(t, end, y, step.y, f0, f1, step.stages, self._middle)
        return self._piece

    def _check_size(self, error: float, converged: bool) -> None:
        """Stop a backend's solve whose next step is lost in the rounding of the time."""
        if not self._problem.strict:
            return
        stop = self._stops[bisect.bisect_right(self._stops, self.t)]
        if self._memory.dt > lost_step(SCALARS, self.t, stop - self._last_output, self._eps):
            return
        if not math.isfinite(error):
            code = RetCode.Unstable
        else:
            code = RetCode.DtLessThanMin if converged else RetCode.ConvergenceFailure
        raise SolveError(code, code.meaning)

    def _error(self, y: Tensor, step: RKStep) -> float:
        problem = self._problem
        with torch.no_grad():
            scale = error_scale(torch, problem.rtol, problem.atol, y, step.y)
            error: float = scaled_error(
                SCALARS,
                self._table.error_rule,
                step.errors,
                lambda each: float(abs(problem.norm(each / scale))),
            )
        return error

    def _initial_step(self) -> float:
        problem, t, y = self._problem, self.t, self.y
        # As Julia, which takes f there once more for the first step.
        slope = problem.f(self._time(t), y) if self._julia else self._slope_here()
        longest, smallest = math.inf, max(self._eps * abs(t), _TINY)
        if self._julia and len(self._outputs) > 1:
            longest = list(self._outputs)[1] - t
            smallest = self._eps * max(abs(t), longest)

        def norm(x: Tensor) -> float:
            return float(abs(problem.norm(x / scale)))

        def slope_change(size: float) -> float:
            return norm(problem.f(self._time(t + float(size)), y + float(size) * slope) - slope)

        with torch.no_grad(), np.errstate(all="ignore"):
            scale = error_scale(torch, problem.rtol, problem.atol, y)
            step = initial_step(
                np,
                np.float64(norm(y)),
                np.float64(norm(slope)),
                slope_change,
                order=self._table.order,
                smallest=smallest,
                longest=longest,
            )
        return float(step)


def _check_precision(problem: Problem) -> None:
    """Refuse a tolerance that is none, or that f's own rounding keeps from being met."""
    for name, value in (("rtol", problem.rtol), ("atol", problem.atol)):
        if value is None:
            raise InvalidValueError(name, value, "a number", f"Use {name}=1e-7, say.")
    if problem.dtype in (None, problem.y0.dtype):
        return
    least = torch.finfo(problem.dtype).eps
    if float(torch.as_tensor(problem.rtol).min()) < least:
        raise InvalidValueError(
            "rtol",
            problem.rtol,
            f"{least:g} or more, where y0 is {problem.dtype}",
            "Solve in float32 (y0.float()), or pass rtol=1e-2, atol=1e-2, say.",
        )


def _checked_stops(options: dict[str, Any], begin: float) -> tuple[set[float], list[float]]:
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
