"""The scikit-learn front end: Neural ODEs as estimators."""

from __future__ import annotations

from pynode_jl.errors import MissingDependencyError

try:
    from sklearn.utils.validation import validate_data as _validate_data  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        "scikit-learn 1.6 or newer", "pynode_jl.sklearn", "pip install 'scikit-learn>=1.6'"
    ) from error

from pynode_jl.frontends.sklearn._classifier import NeuralODEClassifier
from pynode_jl.frontends.sklearn._regressor import NeuralODERegressor

__all__ = ["NeuralODEClassifier", "NeuralODERegressor"]
