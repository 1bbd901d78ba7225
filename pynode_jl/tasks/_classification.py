"""Classification: one label of several for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import device

from pynode_jl._validation import class_count, flag, items, real_number
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks._task import Array, Task, namespace


@dataclass(frozen=True)
class Classification(Task):
    """Answer with one of `classes` labels, by the largest logit.

    Attributes:
        classes: number of labels.
        one_logit: a head of two classes gives one number, the second label's logit against the
            first's; read-outs are then padded to two.
        class_weights: of each class in the loss, which is then a weighted mean, as torch's
            `CrossEntropyLoss` has it; () weighs all alike.

    Example:
        >>> pn.Model(pn.MLP(2), task=pn.Classification(2, class_weights=(1, 4))).classes
        2
    """

    kind = "classification"
    metric = "accuracy"
    higher_is_better = True
    comparison = "flips"
    default_margin = 0.03

    classes: int
    one_logit: bool = False
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        classes = class_count(self.classes)
        object.__setattr__(self, "classes", classes)
        if flag("one_logit", self.one_logit) and classes != 2:
            raise InvalidValueError("one_logit", True, "two classes", "Leave it out.")
        expected, hint = f"{classes} positive numbers, or ()", "Leave it out to weigh all alike."
        weights = tuple(
            real_number("class_weights", each, hint, above=0)
            for each in items("class_weights", self.class_weights, expected, hint)
        )
        if len(weights) not in (0, classes):
            raise InvalidValueError("class_weights", self.class_weights, expected, hint)
        object.__setattr__(self, "class_weights", weights)

    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(classes,)``, or ``(1,)``."""
        return (1 if self.one_logit else self.classes,)

    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return labels, ``(n,)`` int32.

        Raises:
            DataError: labels that are not whole numbers in range(classes), or not `n` of them.
        """
        labels = np.asarray(y)
        whole = labels.dtype.kind in "biuf" and labels.shape == (n,)
        if not whole or not ((labels >= 0) & (labels < self.classes) & (labels % 1 == 0)).all():
            raise DataError(
                argument,
                labels,
                f"({n},) whole numbers from 0 to {self.classes - 1}",
                "Number the classes from 0: y = np.unique(y, return_inverse=True)[1].",
            )
        found = labels.astype(np.int32)
        found.flags.writeable = False
        return found

    def logits(self, outputs: Any) -> Any:
        """Return ``(n, classes)`` logits; of one logit z, 0 and z.

        `outputs` are those of the read-out, ``(n, classes)`` or ``(n, 1)``.
        """
        if not self.one_logit:
            return outputs
        xp = namespace(outputs)
        return xp.concat([xp.zeros_like(outputs), outputs], axis=1)

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return cross-entropies."""
        xp = namespace(outputs)
        shifted = outputs - xp.max(outputs, axis=1, keepdims=True)
        own = xp.sum(
            xp.where(self._of_label(outputs, targets), shifted, xp.zeros_like(shifted)), axis=1
        )
        return xp.log(xp.sum(xp.exp(shifted), axis=1)) - own

    def loss(self, outputs: Any, targets: Any) -> Any:
        """Return their mean, weighted by class."""
        if not self.class_weights:
            return super().loss(outputs, targets)
        xp, losses = namespace(outputs), self.losses(outputs, targets)
        each = xp.asarray(self.class_weights, dtype=outputs.dtype, device=device(outputs))
        member = xp.astype(self._of_label(outputs, targets), outputs.dtype)
        weights = xp.sum(member * each, axis=1)
        return xp.sum(weights * losses) / xp.sum(weights)

    def scores(self, outputs: Any, targets: Any) -> Any:
        """Return 1 for each right answer and 0 for each wrong one."""
        xp = namespace(outputs)
        return xp.astype(xp.argmax(outputs, axis=1) == targets, outputs.dtype)

    def chance_scores(self, x: Array, targets: Array) -> Array | None:
        """Return the scores of always answering the most frequent label."""
        values, counts = np.unique(targets, return_counts=True)
        return np.asarray(targets == values[np.argmax(counts)], np.float64)

    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return 1 for each answer that changes."""
        return np.asarray(own.argmax(axis=1) != other.argmax(axis=1), np.float64)

    def _of_label(self, outputs: Any, targets: Any) -> Any:
        xp = namespace(outputs)
        labels = xp.arange(outputs.shape[1], device=device(outputs))
        return labels[None, :] == targets[:, None]
