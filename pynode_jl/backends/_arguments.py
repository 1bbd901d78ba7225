"""Arguments of a backend, checked and made plain: NumPy arrays of the right shape and type."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pynode_jl._validation import numbers, rounded, times
from pynode_jl.backends._precision import check_weights_resolved
from pynode_jl.backends._results import Array
from pynode_jl.backends._times import check_resolved
from pynode_jl.errors import BackendLacksSolverError, InvalidValueError, WrongSolverError
from pynode_jl.fields import FunctionField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, Tableau
from pynode_jl.tasks import Classification, Task


def stops(save_at: Sequence[float] | None, t0: float, t1: float) -> list[float]:
    """Check and return output times: strictly monotone from t0, left out, to at most t1."""
    if save_at is None:
        return [t1]
    hint = "Sort them; y0 itself is the state at t0."
    expected = f"times that run strictly from t0 = {t0:g} (left out) to at most t1 = {t1:g}"
    given = times("save_at", save_at, expected, hint)
    onward = operator.lt if t1 > t0 else operator.gt
    inside = given and not onward(t1, given[-1])
    if not inside or not all(map(onward, [t0, *given], given)):
        raise InvalidValueError("save_at", save_at, expected, hint)
    return given


def batch(
    argument: str, value: Any, shape: tuple[int, ...], like: Mapping[str, Any] | None = None
) -> Array:
    """Check and return samples of `shape`, at least one: (batch, *shape), float32 or float64.

    Integers, and lists, have no precision of their own: they are float64 if all arrays of `like`
    are, and else float32.
    """
    array = numbers(argument, value)
    if isinstance(value, (list, tuple)) or array.dtype.kind in "iub":
        array = rounded(argument, array, _precision_of(like))
    elif array.dtype not in (np.float32, np.float64):
        raise InvalidValueError(
            f"{argument}.dtype", array.dtype, "float32 or float64", "Convert it with .astype."
        )
    if array.ndim == 0 or array.shape[1:] != shape or array.shape[0] == 0:
        raise InvalidValueError(
            f"{argument}.shape",
            array.shape,
            f"(batch, {', '.join(map(str, shape))}), batch >= 1",
            "Add a batch axis in front, or make the field or model for these samples.",
        )
    return array


def check_interval(model: Model, solver: Solver, dtype: np.dtype[Any]) -> None:
    """Refuse an interval or weights that a precision does not resolve, and a step too long."""
    check_weights_resolved(solver.tableau, float(np.finfo(dtype).eps))
    check_resolved(model.times, dtype)
    if solver.fixed:
        solver.grid(model.t0, model.t1)


def check_read_outs(model: Model, gradient: str) -> None:
    """Refuse an adjoint ODE where a model is read at several times."""
    if gradient != "discrete" and len(model.times) > 2:
        raise InvalidValueError(
            "gradient", gradient, '"discrete" where a model is read at several times', "Take it."
        )


def like(argument: str, value: Any, states: Array) -> Array:
    """One number for each of `states`, in their precision."""
    array = rounded(argument, value, states.dtype)
    if array.shape != states.shape:
        raise InvalidValueError(
            f"{argument}.shape", array.shape, f"{states.shape}, as the states", "Give one each."
        )
    return array


def weights(
    given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Arrays of `dtype` in the order and of the shapes of `shapes`."""
    if not isinstance(given, Mapping) or set(given) != set(shapes):
        names = {str(name) for name in given} if isinstance(given, Mapping) else set()
        missing, extra = sorted(set(shapes) - names), sorted(names - set(shapes))
        raise InvalidValueError(
            "weights",
            sorted(names) if isinstance(given, Mapping) else given,
            "a mapping of exactly the names of weight_shapes():"
            f" missing {missing}, unknown {extra}",
            "Start from init(seed).",
        )
    arrays = {name: rounded(f"weights[{name!r}]", given[name], dtype).copy() for name in shapes}
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


def targets(given: Any, n: int, task: Task, dtype: np.dtype[Any]) -> Array:
    """Return the targets of `n` samples: labels, (n,) int32, or numbers in a precision."""
    if not isinstance(task, Classification):
        return task.checked_targets("targets", given, n).astype(dtype)
    array, classes = numbers("labels", given), task.classes
    inside = array.shape == (n,) and ((array >= 0) & (array < classes)).all()  # NaN is not
    if not inside or (array != np.floor(array)).any():
        raise InvalidValueError(
            "labels", array, f"({n},) whole numbers from 0 to {classes - 1}", "One for each of x."
        )
    return array.astype(np.int32)


def batches(given: Array, n: int) -> Array:
    """Return indices of the samples of each iteration's batch, (iterations, batch) int32."""
    hint = "`batch_indices` makes them."
    given = numbers("batches", given)
    if given.ndim != 2 or given.dtype.kind not in "iu" or given.size == 0:
        raise InvalidValueError("batches", given, "integers, (iterations, batch)", hint)
    if given.min() < 0 or given.max() >= n:
        raise InvalidValueError("batches", given, f"indices from 0 to {n - 1}", hint)
    return given.astype(np.int32, copy=False)


def _precision_of(like: object) -> type[np.floating[Any]]:
    """Return float64 if `like` is a mapping to arrays of it alone, and else float32."""
    found = (
        {getattr(each, "dtype", None) for each in like.values()}
        if isinstance(like, Mapping)
        else set()
    )
    return np.float64 if found == {np.dtype(np.float64)} else np.float32
