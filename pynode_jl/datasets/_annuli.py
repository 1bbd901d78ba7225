"""Annuli about the origin, with radii and labels of one's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import items, real_number, whole_number
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._planar import labelled_points
from pynode_jl.errors import InvalidValueError


def annuli(
    radii: Sequence[Sequence[float]] = ((0.0, 0.5), (1.0, 1.5)),
    *,
    dim: int = 2,
    n_train: int = 2000,
    n_test: int = 1000,
    noise: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Points that fill annuli about the origin evenly; each annulus is a class, in its order.

    The default is the problem of Augmented Neural ODEs (Dupont, Doucet and Teh 2019), a disc of
    radius 1/2 in an annulus from 1 to 3/2, which no flow in its own dimension separates.
    `concentric_spheres` has the three shells of Ott et al. 2021, whose outer two are one class.

    Args:
        radii: for each class the inner and the outer radius, 0 <= inner < outer; two or more.
        dim: dimension of the space, >= 1; in three dimensions annuli are shells, in one intervals.
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        noise: standard deviation of the Gaussian noise on each coordinate, >= 0.
        seed: decides the data, bit for bit.

    Returns:
        States of shape (dim,); the classes differ by one example at most.

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> rings = pn.annuli([(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)], n_train=300, n_test=30)
        >>> rings.classes
        3
    """
    bounds = _checked(radii)
    dim = whole_number("dim", dim, 1)

    def place(labels: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.float64]:
        inner, outer = bounds[labels].T
        # Divided by the outer radius first: in many dimensions a power of it is no float.
        share = (inner / outer) ** dim
        radius = outer * (share + (1 - share) * random.random(labels.size)) ** (1 / dim)
        direction = random.standard_normal((labels.size, dim))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        points: NDArray[np.float64] = radius[:, None] * direction
        return points

    return labelled_points(
        "annuli" if dim == 2 else f"annuli{dim}d",
        place,
        classes=len(bounds),
        dim=dim,
        noise=noise,
        n_train=n_train,
        n_test=n_test,
        seed=seed,
    )


def _checked(radii: object) -> NDArray[np.float64]:
    """Return the radii as an array (classes, 2)."""
    expected = "two or more pairs (inner, outer) with 0 <= inner < outer"
    hint = "Use radii=((0.0, 0.5), (1.0, 1.5)), say."
    bounds = []
    for pair in items("radii", radii, expected, hint):
        ends = [
            real_number("radii", radius, hint, least=0)
            for radius in items("radii", pair, expected, hint)
        ]
        if len(ends) != 2 or ends[0] >= ends[1]:
            raise InvalidValueError("radii", pair, expected, hint)
        bounds.append(ends)
    if len(bounds) < 2:
        raise InvalidValueError("radii", radii, expected, hint)
    return np.array(bounds)
