"""What every data set is: validated, read-only arrays with labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pynode_jl._validation import class_count
from pynode_jl.datasets._arrays import (
    Arrays,
    Floats,
    Labels,
    class_labels,
    count_classes,
    float_states,
)
from pynode_jl.datasets._split import stratified_split
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.seeding import checked_seed, generator


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test examples of a classification problem. Compare two by `fingerprint`.

    Attributes:
        name: what the data are called in reports.
        x_train, x_test: states, float32, shape (n, *state_shape), finite, read-only.
        y_train, y_test: labels, int32, shape (n,), each in range(classes), read-only.
        classes: number of classes, >= 2.
        seed: what the data were drawn (or split) with; None where no chance was involved.

    Construction copies whatever array-like it is given.

    Raises:
        DataError: data that cannot be used, named by array and first bad index.
        InvalidValueError: a wrong `name`, `classes` or `seed`.

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
    classes: int
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidValueError("name", self.name, "a non-empty string", "Name the data.")
        classes = class_count(self.classes)
        checked: dict[str, object] = {
            "classes": classes,
            "seed": None if self.seed is None else checked_seed(self.seed),
        }
        for part in ("train", "test"):
            x, y = f"x_{part}", f"y_{part}"
            states = float_states(x, getattr(self, x))
            labels = class_labels(y, getattr(self, y), classes)
            if len(states) != len(labels):
                raise DataError(
                    f"len({y})",
                    len(labels),
                    f"len({x}) = {len(states)}",
                    "Give one label for each example.",
                )
            checked |= {x: states, y: labels}
        for field, value in checked.items():
            object.__setattr__(self, field, value)
        if self.x_test.shape[1:] != self.state_shape:
            raise DataError(
                "x_test.shape[1:]",
                self.x_test.shape[1:],
                f"the state shape of x_train, {self.state_shape}",
                "Bring the test states into the shape of the training states.",
            )

    @classmethod
    def from_arrays(
        cls,
        x: Arrays,
        y: Arrays,
        *,
        test_fraction: float | None = None,
        x_test: Arrays | None = None,
        y_test: Arrays | None = None,
        classes: int | None = None,
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset:
        """Take arrays of your own: NumPy, torch, JAX, lists, what has __array__ or __dlpack__.

        With `x_test` and `y_test`, `x` and `y` are the training examples and nothing is drawn.
        Without, a seeded stratified split takes `test_fraction` (0.2 unless told) for the test.

        Args:
            x: states, shape (n, *state).
            y: labels, shape (n,), whole numbers from 0 without a gap, training and test together.
            test_fraction: share of the test examples, between 0 and 1; not with `x_test`.
            x_test, y_test: test examples; both or neither.
            classes: number of classes, where not every one has an example.
            seed: of the split.
            name: what the data are called in reports.

        Raises:
            DataError: data that cannot be used, named by array and first bad index.
            InvalidValueError: arguments that do not go together, or a value not allowed.
        """
        if (x_test is None) != (y_test is None):
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
        seed = checked_seed(seed)
        if classes is not None:
            classes = class_count(classes)
        labels = class_labels("y", y, classes)
        if x_test is not None and y_test is not None:
            test_labels = class_labels("y_test", y_test, classes)
            states, test_states = float_states("x", x), float_states("x_test", x_test)
            if classes is None:
                classes = count_classes(np.concatenate([labels, test_labels]))
            return cls(name, states, labels, test_states, test_labels, classes)
        states = float_states("x", x)
        if len(states) != len(labels):
            raise DataError(
                "len(y)",
                len(labels),
                f"len(x) = {len(states)}",
                "Give one label for each example.",
            )
        if classes is None:
            classes = count_classes(labels)
        fraction = 0.2 if test_fraction is None else test_fraction
        train, test = stratified_split(labels, fraction, generator(seed, "data"))
        return cls(
            name,
            states[train],
            labels[train],
            states[test],
            labels[test],
            classes,
            seed,
        )

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
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, state_shape={self.state_shape}, n_train={self.n_train}, "
            f"n_test={self.n_test}, classes={self.classes}, seed={self.seed})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Through the constructor: NumPy's pickles forget that an array is read-only.
        arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
        return Dataset, (self.name, *arrays, self.classes, self.seed)
