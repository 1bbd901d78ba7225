"""`certify` and `swap` for models of JAX as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from pynode_jl._validation import numbers
from pynode_jl.backends import Array
from pynode_jl.datasets import Dataset
from pynode_jl.frontends._examples import batches, encoded, examples
from pynode_jl.frontends.jax._parts import on_batch, opened
from pynode_jl.frontends.jax._to_trained import to_trained
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import TrainedModel

if TYPE_CHECKING:
    from pynode_jl.diagnostics import Certificate, SwapReport


def certify(
    field: Any,
    head: Any,
    x: Any,
    y: Any = None,
    *,
    solver: Solver | str | None = None,
    encoder: Any = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> Certificate:
    """Give the verdict on a trained model of JAX, as it is, and run all diagnostics on it.

    The encoder is run once; its outputs are the states of the test set.

    Args:
        field, head, solver, encoder, task, t_span: as for `to_trained`.
        x: inputs; or, without `y`, batches ``(x, y)``. All of them are test samples.
        y: the targets: labels of a classification.
        options: further arguments of `pynode_jl.certify`.

    Raises:
        InvalidValueError: as for `to_trained` and `pynode_jl.certify`.
        DataError: examples that cannot be used.

    Example:
        >>> from pynode_jl.jax import certify
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> certify(lambda t, y: -3 * y, lambda y: -y, x, x[:, 0] > 0, solver="Euler:dt=1").text
        'tied to its solver: 100.0% with Euler h=1 as trained. ...'
    """
    from pynode_jl import diagnostics

    trained, data = _prepared(field, head, x, y, solver, encoder, task, t_span)
    return diagnostics.certify(trained, data, **{"backend": "jax", **options})


def swap(
    field: Any,
    head: Any,
    x: Any,
    y: Any = None,
    *,
    solver: Solver | str | None = None,
    encoder: Any = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> SwapReport:
    """Evaluate a trained model of JAX, as it is, under other solvers.

    Args:
        field, head, x, y, solver, encoder, task, t_span: as for `certify`.
        options: further arguments of `pynode_jl.swap`: `tests`, say.

    Raises:
        InvalidValueError: as for `to_trained` and `pynode_jl.swap`.
        DataError: examples that cannot be used.

    Example:
        >>> from pynode_jl.jax import swap
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> def decay(t, y):
        ...     return -y
        >>> swap(decay, lambda y: y, x, x[:, 0] > 0, solver="Euler:dt=1/4", tests=["RK4"]).trained
        1.0
    """
    from pynode_jl import diagnostics

    trained, data = _prepared(field, head, x, y, solver, encoder, task, t_span)
    return diagnostics.swap(trained, data, **{"backend": "jax", **options})


def _prepared(
    field: Any,
    head: Any,
    x: Any,
    y: Any,
    solver: Solver | str | None,
    encoder: Any,
    task: Task | None,
    t_span: tuple[float, float],
) -> tuple[TrainedModel, Dataset]:
    part = None if encoder is None else opened("encoder", encoder)

    def encode(inputs: Any) -> Array:
        rows = numbers("x", inputs)
        if part is None:
            return rows
        given = jnp.asarray(rows)
        return np.asarray(on_batch("encoder", part, given)(part.arrays, given))

    states, targets = encoded(batches(x, y), encode)
    trained = to_trained(
        field, head, states.astype(np.float32), solver=solver, task=task, t_span=t_span
    )
    return trained, examples(states, targets, trained.model.task)
