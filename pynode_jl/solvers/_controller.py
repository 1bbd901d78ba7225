"""Julia's step size control, solver by solver, at its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pynode_jl.errors import WrongSolverError
from pynode_jl.solvers._catalogue import SolverInfo, info, zoo


@dataclass(frozen=True)
class Controller:
    """The numbers of a step size control.

    With ``e`` the scaled error of this step and ``e_old`` that of the last accepted one (at least
    `qoldinit`, which it also is at the start), ``q = e**beta1 / e_old**beta2 / gamma``, clamped to
    ``[1/qmax, 1/qmin]``; the next step is ``dt / q``, or ``dt`` again if ``q`` lies in
    ``[qsteady_min, qsteady_max]``. Before the first accepted step `qmax_first_step` stands for
    `qmax`. A rejected step is retried with ``dt / min(1/qmin, e**beta1 / gamma)``
    (OrdinaryDiffEqCore, ``controllers.jl``; Hairer, Wanner, *Solving ODEs II*, IV.2).

    `kind` is ``"PI"`` for nearly all; ``"I"`` is the same with ``beta2 = 0``. ``"PID"``: ``dt``
    times ``limiter(e**(-beta1/k) e_old**(-beta2/k) e_older**(-beta3/k))``, with k the order,
    ``limiter(x) = 1 + atan(x - 1)``, and a step accepted when that factor is at least 0.81.
    ``"predictive"``: Gustafsson's, of which ``q = e**beta1 / gamma`` is the first guess.

    Example:
        >>> from pynode_jl.solvers import controller
        >>> controller("Tsit5").kind
        'PI'
    """

    kind: Literal["PI", "I", "PID", "predictive"]
    beta1: float
    beta2: float
    beta3: float
    gamma: float
    qmin: float
    qmax: float
    qmax_first_step: float
    qsteady_min: float
    qsteady_max: float
    qoldinit: float


def controller(solver: str | SolverInfo) -> Controller:
    """Return Julia's controller for a solver, by its name or its row, at its defaults.

    The rule is that of OrdinaryDiffEqCore's ``alg_utils.jl``, with k the order of the solver:
    ``beta1 = 7/(10 k)``, ``beta2 = 2/(5 k)``. What a solver has otherwise stands in its row of
    ``zoo.json``. Solvers that Julia does not have, own tableaus too, get the rule.

    Raises:
        UnknownSolverError: no solver has that name.
        WrongSolverError: the solver does not adapt its steps, or not by these numbers.

    Example:
        >>> from pynode_jl.solvers import controller
        >>> controller("Tsit5").qmax
        10.0
    """
    about = solver if isinstance(solver, SolverInfo) else info(solver)
    name = about.name
    if not about.adaptive:
        raise WrongSolverError(
            "name", name, "a solver that adapts its steps", f'Use Solver("{name}", dt=...).'
        )
    own = zoo().get(name, {}).get("controller", {})
    if own is None or about.order is None:
        raise WrongSolverError(
            "name",
            name,
            "a solver whose step control is one PI, I, PID or predictive rule",
            f"Leave the control of {name} to Julia.",
        )
    rule = {
        "kind": "PI",
        "beta1": 7 / (10 * about.order),
        "beta2": 2 / (5 * about.order),
        "beta3": 0.0,
        "gamma": 0.9,
        "qmin": 0.2,
        "qmax": 10.0,
        "qmax_first_step": 1e4,
        "qsteady_min": 1.0,
        # Implicit methods hold a step in a wider band: a new step costs a new factorisation.
        "qsteady_max": 1.2 if about.implicit else 1.0,
        "qoldinit": 1e-4,
    }
    return Controller(**(rule | own))
