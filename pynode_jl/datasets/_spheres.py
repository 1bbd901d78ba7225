"""Concentric spheres: the paper's synthetic data set, in any dimension."""

from __future__ import annotations

import numpy as np

from pynode_jl._validation import whole_number
from pynode_jl.datasets._arrays import Floats, Labels, check_size
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.seeding import generator

#: Each shell: smallest radius, largest radius, label, quarters of the points that lie in it.
SHELLS = ((0.10, 0.15, 0, 1), (0.25, 0.30, 1, 2), (0.40, 0.45, 0, 1))


def concentric_spheres(
    dim: int = 2, *, n_train: int = 2000, n_test: int = 1000, seed: int = 0
) -> Dataset:
    """Points in three shells about the origin; the middle one is class 1, the others class 0.

    A point's direction is uniform, its radius r_min + (r_max - r_min) U^(1/dim) with U uniform
    on [0, 1), as in the reference code of Ott et al. 2021 (arXiv 2007.15386), which does not
    seed the radii; here the seed decides everything. A quarter, a half and a quarter of the
    points lie in the shells from the inside out, exactly, in each part: the classes balance.

    Args:
        dim: dimension of the space, >= 1; states have shape (dim,).
        n_train, n_test: numbers of examples, multiples of 4. More test examples leave the
            training examples as they were.
        seed: decides the data, bit for bit.

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> spheres = pn.concentric_spheres(3, n_train=200, n_test=100)
        >>> spheres.x_train.shape, spheres.x_train.dtype
        ((200, 3), dtype('float32'))
    """
    dim = whole_number("dim", dim, 1)
    n_train = whole_number("n_train", n_train, 4, multiple_of=4)
    n_test = whole_number("n_test", n_test, 4, multiple_of=4)
    check_size(n_train + n_test, dim)
    random = generator(seed, "data")
    x_train, y_train = _draw(n_train, dim, random)
    x_test, y_test = _draw(n_test, dim, random)
    return Dataset(f"spheres{dim}d", x_train, y_train, x_test, y_test, classes=2, seed=seed)


def _draw(n: int, dim: int, random: np.random.Generator) -> tuple[Floats, Labels]:
    r_min, r_max, label = (
        np.concatenate([np.full(shell[3] * n // 4, shell[column]) for shell in SHELLS])
        for column in range(3)
    )
    radius = r_min + (r_max - r_min) * random.random(n) ** (1 / dim)
    direction = random.standard_normal((n, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    order = random.permutation(n)
    points = radius[:, None] * direction
    return points[order].astype(np.float32), label[order].astype(np.int32)
