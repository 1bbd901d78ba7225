"""What both estimators share: parameters, training, and the question of the solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pynode_jl._validation import flag, real_number, whole_number
from pynode_jl.backends import Array, RetCode, as_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import Certificate, SwapReport, certify, swap
from pynode_jl.errors import DivergedError, InvalidValueError
from pynode_jl.fields import MLP, Field, FunctionField, VectorField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import Recipe, Trained, train

# Seeds are whole numbers below this.
_SEEDS = 2**31
_REALS = (np.float64, np.float32)


class NeuralODEEstimator(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """A Neural ODE with the calls of scikit-learn; `NeuralODEClassifier` says what each is."""

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
        validation_fraction: float = 0.0,
        random_state: Any = 0,
        backend: Any = None,
        verbose: bool = False,
    ) -> None:
        self.field = field
        self.width = width
        self.depth = depth
        self.activation = activation
        self.augment = augment
        self.t1 = t1
        self.solver = solver
        self.iterations = iterations
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.precision = precision
        self.normalize = normalize
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.backend = backend
        self.verbose = verbose

    def swap(
        self,
        X: Any = None,
        y: Any = None,
        tests: Sequence[str | Solver] | None = None,
        **options: Any,
    ) -> SwapReport:
        """Evaluate the fitted model under other solvers: is it an ODE, or tied to its solver?

        Args:
            X, y: held-out samples, as for `score`; default those that `validation_fraction` has
                kept from the fit.
            tests: the test solvers, as for `pynode_jl.swap`.
            options: of `pynode_jl.swap`: margin, confidence, backend and so on.

        Returns:
            Its verdict in words is ``.verdict.text``.

        Raises:
            NotFittedError: before `fit`.
            InvalidValueError: no held-out samples.
            ValueError: samples that do not fit.
        """
        data = self._held_out(X, y)
        return swap(self.trained_, data, tests, **self._with_defaults(options))

    def certify(self, X: Any = None, y: Any = None, **options: Any) -> Certificate:
        """Return the verdict on the fitted model, with the diagnostics that explain it.

        Args:
            X, y: as for `swap`.
            options: of `pynode_jl.certify`.

        Raises:
            NotFittedError, InvalidValueError, ValueError: as for `swap`.
        """
        return certify(self.trained_, self._held_out(X, y), **self._with_defaults(options))

    @property
    def verdict_(self) -> Any:
        """The verdict on the samples kept from the fit; there if `validation_fraction` is not 0."""
        found = self.__dict__.get("_verdict")
        if found is None:
            raise AttributeError(
                "verdict_ is there after fit with validation_fraction above 0;"
                " swap(X, y).verdict asks it of samples of your own"
            )
        return found

    def _fit(self, X: Array, targets: Array, task: Task, label_names: Any = None) -> None:
        """Train on checked samples."""
        random = check_random_state(self.random_state)
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
            seed = int(random.randint(_SEEDS))
        fraction = real_number(
            "validation_fraction", self.validation_fraction, "0.2 keeps a fifth.", least=0, below=1
        )
        parts: dict[str, Any] = {"test_fraction": fraction}
        if not fraction:  # a data set has a test part, which the training does not look at
            parts = {"x_test": X, "y_test": targets}
        data = Dataset.from_arrays(X, targets, task=task, seed=int(seed), name="samples", **parts)
        if label_names is not None:
            data = replace(data, label_names=label_names)
        if self.normalize is not None:
            data = data.normalized(self.normalize)
        model = Model(self._field(X.shape[1]), task=task, t1=self.t1, augment=self.augment)
        recipe = Recipe(
            self.solver,
            iterations=self.iterations,
            batch_size=min(whole_number("batch_size", self.batch_size), data.n_train),
            optimizer=self.optimizer,
            seed=int(seed),
            precision=self.precision,
        )
        backend = as_backend(self.backend, model)
        shown = flag("verbose", self.verbose)
        trained = train(model, data, recipe, backend=backend, progress=shown)
        if trained.retcode != RetCode.Success:
            raise DivergedError(
                f"training ended after {trained.state.iteration} of {recipe.iterations} iterations:"
                f" {trained.retcode.meaning} Lower the learning rate, or scale the samples."
            )
        self.data_: Dataset = data
        self.trained_: Trained = trained
        self.n_iter_: int = trained.state.iteration
        self._verdict = None
        if fraction:
            self._verdict = self.swap().verdict

    def _field(self, features: int) -> Field:
        size = features + whole_number("augment", self.augment, 0)
        if self.field is None:
            return MLP(size, width=self.width, depth=self.depth, activation=self.activation)  # type: ignore[arg-type]
        if isinstance(self.field, (VectorField, FunctionField)):
            return self.field
        if callable(self.field):
            made: Field = self.field(size)
            return made
        raise InvalidValueError(
            "field",
            self.field,
            "a field, a function that makes one from the size of a state, or None for an MLP",
            "Pass pn.ConvField1d, say.",
        )

    def _inputs(self, X: Any) -> Array:
        """Return samples to predict as the model takes them."""
        check_is_fitted(self, "trained_")
        checked = validate_data(self, X, reset=False, dtype=_REALS)
        return self.data_.transform(checked)

    def _held_out(self, X: Any, y: Any) -> Dataset:
        """Return the data with these samples, or those kept from the fit, as their test part."""
        check_is_fitted(self, "trained_")
        if X is None and y is None:
            if not self.validation_fraction:
                raise InvalidValueError(
                    "X", None, "held-out samples", "Or fit with validation_fraction=0.2, say."
                )
            return self.data_
        if X is None or y is None:
            raise InvalidValueError("X, y", "one of the two", "both, or neither", "Give both.")
        return replace(self.data_, x_test=self._inputs(X), y_test=self._targets(y))

    def _targets(self, y: Any) -> Array:
        """Return targets as the data set has them."""
        raise NotImplementedError

    def _with_defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"backend": self.backend, "progress": bool(self.verbose), **options}
