"""What torch may do with a solve beside computing it: transforms, and second derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pynode_jl.errors import InvalidValueError


def takes_derivatives_forward() -> bool:
    """Return whether torch is in forward mode."""
    return bool(forward_ad._current_level >= 0)


def is_transformed() -> bool:
    """Return whether `torch.func` transforms what runs now (vmap, grad, jacrev, jvp, ...)."""
    return bool(torch._C._are_functorch_transforms_active())


def records_derivatives() -> bool:
    """Return whether what is computed now may be differentiated."""
    return torch.is_grad_enabled() or takes_derivatives_forward() or is_transformed()


def derivatives_in_progress() -> int:
    """Return the most derivatives that `torch.func` and forward mode take of what runs now."""
    return len(torch._C._functorch.get_interpreter_stack() or ()) + takes_derivatives_forward()


def numbers_of(times: Tensor) -> list[float]:
    """Return times as numbers, under transforms too, where torch 2.4 has no `tolist`."""
    plain = times.detach()
    return [float(each) for each in plain] if is_transformed() else plain.tolist()


def up_to_order(solution: Tensor, orders: int, what: str, hint: str) -> Tensor:
    """Return `solution`, whose derivatives beyond this order are an error.

    A derivative of that order looks right and is not, where an iteration stands for a solution.
    """
    guarded: Tensor = _UpToOrder.apply(solution, None, orders, orders, what, hint)  # type: ignore[no-untyped-call]
    return guarded


def first_order_only(what: str, hint: str, gradients: Sequence[Tensor | None]) -> Any:
    """Return gradients that refuse to be differentiated, where a graph of them is recorded."""
    if not torch.is_grad_enabled():
        return tuple(gradients)
    given = [each.detach().requires_grad_() for each in gradients if each is not None]
    guarded = iter(_FirstOrder.apply(what, hint, *given))  # type: ignore[no-untyped-call]
    return tuple(None if each is None else next(guarded) for each in gradients)


class _FirstOrder(torch.autograd.Function):
    """The identity, whose derivative is an error."""

    @staticmethod
    def forward(ctx: Any, what: str, hint: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return copies."""
        ctx.what, ctx.hint = what, hint
        return tuple(each.clone() for each in tensors)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        """Refuse."""
        raise InvalidValueError(
            ctx.what, "a second derivative", "first derivatives alone", ctx.hint
        )


class _UpToOrder(torch.autograd.Function):
    """The identity, which counts how often it is differentiated.

    Each derivative of it has one more of these, of which the solution is an input without effect:
    so the next derivative comes by, whatever it is of.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Tensor, solution: Tensor | None, left: int, orders: int, what: str, hint: str
    ) -> Tensor:
        """Return a copy."""
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the solution, and how many derivatives are left."""
        _, solution, ctx.left, ctx.orders, ctx.what, ctx.hint = inputs
        ctx.first = solution is None
        kept = output if solution is None else solution
        ctx.save_for_backward(kept)
        ctx.save_for_forward(kept)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient, and to the solution a zero that counts."""
        (gradient,) = gradients
        to_solution = None
        _UpToOrder._check(ctx)
        if torch.is_grad_enabled():
            gradient = _UpToOrder._counted(ctx, gradient)
            if not ctx.first:
                to_solution = _UpToOrder._counted(ctx, torch.zeros_like(ctx.saved_tensors[0]))
        return gradient, to_solution, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Return the tangent."""
        _UpToOrder._check(ctx)
        (solution,) = ctx.saved_tensors
        tangent = torch.zeros_like(solution) if tangents[0] is None else tangents[0]
        return _UpToOrder._counted(ctx, tangent)

    @staticmethod
    def _check(ctx: Any) -> None:
        if ctx.left == 0:
            raise InvalidValueError(ctx.what, "one more", f"{ctx.orders} or fewer", ctx.hint)

    @staticmethod
    def _counted(ctx: Any, value: Tensor) -> Tensor:
        (solution,) = ctx.saved_tensors
        found: Tensor = _UpToOrder.apply(  # type: ignore[no-untyped-call]
            value, solution, ctx.left - 1, ctx.orders, ctx.what, ctx.hint
        )
        return found
