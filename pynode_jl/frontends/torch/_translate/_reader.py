"""Reading a torch module as a `VectorField`.

The module is called once with a symbol in the state's place, which notes what happens to it. It
knows Linear, Conv1d on one channel, Conv2d, the common activations as modules, functions or
methods, Sequential and any nesting of these, and time joined to the input of the first layer.
Everything else is refused with the reason. That such a call tells what every call does is what
`prove` has shown before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pynode_jl.backends.torch import FieldModule
from pynode_jl.errors import PyNODEError
from pynode_jl.fields import Activation, Conv, VectorField
from pynode_jl.frontends.torch._translate._operations import (
    ParameterSymbol,
    Refusal,
    StateValue,
    TimeValue,
)
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError


def read_module(module: nn.Module, y: Tensor, *, timed: bool) -> Translation:
    """Return the translation of a module for states shaped as `y`, its numbers not yet compared.

    `timed` is whether it is called with (t, y), or with y alone.

    Raises:
        UntranslatableError: the module computes more than a `VectorField` can express.
    """
    try:
        state = _final_state(module, y, timed)
        return _translation(module, state, y)
    except UntranslatableError:
        raise
    except Refusal as refusal:
        raise UntranslatableError(module, str(refusal)) from None
    except Exception as error:  # the user's code may raise anything where it meets a symbol
        reason = f"It cannot be traced ({type(error).__name__}: {error})"
        raise UntranslatableError(module, reason) from None


def _final_state(module: nn.Module, y: Tensor, timed: bool) -> StateValue:
    start = StateValue(y.ndim, shared=True)
    twin: Any = _twin(module, "", {})
    if type(module) is FieldModule:
        field = module.field
        one_channel = len(field.state_shape) == 1 and any(isinstance(e, Conv) for e in field.layers)
        time = "last" if field.time_dependent else ""
        begun: StateValue = twin.layers(replace(start, channelled=one_channel, time=time))
        return begun
    state = twin(TimeValue(), start) if timed else twin(start)
    if not isinstance(state, StateValue) or state.channelled:
        raise Refusal("It does not return dy/dt")
    return state


def _twin(module: nn.Module, prefix: str, known: dict[int, Any]) -> nn.Module:
    """Return a module that is as this one, with symbols for its parameters.

    Their values are not there to look at, and the module itself, which other threads may be using,
    is left as it is.
    """
    if id(module) in known:
        twin: nn.Module = known[id(module)]
        return twin
    own = vars(module)
    twin = known[id(module)] = object.__new__(type(module))
    parameters = {
        name: known.setdefault(id(each), ParameterSymbol(prefix + name, each.shape))
        for name, each in own["_parameters"].items()
        if each is not None
    }
    children = {
        name: None if each is None else _twin(each, f"{prefix}{name}.", known)
        for name, each in own["_modules"].items()
    }
    missing = dict.fromkeys(own["_parameters"])
    vars(twin).update(own, _parameters={**missing, **parameters}, _modules=children)
    return twin


def _translation(module: nn.Module, state: StateValue, y: Tensor) -> Translation:
    weighted = [each for each in state.layers if not isinstance(each, Activation)]
    if not weighted:
        raise Refusal("It has no Linear and no Conv")
    if type(module) is FieldModule:
        field = module.field
        if tuple(y.shape[1:]) != field.state_shape:
            raise Refusal(f"Its states are (batch, *{field.state_shape})")
        if state.layers != field.layers:
            raise Refusal("Its layers are no longer those of its field")
    else:
        first = weighted[0]
        axes = 3 if isinstance(first, Conv) and first.axes == 2 else 1
        try:
            field = VectorField(tuple(y.shape[-axes:]), state.layers, bool(state.time))
        except PyNODEError as error:
            raise Refusal(f"No VectorField is like it ({error})") from None
    pairs = tuple(zip(field.weight_shapes(), state.sources, strict=True))
    return Translation(field, pairs, state.time == "first")
