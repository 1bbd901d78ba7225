"""Crossing trajectories, seen in states of dimension 1 and 2: neighbours that change their order.

Trajectories of an ODE do not cross: on a line its flow keeps the order of all points, in the plane
the orientation of every triangle that is small enough. Under a solver's steps pairs and triangles
of nearest neighbours may be reversed (Ott et al. 2021, Sec. 3). Triangles are only as small as the
samples are dense, and the flow itself reverses large ones: those count that the flow keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynode_jl import proportions
from pynode_jl._display import ShortRepr
from pynode_jl._validation import rounded
from pynode_jl.backends import Array, BackendLike, as_backend
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding, Outcome
from pynode_jl.diagnostics._reference import REFERENCE
from pynode_jl.diagnostics._sentences import points
from pynode_jl.diagnostics._step_maps import initial_states
from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, as_trained_model

# So many samples are dense enough, and triangles of them are looked at quickly.
_SAMPLES = 500


@dataclass(frozen=True, repr=False)
class CrossingReport(ShortRepr):
    """Neighbours whose order is reversed, step by step.

    Attributes:
        solver: whose steps.
        t: (steps,), where each step ends.
        kept: (steps,), how many neighbours have the order of the start under the ODE's flow.
        reversed: (steps,), how many of these are reversed under the solver.
        neighbours: how many pairs (1-D) or triangles (2-D) there are.
        samples: how many samples they are made of.

    Example:
        >>> from pynode_jl.diagnostics import order_violations
        >>> report = order_violations(trained, data.x_test, backend="jax")
        >>> report.neighbours, report.reversed.tolist()
        (199, [199])
    """

    solver: Solver
    t: Array
    kept: Array
    reversed: Array
    neighbours: int
    samples: int

    @property
    def worst(self) -> int:
        """The index of the step with the largest share of reversed neighbours."""
        return int(np.argmax(self.reversed / np.maximum(self.kept, 1)))

    @property
    def share(self) -> float:
        """The largest share, over the steps, of the neighbours kept by the flow that the solver
        reverses: 0 for an ODE."""
        return float(np.max(self.reversed / np.maximum(self.kept, 1)))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return an exact interval of the worst step's share.

        Neighbours share samples: they count as as many independent ones as there are samples. The
        lower end allows for the choice of the worst among all steps; the upper one is the largest
        of all steps.

        `confidence` is that of the interval, 0.95 say.
        """
        error = (1.0 - confidence) / 2.0
        per_neighbour = min(1.0, self.samples / self.neighbours)
        count, total = self.reversed * per_neighbour, self.kept * per_neighbour
        low = proportions.lower_bound(count, total, error / len(self.t))
        high = proportions.upper_bound(count, total, error)
        return float(low.max()), float(high.max())


def order_violations(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    solver: Solver | None = None,
    flow: Solver = REFERENCE,
    backend: BackendLike = None,
) -> CrossingReport:
    """Watch nearest neighbours along the solver's steps and along the flow.

    Looking at every step matters: two reversals undo each other (y' = -lambda y on the line, h
    lambda = 2: each step mirrors the samples, two of them mirror them back).

    Args:
        trained: the model; its states must have dimension 1 or 2.
        x: samples, ``(n, *input_shape)``; the denser, the finer the measure.
        solver: whose steps; default the training solver.
        flow: the adaptive solver (or its text, or its table) that stands for the ODE's flow.
        backend: what integrates, or its name; default `get_backend()`.

    Raises:
        InvalidValueError: another dimension, too few samples, or samples on a line of the plane.
        SolveError: a solve failed.

    Example:
        >>> from pynode_jl.diagnostics import order_violations
        >>> order_violations(trained, data.x_test, backend="jax").share
        1.0
    """
    trained = as_trained_model(trained)
    backend = as_backend(backend, trained.model)
    solver = trained.solver if solver is None else Solver.of(solver)
    flow = Solver.of(flow)
    model, weights = trained.model, trained.field_weights
    start = initial_states(trained, x)
    _check_plane("x.shape", start)
    span = (model.t0, model.t1)
    own = backend.solve(model.field, weights, start, span, solver, save_steps=True)
    times = [float(t) for t in own.t[1:]]
    exact = backend.solve(model.field, weights, start, span, flow, save_at=times)
    corners = _corners(start)
    kept = np.array([_sides(start, y, corners) > 0 for y in exact.y])
    crossed = np.array([_sides(start, y, corners) < 0 for y in own.y[1:]]) & kept
    return CrossingReport(
        solver, own.t[1:], kept.sum(axis=1), crossed.sum(axis=1), len(corners), len(start)
    )


