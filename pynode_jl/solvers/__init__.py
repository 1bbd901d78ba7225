"""Solvers as data: the catalogue of names, the tableaus, and `Solver`, what a run asks for."""

from pynode_jl.solvers._catalogue import SolverInfo, catalogue, info
from pynode_jl.solvers._controller import Controller, controller, torchdiffeq_controller
from pynode_jl.solvers._dense import DenseMethod, dense_method
from pynode_jl.solvers._solver import Solver, StepGrid
from pynode_jl.solvers._tableau import Tableau, tableau, tableau_names

__all__ = [
    "Controller",
    "DenseMethod",
    "Solver",
    "SolverInfo",
    "StepGrid",
    "Tableau",
    "catalogue",
    "controller",
    "dense_method",
    "info",
    "tableau",
    "tableau_names",
    "torchdiffeq_controller",
]
