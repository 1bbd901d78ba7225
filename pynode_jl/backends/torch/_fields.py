"""A field spec as a torch module: its weights as parameters, its layers run in torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pynode_jl.fields import Activation, ActivationName, Conv, Dense, Layer, VectorField

_ACTIVATIONS: Mapping[ActivationName, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "elu": functional.elu,
    "silu": functional.silu,
}


class _Elementwise(nn.Module):
    def __init__(self, name: ActivationName) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return _ACTIVATIONS[self.name](x)

    def extra_repr(self) -> str:
        return self.name


class FieldModule(nn.Module):
    """f(t, y) of a `VectorField` for states ``(batch, *state_shape)``.

    Its parameters have the field's names, ``layers.0.weight`` and so on, and start as
    ``field.init(seed)`` draws them.
    """

    def __init__(self, field: VectorField, seed: int = 0) -> None:
        super().__init__()
        self.field = field
        self.layers = nn.Sequential(*map(_made, field.layers))
        self._one_channel = any(isinstance(each, Conv) and each.axes == 1 for each in field.layers)
        initial = {k: torch.from_numpy(v) for k, v in field.init(seed).items()}
        self.load_state_dict(initial, assign=True)

    def forward(self, t: Tensor | float, y: Tensor) -> Tensor:
        """The slope, of y's shape."""
        h = y[:, None] if self._one_channel else y
        if self.field.time_dependent:
            time = torch.as_tensor(t, dtype=y.dtype, device=y.device)
            h = torch.cat([h, time.expand(h.shape[0], 1, *h.shape[2:])], dim=1)
        slope: Tensor = self.layers(h)
        return slope[:, 0] if self._one_channel else slope


def _made(layer: Layer) -> nn.Module:
    # Empty: the weights come from the field's own draw.
    if isinstance(layer, Activation):
        return _Elementwise(layer.name)
    if isinstance(layer, Dense):
        return nn.Linear(layer.inputs, layer.outputs, device="meta")
    kind = nn.Conv1d if layer.axes == 1 else nn.Conv2d
    return kind(layer.inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2, device="meta")


def takes_time(module: nn.Module) -> bool:
    """Return whether a module's forward is a function of (t, y), and not of y alone."""
    needed = [
        each
        for each in inspect.signature(module.forward).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) != 1


def as_function_of_time(module: nn.Module) -> Callable[[Any, Tensor], Tensor]:
    """Return a module, a function of (t, y) or of y alone, as a function of (t, y)."""
    return module if takes_time(module) else lambda t, y: module(y)
