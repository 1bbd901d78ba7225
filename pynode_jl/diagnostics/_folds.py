"""Folds: where a solver's step map turns space inside out, which no ODE's flow does.

The flow of an ODE is invertible and keeps orientation, so the Jacobian of its map over any time has
a positive determinant. A step map y -> y_next is only near the flow: where its determinant is not
positive, trajectories have crossed (Ott et al. 2021, Sec. 3). For y' = -lambda y an Euler step has
the determinant (1 - h lambda)^d, and folds from h lambda = 1 on.

What this cannot see (`BLIND_SPOTS`): a map without folds may still be far from the flow; an even
number of reversed directions leaves the determinant positive (y' = -lambda y in the plane:
(1 - h lambda)^2); and only the samples' own trajectories are looked at, a fold between them is
missed. Nor is folding monotone in h: for the rates 3 and 2 an Euler step has the determinant
(1 - 3 h)(1 - 2 h), positive at h = 1, negative at h = 0.4, positive again at h = 0.25. No folds
prove nothing, at this step or below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pynode_jl._display import ShortRepr
from pynode_jl._validation import optional_callable, whole_number
from pynode_jl.backends import Array, BackendLike, as_backend
from pynode_jl.diagnostics._diagnostic import (
    Context,
    Diagnostic,
    Finding,
    has_jacobians,
)
from pynode_jl.diagnostics._step_maps import initial_states, step_jacobians, step_lengths
from pynode_jl.errors import PyNODEError, SolveError
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, as_trained_model

# The most steps of a scan.
_MOST_STEPS = 512

#: What the determinants do not show, for whoever reads a report.
BLIND_SPOTS = (
    "A step map without folds may still be far from the flow.",
    "An even number of reversed directions leaves the determinant positive.",
    "Folds between the samples' trajectories are missed.",
    "No folds at one step do not exclude them at a smaller one.",
)


# The finest step of a search divides the interval by at most this.
_MOST_FINEST = 2**20


@dataclass(frozen=True, repr=False)
class FoldReport(ShortRepr):
    """Determinants of the step maps along trajectories.

    Attributes:
        solver: whose steps.
        t: (steps,), where each step began.
        sign: (steps, n), the sign of the determinant, 0 where it vanishes.
        log_abs: (steps, n), the natural logarithm of its absolute value.

    Example:
        >>> from pynode_jl.diagnostics import folds
        >>> bool(folds(trained, data.x_test[:8], backend="jax").folded.all())
        True
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


def folds(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    solver: Solver | None = None,
    backend: BackendLike = None,
) -> FoldReport:
    """Look for folds along the trajectories of samples.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``. Each step makes n Jacobians of size x size numbers.
        solver: whose steps; default the training solver.
        backend: what integrates, or its name; default `get_backend()`.

    Raises:
        SolveError: the solve failed, or a step's Jacobian is not finite.
        BackendLacksSolverError: a method whose steps the backend cannot differentiate.

    Example:
        >>> from pynode_jl.diagnostics import folds
        >>> found = folds(trained, data.x_test[:8], backend="jax")
        >>> found.sign.ravel().tolist(), found.share
        ([-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0], 1.0)
    """
    trained = as_trained_model(trained)
    backend = as_backend(backend, trained.model)
    solver = trained.solver if solver is None else Solver.of(solver)
    model, weights = trained.model, trained.field_weights
    # In float64: near a fold float32 cannot tell a determinant's sign.
    start = initial_states(trained, x)
    solution = backend.solve(
        model.field, weights, start, (model.t0, model.t1), solver, save_steps=True
    )
    t = solution.t[:-1]
    jacobians = step_jacobians(
        backend, model.field, weights, solution.y[:-1], t, step_lengths(solver, solution.t), solver
    )
    sign, log_abs = np.linalg.slogdet(jacobians)
    return FoldReport(solver, t, sign, log_abs)


def fold_step(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    finest: int = 1024,
    backend: BackendLike = None,
    on_solve: Callable[[Solver], None] | None = None,
) -> tuple[float | None, float | None]:
    """Bracket the step at which folds appear, by bisection over steps (t1 - t0) / n.

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

    Example:
        >>> from pynode_jl.diagnostics import fold_step
        >>> fold_step(trained, data.x_test[:8], finest=4, backend="jax")
        (0.333..., 0.5)
    """
    finest = whole_number("finest", finest, most=_MOST_FINEST, hint="512 is fine enough for most.")
    optional_callable("on_solve", on_solve)
    trained = as_trained_model(trained)
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


