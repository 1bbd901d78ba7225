"""Reading a torch module as a `VectorField`.

`torch.fx` gives the graph of the module's forward, and an interpreter follows the state through it.
It knows Linear, Conv1d on one channel, Conv2d, the common activations as modules, functions or
methods, Sequential and any nesting of these, and time joined to the input of the first layer.
Everything else is refused with the reason, and so is a module that is more than a function of
(t, y) and its parameters: one with hooks, or with attributes that forward changes.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
import torch.fx
from torch import Tensor, nn

from pynode_jl.backends.torch import FieldModule
from pynode_jl.errors import PyNODEError
from pynode_jl.fields import Activation, Conv, VectorField
from pynode_jl.frontends.torch._structure import ModuleStructure
from pynode_jl.frontends.torch._translate._check import attributes, restore_attributes
from pynode_jl.frontends.torch._translate._operations import (
    LAYERS,
    OPERATIONS,
    StateValue,
    TimeValue,
)
from pynode_jl.frontends.torch._translate._translation import Translation, UntranslatableError


def read_module(module: nn.Module, structure: ModuleStructure, y: Tensor) -> Translation:
    """Return the translation of a module for states shaped as `y`, its numbers not yet compared.

    Raises:
        UntranslatableError: the module computes more than a `VectorField` can express.
    """
    if structure.hooked:
        raise UntranslatableError(module, "It has hooks")
    if type(module) is FieldModule:
        field = module.field
        if tuple(y.shape[1:]) != field.state_shape:
            raise UntranslatableError(module, f"Its states are (batch, *{field.state_shape})")
        return Translation(field, tuple((name, name) for name in field.weight_shapes()))
    state = _final_state(module, _Interpreter(module, y))
    weighted = [each for each in state.layers if not isinstance(each, Activation)]
    if not weighted:
        raise UntranslatableError(module, "It has no Linear and no Conv")
    first = weighted[0]
    if isinstance(first, Conv):
        shape = tuple(y.shape[-1:] if first.axes == 1 else y.shape[-3:])
    else:
        shape = tuple(y.shape[-1:])
    try:
        field = VectorField(shape, state.layers, bool(state.time))
    except PyNODEError as error:
        raise UntranslatableError(module, f"No VectorField is like it ({error})") from error
    pairs = zip(field.weight_shapes(), state.sources, strict=True)
    return Translation(field, tuple(pairs), state.time == "first")


def _final_state(module: nn.Module, interpreter: _Interpreter) -> StateValue:
    if type(module) in LAYERS:
        return interpreter.call(module, StateValue())
    before = attributes(module)
    try:
        graph = torch.fx.Tracer().trace(module)
    except Exception as error:  # torch.fx raises all kinds where control flow meets a proxy
        restore_attributes(module, before)
        raise UntranslatableError(module, f"torch.fx cannot trace it ({error})") from error
    changed = restore_attributes(module, before)
    if changed is not None:
        raise UntranslatableError(module, f"Its forward changes self.{changed}")
    return interpreter.run(graph)


class _Interpreter:
    """Evaluates a graph on abstract values."""

    def __init__(self, module: nn.Module, y: Tensor) -> None:
        self._module, self._rank = module, y.ndim
        self._parameters = {id(p): name for name, p in module.named_parameters()}

    def run(self, graph: torch.fx.Graph) -> StateValue:
        """Return the state that the graph returns."""
        values: dict[torch.fx.Node, Any] = {}
        inputs = [node for node in graph.nodes if node.op == "placeholder" and not node.args]
        roles: list[Any] = [StateValue()] if len(inputs) == 1 else [TimeValue(), StateValue()]
        if len(inputs) > 2:
            self._refuse(f"It takes {len(inputs)} arguments")
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = roles[inputs.index(node)] if node in inputs else node.args[0]
            elif node.op == "output":
                (result,) = node.args
                state = values[result] if isinstance(result, torch.fx.Node) else None
                if not isinstance(state, StateValue) or state.channelled:
                    self._refuse("It does not return dy/dt")
                return state
            else:
                args, keywords = torch.fx.node.map_arg(
                    (node.args, dict(node.kwargs)), lambda each: values[each]
                )
                values[node] = self._apply(node, args, dict(keywords))
        raise AssertionError("a graph without output")

    def _apply(self, node: torch.fx.Node, args: Any, keywords: dict[str, Any]) -> Any:
        if node.op == "call_module":
            return self.call(self._module.get_submodule(str(node.target)), args[0])
        if node.op == "get_attr":
            self._refuse(f"It uses self.{node.target} outside a layer")
        operation = OPERATIONS.get(node.target)
        result = None if operation is None else operation(args, keywords)
        if result is None:
            name = getattr(node.target, "__name__", node.target)
            self._refuse(f"It calls {name}, or calls it in an unknown way")
        return result

    def call(self, layer: nn.Module, state: Any) -> StateValue:
        """Return `state` after a module."""
        if not isinstance(state, StateValue):
            self._refuse(f"It feeds {type(layer).__name__} something other than the state")
        if isinstance(layer, nn.Identity):
            return state
        reader = LAYERS.get(type(layer))
        read = None if reader is None else reader(layer)
        if read is None:
            self._refuse(f"It has a layer {layer}")
        if isinstance(read, Activation):
            return state.then(read)
        channelled = state.channelled or self._rank == 3
        if isinstance(read, Conv) and read.axes == 1 and not channelled:
            self._refuse("Its Conv1d takes the batch for channels")
        if isinstance(read, Conv) and read.axes == 2 and self._rank not in (3, 4):
            self._refuse("Its Conv2d takes no such state")
        sources = [self._parameters.get(id(each)) for each in (layer.weight, layer.bias)]
        if sources[0] is None:
            self._refuse(f"The weight of {layer} is no parameter of the module")
        return state.then(read, *sources)

    def _refuse(self, reason: str) -> NoReturn:
        raise UntranslatableError(self._module, reason)
