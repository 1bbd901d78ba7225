"""A `TrainedModel` as torch modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pynode_jl.backends.torch import FieldModule
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, FunctionField, LogDensityField, VectorField
from pynode_jl.models import FunctionMap, ModelWeights
from pynode_jl.training import TrainedLike, as_trained_model


class TorchParts(NamedTuple):
    """A model as modules.

    Attributes:
        field: of (t, y), states with the zeros that `Model.augment` appends.
        head: of the final state; None where the state is the answer.
        encoder: of inputs; None where they are the initial states.

    Example:
        >>> from pynode_jl.torch import from_trained
        >>> from_trained(trained).encoder is None
        True
    """

    field: nn.Module
    head: nn.Module | None
    encoder: nn.Module | None


def from_trained(trained: TrainedLike) -> TorchParts:
    """Return a trained model as torch modules of its own, whose outputs are the model's.

    They have the precision of its weights. `to_trained` takes them back.

    Raises:
        InvalidValueError: no trained model, or one with functions of another framework.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import from_trained
        >>> parts = from_trained(trained)  # y' = -3 y
        >>> parts.field(0.0, torch.ones(1, 1, dtype=torch.float64)).item()
        -3.0
    """
    found = as_trained_model(trained)
    model, weights = found.model, ModelWeights.from_dict(found.weights)
    head: nn.Module | None = None
    if isinstance(model.head, FunctionMap):
        head = _of_function("head", model.head, weights.own_head)
    elif model.head == "linear":
        linear = nn.Linear(model.field.size, model.outputs, device="meta")
        _load(linear, weights.own_head)
        head = nn.Sequential(nn.Flatten(), linear)
    encoder = model.encoder
    return TorchParts(
        _field_module(model.field, weights.field),
        head,
        None if encoder is None else _of_function("encoder", encoder, weights.encoder),
    )


class _Function(nn.Module):
    """A function of (weights, *inputs), with its weights as parameters."""

    def __init__(self, function: Callable[..., Tensor], weights: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.names = function, tuple(weights)
        self.values = nn.ParameterList(nn.Parameter(_tensor(each)) for each in weights.values())

    def forward(self, *inputs: Any) -> Tensor:
        return self.function(dict(zip(self.names, self.values, strict=True)), *inputs)


def _field_module(field: Field, weights: Mapping[str, Any]) -> nn.Module:
    if isinstance(field, LogDensityField):
        return _field_module(field.field, weights)
    if isinstance(field, VectorField):
        made = FieldModule(field)
        _load(made, weights)
        return made
    function = field.function
    if isinstance(function, nn.Module):
        module = copy.deepcopy(function)
        tensors = {name: _tensor(each) for name, each in weights.items()}
        module.load_state_dict(tensors, strict=False, assign=True)
        return module
    bound = function if field.initial else lambda weights, t, y: function(t, y)
    return _of_function("field", field, weights, bound)


def _of_function(
    name: str,
    part: FunctionField | FunctionMap,
    weights: Mapping[str, Any],
    function: Callable[..., Tensor] | None = None,
) -> nn.Module:
    if part.backend != "torch":
        raise InvalidValueError(
            f"model.{name}",
            part,
            f"functions of torch, not of {part.backend}",
            "Write that part in torch.",
        )
    return _Function(function or part.function, weights)


def _load(module: nn.Module, weights: Mapping[str, Any]) -> None:
    module.load_state_dict({k: _tensor(each) for k, each in weights.items()}, assign=True)


def _tensor(values: Any) -> Tensor:
    """Return a copy, in the precision that it has."""
    return torch.tensor(values)
