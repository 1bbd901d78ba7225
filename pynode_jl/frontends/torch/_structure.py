"""What a module is made of, by a walk that costs microseconds: it is made at every call."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

# What every module has; forward may look at anything beside it.
_INNER = frozenset(vars(nn.Module())) - {"training"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOKED = "hooks"
_PLAIN = (bool, int, float, str, type(None))


class Survey(NamedTuple):
    """A module taken apart.

    Attributes:
        frame: equal where the modules within it are the same ones, with hooks or without.
        hooked: whether any has hooks.
        settings: equal where their attributes are too, and the kind of their parameters.
        parameters: by name, as `named_parameters` gives them.
        parts: the modules within, whose ids `frame` holds: while they live no other has one.
    """

    frame: tuple[Any, ...]
    hooked: bool
    settings: tuple[Any, ...]
    parameters: dict[str, nn.Parameter]
    parts: tuple[nn.Module, ...]


def surveyed(module: nn.Module) -> Survey:
    """Walk through `module` and all modules within."""
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
    return Survey(tuple(frame), _HOOKED in frame, tuple(settings), parameters, tuple(parts))
