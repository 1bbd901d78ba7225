"""Backends: what integrates. One protocol, `Backend`, behind which the rest does not look.

Nothing here imports JAX before a backend is made.
"""

from __future__ import annotations

from functools import lru_cache

from pynode_jl.backends._gradients import (
    GRADIENTS,
    VJPS,
    GradientMethod,
    checked_gradient,
)
from pynode_jl.backends._protocol import (
    Adam,
    Array,
    Backend,
    ChunkResult,
    Evaluation,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.errors import UnknownNameError

BACKENDS = ("auto", "jax", "julia")


@lru_cache
def get_backend(name: str = "auto", device: str | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: "jax", the embedded one; "julia", the full zoo, which does not do all that the
            embedded one does yet; or "auto", the embedded one until it does.
        device: "cpu", "gpu", or None for the backend's default.

    Raises:
        UnknownNameError: no backend has that name.
        BackendUnavailableError: it is not at hand, or has no such device.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    if name == "julia":
        from pynode_jl.backends.julia import JuliaBackend

        return JuliaBackend(device)
    from pynode_jl.backends.jax import JaxBackend

    return JaxBackend(device)


__all__ = [
    "BACKENDS",
    "GRADIENTS",
    "VJPS",
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
