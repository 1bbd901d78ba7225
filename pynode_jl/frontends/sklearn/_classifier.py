"""A Neural ODE as a classifier of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from pynode_jl.backends import Array
from pynode_jl.errors import DataError
from pynode_jl.frontends.sklearn._estimator import _REALS, NeuralODEEstimator
from pynode_jl.tasks import Classification

# So many labels are shown.
_SHOWN = 10


class NeuralODEClassifier(ClassifierMixin, NeuralODEEstimator):  # type: ignore[misc]
    """Classify by a Neural ODE: samples flow from t = 0 to t1, a linear head reads them.

    It goes into pipelines and grid searches, and can be cloned and pickled. Samples cannot be
    weighed: `fit` has no ``sample_weight``; classes can (`class_weight`).

    Args:
        field: None for an MLP of `width`, `depth` and `activation`; a `VectorField` or
            `FunctionField`; or a function that makes one from the size of a state, such as
            ``pn.ConvField1d``.
        width, depth, activation: of that MLP.
        augment: zeros appended to each sample.
        t1: where the flow ends.
        solver: to train and predict with: a `Solver`, its text or its table. An adaptive one
            controls the error of a whole batch, so that an answer depends a little on its company.
        iterations, batch_size, optimizer, precision: as in `Recipe`; a batch is never larger than
            the samples.
        normalize: "standard" or "minmax", by the statistics of the fit; None for samples as they
            are.
        class_weight: weights by label in the loss, or "balanced"; None weighs all alike.
        validation_fraction: share of the samples that `fit` keeps out, to give `verdict_`.
        random_state: decides initial weights and batches.
        backend: what integrates, or its name; default `get_backend()`.
        verbose: whether to show progress.

    Attributes:
        classes_: the labels.
        trained_: the training's result (`Trained`); ``trained_.plot()`` draws its history.
        data_: the samples as the model takes them.
        verdict_: whether the model is an ODE, by the samples kept out.
        n_features_in_, feature_names_in_, n_iter_: as scikit-learn has them.

    Example:
        >>> from pynode_jl.sklearn import NeuralODEClassifier
        >>> x = np.random.default_rng(0).normal(size=(60, 2))
        >>> y = np.where(x[:, 0] > 0, "right", "left")
        >>> net = NeuralODEClassifier(width=8, iterations=60, backend="torch").fit(x, y)
        >>> net.classes_.tolist(), net.score(x, y) > 0.9
        (['left', 'right'], True)
        >>> net.predict([[2.0, 0.0]], solver="Euler:dt=1/64").tolist()
        ['right']
    """

    def __init__(
        self,
        *,
        field: Any = None,
        width: int = 32,
        depth: int = 2,
        activation: str = "tanh",
        augment: int = 0,
        t1: float = 1.0,
        solver: Any = "RK4:dt=1/8",
        iterations: int = 1000,
        batch_size: int = 128,
        optimizer: Any = "adam:learning_rate=0.01",
        precision: str = "full",
        normalize: str | None = "standard",
        class_weight: Any = None,
        validation_fraction: float = 0.0,
        random_state: Any = 0,
        backend: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            field=field,
            width=width,
            depth=depth,
            activation=activation,
            augment=augment,
            t1=t1,
            solver=solver,
            iterations=iterations,
            batch_size=batch_size,
            optimizer=optimizer,
            precision=precision,
            normalize=normalize,
            validation_fraction=validation_fraction,
            random_state=random_state,
            backend=backend,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any) -> NeuralODEClassifier:
        """Train on samples `X` (n, features) and their labels `y` (n,).

        Raises:
            ValueError: samples or labels that cannot be used, a parameter that is not allowed.
            DivergedError: the training met a number that is not finite.
            DataError: labels of one class alone.
        """
        X, y = validate_data(self, X, y, dtype=_REALS)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("y", "one class", "labels of two classes or more", "Give others.")
        weights: tuple[float, ...] = ()
        if self.class_weight is not None:
            found = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            weights = tuple(float(each) for each in found)
        texts = all(isinstance(each, str) for each in self.classes_)
        task = Classification(len(self.classes_), class_weights=weights)
        self._fit(X, codes, task, tuple(map(str, self.classes_)) if texts else None)
        return self

    def predict(self, X: Any, solver: Any = None) -> Array:
        """Return the label of each sample (n,).

        Args:
            X: samples (n, features).
            solver: another solver than that of the fit.

        Raises:
            NotFittedError: before `fit`.
            ValueError: samples of other features.
            SolveError: the solve failed.
        """
        found = self.predict_proba(X, solver)
        return np.asarray(self.classes_[found.argmax(axis=1)])

    def predict_proba(self, X: Any, solver: Any = None) -> Array:
        """Return the probability of each label (n, classes), in the order of `classes_`.

        Args:
            X, solver: as for `predict`.

        Raises:
            NotFittedError, ValueError, SolveError: as for `predict`.
        """
        inputs = self._inputs(X)
        return self.trained_.predict_proba(inputs, solver, backend=self.backend)

    def _targets(self, y: Any) -> Array:
        labels = column_or_1d(y)
        known = {each: place for place, each in enumerate(self.classes_.tolist())}
        for place, each in enumerate(labels.tolist()):
            if each not in known:
                names = ", ".join(map(str, self.classes_[:_SHOWN]))
                raise DataError(f"y[{place}]", each, f"a label of the fit: {names}", "Mend it.")
        return np.array([known[each] for each in labels.tolist()], np.int32)
