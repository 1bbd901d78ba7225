"""A Neural ODE as a regressor of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from pynode_jl.backends import Array
from pynode_jl.frontends.sklearn._estimator import _REALS, NeuralODEEstimator
from pynode_jl.tasks import Regression


class NeuralODERegressor(RegressorMixin, NeuralODEEstimator):  # type: ignore[misc]
    """Fit numbers by a Neural ODE: samples flow from t = 0 to t1, a linear head reads them.

    The loss is the mean squared error, `score` is R squared. Targets are normalised as samples are.
    `NeuralODEClassifier` says what its parameters are: `field`, `width`, `depth`, `activation`,
    `augment`, `t1`, `solver`, `iterations`, `batch_size`, `optimizer`, `precision`, `normalize`,
    `validation_fraction`, `random_state`, `backend` and `verbose`; and its attributes, of which it
    has all that are not about classes.

    Example:
        >>> from pynode_jl.sklearn import NeuralODERegressor
        >>> x = np.random.default_rng(0).normal(size=(60, 2))
        >>> y = x[:, 0] + np.tanh(x[:, 1])
        >>> net = NeuralODERegressor(width=8, iterations=100, backend="torch").fit(x, y)
        >>> net.score(x, y) > 0.9, net.predict(x).shape
        (True, (60,))
    """

    def fit(self, X: Any, y: Any) -> NeuralODERegressor:
        """Train on samples `X` (n, features) and targets `y`, (n,) or (n, targets).

        Raises:
            ValueError: samples or targets that cannot be used, a parameter that is not allowed.
            DivergedError: the training met a number that is not finite.
        """
        X, y = validate_data(self, X, y, dtype=_REALS, multi_output=True, y_numeric=True)
        self._flat = y.ndim == 1
        targets = y.reshape(len(y), -1)
        self._fit(X, targets, Regression(targets.shape[1]))
        return self

    def predict(self, X: Any, solver: Any = None) -> Array:
        """Return the number, or numbers, of each sample: (n,) or (n, targets), as in the fit.

        Args:
            X: samples (n, features).
            solver: another solver than that of the fit.

        Raises:
            NotFittedError: before `fit`.
            ValueError: samples of other features.
            SolveError: the solve failed.
        """
        inputs = self._inputs(X)
        found = self.trained_.predict(inputs, solver, backend=self.backend)
        values = self.data_.restore(found).astype(np.float64)
        return np.asarray(values[:, 0] if self._flat else values)

    def _targets(self, y: Any) -> Array:
        targets = check_array(y, dtype=_REALS, ensure_2d=False).reshape(len(y), -1)
        scale = self.data_.target_normalization
        return targets if scale is None else scale.apply(targets)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
