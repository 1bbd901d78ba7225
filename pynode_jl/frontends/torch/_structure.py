"""The structure of a module, by a walk of microseconds: every call of `odeint` makes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

# What every module has; forward may look at anything beside it.
_INNER = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOKED = "hooks"
_PLAIN = (bool, int, float, str, type(None))


class ModuleStructure(NamedTuple):
    """The structure of a module.

    Attributes:
        frame: equal for the same submodules, with the same hooks or none.
        hooked: whether any submodule has hooks.
        settings: equal for the same attributes and the same kinds of parameters.
        parameters: by name, as `named_parameters` gives them.
        parts: the submodules, whose ids `frame` holds: no other object gets one while they live.
    """

    frame: tuple[Any, ...]
    hooked: bool
    settings: tuple[Any, ...]
    parameters: dict[str, nn.Parameter]
    parts: tuple[nn.Module, ...]


def module_structure(module: nn.Module) -> ModuleStructure:
    """Return the structure of `module` and all its submodules."""
    frame: list[Any] = []
    settings: list[Any] = []
    parameters: dict[str, nn.Parameter] = {}
    parts: list[nn.Module] = []
    seen: set[int] = set()

    def walk(each: nn.Module, prefix: str) -> None:
        if id(each) in seen:
            return
        seen.add(id(each))
        own = vars(each)
        frame.append(id(each))
        frame.append(type(each))
        if any(map(own.__getitem__, _HOOKS)):
            frame.append(_HOOKED)
        for name, value in own.items():
            if name not in _INNER:
                plain = type(value) in _PLAIN
                settings.append((id(each), name, value if plain else id(value)))
        for name, parameter in own["_parameters"].items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[prefix + name] = parameter
                kind = (parameter.shape, parameter.dtype, parameter.is_cpu)
                settings.append((id(parameter), kind))
        for name, child in own["_modules"].items():
            if child is not None:
                parts.append(child)
                walk(child, f"{prefix}{name}.")

    walk(module, "")
    return ModuleStructure(
        tuple(frame), _HOOKED in frame, tuple(settings), parameters, tuple(parts)
    )
