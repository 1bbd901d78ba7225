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
