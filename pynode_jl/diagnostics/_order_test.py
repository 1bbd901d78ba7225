"""Does a model's output converge, as steps shrink, at its solver's order?

A trained field need not be smooth on the scale of the training step; then the solver's order is not
seen there, and halving the step is no small change. The order is read off differences of successive
halvings, which need no reference; distances are from the ODE's final states.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pynode_jl._display import ShortRepr
from pynode_jl._validation import whole_number
from pynode_jl.backends import Array, BackendLike, as_backend
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding
from pynode_jl.diagnostics._reference import REFERENCE
from pynode_jl.diagnostics._step_maps import initial_states
from pynode_jl.errors import WrongSolverError
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, as_trained_model

# Differences of final states below this many roundings show rounding, not an order.
_ROUNDINGS = 200
# How often a step is halved, and the steps of a solve whose solver does not limit them.
_HALVINGS, _MOST_STEPS = 6, 100_000
# How far an observed order may be from the method's, and from the one before.
SLACK = 0.3


@dataclass(frozen=True, repr=False)
class OrderReport(ShortRepr):
    """Final states at steps h, h/2, h/4, ...

    Distances are means over samples of |a - b| / (1 + |b|), as a reference measures them.

    Attributes:
        solver: the method, with the largest step.
        steps: (k,), the steps.
        differences: (k - 1,), distance between the final states at a step and at its half.
        observed: (k - 2,), the order seen between three successive steps; nan where the states
            have converged to rounding, or are not finite.
        extrapolated: (n, *state_shape), Richardson's extrapolation of the last two.
        errors: (k,), distance of the final states at each step from the ODE's.
        floor: the error of those final states themselves; nan where it is not known.

    Example:
        >>> from pynode_jl.diagnostics import order_test
        >>> report = order_test(trained, data.x_test[:8], halvings=3, backend="jax")
        >>> report.steps.tolist()
        [1.0, 0.5, 0.25, 0.125]
    """

    solver: Solver
    steps: Array
    differences: Array
    observed: Array
    extrapolated: Array
    errors: Array
    floor: float

    @property
    def distance(self) -> float:
        """The distance of the model, at its first step, from its ODE."""
        return float(self.errors[0])

    def holds_from(self, slack: float = SLACK) -> float | None:
        """Return the largest step of the asymptotic range, in which the solver's order is seen.

        From there on every observed order is the solver's but for `slack`, on either side. The last
        two must be so, and agree with each other as well; where fewer than two were observed, since
        states have converged to rounding, there is no such range. None where there is none.
        """
        order = self.solver.order
        seen = np.flatnonzero(np.isfinite(self.observed))
        if seen.size < 2:
            return None
        held = np.abs(self.observed[seen] - order) <= slack
        last, before = self.observed[seen[-1]], self.observed[seen[-2]]
        if not held[-2:].all() or abs(last - before) > slack:
            return None
        outside = np.flatnonzero(~held)
        first = seen[outside[-1] + 1] if outside.size else seen[0]
        return float(self.steps[first])


def order_test(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    halvings: int = _HALVINGS,
    solver: Solver | None = None,
    exact: npt.ArrayLike | None = None,
    floor: float = float("nan"),
    backend: BackendLike = None,
) -> OrderReport:
    """Halve a fixed step and watch the final states converge, in float64.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``.
        halvings: how often, 2 or more.
        solver: a fixed-step solver; default the training solver.
        exact: the ODE's final states, ``(n, *state_shape)``; default a solve with `REFERENCE`.
        floor: the error of `exact`.
        backend: what integrates, or its name; default `get_backend()`.

    Raises:
        InvalidValueError: fewer than two halvings.
        WrongSolverError: an adaptive solver, or one of no fixed order.
        SolveError: a solve failed.

    Example:
        >>> from pynode_jl.diagnostics import order_test
        >>> solver = pn.Solver("RK4", dt=0.25)
        >>> report = order_test(trained, data.x_test[:8], solver=solver, backend="jax")
        >>> bool(abs(report.observed[-1] - 4) < 0.3)
        True
    """
    trained = as_trained_model(trained)
    backend = as_backend(backend, trained.model)
    solver = trained.solver if solver is None else Solver.of(solver)
    if not solver.fixed:
        raise WrongSolverError(
            "solver", solver.label, "a fixed step, to be halved", "Use solver.with_step(1 / 16)."
        )
    order = solver.order
    halvings = whole_number("halvings", halvings, 2, most=30, hint="Three steps show an order.")
    model, weights = trained.model, trained.field_weights
    y0 = initial_states(trained, x)
    span = (model.t0, model.t1)
    solvers = [solver.scaled(0.5**i) for i in range(halvings + 1)]
    states = [backend.solve(model.field, weights, y0, span, each).y1 for each in solvers]
    if exact is None:
        exact = backend.solve(model.field, weights, y0, span, REFERENCE).y1
    ode = np.asarray(exact, np.float64)
    differences = np.array([_distance(coarse, fine) for coarse, fine in pairwise(states)])
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.log2(differences[:-1] / differences[1:])
    observed[differences[1:] <= _ROUNDINGS * np.finfo(np.float64).eps] = np.nan
    extrapolated = states[-1] + (states[-1] - states[-2]) / (2.0**order - 1.0)
    return OrderReport(
        solver,
        np.array([each.stepping.size for each in solvers]),
        differences,
        observed,
        extrapolated,
        np.array([_distance(each, ode) for each in states]),
        floor,
    )


def _distance(a: Array, b: Array) -> float:
    n = len(a)
    with np.errstate(over="ignore", invalid="ignore"):
        rest, size = (np.linalg.norm(each.reshape(n, -1), axis=1) for each in (a - b, b))
        return float(np.mean(rest / (1.0 + size)))


def _run(context: Context) -> Finding:
    # Of very short steps fewer halvings: the finest solve must keep within its budget.
    budget = (context.stepped.max_steps or _MOST_STEPS) // context.own_steps
    report = order_test(
        context.trained,
        context.x,
        halvings=min(max(budget.bit_length() - 1, 2), _HALVINGS),
        solver=context.stepped,
        exact=context.exact.states[: len(context.x)],
        floor=context.reference.error,
        backend=context.backend,
    )
    first = report.holds_from()
    holds = first is not None and first >= float(report.steps[0]) * (1 - 1e-9)
    data = {
        "solver": report.solver.label,
        "order": report.solver.order,
        "steps": report.steps.tolist(),
        "observed": report.observed.tolist(),
        "errors": report.errors.tolist(),
        "floor": report.floor,
        "holds from": first,
    }
    return Finding("", "supports" if holds else "inconclusive", _text(report), "", data, "", report)


def _text(report: OrderReport) -> str:
    order, first = report.solver.order, report.holds_from()
    finite = report.observed[np.isfinite(report.observed)]
    seen = f"observed orders {', '.join(f'{each:.2f}' for each in finite)}"
    onwards = f"from {report.solver.label} on"
    finest = report.solver.with_step(float(report.steps[-1])).label
    if finite.size < 2:
        said = "The final states have converged to rounding: too few steps show an order."
    elif first is None:
        said = f"Order {order} is not seen down to {finest} ({seen}, {onwards})."
    else:
        began = report.solver.with_step(first).label
        more = "" if began == report.solver.label else f", {onwards}"
        said = f"Order {order} is seen from {began} on ({seen}{more})."
    if report.distance <= report.floor:
        return (
            f"{said} Final states at the training setting are no farther from the ODE's than the"
            f" reference's own error, {report.floor:.2g} (relative)."
        )
    return (
        f"{said} Final states at the training setting are {report.distance:.2g} from the ODE's"
        f" (relative; the reference's own error is below {report.floor:.2g})."
    )


ORDER = Diagnostic(
    "order",
    _run,
    "It is about final states, not answers, and about the steps that were halved.",
)
