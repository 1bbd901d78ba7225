"""Whether this process was forked from one in which a backend ran, and what that needs.

The threads of XLA and Julia are not in the child, and what waits for them waits for ever. `fork` is
how Python's `multiprocessing` and torch's `DataLoader` make their workers on Linux.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from typing import Any

from pynode_jl.errors import BackendUnavailableError

_NAMES = {"jax": "JAX", "julia": "Julia"}
_inherited: set[str] = set()


def _look() -> None:
    # Without a lock, which another thread of the parent may have held.
    bridge = sys.modules.get("jax._src.xla_bridge")
    clients = getattr(bridge, "_backends", None) or {}  # empty until JAX first runs
    if clients:
        _inherited.add("jax")
    if bridge is not None:
        _leave_to_the_system([*clients.values()])
    if "juliacall" in sys.modules:
        _inherited.add("julia")


def _leave_to_the_system(clients: list[Any]) -> None:
    """Keep the child's exit from ending JAX, which waits for threads or crashes.

    What owns threads is never freed, and JAX's own clean-up does not run.
    """
    mlir = sys.modules.get("jax._src.interpreters.mlir")
    for owner in (*clients, getattr(mlir, "global_thread_pool", None)):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    for module, name in (("api", "clean_up"), ("dispatch", "wait_for_tokens")):
        function = getattr(sys.modules.get(f"jax._src.{module}"), name, None)
        if function is not None:
            atexit.unregister(function)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)


def has_forked_jax() -> bool:
    """Return whether JAX ran in a process that this one was forked from: here it would hang.

    Example:
        >>> from pynode_jl.backends import has_forked_jax
        >>> has_forked_jax()
        False
    """
    return "jax" in _inherited


def check_fork(backend: str = "jax") -> None:
    """Refuse to run a backend where it would hang.

    Args:
        backend: "jax" or "julia".

    Raises:
        BackendUnavailableError: this process was forked from one in which that backend ran.

    Example:
        >>> from pynode_jl.backends import check_fork
        >>> check_fork()
    """
    if backend in _inherited:
        name = _NAMES[backend]
        raise BackendUnavailableError(
            f"backend = {backend!r}: this process was forked from one in which {name} ran, whose"
            " threads it does not have: it would wait for them for ever. Start workers by"
            ' multiprocessing.get_context("spawn") or "forkserver" (DataLoader:'
            f' multiprocessing_context="spawn"), make them before {name} first runs, or solve in'
            ' torch (backend="torch").'
        )
