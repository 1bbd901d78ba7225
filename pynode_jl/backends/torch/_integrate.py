"""`integrate`: a problem by a method, with the loop that the method needs."""

from __future__ import annotations

from typing import Any

import torch

from pynode_jl.backends._failures import not_finite_at_start
from pynode_jl.backends._precision import check_weights_resolved
from pynode_jl.backends.torch import _scipy
from pynode_jl.backends.torch._adaptive import Adaptive
from pynode_jl.backends.torch._fixed import Fixed
from pynode_jl.backends.torch._method import Method
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.backends.torch._transforms import is_transformed
from pynode_jl.errors import InvalidValueError, SolveError


def integrate(problem: Problem, method: Method) -> Any:
    """Return the states at all times; with an event, its time and the states at start and there.

    Raises:
        SolveError: the solve failed.
        InvalidValueError: `torch.vmap` hides values that the method asks for.
        WrongSolverError: the method's weights are too large for the states' precision.
    """
    check_weights_resolved(method.tableau, torch.finfo(problem.y0.dtype).eps)
    if problem.y0.numel() == 0 and problem.event is None:  # the states of no sample, at all times
        return torch.stack([problem.y0] * len(problem.t))
    try:
        if method.kind == "scipy":
            return _scipy.solution(problem)
        loop = Adaptive(problem, method) if method.kind == "adaptive" else Fixed(problem, method)
        return loop.solution() if problem.event is None else loop.until_event()
    except SolveError as error:
        reason = "" if problem.strict or is_transformed() else _not_finite(problem)
        if not reason:
            raise
        raise SolveError(error.retcode, f"{method.name}. {reason}") from error
    except RuntimeError as error:
        if not is_transformed() or "vmap" not in str(error):
            raise
        raise InvalidValueError(
            "y0",
            "a state under torch.vmap",
            f"the states of all samples at once, where {method.name} asks for values",
            "Drop vmap and give odeint the batch, or fix the steps of an explicit method.",
        ) from error


def _not_finite(problem: Problem) -> str:
    """Return what is not finite where the solve began, in words; "" if all is finite."""
    with torch.no_grad():
        return not_finite_at_start(
            {"y0": problem.y0.detach().cpu().numpy()},
            lambda: problem.rhs(problem.t[0], problem.y0, 0).cpu().numpy(),
        )
