"""Backends: what integrates. One protocol, `Backend`, behind which the rest does not look.

`get_backend("auto")` takes the best one at hand. Nothing here imports JAX before a backend is made.
"""

from __future__ import annotations

from functools import lru_cache

from pynode_jl.backends._protocol import (
    GRADIENTS,
    Adam,
    Array,
    Backend,
    ChunkResult,
    Evaluation,
    GradientMethod,
    RetCode,
    Solution,
    Stats,
    TrainState,
    checked_gradient,
)
from pynode_jl.errors import BackendUnavailableError, UnknownNameError

BACKENDS = ("auto", "jax", "julia")


@lru_cache
def get_backend(name: str = "auto", device: str | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: "jax", the embedded one; "julia", the full zoo; or "auto", the first of julia and jax
            that is at hand.
        device: "cpu", "gpu", or None for the backend's default.

    Raises:
        UnknownNameError: no backend has that name.
        BackendUnavailableError: it is not at hand, or has no such device.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    if name == "julia":
        raise BackendUnavailableError(
            "backend = 'julia': this version of pynode_jl has the embedded backend only."
            ' Use backend="jax".'
        )
    from pynode_jl.backends.jax import JaxBackend

    return JaxBackend(device)


__all__ = [
    "BACKENDS",
    "GRADIENTS",
    "Adam",
    "Array",
    "Backend",
    "ChunkResult",
    "Evaluation",
    "GradientMethod",
    "RetCode",
    "Solution",
    "Stats",
    "TrainState",
    "checked_gradient",
    "get_backend",
]
