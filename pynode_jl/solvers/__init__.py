"""Solvers as data: the catalogue of names, the tableaus, and `Solver`, what a run asks for."""

from pynode_jl.solvers._catalogue import SolverInfo, catalogue, info
from pynode_jl.solvers._controller import Controller, controller
from pynode_jl.solvers._solver import Solver, StepGrid
from pynode_jl.solvers._tableau import Tableau, tableau, tableau_names

__all__ = [
    "Controller",
    "Solver",
    "SolverInfo",
    "StepGrid",
    "Tableau",
    "catalogue",
    "controller",
    "info",
    "tableau",
    "tableau_names",
]
