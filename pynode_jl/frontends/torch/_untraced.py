"""Keeping `torch.compile` out of a solve, which it cannot trace: it breaks its graph there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch._compile import _disable_dynamo

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function`, which compiled code then calls as it is.

    torch's public way to say that, `torch.compiler.disable`, imports its compiler, seconds of it;
    this is the lazy form that torch.optim uses. Where no one has imported it, no one compiles.
    """
    disabled: Callable[P, T] = _disable_dynamo(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if "torch._dynamo" in sys.modules:
            return disabled(*args, **kwargs)
        return function(*args, **kwargs)

    return call
