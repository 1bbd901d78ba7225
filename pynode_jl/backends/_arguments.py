"""Arguments of a backend, checked and made plain: NumPy arrays of the right shape and type."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pynode_jl.backends._results import Array
from pynode_jl.errors import BackendLacksSolverError, InvalidValueError, WrongSolverError
from pynode_jl.fields import FunctionField
from pynode_jl.solvers import Solver, Tableau


def span(t_span: tuple[float, float]) -> tuple[float, float]:
    """Two finite times that differ."""
    t0, t1 = (float(t) for t in t_span)
    if not (math.isfinite(t0) and math.isfinite(t1)) or t0 == t1:
        raise InvalidValueError("t_span", t_span, "two finite times that differ", "Give (t0, t1).")
    return t0, t1


def stops(save_at: Sequence[float] | None, t0: float, t1: float) -> list[float]:
    """Check and return output times: strictly monotone from t0, left out, to at most t1."""
    if save_at is None:
        return [t1]
    times = [float(t) for t in save_at]
    onward = operator.lt if t1 > t0 else operator.gt
    inside = times and not onward(t1, times[-1])
    if not inside or not all(map(onward, [t0, *times], times)):
        raise InvalidValueError(
            "save_at",
            save_at,
            f"times that run strictly from t0 = {t0:g} (left out) to at most t1 = {t1:g}",
            "Sort them; y0 itself is the state at t0.",
        )
    return times


def check_distinct(times: Sequence[float], dtype: np.dtype[Any]) -> None:
    """Refuse times that are one in the precision of a solve."""
    if (np.diff(np.array(times, dtype)) == 0).any():
        raise InvalidValueError(
            "save_at", times, f"times that differ in {dtype}", "Space them, or use float64."
        )


def batch(argument: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Check and return samples of `shape`, at least one: (batch, *shape), float32 or float64."""
    array = _floats(argument, value)
    if array.ndim == 0 or array.shape[1:] != shape or array.shape[0] == 0:
        raise InvalidValueError(
            f"{argument}.shape",
            array.shape,
            f"(batch, {', '.join(map(str, shape))}), batch >= 1",
            "Add a batch axis in front, or make the field or model for these samples.",
        )
    return array


def like(argument: str, value: Any, states: Array) -> Array:
    """One number for each of `states`, in their precision."""
    array = _floats(argument, value).astype(states.dtype, copy=False)
    if array.shape != states.shape:
        raise InvalidValueError(
            f"{argument}.shape", array.shape, f"{states.shape}, as the states", "Give one each."
        )
    return array


def weights(
    given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Arrays of `dtype` in the order and of the shapes of `shapes`."""
    if set(given) != set(shapes):
        missing, extra = sorted(set(shapes) - set(given)), sorted(set(given) - set(shapes))
        raise InvalidValueError(
            "weights",
            sorted(given),
            f"exactly the names of weight_shapes(): missing {missing}, unknown {extra}",
            "Start from init(seed).",
        )
    arrays = {name: np.asarray(_detached(given[name])).astype(dtype) for name in shapes}
    for name, array in arrays.items():
        if array.shape != tuple(shapes[name]):
            raise InvalidValueError(
                f"weights[{name!r}].shape", array.shape, str(shapes[name]), "Start from init(seed)."
            )
    return arrays


def flattened(arrays: Mapping[str, Array]) -> Array:
    """All arrays in one, in the order of their names in `arrays`."""
    return np.concatenate([value.ravel() for value in arrays.values()])


def unflattened(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Return the arrays that `flattened` joined, as copies. Further numbers are ignored."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        arrays[name] = flat[start:stop].reshape(shape).copy()
        start = stop
    return arrays


def check_framework(field: FunctionField, backend: str) -> None:
    """Refuse a function that is written for another backend.

    Raises:
        InvalidValueError: it is.
    """
    if field.backend != backend:
        raise InvalidValueError(
            "field.backend",
            field.backend,
            f'"{backend}" on the {backend} backend, for a function in its arrays',
            f'Or use backend="{field.backend}".',
        )


def checked_tableau(solver: Solver, backend: str) -> Tableau:
    """Return the tableau of a solver, for a backend that has those of the catalogue.

    Raises:
        BackendLacksSolverError: it has none, or no error weights where it is to adapt its steps.
        WrongSolverError: it has options, which are Julia's.
    """
    table = solver.info.tableau
    if table is None:
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a solver with a Butcher tableau (`pynode-jl solvers --backend jax`)",
            'The zoo runs it: backend="julia".',
        )
    if solver.options:
        raise WrongSolverError(
            "options",
            dict(solver.options),
            f"none on the {backend} backend",
            'Constructor options belong to Julia\'s algorithms: drop them, or backend="julia".',
        )
    if not solver.fixed and table.b_error is None:
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a method with embedded error weights where tolerances are given",
            f'Give it a step, Solver("{solver.name}", dt=...), or adapt it with backend="julia".',
        )
    return table


def labels(given: Any, n: int, classes: int) -> Array:
    """Return the class of each of `n` samples, (n,) int32."""
    array = np.asarray(_detached(given))
    whole = array.astype(np.int32)
    if array.shape != (n,) or (whole != array).any() or whole.min() < 0 or whole.max() >= classes:
        raise InvalidValueError(
            "labels", array, f"({n},) whole numbers from 0 to {classes - 1}", "One for each of x."
        )
    return whole


def batches(given: Array, n: int) -> Array:
    """Return indices of the samples of each iteration's batch, (iterations, batch) int32."""
    hint = "`batch_indices` makes them."
    if given.ndim != 2 or given.dtype.kind not in "iu" or given.size == 0:
        raise InvalidValueError("batches", given, "integers, (iterations, batch)", hint)
    if given.min() < 0 or given.max() >= n:
        raise InvalidValueError("batches", given, f"indices from 0 to {n - 1}", hint)
    return given.astype(np.int32, copy=False)


def _floats(argument: str, value: Any) -> Array:
    """`value` as an array of float32 or float64, without a copy where it already is one."""
    array = np.asarray(_detached(value))
    if isinstance(value, (list, tuple)) or array.dtype.kind in "iub":
        return array.astype(np.float32)
    if array.dtype in (np.float32, np.float64):
        return array
    raise InvalidValueError(
        f"{argument}.dtype", array.dtype, "float32 or float64", "Convert it with .astype."
    )


def _detached(value: Any) -> Any:
    """`value`, taken out of torch's graph: a tensor that asks for gradients gives no array."""
    return value.detach().cpu() if hasattr(value, "detach") else value
