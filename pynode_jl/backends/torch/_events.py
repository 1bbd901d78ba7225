"""Where an event value crosses zero, and the gradient of that time and state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pynode_jl.backends.torch._problem import Event, Problem
from pynode_jl.backends.torch._transforms import first_order_only

# An event that never comes is waited for so long, unless `max_num_steps` says otherwise.
MAX_EVENT_STEPS = 20_000


def no_event(problem: Problem, t: float, steps: float) -> str:
    """Return what a solve says that has not met its event up to t."""
    return f"no event up to t = {-t if problem.reversed else t:g}, in {steps:g} steps."


def bisect_event(
    interpolant: Callable[[Tensor], Tensor],
    event: Event,
    sign: Tensor,
    t0: float,
    t1: float,
    tolerance: float,
    like: Tensor,
) -> Tensor:
    """Return the time in [t0, t1] where `event` leaves its sign at t0, to `tolerance`.

    It is a scalar tensor as `like`.
    """
    with torch.no_grad():
        for _ in range(max(0, math.ceil(math.log2(max(t1 - t0, tolerance) / tolerance)))):
            middle = (t0 + t1) / 2
            time = torch.full_like(like, middle)
            if bool(torch.sign(event(time, interpolant(time))) == sign):
                t0 = middle
            else:
                t1 = middle
        return torch.full_like(like, (t0 + t1) / 2)


class EventGradient(torch.autograd.Function):
    """The identity on the (time, state) of an event, with the derivatives of the event.

    By the implicit function theorem (Chen, Amos, Nickel 2021, "Learning neural event functions",
    eq. 7): the event's time depends on the state, and the state moves along f with the time.
    """

    @staticmethod
    def forward(
        ctx: Any, rhs: Callable[..., Tensor], event: Event, time: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both unchanged."""
        ctx.rhs, ctx.event = rhs, event
        ctx.save_for_backward(time, state)
        return time.detach().clone(), state.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the whole gradient as one of the state at the (now fixed) time."""
        to_time, to_state = gradients
        time, state = (each.detach().requires_grad_() for each in ctx.saved_tensors)
        with torch.enable_grad():
            value = ctx.event(time, state)
            by_time, by_state = torch.autograd.grad(
                value, (time, state), allow_unused=True, materialize_grads=True
            )
        slope = ctx.rhs(time, state).detach()
        along = by_time + torch.sum(by_state * slope)
        total = to_time + torch.sum(to_state * slope)
        (gradient,) = first_order_only(
            "odeint_event",
            "Differentiate an odeint up to the event's time, held fixed, instead.",
            [to_state - by_state * (total / (along + 1e-12))],
        )
        return None, None, None, gradient
