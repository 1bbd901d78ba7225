"""Backends: what integrates. One protocol, `Backend`, behind which the rest does not look.

Nothing here imports JAX before a backend is made.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from pynode_jl.backends._gradients import (
    GRADIENTS,
    VJPS,
    GradientMethod,
    checked_gradient,
)
from pynode_jl.backends._precision import PRECISIONS, Precision, checked_precision
from pynode_jl.backends._protocol import (
    Adam,
    Array,
    Backend,
    ChunkResult,
    Differentiator,
    Evaluation,
    Gradients,
    Interpolator,
    Pullback,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.errors import UnknownNameError

BACKENDS = ("auto", "jax", "julia")


def get_backend(name: str = "auto", device: str | None = None) -> Backend:
    """The backend called `name`.

    Args:
        name: "jax", the embedded one; "julia", the full zoo; or "auto", Julia where a Julia
            environment is set up (`pynode-jl doctor`) and the embedded one elsewhere, unless the
            environment variable ``PYNODE_BACKEND`` names one.
        device: "cpu", "gpu", or None for the backend's default.

    Raises:
        UnknownNameError: no backend has that name.
        BackendUnavailableError: it is not at hand, or has no such device.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    return _made(_chosen(os.environ.get("PYNODE_BACKEND", "")) if name == "auto" else name, device)


@lru_cache
def _made(name: str, device: str | None) -> Backend:
    if name == "julia":
        from pynode_jl.backends.julia import JuliaBackend

        return JuliaBackend(device)
    from pynode_jl.backends.jax import JaxBackend

    return JaxBackend(device)


@lru_cache
def _chosen(wanted: str) -> str:
    """What "auto" is: what the environment wants, or what is there."""
    if wanted:
        if wanted not in BACKENDS[1:]:
            raise UnknownNameError("PYNODE_BACKEND", wanted, BACKENDS[1:])
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
    "PRECISIONS",
    "VJPS",
    "Adam",
    "Array",
    "Backend",
    "ChunkResult",
    "Differentiator",
    "Evaluation",
    "GradientMethod",
    "Gradients",
    "Interpolator",
    "Precision",
    "Pullback",
    "RetCode",
    "Solution",
    "Stats",
    "TrainState",
    "checked_gradient",
    "checked_precision",
    "get_backend",
]
