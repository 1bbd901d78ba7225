"""How a solve steps: its tableau, its rule of step sizes, and what it does at output times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pynode_jl.backends.torch._coefficients import Coefficients, Row, from_catalogue
from pynode_jl.solvers import Controller, controller

Kind = Literal["adaptive", "fixed", "adams", "scipy"]


@dataclass(frozen=True)
class Method:
    """A method of integration.

    Attributes:
        name: its name, for messages.
        kind: which loop runs it.
        solver: the catalogue's name of its tableau, if it has one.
        coefficients: the tableau; None for multistep methods and SciPy's.
        control: the rule of adaptive step sizes; None for torchdiffeq's rule.
        middle: weights of the stages (and of f at the end, where they are one more) in the state
            in the middle of a step, for torchdiffeq's interpolation; None for a cubic one.
        implicit: of an Adams method, whether it corrects.
        ends_at_outputs: whether a step ends at each output time, as Julia's do; torchdiffeq's
            steps go over them, and states are interpolated.
    """

    name: str
    kind: Kind
    solver: str | None = None
    coefficients: Coefficients | None = None
    control: Controller | None = None
    middle: Row | None = None
    implicit: bool = False
    ends_at_outputs: bool = False


def catalogue_method(name: str, *, adaptive: bool) -> Method:
    """Return the catalogue's method of that name, stepped by Julia's rules."""
    return Method(
        name,
        "adaptive" if adaptive else "fixed",
        name,
        from_catalogue(name),
        controller(name) if adaptive else None,
        ends_at_outputs=True,
    )
