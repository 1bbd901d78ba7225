"""Lady Windermere's fan: local errors, carried to the end, and their sum against the global error.

Each step of a solver leaves the exact flow by a local error; the flow carries it on to t1, where
all of them add up (Hairer, Norsett & Wanner, Solving ODEs I, II.3; Ott et al. 2021, Fig. 3). To
first order the transport is linear, by the variational equation from each point of the numerical
path: a product of step Jacobians of an accurate method, at sub-steps fine enough that two
resolutions agree. Of large states and few steps, difference quotients along the errors themselves
cost less than Jacobians. A stiff field takes an L-stable method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from pynode_jl._display import ShortRepr
from pynode_jl.backends import Array, Backend, BackendLike, as_backend
from pynode_jl.diagnostics._diagnostic import (
    Context,
    Diagnostic,
    Finding,
    Outcome,
    has_jacobians,
)
from pynode_jl.diagnostics._error_share import ErrorShare, error_share
from pynode_jl.diagnostics._reference import REFERENCE
from pynode_jl.diagnostics._step_maps import (
    flow_over_steps,
    initial_states,
    step_jacobians,
    step_lengths,
)
from pynode_jl.errors import BackendLacksSolverError, SolveError
from pynode_jl.models import ModelWeights
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedLike, TrainedModel, as_trained_model

_EXPLICIT, _IMPLICIT = "Vern7", "KenCarp5"
# Sub-steps of each step that are tried in turn, by method.
_EXPLICIT_PARTS = (1, 2, 4)
_VECTOR_PARTS = (1, 2, 4, 8)
_IMPLICIT_PARTS = (1, 2, 4, 8, 16)
# What the Jacobian of an implicit method's step costs beside an explicit one's: each of its stages
# asks for Jacobians of the field.
_IMPLICIT_COST = 4
# Difference quotients take states apart by this, relative: in float64 good to ten digits.
_APART = 1e-6
# Two resolutions agree where transported errors differ by no more than this, relative, for this
# share of the samples: those that pass a kink of a ReLU field within a step converge slowly.
_AGREEMENT = 0.01
_AGREEING = 0.9
# The sum of transported errors may miss the global error by this share of it.
_LINEAR = 0.1


@dataclass(frozen=True, repr=False)
class Fan(ShortRepr):
    """The errors of one solve, sample by sample; states flattened to `size` numbers, float64.

    Attributes:
        solver: whose errors.
        t: (steps,), where each step ends.
        local: (steps, n, size), the error that each step makes alone.
        transported: (steps, n, size), the same where the flow has carried it to t1; nan where the
            transport is not measured.
        global_error: (n, size), the final state minus the exact one.
        exact: (n, size), the exact final state.
        margin: (n,), the lead of the first logit over the second under the solver; nan of a task
            that is no classification.
        margin_error: (n,), the part of that lead that is made by the global error.
        method: what carried the errors: "Vern7, 2 sub-steps".
        disagreement: how far the two finest resolutions of the transport differ, relative.
        problem: why the transport is not measured; "" where it is.

    Example:
        >>> from pynode_jl.diagnostics import fan
        >>> fine = pn.Solver("Euler", dt=1 / 64)
        >>> errors = fan(trained, data.x_test[:4], solver=fine, backend="jax")
        >>> errors.local.shape == errors.transported.shape
        True
    """

    solver: Solver
    t: Array
    local: Array
    transported: Array
    global_error: Array
    exact: Array
    margin: Array
    margin_error: Array
    method: str
    disagreement: float
    problem: str

    @property
    def measured(self) -> bool:
        """Whether two resolutions of the transport agree."""
        return not self.problem

    @property
    def gap(self) -> float:
        """How far the sum of transported errors is from the global error: norm over norm."""
        with np.errstate(over="ignore", invalid="ignore"):
            rest = np.linalg.norm(self.transported.sum(axis=0) - self.global_error)
            return float(rest / max(float(np.linalg.norm(self.global_error)), 1e-300))

    @property
    def size(self) -> float:
        """The mean over samples of |global error| / (1 + |exact|), as a reference measures it."""
        return _relative(self.global_error, self.exact)


def fan(
    trained: TrainedLike,
    x: npt.ArrayLike,
    *,
    solver: Solver | None = None,
    flow: Solver = REFERENCE,
    backend: BackendLike = None,
) -> Fan:
    """Decompose a solve's global error into the local errors of its steps.

    Args:
        trained: the model.
        x: samples, ``(n, *input_shape)``; each step makes n Jacobians of size x size numbers, and
            several times as many where the field is stiff.
        solver: whose errors; default the training solver.
        flow: the adaptive solver (or its text, or its table) that stands for the ODE's flow.
        backend: what integrates, or its name; default `get_backend()`.

    Raises:
        SolveError: a solve failed, the solver's or the flow's.

    Example:
        >>> from pynode_jl.diagnostics import fan
        >>> fine = pn.Solver("Euler", dt=1 / 64)
        >>> errors = fan(trained, data.x_test[:4], solver=fine, backend="jax")
        >>> len(errors.t), bool(errors.gap < 0.01)
        (64, True)
    """
    trained = as_trained_model(trained)
    backend = as_backend(backend, trained.model)
    solver = trained.solver if solver is None else Solver.of(solver)
    flow = Solver.of(flow)
    model, weights = trained.model, trained.field_weights
    y0 = initial_states(trained, x)
    n = y0.shape[0]
    span = (model.t0, model.t1)
    path = backend.solve(model.field, weights, y0, span, solver, save_steps=True)
    exact = backend.solve(model.field, weights, y0, span, flow).y1
    t, y, dt = path.t[:-1].astype(np.float64), path.y[:-1], step_lengths(solver, path.t)

    def along(parts: int) -> Array:
        return flow_over_steps(backend, model.field, weights, y, t, dt, flow, parts)

    # Two parts: their middle is where the second of two sub-steps begins.
    halves = along(2)
    local = (path.y[1:] - halves[:, -1]).reshape(len(t), n, -1)
    global_error = (path.y[-1] - exact).reshape(n, -1)
    small = _relative(global_error, exact.reshape(n, -1)) < 1.0
    carried = _Carried(local[-1:], "no transport, a single step", 0.0, "")
    if len(t) > 1:
        transport = _Transport(backend, trained, y, t, dt, flow, local, {2: halves}, small)
        carried = transport.carried()
    tree = ModelWeights.from_dict(trained.weights)
    margins = ErrorShare(np.full(n, np.nan), np.full(n, np.nan))
    if model.task.comparison == "flips":
        margins = error_share(*(model.logits(each, tree) for each in (path.y[-1], exact)))
    return Fan(
        solver,
        path.t[1:],
        local,
        carried.errors,
        global_error,
        exact.reshape(n, -1),
        margins.margin,
        margins.error,
        carried.method,
        carried.disagreement,
        carried.problem,
    )


@dataclass(frozen=True)
class _Carried:
    """Local errors at t1, (steps, n, size), and how they came there."""

    errors: Array
    method: str
    disagreement: float
    problem: str


@dataclass(frozen=True)
class _Transport:
    """The variational equation over a path's steps, at growing resolution."""

    backend: Backend
    trained: TrainedModel
    y: Array
    t: Array
    dt: Array
    flow: Solver
    local: Array
    #: By number of parts, the flow's states at their ends.
    states: dict[int, Array]
    #: Whether the global error is smaller than the states.
    small: bool

    def carried(self) -> _Carried:
        """Carry the local errors at growing resolution until two in turn agree."""
        nothing = np.full_like(self.local, np.nan)
        method, disagreement, problem = "", np.inf, ""
        try:
            for name, resolutions in self._methods():
                before, last = None, np.inf
                for parts in resolutions:
                    if not self._affordable(name, parts):
                        break
                    errors = self._at(name, parts)
                    method = f"{name}, {parts} sub-step{'s' * (parts > 1)}"
                    if before is not None:
                        disagreement = _difference(before, errors)
                        if disagreement <= _AGREEMENT:
                            return _Carried(errors, method, disagreement, "")
                        # Outside its stability region, or at kinks of the field, or at errors
                        # that are larger than the flow's own scale: finer ones do not help.
                        if disagreement > min(1.0 if name == _EXPLICIT else np.inf, last / 2):
                            break
                        last = disagreement
                    before = errors
            problem = (
                f"two resolutions of it still differ by {_percent(disagreement)} ({method} of each"
                f" step){'' if self.small else ', and errors are as large as the states'}"
                if np.isfinite(disagreement)
                else "there are too many steps, or states are too large"
            )
        except (SolveError, BackendLacksSolverError) as error:
            problem = str(error)
        return _Carried(nothing, method, disagreement, problem)

    def _methods(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        implicit = self.flow.info.implicit
        if not implicit:
            yield _EXPLICIT, _VECTOR_PARTS if self._by_vectors else _EXPLICIT_PARTS
        # Of errors as large as the states no first order can be told: stiffness is not what lacks.
        if self.small or implicit:
            yield self.flow.name if implicit else _IMPLICIT, _IMPLICIT_PARTS

    @property
    def _by_vectors(self) -> bool:
        """Whether difference quotients of the errors cost less than Jacobians of the steps."""
        return 4 * (len(self.t) - 1) < self.trained.model.field.size

    def _affordable(self, name: str, parts: int) -> bool:
        """Whether another resolution costs no more than a diagnostic may."""
        explicit = name == _EXPLICIT
        if explicit and (self._by_vectors or parts <= 2):
            return True  # `Context.few` has counted them.
        numbers = self.y.shape[0] * self.y.shape[1] * self.trained.model.field.size**2
        cost = parts * (1 if explicit else _IMPLICIT_COST)
        return bool(numbers * cost <= self.backend.jacobian_numbers)

    def _at(self, name: str, parts: int) -> Array:
        """Return the local errors carried by `parts` sub-steps of a method over each step."""
        field, weights = self.trained.model.field, self.trained.field_weights
        if parts > 1 and parts not in self.states:
            self.states[parts] = flow_over_steps(
                self.backend, field, weights, self.y, self.t, self.dt, self.flow, parts
            )
        if name == _EXPLICIT and self._by_vectors:
            return self._vectors_at(name, parts)
        return self._jacobians_at(name, parts)

    def _begin(self, parts: int, part: int) -> Array:
        """Return the states, (steps, n, *state_shape), where a part of each step begins."""
        return self.y if part == 0 else self.states[parts][:, part - 1]

    def _jacobians_at(self, name: str, parts: int) -> Array:
        """Carry by products of step Jacobians: few numbers in a state, many steps."""
        field, weights = self.trained.model.field, self.trained.field_weights
        solver = Solver(name, dt=float(np.abs(self.dt).max()))

        def over_part(part: int) -> Array:
            # The first step's own Jacobian carries nothing.
            return step_jacobians(
                self.backend,
                field,
                weights,
                self._begin(parts, part)[1:],
                self.t[1:] + self.dt[1:] * part / parts,
                self.dt[1:] / parts,
                solver,
            )

        over_step = reduce(lambda before, last: last @ before, map(over_part, range(parts)))
        carried = [self.local[-1]]
        to_end = np.broadcast_to(np.eye(field.size), over_step.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            for over, local in zip(over_step[::-1], self.local[-2::-1], strict=True):
                to_end = to_end @ over
                carried.append(np.einsum("nij,nj->ni", to_end, local))
        return np.stack(carried[::-1])

    def _vectors_at(self, name: str, parts: int) -> Array:
        """Carry by difference quotients of the steps: many numbers in a state, few steps."""
        # All errors, from the first step on, so that a backend compiles for one shape: those of
        # later steps are zero until they are made.
        carried = np.zeros_like(self.local[:-1])
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(1, len(self.t)):
                carried[step - 1] = self.local[step - 1]
                for part in range(parts):
                    carried = self._pushed(name, parts, step, part, carried)
        return np.concatenate([carried, self.local[-1:]])

    def _pushed(self, name: str, parts: int, step: int, part: int, vectors: Array) -> Array:
        """Return vectors, (k, n, size), times the Jacobian of a part of a step."""
        field, dt = self.trained.model.field, float(self.dt[step]) / parts
        t = float(self.t[step]) + part * dt
        begin = self._begin(parts, part)[step].astype(np.float64).reshape(1, *vectors.shape[1:])
        size = np.linalg.norm(vectors, axis=2, keepdims=True)
        apart = _APART * (1.0 + np.linalg.norm(begin, axis=2, keepdims=True))
        offset = vectors * (apart / np.where(size > 0, size, 1.0))
        states = np.stack([begin + offset, begin - offset]).reshape(-1, *field.state_shape)
        ends = self.backend.solve(
            field,
            self.trained.field_weights,
            states,
            (t, t + dt),
            Solver(name, dt=abs(dt)),
        ).y1.reshape(2, *vectors.shape)
        return np.asarray((ends[0] - ends[1]) * (size / (2.0 * apart)))


def _relative(error: Array, exact: Array) -> float:
    """Return the mean over samples of |error| / (1 + |exact|)."""
    with np.errstate(over="ignore", invalid="ignore"):
        size, states = (np.linalg.norm(each, axis=1) for each in (error, exact))
        return float(np.mean(size / (1.0 + states)))


def _difference(before: Array, after: Array) -> float:
    """How far two transports of the same errors differ, relative, for most samples."""
    with np.errstate(over="ignore", invalid="ignore"):
        rest, size = (np.linalg.norm(each, axis=(0, 2)) for each in (after - before, after))
        relative = rest / np.maximum(size, 1e-300)
    relative = np.where(np.isfinite(relative), relative, np.inf)
    return float(np.sort(relative)[int(np.ceil(_AGREEING * len(relative))) - 1])


def _percent(share: float) -> str:
    if share < 0.001:
        return "less than 0.1%"
    return f"{share:.1%}" if share < 10 else "more than ten times their size"


def _run(context: Context) -> Finding:
    found = fan(context.trained, context.few, flow=context.flow, backend=context.backend)
    steps, n = len(found.t), len(found.margin)
    largest = int(np.sum(found.margin_error >= 0.5 * found.margin))
    data = {
        "samples": n,
        "steps": steps,
        "global error": found.size,
        "reference error": context.reference.error,
        "method": found.method,
        "disagreement": found.disagreement,
        "gap": found.gap,
    }
    outcome: Outcome = "inconclusive"
    if found.size <= context.reference.error:
        text = (
            f"The solver's error, {found.size:.2g} (relative, of {n} samples), is no larger than"
            f" the reference's own, {context.reference.error:.2g}: there is nothing to carry."
        )
    elif not found.measured:
        text = (
            f"The transport of the local errors of {steps} steps is not measured: {found.problem}."
        )
    elif found.gap > _LINEAR:
        text = (
            "The errors are too large to be carried to first order: the sum of the local errors of"
            f" {steps} steps, carried to the end, misses the global error by {_percent(found.gap)}"
            f" of it ({n} samples; {found.method})."
        )
    else:
        small = largest <= context.margin * n
        outcome = "supports" if small else "inconclusive"
        rest = "" if small else ", but the error is no small part of the answers' margins"
        text = (
            f"Carried to the end, the local errors of {steps} steps sum to the global error but for"
            f" {_percent(found.gap)} of it ({n} samples; {found.method}){rest}."
        )
    return Finding("", outcome, text, "", data, "", found)


ERROR_TRANSPORT = Diagnostic(
    "error transport",
    _run,
    "To first order in the local errors. Of a linear field the first order is exact, however large"
    " the errors are.",
    has_jacobians,
    "a state that is small enough for Jacobians",
)
