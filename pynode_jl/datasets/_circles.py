"""Two concentric circles, which no flow in the plane can pull apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import real_number
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._planar import labelled_points


def circles(
    *,
    factor: float = 0.5,
    n_train: int = 2000,
    n_test: int = 1000,
    noise: float = 0.08,
    seed: int = 0,
) -> Dataset:
    """Points on two circles about the origin: radius 1 is class 0, radius `factor` class 1.

    Angles are uniform. The classes are those of scikit-learn's `make_circles`; factor and noise
    those of FFJORD's toy data (Grathwohl et al. 2019).

    Args:
        factor: radius of the inner circle, between 0 and 1.
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        noise: standard deviation of the Gaussian noise on both coordinates, >= 0.
        seed: decides the data, bit for bit.

    Returns:
        States of shape (2,), two classes with equally many examples (one more of class 0 if odd).

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> exact = pn.circles(noise=0.0)
        >>> bool(np.allclose(np.hypot(*exact.x_train.T), np.where(exact.y_train == 1, 0.5, 1.0)))
        True
    """
    factor = real_number("factor", factor, "Try factor=0.5.", above=0, below=1)

    def place(labels: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
        angle = random.uniform(0, 2 * np.pi, labels.size)
        radius = np.where(labels == 1, factor, 1.0)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    return labelled_points(
        "circles", place, classes=2, noise=noise, n_train=n_train, n_test=n_test, seed=seed
    )
