"""What every data set is: validated, read-only arrays with what they ask of a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode_jl._display import Viewed
from pynode_jl._io import user_path
from pynode_jl._validation import rounded
from pynode_jl.datasets._arrays import (
    Arrays,
    Floats,
    Labels,
    float_states,
)
from pynode_jl.datasets._columns import Columns, read_csv
from pynode_jl.datasets._frames import arrays_of_frames, arrays_of_trajectories
from pynode_jl.datasets._images import channels_first
from pynode_jl.datasets._labels import checked_names
from pynode_jl.datasets._normalization import Normalization
from pynode_jl.datasets._split import stratified_split
from pynode_jl.datasets._targets import (
    checked_targets,
    classification_of,
    mapped_parts,
    target_width,
)
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.seeding import checked_seed, generator
from pynode_jl.tasks import (
    AnyTask,
    Classification,
    Density,
    Regression,
    Task,
    Trajectory,
    named_task,
)

if TYPE_CHECKING:
    import pandas as pd


_STATES = "The states are the features: features=['x', 'v'], say."
# So many names of labels are shown.
_SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Viewed):
    """Training and test examples of a task. Compare two by `fingerprint`.

    Attributes:
        name: what the data are called in reports.
        x_train, x_test: inputs, float32, shape (n, *state_shape), finite, read-only.
        y_train, y_test: targets, read-only, as the task has them. Of a classification labels,
            int32, shape (n,), each in range(classes).
        classes: number of classes, >= 2; 0 of another task.
        seed: what the data were drawn (or split) with; None where no chance was involved.
        task: what the data ask; default a classification with `classes`.
        label_names: what the labels 0, 1, ... were called in the data; None where they were
            numbers from 0.
        normalization: what `normalized` has applied to inputs; None for nothing.
        target_normalization: what it has applied to targets.

    Names and normalisations are no part of the fingerprint, which is of the arrays.

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
    label_names: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    target_normalization: Normalization | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidValueError("name", self.name, "a non-empty string", "Name the data.")
        given: object = self.task
        width = target_width(self.y_train) if isinstance(given, (str, Mapping)) else 1
        named = named_task(given, width)  # type: ignore[arg-type]  # refused there
        task = Classification(self.classes) if named is None else named
        checked: dict[str, object] = {
            "task": task,
            "classes": getattr(task, "classes", 0),
            "seed": None if self.seed is None else checked_seed(self.seed),
        }
        if self.label_names is not None:
            checked["label_names"] = checked_names(self.label_names, getattr(task, "classes", 0))
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
        task: AnyTask | None = None,
        labels: str | None = None,
        channels: str = "first",
        seed: int = 0,
        name: str = "arrays",
    ) -> Dataset:
        """Take arrays of your own: NumPy, torch, JAX, lists, what has __array__ or __dlpack__.

        With `x_test` and `y_test`, `x` and `y` are the training examples and nothing is drawn.
        Without, a seeded split takes `test_fraction` (0.2 unless told) for the test; that of a
        classification keeps the shares of its classes.

        Args:
            x: inputs, shape (n, *state).
            y: targets. Of a classification labels, shape (n,) or (n, 1): whole numbers from 0
                without a gap, training and test together, or texts; or one-hot rows (n, classes).
                Texts are numbered in alphabetical order; `label_names` keeps them, and the column
                names of one-hot frames. None of a density.
            test_fraction: share of the test examples, between 0 and 1; not with `x_test`.
            x_test, y_test: test examples; both or neither (`x_test` alone of a density).
            classes: number of classes, where not every one has an example.
            task: what the data ask, or its name ("regression"); default a classification.
            labels: "map" numbers labels such as -1 and 1, or 3 and 8, in ascending order.
            channels: where those of images x are: "first", (n, channels, height, width); "last",
                (n, height, width, channels), which are moved; "none", (n, height, width), which get
                an axis of one.
            seed: of the split.
            name: what the data are called in reports.

        Raises:
            DataError: data that cannot be used, named by array and first bad index.
            InvalidValueError: arguments that do not go together, or a value not allowed.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(50, 2))
            >>> pn.Dataset.from_arrays(x, np.where(x[:, 0] > 0, "right", "left"))
            Dataset('arrays', state_shape=(2,), n_train=40, n_test=10, classes=2, seed=0,
                label_names=('left', 'right'))
        """
        task = named_task(task, target_width(y))
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
        x = channels_first("x", x, channels)
        x_test = None if x_test is None else channels_first("x_test", x_test, channels)
        names: tuple[str, ...] | None = None
        if task is None or isinstance(task, Classification):
            y, y_test, names, classes = mapped_parts(y, y_test, labels, classes)
            task = classification_of(y, y_test, classes) if task is None else task
        elif labels is not None:
            raise InvalidValueError("labels", labels, "None: only classes have labels", "Omit it.")
        states = float_states("x", x)
        targets = checked_targets(task, "y", y, len(states), "x")
        if x_test is not None:
            test = float_states("x_test", x_test)
            test_targets = checked_targets(task, "y_test", y_test, len(test), "x_test")
            return cls(name, states, targets, test, test_targets, task=task, label_names=names)
        fraction, random = 0.2 if test_fraction is None else test_fraction, generator(seed, "data")
        groups = targets if isinstance(task, Classification) else np.zeros(len(states), np.int32)
        train, chosen = stratified_split(groups, fraction, random)
        parts = (states[train], targets[train], states[chosen], targets[chosen])
        return cls(name, *parts, seed=seed, task=task, label_names=names)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        target: Columns | None = None,
        *,
        features: Columns | None = None,
        time: Hashable | None = None,
        trajectory: Hashable | None = None,
        test_frame: pd.DataFrame | None = None,
        test_fraction: float | None = None,
        classes: int | None = None,
        task: AnyTask | None = None,
        labels: str | None = None,
        seed: int = 0,
        name: str = "frame",
    ) -> Dataset:
        """Take the columns of a pandas frame: features are the states, the target what is asked.

        Args:
            frame: one example a row, numbers in the features, nothing missing.
            target: the column of labels or numbers; several for one-hot labels or a regression;
                left out for a density.
            features: columns, in the order of the states; default all others.
            time, trajectory: of a table in long form the columns of the time and of what tells
                trajectories apart; the task is then `Trajectory`, whose times are all that occur
                after the first one, where every trajectory starts. Other gaps are missing.
            test_frame: test examples with the same columns; without, a seeded split is made.
            test_fraction, classes, task, labels, seed, name: as in `from_arrays`.

        Raises:
            DataError: columns that cannot be used, named with the first bad row (from 0).
            InvalidValueError: names of no columns, or another value not allowed.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"x": range(20), "kind": ["plum", "pear"] * 10})
            >>> data = pn.Dataset.from_frame(frame, "kind")
            >>> data.state_shape, data.label_names
            ((1,), ('pear', 'plum'))
        """
        if time is not None:
            if target is not None:
                raise InvalidValueError("target", target, "None beside time=", _STATES)
            found = arrays_of_trajectories(frame, test_frame, time, trajectory, features, task)
        elif trajectory is not None:
            raise InvalidValueError("time", None, "the column of times", "Name it: time='t', say.")
        else:
            found = arrays_of_frames(frame, test_frame, target, features, task)
        return cls.from_arrays(
            found.x,
            found.y,
            x_test=found.x_test,
            y_test=found.y_test,
            test_fraction=test_fraction,
            classes=classes,
            task=found.task,
            labels=labels,
            seed=seed,
            name=name,
        )

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        target: Columns | None = None,
        *,
        features: Columns | None = None,
        time: Hashable | None = None,
        trajectory: Hashable | None = None,
        test_path: str | os.PathLike[str] | None = None,
        separator: str = ",",
        header: bool = True,
        test_fraction: float | None = None,
        classes: int | None = None,
        task: AnyTask | None = None,
        labels: str | None = None,
        seed: int = 0,
    ) -> Dataset:
        """Read a CSV file in UTF-8, one example a row; the data are named after the file.

        What pandas reads otherwise (decimal commas, other encodings) goes to `from_frame`.

        Args:
            path: the file. Its columns go by their names, or without a header by their numbers
                from 0.
            target, features, time, trajectory: as in `from_frame`.
            test_path: a file of test examples with the same columns; without, a split is made.
            separator: the character between columns.
            header: whether the first row has the names of the columns.
            test_fraction, classes, task, labels, seed: as in `from_arrays`.

        Raises:
            DataError: no such file, no table, or columns that cannot be used.
            InvalidValueError: names of no columns, or another value not allowed.

        Example:
            >>> from pathlib import Path
            >>> rows = [f"{i},{2 * i}" for i in range(20)]
            >>> _ = Path("line.csv").write_text("\\n".join(["x,y", *rows]))
            >>> pn.Dataset.from_csv("line.csv", "y", task="regression").y_train.shape
            (16, 1)
        """
        return cls.from_frame(
            read_csv("path", path, separator, header),
            target,
            features=features,
            time=time,
            trajectory=trajectory,
            test_frame=(
                None if test_path is None else read_csv("test_path", test_path, separator, header)
            ),
            test_fraction=test_fraction,
            classes=classes,
            task=task,
            labels=labels,
            seed=seed,
            name=user_path("path", path).stem or "csv",
        )

    def normalized(self, kind: str = "standard") -> Dataset:
        """Return the same data normalised, by statistics of the training part alone.

        Inputs are, feature by feature (channel by channel of images). So are the targets of a
        regression, by their own statistics, and those of a `Trajectory`, whose states have one
        normalisation at all times. Labels are not. A `Density` becomes that of normalised inputs:
        per sample, the sum of log(scale) of all its numbers is to be taken off a log-density.

        Args:
            kind: "standard" for mean 0 and standard deviation 1, "minmax" for 0 to 1.

        Raises:
            InvalidValueError: no such kind, or data that are normalised already.

        Example:
            >>> scaled = pn.moons(n_train=100, n_test=50).normalized("minmax")
            >>> float(scaled.x_train.min()), float(scaled.x_train.max())
            (0.0, 1.0)
        """
        if self.normalization is not None:
            raise InvalidValueError(
                "normalize", kind, "data that are not normalised yet", "Normalise the data once."
            )
        inputs = [self.x_train]
        y: Any = self.y_train
        trajectory = isinstance(self.task, Trajectory)
        if trajectory:
            y = y.reshape(-1, *y.shape[2:])
            if y.shape[1:] == self.state_shape:
                inputs.append(y)
        of_inputs = Normalization.fit(kind, *inputs)
        of_targets = None
        if len(inputs) == 2:
            of_targets = of_inputs
        elif trajectory or isinstance(self.task, Regression):
            of_targets = Normalization.fit(kind, y)
        x_train, x_test = of_inputs.apply(self.x_train), of_inputs.apply(self.x_test)
        y_train: Any = self.y_train
        y_test: Any = self.y_test
        if of_targets is not None:
            y_train, y_test = of_targets.apply(y_train), of_targets.apply(y_test)
        return replace(
            self,
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            normalization=of_inputs,
            target_normalization=of_targets,
        )

    def transform(self, x: Arrays) -> Floats:
        """Return new inputs as the data's own were normalised: as they are where none was.

        Args:
            x: inputs in the units of the source, shape (n, *state_shape).

        Raises:
            DataError: inputs that cannot be used.

        Example:
            >>> scaled = pn.annuli(n_train=100, n_test=50).normalized()
            >>> scaled.transform(np.zeros((1, 2))).shape
            (1, 2)
        """
        states = float_states("x", x)
        if states.shape[1:] != self.state_shape:
            raise DataError(
                "x.shape[1:]", states.shape[1:], f"{self.state_shape}", "Give whole states."
            )
        return states if self.normalization is None else self.normalization.apply(states)

    def restore(self, y: Arrays) -> Floats:
        """Return a model's outputs, or targets, in the units that the targets came in.

        Args:
            y: shape (..., *state_shape) of trajectories, (n, targets) of a regression.

        Raises:
            InvalidValueError: no numbers, or of another shape.

        Example:
            >>> data = pn.sine(n_train=100, n_test=50)
            >>> scaled = data.normalized("minmax")
            >>> bool(np.allclose(scaled.restore(scaled.y_train), data.y_train, atol=1e-6))
            True
        """
        if self.target_normalization is None:
            return rounded("y", y, np.float32)
        return self.target_normalization.undo(y)

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

    @property
    def remarks(self) -> str:
        """What was done to the data, in words: label names, normalisation; "" for nothing.

        Example:
            >>> own = pn.Dataset.from_arrays(np.eye(4), ["no", "yes"] * 2, test_fraction=0.5)
            >>> own.normalized("minmax").remarks
            'labels 0 = no, 1 = yes; minmax-normalised'
        """
        said = []
        if self.label_names is not None:
            shown = [f"{i} = {name}" for i, name in enumerate(self.label_names[:_SHOWN])]
            more = ", ..." if len(self.label_names) > _SHOWN else ""
            said.append(f"labels {', '.join(shown)}{more}")
        if self.normalization is not None:
            said.append(f"{self.normalization.kind}-normalised")
        return "; ".join(said)

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
            f"n_test={self.n_test}, {asked}, seed={self.seed}{self._options()})"
        )

    def _options(self) -> str:
        names = "" if self.label_names is None else f", label_names={self.label_names}"
        how = self.normalization
        return names + ("" if how is None else f", normalize={how.kind!r}")

    def __reduce__(self) -> tuple[object, ...]:
        # Through the constructor: NumPy's pickles forget that an array is read-only.
        arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
        extras = (self.label_names, self.normalization, self.target_normalization)
        return Dataset, (self.name, *arrays, self.classes, self.seed, self.task, *extras)
