"""Step maps and the flow over many steps at once.

Of a field that does not depend on time, steps of equal length differ in their states alone: they go
to the backend as one batch, in batches of one size so that a backend compiles once. Those of any
other field go one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from pynode_jl._validation import rounded
from pynode_jl.backends import Array, Backend
from pynode_jl.diagnostics._diagnostic import NUMBERS_AT_ONCE
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.fields import Field, VectorField, Weights
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel

_STEPS_AT_ONCE = 32
# Fewer steps go one by one: a batch's other places would be computed for nothing.
_FEW_STEPS = 8
# Lengths of equal steps differ by rounding of their times.
_EQUAL = 1e-9


def initial_states(trained: TrainedModel, x: npt.ArrayLike) -> Array:
    """Return the states at t0 of samples, ``(n, *state_shape)`` float64.

    Raises:
        InvalidValueError: no samples of the model's input shape.
    """
    samples = rounded("x", x, np.float64)
    shape = trained.model.input_shape
    if samples.ndim == 0 or samples.shape[1:] != shape or not len(samples):
        raise InvalidValueError(
            "x.shape", samples.shape, f"(n, {', '.join(map(str, shape))}), n >= 1", "Reshape it."
        )
    states: Array = trained.initial_states(samples)
    return states


def step_lengths(solver: Solver, t: Array) -> Array:
    """Return the lengths, (steps,), of a path's steps at times `t`, (steps + 1,).

    Of fixed steps they are the solver's own, which differences of float32 times are not.
    """
    if not solver.fixed:
        return np.asarray(np.diff(t.astype(np.float64)))
    grid = solver.grid(float(t[0]), float(t[-1]))
    return np.array([grid.dt] * (grid.n - 1) + [grid.dt_last])


def step_jacobians(
    backend: Backend,
    field: Field,
    weights: Weights,
    y: Array,
    t: Array,
    dt: Array,
    solver: Solver,
) -> Array:
    """Return the Jacobians of steps, (steps, n, size, size), float64.

    Args:
        backend, field, weights: as for `Backend.step_jacobian`.
        y: (steps, n, *state_shape), where each step begins.
        t, dt: (steps,), when it begins, and its length.
        solver: whose method.

    Raises:
        SolveError: a Jacobian that is not finite.
        BackendLacksSolverError: a method whose steps the backend cannot differentiate.
    """

    def one_batch(states: Array, t: float, dt: float) -> Array:
        return backend.step_jacobian(field, weights, states, t, dt, solver)

    found = _over_steps(field, y.astype(np.float64), t, dt, one_batch)
    if not np.isfinite(found).all():
        raise SolveError("Unstable", f"a step of {solver.label} has a Jacobian that is not finite")
    return found


def flow_over_steps(
    backend: Backend,
    field: Field,
    weights: Weights,
    y: Array,
    t: Array,
    dt: Array,
    flow: Solver,
    parts: int = 1,
) -> Array:
    """Follow the flow over each step, from where the step begins.

    Args:
        backend, field, weights, y, t, dt: as for `step_jacobians`.
        flow: the solver that stands for the flow.
        parts: equal parts of each step at whose ends states are returned.

    Returns:
        States, (steps, parts, n, *state_shape), float64.

    Raises:
        SolveError: a solve failed.
    """
    # A pair of parts in each solve, and no more: a backend then compiles once for any number.
    at_once = 2 if parts % 2 == 0 else 1

    def one_batch(states: Array, t: float, dt: float) -> Array:
        times = [t + dt * (part + 1) / at_once for part in range(at_once)]
        found = backend.solve(field, weights, states, (t, times[-1]), flow, save_at=times)
        return np.moveaxis(found.y, 0, 1)  # samples first

    found, states = [], y.astype(np.float64)
    for first in range(0, parts, at_once):
        length = dt * at_once / parts
        ends = np.moveaxis(
            _over_steps(field, states, t + dt * first / parts, length, one_batch), 2, 1
        )
        found.append(ends)
        states = ends[:, -1]
    return np.concatenate(found, axis=1)


def _over_steps(
    field: Field, y: Array, t: Array, dt: Array, one_batch: Callable[[Array, float, float], Array]
) -> Array:
    """Apply `one_batch`, which maps (n, ...) states to (n, ...) results, to every step's states."""
    n = y.shape[1]
    at_once = 1
    repeated = isinstance(field, VectorField) and not field.time_dependent
    if repeated and len(dt) >= _FEW_STEPS:
        at_once = int(np.clip(NUMBERS_AT_ONCE / (n * field.size**2), 1, _STEPS_AT_ONCE))
    runs = list(_runs(dt, at_once))
    if len(runs) * at_once > 4 * len(dt):
        # Steps of many lengths, as an adaptive solver makes them.
        at_once, runs = 1, list(_runs(dt, 1))
    results = []
    for first, last in runs:
        states = y[first:last]
        if at_once > 1:
            # One shape for all: the rest of the batch repeats its first step.
            missing = np.repeat(states[:1], at_once - len(states), axis=0)
            states = np.concatenate([states, missing])
        found = one_batch(states.reshape(-1, *y.shape[2:]), float(t[first]), float(dt[first]))
        results.append(found.reshape(len(states), n, *found.shape[1:])[: last - first])
    return np.concatenate(results)


def _runs(dt: Array, at_once: int) -> Iterator[tuple[int, int]]:
    """Bounds of runs of equal steps, of up to `at_once` each."""
    first = 0
    while first < len(dt):
        last = first + 1
        while (
            last < len(dt)
            and last - first < at_once
            and abs(dt[last] - dt[first]) <= _EQUAL * abs(dt[first])
        ):
            last += 1
        yield first, last
        first = last
