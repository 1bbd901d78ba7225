"""A seeded split into training and test examples that keeps the shares of the classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import real_number
from pynode_jl.datasets._arrays import Labels
from pynode_jl.errors import DataError


def stratified_split(
    labels: Labels, test_fraction: float, random: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices (train, test), shuffled; together each example once.

    The test part has round(n * test_fraction) examples, shared among the classes by largest
    remainder; fewer only where a class would otherwise have no training example left. It is
    written out here, not taken from a library, so that a seed means the same split for ever.

    Raises:
        InvalidValueError: `test_fraction` is not between 0 and 1.
        DataError: too few examples for a test part.
    """
    test_fraction = real_number(
        "test_fraction", test_fraction, "Try test_fraction=0.2.", above=0, below=1
    )
    shuffled = random.permutation(labels.size)
    names, counts = np.unique(labels, return_counts=True)
    shares = counts * test_fraction
    n_test = np.floor(shares).astype(np.intp)
    missing = round(labels.size * test_fraction) - int(n_test.sum())
    n_test[np.argsort(n_test - shares, kind="stable")[: max(missing, 0)]] += 1
    n_test = np.minimum(n_test, counts - 1)
    if n_test.sum() == 0:
        raise DataError(
            "y",
            labels.size,
            f"labels of which a fraction {test_fraction:g} is one example or more, from a class of "
            "two or more",
            "Give more examples, raise test_fraction, or pass x_test and y_test.",
        )
    in_test = np.zeros(labels.size, dtype=np.bool_)
    for name, count in zip(names, n_test, strict=True):
        in_test[shuffled[labels[shuffled] == name][:count]] = True
    chosen = in_test[shuffled]
    return shuffled[~chosen], shuffled[chosen]
