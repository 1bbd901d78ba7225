"""The backends by name, and what each can do. Nothing is imported to read this.

A new backend is one row: a class that fills in `Backend`'s hooks, and a call of `register_backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pynode_jl._validation import text
from pynode_jl.errors import InvalidValueError

if TYPE_CHECKING:
    from pynode_jl.backends._base import Backend


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        gradients: its gradient methods, names of `GRADIENTS`.
        precisions: the precisions that it trains in, names of `PRECISIONS`; float64 needs no more
            than "full".
        optimizers: what it trains with beside plain Adam at one rate: names of `OPTIMIZERS`, and of
            the options "weight_decay", "clip_norm" and "schedule" (with the warm-up).
        dense_output: whether `Backend.pullback` interpolates between steps (`DenseMethod`).

    Example:
        >>> from pynode_jl.backends import BACKENDS
        >>> "bfloat16" in BACKENDS["jax"].capabilities.precisions
        True
    """

    gradients: tuple[str, ...] = ("discrete",)
    precisions: tuple[str, ...] = ("full",)
    dense_output: bool = False
    optimizers: tuple[str, ...] = ()


@dataclass(frozen=True)
class BackendInfo:
    """A row of `BACKENDS`: what makes the backend for a device, and what it can do.

    Attributes:
        load: makes the backend for a device; None is its default.
        capabilities: what it can do.

    Example:
        >>> from pynode_jl.backends import BACKENDS
        >>> BACKENDS["jax"].capabilities.dense_output
        True
    """

    load: Callable[[str | None], Backend]
    capabilities: Capabilities


_ROWS: dict[str, BackendInfo] = {}

#: Every registered backend by name, in the order of registration.
BACKENDS: Mapping[str, BackendInfo] = MappingProxyType(_ROWS)


def register_backend(
    name: str,
    load: Callable[[str | None], Backend],
    capabilities: Capabilities = Capabilities(),
) -> None:
    """Make a backend known under a name, for `get_backend`, configurations and the command line.

    Args:
        name: its name, that of its class; "auto" is taken.
        load: called once per device ("cpu", "gpu" or None) when the backend is first asked for.
        capabilities: what it can do.

    Raises:
        InvalidValueError: the name is taken, or is no identifier.

    Example:
        >>> from pynode_jl.backends import BACKENDS
        >>> "jax" in BACKENDS
        True
    """
    known = text("name", name, "Give it one.") in _ROWS or name == "auto"
    if known or not name.isidentifier():
        raise InvalidValueError(
            "name", name, f"a new identifier; taken are auto, {', '.join(_ROWS)}", "Rename it."
        )
    if not callable(load) or not isinstance(capabilities, Capabilities):
        wrong = ("capabilities", capabilities) if callable(load) else ("load", load)
        raise InvalidValueError(*wrong, "a function of the device, and Capabilities", "See above.")
    _ROWS[name] = BackendInfo(load, capabilities)


def having(kind: str, value: str) -> tuple[str, ...]:
    """Return the backends whose capabilities list `value` under `kind`, an attribute's name."""
    return tuple(name for name, row in _ROWS.items() if value in getattr(row.capabilities, kind))
