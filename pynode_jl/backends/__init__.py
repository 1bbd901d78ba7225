"""Backends: what integrates. One contract, `Backend`, behind which the rest does not look.

Nothing here imports JAX before a backend is made.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TypeAlias

from pynode_jl._validation import choice, text
from pynode_jl.backends._base import Backend
from pynode_jl.backends._failures import raise_unless_success
from pynode_jl.backends._forks import check_fork, has_forked_jax
from pynode_jl.backends._gradients import (
    GRADIENTS,
    VJPS,
    GradientMethod,
    checked_gradient,
)
from pynode_jl.backends._optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Adam,
    Optimizer,
    RMSprop,
    checked_optimizer,
)
from pynode_jl.backends._precision import (
    PRECISIONS,
    Precision,
    check_weights_resolved,
    checked_precision,
    in_precision,
    is_mixed,
)
from pynode_jl.backends._registry import BACKENDS, BackendInfo, Capabilities, register_backend
from pynode_jl.backends._results import (
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
    Pullback,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.backends._times import Clock, check_resolved
from pynode_jl.backends._training import TrainingCall
from pynode_jl.errors import BackendUnavailableError, InvalidValueError, UnknownNameError
from pynode_jl.fields import Field, FunctionField, LogDensityField
from pynode_jl.models import FunctionMap, Model


def _jax(device: str | None) -> Backend:
    from pynode_jl.backends.jax import JaxBackend

    return JaxBackend(device)


def _julia(device: str | None) -> Backend:
    from pynode_jl.backends.julia import JuliaBackend

    return JuliaBackend(device)


def _torch(device: str | None) -> Backend:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            "backend = 'torch': torch is not installed. `pip install torch`."
        ) from error
    from pynode_jl.backends.torch import TorchBackend

    return TorchBackend(device)


_OPTIMIZERS = ("sgd", "rmsprop", "weight_decay", "clip_norm", "schedule")
register_backend(
    "jax",
    _jax,
    Capabilities(
        ("discrete", "BacksolveAdjoint"),
        ("full", "bfloat16"),
        dense_output=True,
        optimizers=_OPTIMIZERS,
    ),
)
register_backend("julia", _julia, Capabilities(tuple(GRADIENTS)))
register_backend("torch", _torch, Capabilities(optimizers=_OPTIMIZERS))


def get_backend(name: str = "auto", device: str | None = None) -> Backend:
    """Return the backend called `name`.

    Args:
        name: a name of `BACKENDS` ("jax", "julia", "torch"), or "auto": what the environment
            variable ``PYNODE_BACKEND`` names, else Julia if it is set up (`pynode-jl doctor`), else
            JAX.
        device: "cpu", "gpu", or None for the backend's default.

    Raises:
        UnknownNameError: no backend has that name.
        BackendUnavailableError: it is not installed, or has no such device.

    Example:
        >>> pn.get_backend("jax", "cpu").name
        'jax'
    """
    if text("name", name, 'Use "jax", say.') not in ("auto", *BACKENDS):
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))
    if device is not None:
        choice("device", device, ("cpu", "gpu"), "Leave it out for the backend's default.")
    return _made(_chosen(os.environ.get("PYNODE_BACKEND", "")) if name == "auto" else name, device)


#: A backend, its name, or None: `get_backend()`'s choice.
BackendLike: TypeAlias = Backend | str | None


def as_backend(backend: BackendLike, field: Field | Model | None = None) -> Backend:
    """Return the backend that is given by itself, by its name, or by None.

    Args:
        backend: None is `get_backend()`'s choice, unless `field` needs another.
        field: what it is for. A `FunctionField`, or any function of the user's own in a model,
            chooses the backend that it is written for.

    Raises:
        UnknownNameError: no backend has that name.
        InvalidValueError: it is none of these, or a model's functions are of several frameworks.
        BackendUnavailableError: it is not installed.

    Example:
        >>> from pynode_jl.backends import as_backend
        >>> as_backend("jax") is pn.get_backend("jax")
        True
    """
    if backend is None:
        own = written_for(field)
        return get_backend(own if own in BACKENDS else "auto")
    if isinstance(backend, str):
        return get_backend(backend)
    if isinstance(backend, Backend):
        return backend
    names = ", ".join(("auto", *BACKENDS))
    raise InvalidValueError("backend", backend, f"a backend or one of {names}", "Leave it out.")


def written_for(needs: Field | Model | None) -> str:
    """Return the backend whose functions a field or model holds; "" where it holds none.

    `needs` is the field or model.

    Raises:
        InvalidValueError: functions of several frameworks.

    Example:
        >>> from pynode_jl.backends import written_for
        >>> written_for(pn.FunctionField(lambda weights, t, y: -y, (1,)))
        'jax'
    """
    parts: tuple[object, ...] = (needs,)
    if isinstance(needs, Model):
        parts = (needs.field, needs.encoder, needs.head)
    inner = [each.field if isinstance(each, LogDensityField) else each for each in parts]
    names = {each.backend for each in inner if isinstance(each, (FunctionField, FunctionMap))}
    if len(names) > 1:
        raise InvalidValueError(
            "model",
            f"functions of {' and '.join(sorted(names))}",
            "functions of one framework",
            "Write field, encoder and head for the same.",
        )
    return names.pop() if names else ""


@lru_cache
def _made(name: str, device: str | None) -> Backend:
    made = BACKENDS[name].load(device)
    if not isinstance(made, Backend):
        raise InvalidValueError(
            f"load, of backend {name!r}", made, "a function that returns a Backend", "Correct it."
        )
    return made


@lru_cache
def _chosen(wanted: str) -> str:
    """Return what "auto" is: the environment variable's backend, or Julia if installed, or JAX."""
    if wanted:
        if wanted not in BACKENDS:
            raise UnknownNameError("PYNODE_BACKEND", wanted, BACKENDS)
        return wanted
    from pynode_jl.backends.julia import discover

    discovery = discover()
    if not discovery.found:
        return "jax"
    # One line, once: Julia takes seconds to start.
    print(f"pynode_jl: backend julia ({discovery.text})", file=sys.stderr)
    return "julia"


__all__ = [
    "BACKENDS",
    "GRADIENTS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "SGD",
    "VJPS",
    "Adam",
    "Array",
    "Backend",
    "BackendInfo",
    "BackendLike",
    "Capabilities",
    "ChunkResult",
    "Clock",
    "Evaluation",
    "GradientMethod",
    "Gradients",
    "Optimizer",
    "Precision",
    "Pullback",
    "RMSprop",
    "RetCode",
    "Solution",
    "Stats",
    "TrainState",
    "TrainingCall",
    "as_backend",
    "check_fork",
    "check_resolved",
    "check_weights_resolved",
    "checked_gradient",
    "checked_optimizer",
    "checked_precision",
    "get_backend",
    "has_forked_jax",
    "in_precision",
    "is_mixed",
    "raise_unless_success",
    "register_backend",
    "written_for",
]
