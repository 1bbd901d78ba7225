"""What the classes in the plane share: balanced labels, Gaussian noise, one stream of numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import real_number, whole_number
from pynode_jl.datasets._arrays import Floats, Labels, check_size
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.seeding import generator

#: From labels (n,) and random numbers to points (n, dim), before noise.
Place = Callable[[NDArray[np.intp], np.random.Generator], NDArray[np.float64]]


def labelled_points(
    name: str,
    place: Place,
    *,
    classes: int,
    dim: int = 2,
    noise: float,
    n_train: int,
    n_test: int,
    seed: int,
) -> Dataset:
    """Return points of `place` with Gaussian noise; the classes differ by one example at most.

    The test examples are drawn after the training examples, which do not depend on their number.

    Raises:
        InvalidValueError: a number that is not allowed.
    """
    noise = real_number("noise", noise, "Use noise=0 for none.", least=0)
    n_train = whole_number("n_train", n_train, classes)
    n_test = whole_number("n_test", n_test, 1)
    check_size(n_train + n_test, dim)
    random = generator(seed, "data")

    def draw(n: int) -> tuple[Floats, Labels]:
        labels = random.permutation(np.arange(n) % classes)
        # What overflows is refused by `Dataset`.
        with np.errstate(over="ignore", invalid="ignore"):
            points = place(labels, random)
            points = points + noise * random.standard_normal(points.shape)
            return points.astype(np.float32), labels.astype(np.int32)

    x_train, y_train = draw(n_train)
    x_test, y_test = draw(n_test)
    return Dataset(name, x_train, y_train, x_test, y_test, classes=classes, seed=seed)
