"""SciPy's `solve_ivp` behind torchdiffeq's name for it; no gradients pass."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.torch._problem import Problem
from pynode_jl.errors import SolveError, WrongSolverError

_OPTIONS = ("solver", "min_step", "max_step")


def solution(problem: Problem) -> Tensor:
    """Return the states at all times of a problem, by the solver that options name (LSODA)."""
    from scipy.integrate import solve_ivp

    options = problem.options
    unknown = {key: value for key, value in options.items() if key not in _OPTIONS}
    if unknown:
        warnings.warn(f"scipy_solver: Unexpected arguments {unknown}", stacklevel=4)
    if problem.callbacks:
        warnings.warn(
            f"method 'scipy_solver' does not support callbacks {set(problem.callbacks)}",
            stacklevel=4,
        )
    y0, t = problem.y0.detach(), problem.t.detach().cpu().numpy()
    if len(t) == 1:
        return y0[None].clone()
    if problem.event is not None:
        raise WrongSolverError(
            "method", "scipy_solver", "a method of our own where event_fn is given", "Use dopri5."
        )

    if not bool(torch.isfinite(y0).all()):  # SciPy raises a ValueError
        raise SolveError(RetCode.Unstable, RetCode.Unstable.meaning)

    def f(t: float, y: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            state = torch.from_numpy(np.array(y)).to(y0).reshape(y0.shape)
            slope = problem.f(torch.tensor(t, dtype=torch.float64, device=y0.device), state)
        return slope.cpu().numpy().reshape(-1)

    name = options.get("solver", "LSODA")
    limits = {"max_step": options.get("max_step", np.inf)}
    if name == "LSODA":
        limits["min_step"] = options.get("min_step", 0.0)
    found = solve_ivp(
        f,
        (t[0], t[-1]),
        y0.cpu().numpy().reshape(-1),
        t_eval=t,
        method=name,
        rtol=float(torch.as_tensor(problem.rtol).min()),
        atol=np.asarray(problem.atol),
        **limits,
    )
    if not found.success:
        raise SolveError("Failure", f"scipy_solver ({name}). SciPy says: {found.message}")
    return torch.from_numpy(found.y.T.copy()).to(y0).reshape(-1, *y0.shape)
