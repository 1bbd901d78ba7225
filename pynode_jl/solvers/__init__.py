"""Solvers as data: the catalogue of names, the tableaus, and `Solver`, what a run asks for.

And the rules that every backend steps by: the control of step sizes, the first step, the error
norm, Newton's stop, and the interpolants.
"""

from pynode_jl.solvers._catalogue import SolverInfo, catalogue, info, solver_names
from pynode_jl.solvers._controller import Controller, controller
from pynode_jl.solvers._dense import DenseMethod, dense_method, interpolant
from pynode_jl.solvers._newton import NEWTON_ITERATIONS, NEWTON_ROUNDINGS, newton_change
from pynode_jl.solvers._peers import Peer, peers
from pynode_jl.solvers._solver import Solver, StepGrid
from pynode_jl.solvers._step_control import (
    SCALARS,
    STEP_GUARD,
    Attempt,
    ControlMemory,
    error_scale,
    fixed_grid,
    initial_step,
    lost_step,
    reaches_stop,
    rms,
    scaled_error,
    updated_memory,
)
from pynode_jl.solvers._stepping import Adaptive, FixedStep, Stepping, step_text
from pynode_jl.solvers._tableau import ErrorRule, Tableau, tableau, tableau_names
from pynode_jl.solvers._torchdiffeq import (
    MIDDLE_WEIGHTS,
    TORCHDIFFEQ_TABLEAUS,
    collocation,
    torchdiffeq_controller,
    torchdiffeq_method,
)

__all__ = [
    "MIDDLE_WEIGHTS",
    "NEWTON_ITERATIONS",
    "NEWTON_ROUNDINGS",
    "SCALARS",
    "STEP_GUARD",
    "TORCHDIFFEQ_TABLEAUS",
    "Adaptive",
    "Attempt",
    "ControlMemory",
    "Controller",
    "DenseMethod",
    "ErrorRule",
    "FixedStep",
    "Peer",
    "Solver",
    "SolverInfo",
    "StepGrid",
    "Stepping",
    "Tableau",
    "catalogue",
    "collocation",
    "controller",
    "dense_method",
    "error_scale",
    "fixed_grid",
    "info",
    "initial_step",
    "interpolant",
    "lost_step",
    "newton_change",
    "peers",
    "reaches_stop",
    "rms",
    "scaled_error",
    "solver_names",
    "step_text",
    "tableau",
    "tableau_names",
    "torchdiffeq_controller",
    "torchdiffeq_method",
    "updated_memory",
]
