"""Targets as their task has them: labels that are numbered, or numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pynode_jl._validation import class_count
from pynode_jl.datasets._arrays import as_numpy, class_labels, count_classes
from pynode_jl.datasets._labels import mapped_labels
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks import Classification, Task


def checked_targets(task: Task, argument: str, y: Any, n: int, x: str) -> Any:
    """Return the targets of the `n` samples of `x` as the task has them.

    Raises:
        DataError: they cannot be used.
    """
    if not isinstance(task, Classification):
        given = y if y is None else as_numpy(argument, y)
        return task.checked_targets(argument, given, n)
    labels = class_labels(argument, y, task.classes)
    if n != len(labels):
        raise DataError(
            f"len({argument})", len(labels), f"len({x}) = {n}", "Give one label for each example."
        )
    return labels


def target_width(y: Any) -> int:
    """Return how many numbers one target has."""
    shape: tuple[int, ...] = () if y is None else as_numpy("y", y).shape
    return shape[1] if len(shape) == 2 else 1


def mapped_parts(
    y: Any, y_test: Any, labels: str | None, classes: int | None
) -> tuple[Any, Any, tuple[str, ...] | None, int | None]:
    """Return labels of both parts as integers, the classes' names, and their number if known.

    Raises:
        InvalidValueError: another number of `classes` than the labels have.
        DataError: labels that cannot be mapped.
    """
    if classes is not None:
        classes = class_count(classes)
    parts = [("y", y)] if y_test is None else [("y", y), ("y_test", y_test)]
    found = mapped_labels(parts, labels)
    number = len(found.names) if found.names is not None else found.classes
    if number is not None and classes not in (None, number):
        names = "" if found.names is None else f": {', '.join(found.names[:10])}"
        raise InvalidValueError(
            "classes", classes, f"{number}, as the labels have{names}", "Leave it out."
        )
    known = found.classes if classes is None else classes
    return found.parts[0], None if y_test is None else found.parts[1], found.names, known


def classification_of(y: Any, y_test: Any, classes: int | None) -> Task:
    """Return the task of labels: `classes`, or as many as there are."""
    if classes is not None:
        return Classification(classes)
    labels = class_labels("y", y)
    if y_test is not None:
        labels = np.concatenate([labels, class_labels("y_test", y_test)])
    return Classification(count_classes(labels))
