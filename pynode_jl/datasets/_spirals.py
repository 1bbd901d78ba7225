"""Spirals that wind around each other, one for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import class_count, real_number
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._planar import labelled_points


def spirals(
    classes: int = 2,
    *,
    turns: float = 1.5,
    n_train: int = 2000,
    n_test: int = 1000,
    noise: float = 0.03,
    seed: int = 0,
) -> Dataset:
    """Points on arms of Archimedes' spiral from the origin to radius 1, each arm a class.

    Arm k of K is at radius s and angle 2 pi (turns s + k / K), with s = sqrt(U), U uniform on
    [0, 1), which spreads points evenly along the outer turns. Turns and noise are those of the two
    spirals in FFJORD's toy data (Grathwohl et al. 2019), scaled to radius 1; the two spirals of
    Lang and Witbrock (1988) have three turns and no noise.

    Args:
        classes: number of arms, >= 2.
        turns: turns of each arm, > 0.
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        noise: standard deviation of the Gaussian noise on both coordinates, >= 0.
        seed: decides the data, bit for bit.

    Returns:
        States of shape (2,); the classes differ by one example at most.

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> np.bincount(pn.spirals(3, n_train=300, n_test=30).y_train).tolist()
        [100, 100, 100]
    """
    classes = class_count(classes)
    turns = real_number("turns", turns, "Try turns=1.5.", above=0)

    def place(labels: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
        radius = np.sqrt(random.random(labels.size))
        angle = 2 * np.pi * (turns * radius + labels / classes)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    return labelled_points(
        "spirals", place, classes=classes, noise=noise, n_train=n_train, n_test=n_test, seed=seed
    )
