"""A model: pad (augment), follow a vector field over an interval, read out with a linear head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, Weights, kaiming_normal
from pynode_jl.seeding import generator


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

    Weights are the field's under ``field.`` and the head's ``head.weight`` (classes, state size),
    ``head.bias`` (classes,).
    """

    field: Field
    classes: int
    t0: float = 0.0
    t1: float = 1.0
    augment: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.t0) and math.isfinite(self.t1)) or self.t0 == self.t1:
            raise InvalidValueError(
                "(t0, t1)", (self.t0, self.t1), "two finite, different times", "Give an interval."
            )
        if self.classes < 2:
            raise InvalidValueError("classes", self.classes, "2 or more", "Count the labels.")
        if not 0 <= self.augment < self.field.state_shape[0]:
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

    def augmented(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """The states at t0 of inputs ``(n, *input_shape)``: `augment` zeros appended to each."""
        inputs = np.asarray(x)
        return np.pad(inputs, [(0, 0), (0, self.augment), *[(0, 0)] * (inputs.ndim - 2)])

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight array."""
        shapes = {f"field.{name}": shape for name, shape in self.field.weight_shapes().items()}
        shapes["head.weight"] = (self.classes, self.field.size)
        shapes["head.bias"] = (self.classes,)
        return shapes

    def init(self, seed: int) -> Weights:
        """Initial weights, float32, from the seed: Kaiming-normal, biases zero."""
        random = generator(seed, "weights")
        weights = {f"field.{name}": value for name, value in self.field.init(random).items()}
        weights["head.weight"] = kaiming_normal((self.classes, self.field.size), random)
        weights["head.bias"] = np.zeros(self.classes, np.float32)
        return weights
