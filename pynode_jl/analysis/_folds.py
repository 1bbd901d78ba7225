"""Folds: where a solver's step map turns space inside out, which no ODE's flow does.

The flow of an ODE is invertible and keeps orientation, so the Jacobian of its map over any time has
a positive determinant. A step map y -> y_next is only near the flow: where its determinant is not
positive, trajectories have crossed (Ott et al. 2021, Sec. 3). For y' = -lambda y an Euler step has
the determinant (1 - h lambda)^d, and folds from h lambda = 1 on.

What this cannot see: a map without folds may still be far from the flow; an even number of reversed
directions leaves the determinant positive (y' = -lambda y in the plane: (1 - h lambda)^2); and only
the samples' own trajectories are looked at, a fold between them is missed. No folds prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynode_jl.backends import Array, Backend, get_backend
from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import Solver
from pynode_jl.training import Trained


@dataclass(frozen=True)
class FoldReport:
    """Determinants of the step maps along trajectories.

    Attributes:
        solver: whose steps.
        t: (steps,), where each step began.
        sign: (steps, n), the sign of the determinant, 0 where it vanishes.
        log_abs: (steps, n), the natural logarithm of its absolute value.
    """

    solver: Solver
    t: Array
    sign: Array
    log_abs: Array

    @property
    def folded(self) -> npt.NDArray[np.bool_]:
        """(n,), whether a sample's trajectory passes a fold: a determinant that is not positive."""
        folded: npt.NDArray[np.bool_] = np.any(self.sign <= 0, axis=0)
        return folded

    @property
    def share(self) -> float:
        """The share of samples whose trajectories pass a fold."""
        return float(self.folded.mean())

    @property
    def text(self) -> str:
        """What was found, in a sentence."""
        steps, n = self.sign.shape
        if not self.folded.any():
            return (
                f"no folds in {steps} steps of {self.solver.label} along {n} trajectories;"
                " that proves no validity."
            )
        first = int(np.argmax((self.sign <= 0).any(axis=1)))
        return (
            f"folded: {self.share:.1%} of {n} trajectories under {self.solver.label} pass a step"
            f" whose determinant is not positive, the first at step {first + 1} of {steps}."
        )


def folds(
    trained: Trained,
    x: npt.ArrayLike,
    *,
    solver: Solver | None = None,
    backend: Backend | None = None,
) -> FoldReport:
    """Look for folds along the trajectories of samples.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``. Each step makes n Jacobians of size x size numbers.
        solver: whose steps; default the training solver.
        backend: what integrates; default `get_backend()`.

    Raises:
        SolveError: the solve failed.
    """
    backend = get_backend() if backend is None else backend
    solver = trained.solver if solver is None else solver
    model, weights = trained.model, trained.field_weights
    solution = backend.solve(
        model.field, weights, model.augmented(x), (model.t0, model.t1), solver, save_steps=True
    )
    signs, logs = [], []
    for i, dt in enumerate(np.diff(solution.t.astype(np.float64))):
        # Determinants in float64: near a fold float32 cannot tell their sign.
        jacobian = backend.step_jacobian(
            model.field, weights, solution.y[i].astype(np.float64), float(solution.t[i]), dt, solver
        )
        sign, log_abs = np.linalg.slogdet(jacobian)
        signs.append(sign)
        logs.append(log_abs)
    return FoldReport(solver, solution.t[:-1], np.stack(signs), np.stack(logs))


def fold_step(
    trained: Trained,
    x: npt.ArrayLike,
    *,
    finest: int = 1024,
    backend: Backend | None = None,
    on_solve: Callable[[Solver], None] | None = None,
) -> tuple[float | None, float | None]:
    """The bracket of steps between which folds appear, by bisection over steps (t1 - t0) / n.

    Bisection assumes that smaller steps fold no more than larger ones; folds that come and go are
    bracketed once.

    Args:
        trained: the model; its training solver's method is stepped.
        x: samples, ``(n, *input_shape)``.
        finest: the most steps tried.
        backend: what integrates.
        on_solve: called before each look, with its solver.

    Returns:
        ``(largest step seen without folds, smallest step seen with folds)``: None for the first if
        even the finest step folds, None for the second if a single step over the interval does not.

    Raises:
        InvalidValueError: `finest` below 1.
    """
    if finest < 1:
        raise InvalidValueError("finest", finest, "1 or more steps", "1024 is the default.")
    span = abs(trained.model.t1 - trained.model.t0)

    def folded(n: int) -> bool:
        solver = trained.solver.with_step(span / n)
        if on_solve is not None:
            on_solve(solver)
        return bool(folds(trained, x, solver=solver, backend=backend).folded.any())

    if not folded(1):
        return span, None
    if folded(finest):
        return None, span / finest
    bad, good = 1, finest
    while good - bad > 1:
        middle = round(np.sqrt(bad * good))
        middle = min(max(middle, bad + 1), good - 1)
        bad, good = (middle, good) if folded(middle) else (bad, middle)
    return span / good, span / bad


def flipped_triangles(start: npt.ArrayLike, end: npt.ArrayLike) -> tuple[int, int]:
    """Neighbours that have changed their order: triangles whose orientation is reversed.

    A second look at crossing, from end states alone, for states of dimension 1 and 2: nearest
    neighbours at the start (adjacent pairs in 1-D, Delaunay triangles in 2-D) keep their order
    under every flow as long as they are small.

    Args:
        start: states at t0, ``(n, 1)`` or ``(n, 2)``.
        end: the same samples' states at t1.

    Returns:
        How many are reversed, and how many there are.

    Raises:
        InvalidValueError: another dimension, or too few samples.
    """
    from scipy.spatial import Delaunay

    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    if first.ndim != 2 or first.shape[1] not in (1, 2) or first.shape != last.shape:
        raise InvalidValueError(
            "start.shape", first.shape, "(n, 1) or (n, 2), the end's too", "Project higher states."
        )
    if first.shape[0] < first.shape[1] + 2:
        raise InvalidValueError("n", first.shape[0], "4 samples or more", "Take more samples.")
    if first.shape[1] == 1:
        order = np.argsort(first[:, 0])
        before, after = np.diff(first[order, 0]), np.diff(last[order, 0])
    else:
        corners = Delaunay(first).simplices
        before, after = (_signed_area(states[corners]) for states in (first, last))
    return int(np.sum(before * after < 0)), before.size


def _signed_area(triangles: Array) -> Array:
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area: Array = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return area
