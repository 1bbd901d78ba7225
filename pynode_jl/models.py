"""A model: pad (augment), follow a vector field over an interval, read out with a linear head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pynode_jl._validation import class_count, instance, mapping, real_number, whole_number
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, Weights, checked_field, kaiming_normal
from pynode_jl.seeding import generator

_FIELD, _HEAD_WEIGHT, _HEAD_BIAS = "field.", "head.weight", "head.bias"


@dataclass(frozen=True)
class ModelWeights:
    """A model's weights as a tree; `to_dict` and `from_dict` convert it from and to a flat mapping.

    The flat names are those of checkpoints, of `Model.init` and of `Trained.weights`: ``field.`` in
    front of each of the field's own names, and ``head.weight``, ``head.bias``. The leaves are
    arrays of any framework, or whatever else belongs to each weight, its shape for one.

    Attributes:
        field: by the field's own names.
        head_weight: (classes, state size).
        head_bias: (classes,).

    Example:
        >>> from pynode_jl.fields import LinearField
        >>> sorted(ModelWeights.from_dict(Model(LinearField(2), classes=2).init(0)).field)
        ['layers.0.bias', 'layers.0.weight']
    """

    field: Mapping[str, Any]
    head_weight: Any
    head_bias: Any

    @classmethod
    def from_dict(cls, weights: Mapping[str, Any]) -> ModelWeights:
        """Return the tree of a flat mapping.

        Raises:
            InvalidValueError: the head's names are missing.
        """
        weights = mapping("weights", weights, "a mapping by name", "Use Model.init(seed), say.")
        if _HEAD_WEIGHT not in weights or _HEAD_BIAS not in weights:
            raise InvalidValueError(
                "weights",
                sorted(weights),
                f"names that begin with {_FIELD}, and {_HEAD_WEIGHT}, {_HEAD_BIAS}",
                "`Model.weight_shapes` lists them.",
            )
        field = {
            name.removeprefix(_FIELD): value
            for name, value in weights.items()
            if name.startswith(_FIELD)
        }
        return cls(field, weights[_HEAD_WEIGHT], weights[_HEAD_BIAS])

    def to_dict(self) -> dict[str, Any]:
        """Return the flat mapping, the field's weights first, in their order."""
        field = {f"{_FIELD}{name}": value for name, value in self.field.items()}
        return {**field, _HEAD_WEIGHT: self.head_weight, _HEAD_BIAS: self.head_bias}


@dataclass(frozen=True)
class Model:
    """A Neural ODE classifier: logits = head(flatten(y(t1))), y' = field(t, y), y(t0) = input.

    Attributes:
        field: the vector field.
        classes: number of logits.
        t0, t1: the interval; t1 < t0 integrates backwards.
        augment: zeros appended to the input along its first axis (features of a vector, channels of
            an image) before the solve: Augmented Neural ODEs (Dupont et al. 2019). The field's
            state includes them.

    Weights are a flat mapping, the form that is stored and passed around, or a tree
    (`ModelWeights`).

    Example:
        >>> model = pn.Model(pn.MLP(3, width=8), classes=2, augment=1)
        >>> model.input_shape
        (2,)
        >>> model.initial_state([[0.5, 1.0]])
        array([[0.5, 1. , 0. ]])
    """

    field: Field
    classes: int
    t0: float = 0.0
    t1: float = 1.0
    augment: int = 0

    def __post_init__(self) -> None:
        checked_field(self.field)
        times = [
            real_number(name, getattr(self, name), "0 to 1 is usual.") for name in ("t0", "t1")
        ]
        object.__setattr__(self, "t0", times[0])
        object.__setattr__(self, "t1", times[1])
        if times[0] == times[1]:
            raise InvalidValueError("t1", self.t1, "another time than t0", "Give an interval.")
        class_count(self.classes)
        if whole_number("augment", self.augment, 0) >= self.field.state_shape[0]:
            raise InvalidValueError(
                "augment",
                self.augment,
                f"0 to {self.field.state_shape[0] - 1} for a state {self.field.state_shape}",
                "The field's state holds the input and the zeros appended to it.",
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input sample."""
        first, *rest = self.field.state_shape
        return (first - self.augment, *rest)

    def initial_state(self, x: Any) -> Any:
        """Return the states at t0 of inputs: `augment` zeros appended to each.

        Args:
            x: ``(n, *input_shape)``, an array of NumPy or JAX (traced, too), or nested numbers.

        Returns:
            ``(n, *field.state_shape)``, of the same framework and dtype; `x` itself where nothing
            is appended.
        """
        inputs = x if hasattr(x, "__array_namespace__") else np.asarray(x)
        if not self.augment:
            return inputs
        padding = [(0, 0), (0, self.augment), *[(0, 0)] * (inputs.ndim - 2)]
        return inputs.__array_namespace__().pad(inputs, padding)

    #: The former name of `initial_state`.
    augmented = initial_state

    def logits(self, states: Any, weights: ModelWeights) -> Any:
        """Return the linear head's output for final states.

        Args:
            states: ``(n, *field.state_shape)``, an array of NumPy or JAX.
            weights: their head's part, in arrays that multiply with `states`.

        Returns:
            ``(n, classes)``.
        """
        return states.reshape(len(states), -1) @ weights.head_weight.T + weights.head_bias

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight array by its flat name."""
        head = (self.classes, self.field.size)
        return ModelWeights(self.field.weight_shapes(), head, (self.classes,)).to_dict()

    def init(self, seed: int) -> Weights:
        """Return initial weights, float32, from the seed: Kaiming-normal, biases zero."""
        random = generator(seed, "weights")
        return ModelWeights(
            self.field.init(random),
            kaiming_normal((self.classes, self.field.size), random),
            np.zeros(self.classes, np.float32),
        ).to_dict()


def check_model(model: object) -> None:
    """Refuse what is no `Model`."""
    instance("model", model, Model, "a Model", "Make one: pn.Model(pn.MLP(2), classes=2).")
