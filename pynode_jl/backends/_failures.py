"""What failed: a solve, as an exception that says why; a training, up to its last good update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pynode_jl.backends._results import Array, ChunkResult, RetCode
from pynode_jl.errors import SolveError
from pynode_jl.solvers import Solver

if TYPE_CHECKING:
    from pynode_jl.backends._training import TrainingChunk


def raise_unless_success(
    solver: Solver,
    code: RetCode,
    given: Mapping[str, Array] = MappingProxyType({}),
    slope: Callable[[], Array] | None = None,
) -> None:
    """Turn a return code into an exception.

    Args:
        solver: the solver.
        code: why the solve ended.
        given: by name, the arrays that it began with. One that is not finite is the reason of the
            failure, whatever the return code.
        slope: returns f(t0, y0), which is looked at last.

    Raises:
        SolveError: the code is not `RetCode.Success`.

    Example:
        >>> from pynode_jl.backends import raise_unless_success
        >>> raise_unless_success(pn.Solver("Tsit5"), pn.RetCode.MaxIters)
        Traceback (most recent call last):
        pynode_jl.errors.SolveError: MaxIters: Tsit5 rtol=1e-3 atol=1e-6. ...
    """
    if code == RetCode.Success:
        return
    reason = not_finite_at_start(given, slope)
    raise SolveError(code, f"{solver.label}. {reason or code.meaning}")


def not_finite_at_start(
    given: Mapping[str, Array], slope: Callable[[], Array] | None = None
) -> str:
    """Return what a solve began with that is not finite, in words and with the fix; "" if nothing.

    `given` are arrays by name; `slope` returns f(t0, y0), looked at where all of these are finite.
    """
    found = {f"{name} holds": non_finite(array) for name, array in given.items()}
    if slope is not None and not any(found.values()):
        found = {"f(t0, y0), the field's value at the start, holds": non_finite(slope())}
    reasons = [f"{holds} {numbers}" for holds, numbers in found.items() if numbers]
    return f"{'; '.join(reasons)}. Mend that: no step or tolerance would help." if reasons else ""


def non_finite(array: Array) -> str:
    """Return how many numbers of an array are not finite, in words; "" if all are."""
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    parts = [f"{nan} NaN"] * (nan > 0) + [f"{infinite} infinite"] * (infinite > 0)
    return f"{' and '.join(parts)} of {array.size} numbers" if parts else ""


def trained_while_finite(
    train: Callable[[TrainingChunk], ChunkResult], chunk: TrainingChunk, done: int
) -> ChunkResult:
    """Return a chunk up to its last update with a finite result; `done` are too many.

    A gradient may be finite and its update not, at a huge learning rate. What is not finite stays
    so: the last good one is found by halving.
    """
    none = np.zeros(0, chunk.x.dtype)
    good = ChunkResult(chunk.state, none, none, np.zeros(0, np.int32), 0.0, RetCode.Unstable)
    first, last = 0, done
    while last - first > 1:
        middle = (first + last) // 2
        part = replace(chunk, indices=chunk.indices[:middle], rates=chunk.rates[:middle])
        found = train(part)
        if found.state.finite:
            first, good = middle, replace(found, retcode=RetCode.Unstable)
        else:
            last = middle
    return good