def flipped_triangles(start: npt.ArrayLike, end: npt.ArrayLike) -> tuple[int, int]:
    """Neighbours that have changed their order: triangles whose orientation is reversed.

    Nearest neighbours at the start are adjacent pairs in 1-D and Delaunay triangles in 2-D.

    Args:
        start: states at t0, ``(n, 1)`` or ``(n, 2)``.
        end: the same samples' states at t1.

    Returns:
        How many are reversed, and how many there are.

    Raises:
        InvalidValueError: another dimension, or too few samples.

    Example:
        >>> from pynode_jl.diagnostics import flipped_triangles
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> flipped_triangles(square, square * [-1.0, 1.0])
        (2, 2)
    """
    first, last = rounded("start", start, np.float64), rounded("end", end, np.float64)
    _check_plane("start.shape", first)
    if first.shape != last.shape:
        raise InvalidValueError("end.shape", last.shape, f"{first.shape}, start's", "Match them.")
    corners = _corners(first)
    return int(np.sum(_sides(first, last, corners) < 0)), len(corners)


def _check_plane(argument: str, states: Array) -> None:
    if states.ndim != 2 or states.shape[1] not in (1, 2):
        raise InvalidValueError(
            argument, states.shape, "(n, 1) or (n, 2)", "Project higher states."
        )
    if not np.isfinite(states).all():
        raise InvalidValueError(argument, states, "finite numbers", "Leave the others out.")
    if states.shape[0] < states.shape[1] + 2:
        raise InvalidValueError("n", states.shape[0], "4 samples or more", "Take more samples.")


def _corners(states: Array) -> Array:
    """Return indices of neighbours: pairs (m, 2) on a line, triangles (m, 3) in the plane."""
    from scipy.spatial import Delaunay, QhullError

    if states.shape[1] == 2:
        try:
            triangles: Array = Delaunay(states).simplices
        except QhullError as error:
            raise InvalidValueError(
                "x", "samples on one line", "samples that span the plane", "Take other samples."
            ) from error
        return triangles
    order = np.argsort(states[:, 0])
    return np.stack([order[:-1], order[1:]], axis=1)


def _sides(first: Array, last: Array, corners: Array) -> Array:
    """Positive where neighbours keep their order, negative where it is reversed."""
    before, after = (_oriented(states[corners]) for states in (first, last))
    with np.errstate(over="ignore"):
        return np.sign(before) * np.sign(after)


def _oriented(corners: Array) -> Array:
    """Signed lengths of pairs, twice the signed areas of triangles."""
    sides = corners[:, 1:] - corners[:, :1]
    size: Array = np.linalg.det(sides) if sides.shape[1] == 2 else sides[:, 0, 0]
    return size


def _run(context: Context) -> Finding:
    report = order_violations(
        context.trained,
        context.dataset.x_test[:_SAMPLES],
        flow=context.flow,
        backend=context.backend,
    )
    low, high = report.interval(context.confidence)
    outcome: Outcome = "inconclusive"
    if low > context.margin:
        outcome = "contradicts"
    elif high <= context.margin:
        outcome = "supports"
    worst, interval = report.worst, f"{points(low)} to {points(high)}%"
    label, steps = report.solver.label, len(report.t)
    if not report.kept.any():
        text = (
            f"The flow that the reference gives keeps none of {report.neighbours} neighbouring"
            " samples in order: it brings them together to within its error."
        )
    elif report.share == 0:
        text = (
            f"Of {report.neighbours} neighbouring samples the ODE's flow keeps"
            f" at least {report.kept.min()} in order at each of {steps} steps; {label} reverses"
            f" none of these (up to {points(high)}%)."
        )
    else:
        text = (
            f"Of {report.neighbours} neighbouring samples the ODE's flow keeps"
            f" {report.kept[worst]} in order; {label} reverses {report.share:.1%} of these"
            f" ({interval}) at step {worst + 1} of {steps}, the worst."
        )
    return Finding(
        "",
        outcome,
        text,
        "",
        {
            "share": report.share,
            "low": low,
            "high": high,
            "neighbours": report.neighbours,
            "samples": report.samples,
            "worst step": worst + 1,
        },
        f"its trajectories cross ({report.share:.1%} of neighbours, {interval})",
        report,
    )


CROSSINGS = Diagnostic(
    "crossings",
    _run,
    "Samples are neighbours only as far as they are dense: crossings between them are missed."
    " Neighbours share samples, so that the interval counts no more of them than there are"
    " samples.",
    lambda context: context.trained.model.field.size <= 2,
    "states of one or two numbers",
)
