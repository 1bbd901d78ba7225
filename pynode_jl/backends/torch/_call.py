"""One evaluation of a user's function f(t, y), with what it may and may not do to tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pynode_jl.errors import InvalidValueError


def slope_of(
    function: Callable[..., Any], t: Tensor, y: Tensor, *, argument: str = "func", value: Any = None
) -> Tensor:
    """Return ``function(t, y)``, of y's shape, in memory of its own.

    A function may return one tensor that it writes to at each call: the stages of a step would all
    be the last of them. Memory is its own where autograd has made it, and else is copied.

    Args:
        argument: the function's name in errors.
        value: the function in errors, where it is another.

    Raises:
        InvalidValueError: it has overwritten `t` or `y`, or its result is no such tensor.
    """
    # A tensor of inference mode does not count what is written to it.
    counted = not y.is_inference() and not t.is_inference()
    before = (t._version, y._version) if counted else None
    slope = function(t, y) if counted else function(t.clone(), y.clone())
    if before is not None and (t._version, y._version) != before:
        which = "y" if y._version != before[1] else "t"
        raise InvalidValueError(
            argument,
            value or function,
            f"a function that leaves {which} as it is",
            f"It writes to {which}: use operations that do not end in _, or {which}.clone() first.",
        )
    if not isinstance(slope, Tensor) or slope.shape != y.shape:
        got = tuple(slope.shape) if isinstance(slope, Tensor) else f"a {type(slope).__name__}"
        raise InvalidValueError(
            argument,
            value or function,
            f"one that returns a tensor of y's shape {tuple(y.shape)}",
            f"It returned {got}.",
        )
    return slope if slope.requires_grad and slope._version == 0 else slope.clone()
