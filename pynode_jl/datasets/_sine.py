"""A sine: the smallest regression, and one that no flow of the line can fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pynode_jl._validation import real_number, whole_number
from pynode_jl.datasets._arrays import check_size
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.seeding import generator
from pynode_jl.tasks import Regression


def sine(*, n_train: int = 500, n_test: int = 500, noise: float = 0.05, seed: int = 0) -> Dataset:
    """Draw x uniformly from [-1, 1]; y = sin(2 pi x), with Gaussian noise.

    A flow of the line keeps the order of its points, and sine does not: without augmentation a
    model that fits is not an ODE.

    Args:
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        noise: standard deviation of the noise on y, in both parts, >= 0.
        seed: decides the data, bit for bit.

    Returns:
        States of shape (1,), targets (n, 1), task `Regression(1)`.

    Raises:
        InvalidValueError: an argument that is not allowed.

    Example:
        >>> exact = pn.sine(n_train=100, n_test=50, noise=0.0)
        >>> bool(np.allclose(exact.y_train, np.sin(2 * np.pi * exact.x_train), atol=1e-6))
        True
    """
    noise = real_number("noise", noise, "Use noise=0 for none.", least=0)
    n_train = whole_number("n_train", n_train)
    n_test = whole_number("n_test", n_test)
    check_size(n_train + n_test, 2)
    random = generator(seed, "data")
    parts = []
    for n in (n_train, n_test):
        x = random.uniform(-1, 1, (n, 1))
        with np.errstate(over="ignore"):  # refused by `Dataset`
            y = np.sin(2 * np.pi * x) + noise * random.standard_normal((n, 1))
        parts.append((x, y))
    (x, y), (x_test, y_test) = parts
    data = Dataset.from_arrays(x, y, x_test=x_test, y_test=y_test, task=Regression(1), name="sine")
    return replace(data, seed=seed)
