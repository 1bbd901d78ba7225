"""What every data set is: validated, read-only arrays with what they ask of a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pynode_jl.datasets._arrays import (
    Arrays,
    Floats,
    Labels,
    as_numpy,
    class_labels,
    count_classes,
    float_states,
)
from pynode_jl.datasets._split import stratified_split
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.seeding import checked_seed, generator
from pynode_jl.tasks import Classification, Density, Task, check_task


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test examples of a task. Compare two by `fingerprint`.

    Attributes:
        name: what the data are called in reports.
        x_train, x_test: inputs, float32, shape (n, *state_shape), finite, read-only.
        y_train, y_test: targets, read-only, as the task has them. Of a classification labels,
            int32, shape (n,), each in range(classes).
        classes: number of classes, >= 2; 0 of another task.
        seed: what the data were drawn (or split) with; None where no chance was involved.
        task: what the data ask; default a classification with `classes`.

    Construction copies whatever array-like it is given.

    Raises:
        DataError: data that cannot be used, named by array and first bad index.
        InvalidValueError: a wrong `name`, `classes`, `seed` or `task`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> own = pn.Dataset.from_arrays(x, x[:, 0] > 0, test_fraction=0.2)
        >>> own.x_train.shape, own.classes
        ((80, 2), 2)
    """

    name: str
    x_train: Floats
    y_train: Labels
    x_test: Floats
    y_test: Labels
    classes: int = 0
    seed: int | None = None
    task: Task = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidValueError("name", self.name, "a non-empty string", "Name the data.")
        given: object = self.task
        task = Classification(self.classes) if given is None else check_task(given)
        checked: dict[str, object] = {
            "task": task,
            "classes": getattr(task, "classes", 0),
            "seed": None if self.seed is None else checked_seed(self.seed),
        }
        for part in ("train", "test"):
            x, y = f"x_{part}", f"y_{part}"
            states = float_states(x, getattr(self, x))
            checked |= {x: states, y: checked_targets(task, y, getattr(self, y), len(states), x)}
        for field, value in checked.items():
            object.__setattr__(self, field, value)
        for name in ("x", "y"):
            test, train = (getattr(self, f"{name}_{part}").shape[1:] for part in ("test", "train"))
            if test != train:
                raise DataError(
                    f"{name}_test.shape[1:]",
                    test,
                    f"the {'state' if name == 'x' else 'target'} shape of {name}_train, {train}",
                    "Bring the test examples into the shape of the training examples.",
                )

    @classmethod
    def from_arrays(
        cls,
        x: Arrays,
        y: Arrays | None,
        *,
        test_fraction: float | None = None,
        x_test: Arrays | None = None,
        y_test: Arrays | None = None,
        classes: int | None = None,
        task: Task | None = None,
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset:
        """Take arrays of your own: NumPy, torch, JAX, lists, what has __array__ or __dlpack__.

        With `x_test` and `y_test`, `x` and `y` are the training examples and nothing is drawn.
        Without, a seeded split takes `test_fraction` (0.2 unless told) for the test; that of a
        classification keeps the shares of its classes.

        Args:
            x: inputs, shape (n, *state).
            y: targets. Of a classification labels, shape (n,), whole numbers from 0 without a gap,
                training and test together; None of a density.
            test_fraction: share of the test examples, between 0 and 1; not with `x_test`.
            x_test, y_test: test examples; both or neither (`x_test` alone of a density).
            classes: number of classes, where not every one has an example.
            task: what the data ask; default a classification.
            seed: of the split.
            name: what the data are called in reports.

        Raises:
            DataError: data that cannot be used, named by array and first bad index.
            InvalidValueError: arguments that do not go together, or a value not allowed.
        """
        seed, density = checked_seed(seed), isinstance(task, Density)
        if (x_test is None) != (y_test is None) and not density:
            argument = "x_test" if x_test is None else "y_test"
            raise InvalidValueError(
                argument, None, "both of x_test and y_test, or neither", f"Pass {argument} too."
            )
        if x_test is not None and test_fraction is not None:
            raise InvalidValueError(
                "test_fraction",
                test_fraction,
                "None where x_test and y_test are given",
                "Leave out test_fraction, or x_test and y_test.",
            )
        if task is not None and classes is not None:
            raise InvalidValueError("classes", classes, "None beside a task", "Leave it out.")
        if task is None:
            task = _classification(y, y_test, classes)
        states = float_states("x", x)
        targets = checked_targets(task, "y", y, len(states), "x")
        if x_test is not None:
            test = float_states("x_test", x_test)
            test_targets = checked_targets(task, "y_test", y_test, len(test), "x_test")
            return cls(name, states, targets, test, test_targets, task=task)
        fraction, random = 0.2 if test_fraction is None else test_fraction, generator(seed, "data")
        groups = targets if isinstance(task, Classification) else np.zeros(len(states), np.int32)
        train, chosen = stratified_split(groups, fraction, random)
        parts = (states[train], targets[train], states[chosen], targets[chosen])
        return cls(name, *parts, seed=seed, task=task)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state: that of `x_train` without its first axis."""
        return self.x_train.shape[1:]

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return len(self.x_train)

    @property
    def n_test(self) -> int:
        """Number of test examples."""
        return len(self.x_test)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the shapes and the little-endian bytes of the four arrays."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.name}{array.shape}".encode())
            digest.update(
                array.astype(array.dtype.newbyteorder("<"), copy=False).data if array.size else b""
            )
        return digest.hexdigest()

    def __repr__(self) -> str:
        plain = self.task == Classification(self.classes) if self.classes else False
        asked = f"classes={self.classes}" if plain else f"task={self.task}"
        return (
            f"Dataset({self.name!r}, state_shape={self.state_shape}, n_train={self.n_train}, "
            f"n_test={self.n_test}, {asked}, seed={self.seed})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Through the constructor: NumPy's pickles forget that an array is read-only.
        arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
        return Dataset, (self.name, *arrays, self.classes, self.seed, self.task)


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


def _classification(y: Any, y_test: Any, classes: int | None) -> Task:
    """Return the task of labels: `classes`, or as many as there are."""
    if classes is not None:
        return Classification(classes)
    labels = class_labels("y", y)
    if y_test is not None:
        labels = np.concatenate([labels, class_labels("y_test", y_test)])
    return Classification(count_classes(labels))
