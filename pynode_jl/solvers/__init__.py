"""Solvers as data: the catalogue of names, the tableaus, and `Solver`, what a run asks for.

And the rules that every backend steps by: the control of step sizes, the first step, the error
norm, Newton's stop, and the interpolants.
"""

from pynode_jl.solvers._catalogue import SolverInfo, catalogue, info
from pynode_jl.solvers._controller import Controller, controller, torchdiffeq_controller
from pynode_jl.solvers._dense import (
    MIDDLE_WEIGHTS,
    DenseMethod,
    dense_method,
    interpolant,
    torchdiffeq_method,
)
from pynode_jl.solvers._newton import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, newton_change
from pynode_jl.solvers._solver import Solver, StepGrid
from pynode_jl.solvers._step_control import (
    SCALARS,
    Attempt,
    ControlMemory,
    error_scale,
    initial_step,
    reaches_stop,
    rms,
    scaled_error,
    updated_memory,
)
from pynode_jl.solvers._tableau import ErrorRule, Tableau, tableau, tableau_names

__all__ = [
    "MIDDLE_WEIGHTS",
    "NEWTON_ITERATIONS",
    "NEWTON_ROUNDINGS",
    "SCALARS",
    "Attempt",
    "ControlMemory",
    "Controller",
    "DenseMethod",
    "ErrorRule",
    "Solver",
    "SolverInfo",
    "StepGrid",
    "Tableau",
    "catalogue",
    "controller",
    "dense_method",
    "error_scale",
    "info",
    "initial_step",
    "interpolant",
    "newton_change",
    "reaches_stop",
    "rms",
    "scaled_error",
    "tableau",
    "tableau_names",
    "torchdiffeq_controller",
    "torchdiffeq_method",
    "updated_memory",
]
