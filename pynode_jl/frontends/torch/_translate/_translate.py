"""`translate`: read a module once, and remember that while all that it rests on holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pynode_jl.backends.torch import takes_time
from pynode_jl.frontends.torch._memory import ModuleMemory
from pynode_jl.frontends.torch._translate._check import check_numbers
from pynode_jl.frontends.torch._translate._guards import Guards
from pynode_jl.frontends.torch._translate._purity import prove
from pynode_jl.frontends.torch._translate._reader import read_module
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError

# A module is read for each shape of its states, batch apart.
_MAX_SHAPES, _MAX_MODULES = 16, 256


@dataclass
class Reading:
    """What is known of a module, called in one way, for states of one shape.

    Attributes:
        guards: what the reading rests on.
        result: the translation, or the reason why there is none. (An error would hold the frames
            that it was raised in, and with them the module.)
        plans: what the offloading remembers beside it, as long as it holds.
    """

    guards: Guards
    result: Translation | str
    plans: dict[Any, Any] = field(default_factory=dict)


_readings: ModuleMemory[dict[Any, Reading]] = ModuleMemory(dict, _MAX_MODULES)


def reading_of(module: nn.Module, y: Tensor, *, timed: bool) -> tuple[Reading, dict[str, Tensor]]:
    """Return the reading of a module for states as `y`, and the module's parameters by name.

    It is one that was made before, if its guards hold.

    Raises:
        UntranslatableError: it is not proved that the module is a function of its parameters and
            arguments alone. That is not remembered: it is found out faster than it is made sure of.
    """
    known = _readings.of(module)
    shape = tuple(y.shape)
    key = (shape[1:] if len(shape) > 1 else shape, len(shape), y.dtype, timed)
    reading = known.get(key)
    if reading is not None:
        parameters = reading.guards.parameters()
        if parameters is not None:
            return reading, parameters
    guards = prove(module)
    parameters = guards.parameters()
    if parameters is None:  # another thread changes it
        raise UntranslatableError(module, "It changes while it is read")
    result: Translation | str
    try:
        result = read_module(module, y, timed=timed)
        check_numbers(module, result, y, timed=timed)
    except UntranslatableError as refused:
        result = refused.reason
    if len(known) >= _MAX_SHAPES:
        known.clear()
    reading = known[key] = Reading(guards, result)
    return reading, parameters


def translate(module: nn.Module, y: Tensor) -> Translation:
    """Read `module`, a function of (t, y) or of y alone, for states shaped as `y`.

    A module can be read if its forward is a chain of layers that a `VectorField` has, and if it is
    provable that it depends on its parameters and arguments alone and has no side effects: see
    `pynode_jl.frontends.torch._translate._purity`. Nothing is called before that is proved.

    Args:
        module: what to read. The result is remembered while the module stays as it is; the values
            of its parameters may change.
        y: a state, or a batch of them.

    Raises:
        UntranslatableError: the module computes more than a `VectorField` can express, or cannot
            be proved to be a function.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import translate
        >>> translate(torch.nn.Linear(2, 2), torch.zeros(1, 2)).field.layers
        (Dense(inputs=2, outputs=2),)
    """
    return translated(module, reading_of(module, y, timed=takes_time(module))[0])


def translated(module: nn.Module, reading: Reading) -> Translation:
    """Return what was read.

    Raises:
        UntranslatableError: there is nothing that a `VectorField` can express.
    """
    if isinstance(reading.result, str):
        raise UntranslatableError(module, reading.result)
    return reading.result
