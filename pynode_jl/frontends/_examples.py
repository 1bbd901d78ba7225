"""Examples as people have them, the states that an encoder makes of them, and what they ask.

No framework is named here: a front end says what makes a state of an input.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pynode_jl._validation import numbers
from pynode_jl.backends import Array
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks import Classification, Density, Task, check_task

# Rows of one array that an encoder is given at once.
_ROWS = 256
# Of the states so many stand for the training data, which the caller has not given.
_TRAINING = 256


def batches(x: Any, y: Any = None) -> Iterator[tuple[Any, Any]]:
    """Yield inputs with their targets, batch by batch.

    Args:
        x: an array of inputs, or, without `y`, what a loop takes batches ``(x, y)`` from: a
            DataLoader, a list, a generator.
        y: the targets of an array; None of a density.

    Raises:
        DataError: batches that are no pairs, or none at all.
    """
    if y is not None or hasattr(x, "shape"):
        x, y = _sliceable("x", x), None if y is None else _sliceable("y", y)
        n = len(x)
        if y is not None and len(y) != n:
            raise DataError("len(y)", len(y), f"len(x) = {n}", "Give one target a sample.")
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            yield x[rows], None if y is None else y[rows]
        return
    expected, hint = "arrays x and y, or batches (x, y)", "Pass y too, or a DataLoader as x."
    try:
        given = iter(x)
    except TypeError as error:
        raise DataError("x", type(x).__name__, expected, hint) from error
    for batch in given:
        if hasattr(batch, "shape"):
            yield batch, None
        elif isinstance(batch, (tuple, list)) and len(batch) == 2:
            yield batch[0], batch[1]
        else:
            raise DataError("a batch of x", type(batch).__name__, expected, hint)


def encoded(
    pairs: Iterator[tuple[Any, Any]], encode: Callable[[Any], Array]
) -> tuple[Array, Array | None]:
    """Return the states that `encode` makes of all inputs, and all targets.

    Raises:
        DataError: no examples, or targets of some batches only.
    """
    states: list[Array] = []
    targets: list[Array] = []
    for x, y in pairs:
        states.append(encode(x))
        if y is not None:
            targets.append(numbers("y", y))
    if not states or (targets and len(targets) < len(states)):
        raise DataError("x", f"{len(states)} batches", "examples, all with targets", "Give some.")
    return np.concatenate(states), np.concatenate(targets) if targets else None


def answered(task: Task | None, shape: tuple[int, ...]) -> Task:
    """Return the task of a model whose read-out gives `shape` for each sample.

    Without a task it is a classification: of two classes by one logit where that is a single
    number, and else of as many as there are numbers.

    Raises:
        InvalidValueError: a task of other outputs.
    """
    count = math.prod(shape)
    if task is None:
        return Classification(2, one_logit=True) if count == 1 else Classification(count)
    given = check_task(task)
    if isinstance(given, Classification) and given.classes == 2 and count == 1:
        return dataclasses.replace(given, one_logit=True)
    asked = () if isinstance(given, Density) else given.outputs(shape)
    if asked and math.prod(asked) != count:
        raise InvalidValueError(
            "head",
            f"a read-out of {shape}",
            f"one of {asked}, as {given} answers",
            "Make task and head fit.",
        )
    return given


def examples(states: Array, targets: Array | None, task: Task) -> Dataset:
    """Return states and targets as the test part of a data set.

    The training part, which tells an overfitted model from an untrained one, is the same samples.

    Raises:
        InvalidValueError: no targets, or such that are no labels where no task was named.
        DataError: states or targets that cannot be used.
    """
    if targets is None and not isinstance(task, Density):
        hint = "Pass y, or batches (x, y) as x: a DataLoader."
        raise InvalidValueError("y", None, f"targets of {task}", hint)
    if isinstance(task, Classification) and targets is not None:
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.dtype.kind == "f" and np.any(targets != np.floor(targets)):
            raise InvalidValueError(
                "task",
                task,
                "another task where y holds numbers that are no labels",
                "Pass task=pn.Regression(1), say.",
            )
    given: Any = targets
    some: Any = None if targets is None else targets[:_TRAINING]
    return Dataset("arrays", states[:_TRAINING], some, states, given, task=task)


def refuse_probabilities(head: object, task: Task, read: Callable[[float], Array]) -> None:
    """Refuse a read-out of one logit that is a probability: its sign says nothing.

    Args:
        head: what is refused.
        task: what the model answers.
        read: the read-out of some states, multiplied by a number.

    Raises:
        InvalidValueError: all of its outputs lie between 0 and 1, wherever the states are.
    """
    if not getattr(task, "one_logit", False):
        return
    found = np.concatenate([read(scale).ravel() for scale in (1.0, 1e3, -1e3)])
    if np.all((found >= 0) & (found <= 1)):
        raise InvalidValueError(
            "head",
            head,
            "one that gives a logit: above 0 is the second label",
            "Its outputs are probabilities: leave its last sigmoid out.",
        )


def _sliceable(argument: str, given: Any) -> Any:
    """Return an array of whatever framework, with a first axis to slice."""
    array = given
    if not hasattr(given, "shape") or hasattr(given, "iloc"):  # a list, or pandas'
        array = numbers(argument, given)
    if len(array.shape) == 0:
        raise DataError(argument, given, "one entry a sample", "Give it a first axis.")
    return array
