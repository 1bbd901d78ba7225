"""Guards: what a reading of a module rests on, in a form that is checked in microseconds.

They hold the user's modules, classes and functions by weak references, since what is remembered
of a module must not keep it alive. Identities are compared by id, of objects known to be alive.
"""

from __future__ import annotations

import builtins
import weakref
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter, functional
from torch.nn.modules import module as torch_module

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "nothing"})()
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What the forward of torch's own layers calls, as it was when this module was imported.
_CALLED = (
    "conv1d", "conv2d", "elu", "gelu", "linear", "relu", "silu", "softplus",
)  # fmt: skip
_ORIGINALS = [vars(functional)[name] for name in _CALLED]
_MODULE_CALL, _MODULE_GETATTR = nn.Module.__call__, nn.Module.__getattr__
_CALL_IMPL = nn.Module._call_impl
_GETATTRIBUTE: Any = object.__getattribute__
_STRIDED = torch.strided


class PartGuard(NamedTuple):
    """What one submodule is: its class, children, parameters, and attributes that forward names.

    `parameters` are (name, its name in the whole module, shape, dtype), dtype None where it is
    None; `values` are (attribute, plain value or function of torch, or `ABSENT`); `functions` are
    (attribute, the user's function).
    """

    module: weakref.ref[nn.Module]
    kind: weakref.ref[type]
    names: tuple[str, ...]
    children: tuple[int, ...]
    parameters: tuple[tuple[str, str, Any, Any], ...]
    values: tuple[tuple[str, Any], ...]
    functions: tuple[tuple[str, weakref.ref[Any]], ...]


class ClassGuard(NamedTuple):
    """What a class has under the names that forward uses; a user's functions as references.

    `called` is whether it is the class of a submodule, and not only one of its bases.
    """

    kind: weakref.ref[type]
    called: bool
    values: tuple[tuple[str, Any], ...]
    functions: tuple[tuple[str, weakref.ref[Any]], ...]


class FunctionGuard(NamedTuple):
    """A user's function: its code and defaults, and what the names in it stand for.

    `names` are (namespace or None for its own globals, name, value); `functions` are (name, the
    user's function) in its globals; `cells` are (index, value).
    """

    function: weakref.ref[FunctionType]
    code: CodeType
    defaults: Any
    names: tuple[tuple[dict[str, Any] | None, str, Any], ...]
    functions: tuple[tuple[str, weakref.ref[Any]], ...]
    cells: tuple[tuple[int, Any], ...]


class Guards(NamedTuple):
    """All that a reading rests on."""

    parts: tuple[PartGuard, ...]
    classes: tuple[ClassGuard, ...]
    functions: tuple[FunctionGuard, ...]

    def parameters(self) -> dict[str, Tensor] | None:
        """Return the module's parameters by name; None if it is no longer what was read."""
        if [vars(functional).get(name) for name in _CALLED] != _ORIGINALS or has_global_hooks():
            return None
        for each in self.classes:
            if not _class_holds(each):
                return None
        for function in self.functions:
            if not _function_holds(function):
                return None
        found: dict[str, Tensor] = {}
        for part in self.parts:
            if not _part_holds(part, found):
                return None
        return found


def has_global_hooks() -> bool:
    """Return whether torch does something more at the call of every module."""
    return bool(
        nn.Module._call_impl is not _CALL_IMPL
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def is_hooked(module: nn.Module) -> bool:
    """Return whether a module has hooks, or a compiled call in place of its own."""
    own = vars(module)
    return "_compiled_call_impl" in own or any(own[name] for name in _HOOKS)


def is_called_as_torch_does(kind: type) -> bool:
    """Return whether a module class is called, and gives its attributes, as torch made it."""
    return (
        kind.__call__ is _MODULE_CALL
        and kind.__getattr__ is _MODULE_GETATTR  # type: ignore[attr-defined]
        and kind.__getattribute__ is _GETATTRIBUTE
    )


def parameter_kind(parameter: Tensor) -> tuple[Any, Any] | None:
    """Return shape and dtype of a parameter that a backend can read, else None."""
    plain = type(parameter) is nn.Parameter or type(parameter) is Tensor
    if not plain or not parameter.is_cpu or parameter.layout is not torch.strided:
        return None
    return parameter.shape, parameter.dtype


def _same(value: Any, expected: Any) -> bool:
    if value is expected:
        return True
    if type(value) is not type(expected):
        return False
    if type(value) is tuple:  # (1,) == (True,)
        return len(value) == len(expected) and all(map(_same, value, expected))
    return bool(value == expected)


# The next three run at each solve: loops, not generators, and no calls where they can be spared.


def _part_holds(part: PartGuard, found: dict[str, Tensor]) -> bool:
    reference, kind, names, children, parameters, values, functions = part
    module = reference()
    if module is None or type(module) is not kind():
        return False
    own = module.__dict__
    if (
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "_compiled_call_impl" in own
    ):
        return False
    modules = own["_modules"]
    if len(modules) != len(names):
        return False
    if names and (tuple(modules) != names or tuple(map(id, modules.values())) != children):
        return False
    tensors = own["_parameters"]
    if len(tensors) != len(parameters):
        return False
    for name, whole, shape, dtype in parameters:
        tensor = tensors.get(name, ABSENT)
        if tensor is None and dtype is None:
            continue
        if type(tensor) is not Parameter and type(tensor) is not Tensor:
            return False
        if tensor.dtype is not dtype or tensor.shape != shape:
            return False
        if not tensor.is_cpu or tensor.layout is not _STRIDED:
            return False
        found[whole] = tensor
    for name, expected in values:
        value = own.get(name, ABSENT)
        if value is not expected and not _same(value, expected):
            return False
    for name, function in functions:  # noqa: SIM110
        if own.get(name, ABSENT) is not function():
            return False
    return True


def _class_holds(guard: ClassGuard) -> bool:
    reference, called, values, functions = guard
    kind = reference()
    if kind is None or (called and not is_called_as_torch_does(kind)):
        return False
    for name, expected in values:
        value = getattr(kind, name, ABSENT)
        if value is not expected and not _same(value, expected):
            return False
    for name, function in functions:  # noqa: SIM110
        if getattr(kind, name, ABSENT) is not function():
            return False
    return True


def _function_holds(guard: FunctionGuard) -> bool:
    function = guard.function()
    if function is None or function.__code__ is not guard.code:
        return False
    if (function.__defaults__, function.__kwdefaults__) != guard.defaults:
        return False
    own = function.__globals__
    for namespace, name, expected in guard.names:
        value = (own if namespace is None else namespace).get(name, ABSENT)
        if value is not expected and not _same(value, expected):
            return False
    for name, other in guard.functions:
        if own.get(name, ABSENT) is not other():
            return False
    cells = function.__closure__ or ()
    return all(_same(_content(cells[index]), expected) for index, expected in guard.cells)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return ABSENT


BUILTINS = vars(builtins)