@dataclass(frozen=True, repr=False)
class FoldScan(ShortRepr):
    """Folds at many steps of one method.

    Attributes:
        solver: the training solver, whose method is stepped.
        steps: (k,), the steps tried, the largest first.
        share: (k,), the share of samples whose trajectories fold; nan where the solve failed.

    Example:
        >>> from pynode_jl.diagnostics import fold_scan
        >>> fold_scan(trained, data.x_test[:8], finest=4, backend="jax").smallest
        0.5
    """

    solver: Solver
    steps: Array
    share: Array

    @property
    def smallest(self) -> float | None:
        """The smallest step at which folds were seen; None if there were none at any."""
        folding = self.steps[np.nan_to_num(self.share) > 0]
        return float(folding.min()) if folding.size else None

    @property
    def reappears(self) -> bool:
        """Whether folds were seen below a step that had none."""
        clean = self.steps[self.share == 0]
        return self.smallest is not None and bool((clean > self.smallest).any())


def fold_scan(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    finest: int = 512,
    backend: BackendLike = None,
    on_solve: Callable[[Solver], None] | None = None,
) -> FoldScan:
    """Look for folds at 1, 2, 4, ... steps over the interval.

    Unlike the bisection of `fold_step` this does not take folding for monotone: a step without
    folds may stand above one with them.

    Args:
        trained: the model; its training solver's method is stepped.
        x: samples, ``(n, *input_shape)``.
        finest: the most steps tried; each of them makes n Jacobians.
        backend: what integrates.
        on_solve: called before each look, with its solver.

    Raises:
        InvalidValueError: `finest` below 1.
        WrongSolverError: a method without fixed steps.

    Example:
        >>> from pynode_jl.diagnostics import fold_scan
        >>> scan = fold_scan(trained, data.x_test[:8], finest=4, backend="jax")
        >>> scan.steps.tolist(), scan.share.tolist()
        ([1.0, 0.5, 0.25], [1.0, 1.0, 0.0])
    """
    finest = whole_number("finest", finest, most=_MOST_FINEST, hint="512 is fine enough for most.")
    optional_callable("on_solve", on_solve)
    trained = as_trained_model(trained)
    span = abs(trained.model.t1 - trained.model.t0)
    counts = [2**k for k in range(finest.bit_length()) if 2**k <= finest]
    shares = []
    for count in counts:
        solver = trained.solver.with_step(span / count)
        if on_solve is not None:
            on_solve(solver)
        try:
            shares.append(folds(trained, x, solver=solver, backend=backend).share)
        except SolveError:
            shares.append(float("nan"))
    return FoldScan(trained.solver, span / np.array(counts, float), np.array(shares))


def _finest_scan(context: Context) -> int:
    """How many steps a fold scan can go to: it makes 1 + 2 + 4 + ... of them."""
    affordable = context.backend.jacobian_numbers / (
        2 * context.trained.model.field.size**2 * len(context.few)
    )
    return int(min(_MOST_STEPS, max(affordable, 1)))


def _run(context: Context) -> Finding:
    trained, few, backend = context.trained, context.few, context.backend
    found = folds(trained, few, backend=backend)
    steps, n = found.sign.shape
    share = context.share(int(found.folded.sum()), n)
    label = trained.solver.label
    if share.count:
        first = int(np.argmax((found.sign <= 0).any(axis=1)))
        text = (
            f"{share.told('trajectories')} under {label} fold: they pass a step whose determinant"
            f" is not positive, the first at step {first + 1} of {steps}."
        )
    else:
        text = f"No folds in {steps} steps of {label} along {n} trajectories: that proves nothing."
    scan: FoldScan | None = None
    try:
        scan = fold_scan(trained, few, finest=_finest_scan(context), backend=backend)
        text += _scan_text(scan)
    except PyNODEError as error:
        text += f" Other steps were not scanned: {error}"
    data = {
        **share.to_dict(),
        "steps": steps,
        "scan": None
        if scan is None
        else {
            "steps": scan.steps.tolist(),
            "share": scan.share.tolist(),
            "smallest": scan.smallest,
            "reappears": scan.reappears,
        },
    }
    return Finding(
        "",
        "contradicts" if share.low > context.margin else "inconclusive",
        text,
        "",
        data,
        f"its trajectories fold ({share})",
        (found, scan),
    )


def _scan_text(scan: FoldScan) -> str:
    labels = [scan.solver.with_step(float(step)).label for step in scan.steps]
    if scan.smallest is not None:
        again = ", though not at all larger ones" if scan.reappears else ""
        text = f" The smallest step with folds is {scan.solver.with_step(scan.smallest).label}"
        text += f"{again}."
    else:
        text = f" None at any other step down to {labels[-1]} either."
    failed = [label for label, share in zip(labels, scan.share, strict=True) if np.isnan(share)]
    return f"{text} Solves failed at {', '.join(failed)}." if failed else text


FOLDS = Diagnostic(
    "folds",
    _run,
    " ".join(BLIND_SPOTS),
    has_jacobians,
    "a state that is small enough for Jacobians",
    reference=False,
)
