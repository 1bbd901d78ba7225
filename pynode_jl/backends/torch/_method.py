"""How a solve steps: its tableau, its rule of step sizes, and what it does at output times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pynode_jl.solvers import Controller, SolverInfo, Tableau, controller

Kind = Literal["adaptive", "fixed", "adams", "scipy"]


@dataclass(frozen=True)
class Method:
    """A method of integration.

    Attributes:
        name: its name, for messages.
        kind: which loop runs it.
        tableau: its tableau; None for multistep methods and SciPy's.
        control: Julia's rule of adaptive step sizes; None for torchdiffeq's rule.
        middle: weights of the stages (and of f at the end, where they are one more) in the state
            in the middle of a step, for torchdiffeq's interpolation; None for a cubic one.
        implicit: of an Adams method, whether it corrects.
        julia: whether it steps by Julia's rules: a step ends at each output time. torchdiffeq's
            steps go over them, and states are interpolated.
    """

    name: str
    kind: Kind
    tableau: Tableau | None = None
    control: Controller | None = None
    middle: tuple[float, ...] | None = None
    implicit: bool = False
    julia: bool = False


def julia_method(row: SolverInfo, *, adaptive: bool) -> Method:
    """Return a solver with a tableau as a method that steps by Julia's rules."""
    control = controller(row) if adaptive else None
    kind: Kind = "adaptive" if adaptive else "fixed"
    return Method(row.name, kind, row.tableau, control, julia=True)
