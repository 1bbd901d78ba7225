"""`certify` and `swap` for torch modules as they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from pynode_jl.backends import Array, written_for
from pynode_jl.backends.torch import check_samples_apart
from pynode_jl.datasets import Dataset
from pynode_jl.frontends._examples import batches, encoded, examples
from pynode_jl.frontends.torch._copies import (
    Part,
    answering,
    as_batches,
    as_inputs,
    called,
    random_state_kept,
)
from pynode_jl.frontends.torch._to_trained import to_trained
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import TrainedModel

if TYPE_CHECKING:
    from pynode_jl.diagnostics import Certificate, SwapReport


def certify(
    field: Part,
    head: Part | None,
    x: Any,
    y: Any = None,
    *,
    solver: Solver | str | None = None,
    encoder: Part | None = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> Certificate:
    """Give the verdict on a trained torch model, as it is, and run all diagnostics on it.

    Modules may count, normalise, skip and join time as they like: they are copied, and the copies
    answer in eval mode. The encoder is run once; its outputs are the states of the test set.

    Args:
        field, head, solver, encoder, task, t_span: as for `to_trained`.
        x: inputs, tensors or arrays; or, without `y`, batches ``(x, y)``, a DataLoader or a torch
            data set. All of them are test samples.
        y: the targets: labels of a classification.
        options: further arguments of `pynode_jl.certify`. The default of `backend` is torch where
            a module cannot be read, and else JAX, or what ``PYNODE_BACKEND`` names.

    Raises:
        InvalidValueError: as for `to_trained` and `pynode_jl.certify`.
        DataError: examples that cannot be used.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import certify
        >>> x = torch.linspace(-1, 1, 200)[:, None]
        >>> head = torch.nn.Linear(1, 1)
        >>> _ = head.load_state_dict({"weight": -torch.ones(1, 1), "bias": torch.zeros(1)})
        >>> certify(
        ...     lambda t, y: -3 * y, head, x, x[:, 0] > 0, solver=pn.Solver("Euler", dt=1)
        ... ).verdict.kind
        'tied'
    """
    from pynode_jl import diagnostics

    with random_state_kept():
        trained, data = _prepared(field, head, x, y, solver, encoder, task, t_span)
        return diagnostics.certify(trained, data, **_with_backend(options, trained))


def swap(
    field: Part,
    head: Part | None,
    x: Any,
    y: Any = None,
    *,
    solver: Solver | str | None = None,
    encoder: Part | None = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> SwapReport:
    """Evaluate a trained torch model, as it is, under other solvers.

    Args:
        field, head, x, y, solver, encoder, task, t_span: as for `certify`.
        options: further arguments of `pynode_jl.swap`: `tests`, say.

    Raises:
        InvalidValueError: as for `to_trained` and `pynode_jl.swap`.
        DataError: examples that cannot be used.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import swap
        >>> x = torch.linspace(-1, 1, 200)[:, None]
        >>> head = torch.nn.Linear(1, 1)
        >>> _ = head.load_state_dict({"weight": torch.ones(1, 1), "bias": torch.zeros(1)})
        >>> euler = pn.Solver("Euler", dt=1 / 4)
        >>> report = swap(lambda t, y: -y, head, x, x[:, 0] > 0, solver=euler, tests=["RK4"])
        >>> report.verdict.kind, int(report.table["flips"].max())
        ('valid', 0)
    """
    from pynode_jl import diagnostics

    with random_state_kept():
        trained, data = _prepared(field, head, x, y, solver, encoder, task, t_span)
        return diagnostics.swap(trained, data, **_with_backend(options, trained))


def _prepared(
    field: Part,
    head: Part | None,
    x: Any,
    y: Any,
    solver: Solver | str | None,
    encoder: Part | None,
    task: Task | None,
    t_span: tuple[float, float],
) -> tuple[TrainedModel, Dataset]:
    part: Any = None if encoder is None else answering("encoder", encoder)
    checked = part is None

    def encode(inputs: Any) -> Array:
        nonlocal checked
        rows = as_inputs("x", inputs, part)
        if not checked:
            name = type(part).__name__
            check_samples_apart("encoder", name, lambda some: called("encoder", part, some), rows)
            checked = True
        states = rows if part is None else called("encoder", part, rows)
        array: Array = states.cpu().numpy()
        return array

    with torch.no_grad():
        states, targets = encoded(batches(as_batches(x), y), encode)
    trained = to_trained(field, head, states, solver=solver, task=task, t_span=t_span)
    return trained, examples(states, targets, trained.model.task)


def _with_backend(options: dict[str, Any], trained: TrainedModel) -> dict[str, Any]:
    """Return options with the backend that this front end prefers: it starts no Julia."""
    if options.get("backend") is not None:
        return options
    automatic = "auto" if os.environ.get("PYNODE_BACKEND") else "jax"
    return {**options, "backend": written_for(trained.model) or automatic}
