"""Diabetes: a regression on ten measurements of 442 patients, which scikit-learn carries."""

from __future__ import annotations

from pynode_jl.datasets._dataset import Dataset
from pynode_jl.errors import MissingDependencyError
from pynode_jl.tasks import Regression


def diabetes(*, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Scikit-learn's diabetes data: the progression of the disease from ten measurements.

    From Efron, Hastie, Johnstone and Tibshirani (2004), "Least Angle Regression". Features and
    target are normalised to mean 0 and standard deviation 1 in the training part (`normalized`);
    `restore` gives the progression, 25 to 346, again. The data come with scikit-learn: nothing is
    downloaded.

    Args:
        test_fraction: share of the test examples, between 0 and 1.
        seed: of the split.

    Returns:
        States of shape (10,), targets (n, 1), task `Regression(1)`.

    Raises:
        InvalidValueError: an argument that is not allowed.
        MissingDependencyError: scikit-learn is not installed.

    Example:
        >>> data = pn.diabetes()
        >>> data.n_train + data.n_test, data.state_shape
        (442, (10,))
        >>> round(float(data.restore(data.y_train).min()), 3)
        25.0
    """
    try:
        # Here, not above: it takes a second to import.
        from sklearn.datasets import load_diabetes  # type: ignore[import-untyped, unused-ignore]
    except ImportError as cause:
        raise MissingDependencyError(
            "scikit-learn", "data set 'diabetes'", "Use `pip install scikit-learn`."
        ) from cause
    measurements, progression = load_diabetes(return_X_y=True, scaled=False)
    return Dataset.from_arrays(
        measurements,
        progression,
        test_fraction=test_fraction,
        seed=seed,
        task=Regression(1),
        name="diabetes",
    ).normalized("standard")
