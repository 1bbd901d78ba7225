"""What figures and tables are made of: a data set, and how its runs are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pynode_jl.experiments import Run
from pynode_jl.reproduce._desk import Desk
from pynode_jl.solvers import Solver


@dataclass(frozen=True)
class Subject:
    """A data set, as a figure asks for its runs.

    Attributes:
        name: the data set.
        run: its run with a training solver, as text, and a seed.
        adapted: its run under a controller, by name, with a seed.
        protocol: how they are trained, in words, in the short protocol or the full one.
    """

    name: str
    run: Callable[[Desk, str, int], Run]
    adapted: Callable[[Desk, str, int], Run]
    protocol: Callable[[bool], str]


def solver_name(solver: str) -> str:
    """A training solver in the name of a run's folder: ``"Euler:dt=1/16"`` is ``euler-h16``."""
    parsed = Solver.parse(solver)
    size = f"h{1 / parsed.dt:g}" if parsed.dt is not None else f"tol{parsed.rtol:g}"
    return f"{parsed.name.lower()}-{size}"
