"""Does a model's output converge, as steps shrink, at its solver's order?

A trained field need not be smooth on the scale of the training step; then the solver's order is not
seen there, and halving the step is no small change. The order is read off differences of successive
halvings (no reference is needed); Richardson's extrapolation of the last two is the ODE's answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pynode_jl.backends import Array, Backend, get_backend
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained

# Differences of final states below this many roundings show rounding, not an order.
_ROUNDINGS = 200


@dataclass(frozen=True)
class OrderReport:
    """Final states at steps h, h/2, h/4, ...

    Attributes:
        solver: the method, with the largest step.
        steps: (k,), the steps.
        differences: (k - 1,), root mean square distance between the final states at a step and at
            its half.
        observed: (k - 2,), the order seen between three successive steps; nan where the states
            have converged to rounding.
        extrapolated: (n, *state_shape), Richardson's extrapolation of the last two.
        errors: (k,), root mean square distance of the final states at each step from that.
    """

    solver: Solver
    steps: Array
    differences: Array
    observed: Array
    extrapolated: Array
    errors: Array

    @property
    def distance(self) -> float:
        """The distance of the model, at its first step, from the extrapolated ODE solution."""
        return float(self.errors[0])

    @property
    def text(self) -> str:
        """What was found, in a sentence."""
        order, first = self.solver.info.order, self.holds_from()
        finite = self.observed[np.isfinite(self.observed)]
        seen = f"observed orders {', '.join(f'{each:.2f}' for each in finite)}"
        if first is None:
            return (
                f"order {order} is not reached down to h={_reciprocal(self.steps[-1])} ({seen});"
                f" the model is {self.distance:.2g} away from the extrapolated ODE solution."
            )
        return (
            f"order {order} holds from h={_reciprocal(first)} on ({seen}, from"
            f" h={_reciprocal(self.steps[0])} on); the model is {self.distance:.2g} away from the"
            " extrapolated ODE solution."
        )

    def holds_from(self, slack: float = 0.3) -> float | None:
        """The largest step from which on every observed order is the solver's but for `slack`.

        None if the last one is not. An order above the solver's counts as the solver's, and so do
        states that have converged to rounding.
        """
        order = self.solver.info.order or 0
        held = np.isnan(self.observed) | (self.observed >= order - slack)
        if not held[-1]:
            return None
        first = len(held) - int(np.argmin(held[::-1])) if not held.all() else 0
        return float(self.steps[first])


def order_test(
    trained: Trained,
    x: npt.ArrayLike,
    *,
    halvings: int = 6,
    solver: Solver | None = None,
    backend: Backend | None = None,
) -> OrderReport:
    """Halve a fixed step and watch the final states converge, in float64.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``.
        halvings: how often, 2 or more.
        solver: a fixed-step solver; default the training solver.
        backend: what integrates; default `get_backend()`.

    Raises:
        InvalidValueError: fewer than two halvings.
        WrongSolverError: an adaptive solver.
        SolveError: a solve failed.
    """
    backend = get_backend() if backend is None else backend
    solver = trained.solver if solver is None else solver
    if solver.dt is None:
        raise WrongSolverError(
            "solver", solver.label, "a fixed step, to be halved", "Use solver.with_step(1 / 16)."
        )
    if halvings < 2:
        raise InvalidValueError("halvings", halvings, "2 or more", "Three steps show an order.")
    model = trained.model
    y0 = model.augmented(x).astype(np.float64)
    solvers = [solver.scaled(0.5**i) for i in range(halvings + 1)]
    states = [
        backend.solve(model.field, trained.field_weights, y0, (model.t0, model.t1), each).y1
        for each in solvers
    ]
    differences = np.array([_rms(coarse - fine) for coarse, fine in pairwise(states)])
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.log2(differences[:-1] / differences[1:])
    converged = _ROUNDINGS * np.finfo(np.float64).eps * (1.0 + _rms(states[-1]))
    observed[differences[1:] <= converged] = np.nan
    order = solver.info.order or 1
    extrapolated = states[-1] + (states[-1] - states[-2]) / (2.0**order - 1.0)
    return OrderReport(
        solver,
        np.array([each.dt for each in solvers]),
        differences,
        observed,
        extrapolated,
        np.array([_rms(each - extrapolated) for each in states]),
    )


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def _reciprocal(step: float) -> str:
    n = round(1 / step)
    return f"1/{n}" if n > 1 and abs(n * step - 1) < 1e-6 else f"{step:.3g}"
