"""Whether this process was forked from one in which JAX ran.

XLA's threads are not in the child, and what waits for them waits for ever. `fork` is how Python's
`multiprocessing` and torch's `DataLoader` make their workers on Linux.
"""

from __future__ import annotations

import os
import sys

from pynode_jl.errors import BackendUnavailableError

_inherited = False


def _look() -> None:
    global _inherited
    bridge = sys.modules.get("jax._src.xla_bridge")
    # Without a lock, which another thread of the parent may have held: empty until JAX first runs.
    if bridge is not None and getattr(bridge, "_backends", True):
        _inherited = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)


def has_forked_jax() -> bool:
    """Return whether JAX ran in a process that this one was forked from: here it would hang.

    Example:
        >>> from pynode_jl.backends import has_forked_jax
        >>> has_forked_jax()
        False
    """
    return _inherited


def check_fork() -> None:
    """Refuse to run JAX where it would hang.

    Raises:
        BackendUnavailableError: this process was forked from one in which JAX ran.

    Example:
        >>> from pynode_jl.backends import check_fork
        >>> check_fork()
    """
    if _inherited:
        raise BackendUnavailableError(
            "backend = 'jax': this process was forked from one in which JAX ran, whose threads it"
            " does not have: it would wait for them for ever. Start workers by"
            ' multiprocessing.get_context("spawn") or "forkserver" (DataLoader:'
            ' multiprocessing_context="spawn"), make them before JAX first runs, or solve in torch'
            ' (backend="torch").'
        )
