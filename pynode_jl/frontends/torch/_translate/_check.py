"""Comparison of a translation with its module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from pynode_jl.backends.torch import as_function_of_time, call_with_rhs
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError


def check_numbers(module: nn.Module, translation: Translation, y: Tensor, *, timed: bool) -> None:
    """Compare a translation with its module at random states and times.

    Raises:
        UntranslatableError: the numbers differ, or the module fails there.
    """
    random = torch.Generator().manual_seed(0)
    function = module if timed else as_function_of_time(module)
    shape = translation.field.state_shape
    sizes = (2, *y.shape[1:]) if y.ndim > len(shape) else tuple(y.shape)
    weights = translation.tensors(dict(module.named_parameters()))
    with torch.no_grad():
        for moment in (0.3, -1.7):
            states = torch.randn(*sizes, generator=random, dtype=y.dtype)
            time = torch.tensor(moment, dtype=y.dtype)
            try:
                expected = function(time, states)
            except Exception as error:  # the user's own code
                reason = f"It fails at a test state ({type(error).__name__}: {error})"
                raise UntranslatableError(module, reason) from None
            flat = states.reshape(-1, *shape)
            value = partial(_evaluate, time, flat)
            actual = call_with_rhs(translation.field, weights, flat, value).reshape(states.shape)
            tolerance = 1e3 * torch.finfo(y.dtype).eps
            # Weights may be NaN for a while: such numbers are the same if both are.
            same = isinstance(expected, Tensor) and expected.shape == actual.shape
            if not same or not torch.allclose(
                actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                raise UntranslatableError(module, "Its numbers are not those of what was read")


def _evaluate(t: Tensor, y: Tensor, f: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return f(t, y)
