"""Two moons: two half circles, each of which reaches into the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._planar import labelled_points


def moons(*, n_train: int = 2000, n_test: int = 1000, noise: float = 0.1, seed: int = 0) -> Dataset:
    """Points on two half circles of radius 1; the upper one is class 0, the lower one class 1.

    At an angle a, uniform in [0, pi], class 0 is at (cos a, sin a) and class 1 at
    (1 - cos a, 1/2 - sin a), as in scikit-learn's `make_moons`, whose angles are equally spaced.
    The noise is that of FFJORD's toy data (Grathwohl et al. 2019).

    Args:
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        noise: standard deviation of the Gaussian noise on both coordinates, >= 0.
        seed: decides the data, bit for bit.

    Returns:
        States of shape (2,), two classes with equally many examples (one more of class 0 if odd).

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> pn.moons(n_train=200, n_test=100).x_train.shape
        (200, 2)
    """
    return labelled_points(
        "moons", _place, classes=2, noise=noise, n_train=n_train, n_test=n_test, seed=seed
    )


def _place(labels: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
    angle = random.uniform(0, np.pi, labels.size)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.where(labels[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
