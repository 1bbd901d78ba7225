"""What a translation is, and the error where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import VectorField, Weights


class UntranslatableError(InvalidValueError):
    """A module that computes more than a `VectorField` can express; `reason` says what.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import UntranslatableError, translate
        >>> try:
        ...     translate(torch.nn.LSTM(2, 2), torch.zeros(1, 2))
        ... except UntranslatableError as error:
        ...     print(error.reason != "")
        True
    """

    def __init__(self, module: object, reason: str) -> None:
        self.reason = reason
        super().__init__(
            "func",
            type(module).__name__,
            "a module of Linear, Conv1d, Conv2d and common activations in a chain",
            f"{reason}. Leave backend out to run it in torch.",
        )


@dataclass(frozen=True)
class Translation:
    """A module as data.

    Attributes:
        field: the vector field.
        parameters: for each weight of the field, the name of the module's parameter that holds it;
            None for a bias that the module does not have.
        time_first: whether the module puts time before the state's features. The field puts it
            behind them.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import translate
        >>> class Field(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 2)
        ...
        ...     def forward(self, t, y):
        ...         return torch.tanh(self.layer(y))
        >>> translate(Field(), torch.zeros(3, 2)).parameters[0]
        ('layers.0.weight', 'layer.weight')
    """

    field: VectorField
    parameters: tuple[tuple[str, str | None], ...]
    time_first: bool = False

    def weights(self, module: nn.Module) -> Weights:
        """Return the module's parameters as the field's weights, sharing memory where possible."""
        return self.read(dict(module.named_parameters()))

    def read(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return the field's weights of a module with these parameters, on the CPU."""
        weights: Weights = {}
        for name, source in self.parameters:
            if source is None:
                outputs = len(weights[f"{name.removesuffix('bias')}weight"])
                precision = next(iter(weights.values())).dtype
                weights[name] = np.zeros(outputs, precision)
            else:
                weights[name] = parameters[source].numpy(force=True)
        if self.time_first:
            name = next(iter(weights))
            weights[name] = np.roll(weights[name], -1, axis=1)
        return weights

    def tensors(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the field's weights as torch's functions of these parameters."""
        weights: dict[str, Tensor] = {}
        for name, source in self.parameters:
            if source is None:
                weight = weights[f"{name.removesuffix('bias')}weight"]
                weights[name] = weight.new_zeros(len(weight))
            else:
                weights[name] = parameters[source]
        if self.time_first:
            name = next(iter(weights))
            weights[name] = weights[name].roll(-1, 1)
        return weights

    def gradients(self, to_weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return gradients w.r.t. the parameters, by name, from those w.r.t. the field's weights.

        A parameter that is used twice gets the sum.

        `to_weights` has those of the field, by name.
        """
        gradients: dict[str, np.ndarray] = {}
        for i, (name, source) in enumerate(self.parameters):
            if source is None:
                continue
            value = to_weights[name]
            if self.time_first and i == 0:
                value = np.roll(value, 1, axis=1)
            gradients[source] = gradients[source] + value if source in gradients else value
        return gradients
