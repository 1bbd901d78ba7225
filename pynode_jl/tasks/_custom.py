"""A task of the user's own, from two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pynode_jl._validation import choice, items, real_number, whole_number
from pynode_jl.errors import InvalidValueError
from pynode_jl.tasks._task import Array, Task, float_targets


@dataclass(frozen=True)
class CustomTask(Task):
    """Answer with numbers that two functions of yours judge.

    Scores are compared sample by sample: the shift is the mean of |score under the ODE - score as
    trained|, in the score's own unit.

    Attributes:
        loss_function: ``(outputs, targets) -> (n,)`` losses, whose mean training minimises; written
            in JAX (it must be traceable) for the JAX backend.
        score_function: ``(outputs, targets) -> (n,)`` scores, of NumPy arrays; the smaller the
            better.
        output_shape, target_shape: of one sample.
        accepted: the shift up to which a model still holds.
        head: the read-out of a model that names none.

    Example:
        >>> import jax.numpy as jnp
        >>> def absolute(outputs, targets):
        ...     return abs(outputs - targets).mean(axis=1)
        >>> pn.CustomTask(absolute, absolute, (1,), (1,), accepted=0.01).margin
        0.01
    """

    kind = "custom"
    metric = "score"
    unit = "score"
    signed = True

    loss_function: Callable[[Any, Any], Any]
    score_function: Callable[[Any, Any], Any]
    output_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    accepted: float = 0.1
    head: Literal["linear", "none"] = "linear"

    def __post_init__(self) -> None:
        for name in ("loss_function", "score_function"):
            if not callable(getattr(self, name)):
                hint = "Write one: def f(outputs, targets)."
                raise InvalidValueError(name, getattr(self, name), "a function", hint)
        for name in ("output_shape", "target_shape"):
            lengths = items(name, getattr(self, name), "a tuple of lengths", "(1,) is one number.")
            shape = tuple(whole_number(name, each) for each in lengths)
            object.__setattr__(self, name, shape)
        real_number("accepted", self.accepted, "In the score's unit.", above=0)
        choice("head", self.head, ("linear", "none"))

    @property
    def default_head(self) -> Literal["linear", "none"]:
        """`head`."""
        return self.head

    @property
    def margin(self) -> float:
        """`accepted`."""
        return self.accepted

    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return `output_shape`."""
        return self.output_shape

    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return ``(n, *target_shape)`` float32."""
        return float_targets(argument, y, n, self.target_shape)

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return what `loss_function` gives."""
        return self._checked("loss_function", self.loss_function(outputs, targets), outputs)

    def scores(self, outputs: Any, targets: Any) -> Any:
        """Return what `score_function` gives."""
        return self._checked("score_function", self.score_function(outputs, targets), outputs)

    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return absolute changes of the scores."""
        with np.errstate(all="ignore"):
            first, second = (np.asarray(self.scores(each, targets)) for each in (own, other))
        changes: Array = np.abs(first.astype(np.float64) - second)
        return changes

    def _checked(self, name: str, values: Any, outputs: Any) -> Any:
        if tuple(getattr(values, "shape", ())) != (outputs.shape[0],):
            raise InvalidValueError(
                f"{name}(outputs, targets)",
                getattr(values, "shape", type(values).__name__),
                f"({outputs.shape[0]},), one number a sample",
                "Take means over each sample's own axes only.",
            )
        return values
