"""Handwritten digits: the 1797 real 8x8 images that scikit-learn carries."""

from __future__ import annotations

import numpy as np

from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import MissingDependencyError


def digits(*, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Scikit-learn's digits as images of shape (1, 8, 8) in [0, 1], ten classes.

    From the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998),
    whose pixels 0..16 are divided by 16. The data come with scikit-learn: nothing is downloaded.

    Args:
        test_fraction: share of the test examples, between 0 and 1.
        seed: of the stratified split.

    Raises:
        InvalidValueError: an argument that is not allowed.
        MissingDependencyError: scikit-learn is not installed.

    Example:
        >>> pn.digits().state_shape
        (1, 8, 8)
    """
    try:
        # Here, not above: it takes a second to import.
        from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]
    except ImportError as cause:
        raise MissingDependencyError(
            "scikit-learn", "data set 'digits'", "Use `pip install scikit-learn`."
        ) from cause
    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels) / 16.0).reshape(-1, 1, 8, 8)
    return Dataset.from_arrays(
        images, labels, test_fraction=test_fraction, classes=10, seed=seed, name="digits"
    )
