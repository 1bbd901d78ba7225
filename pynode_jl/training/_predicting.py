"""What a trained model answers, in the words of its task: `predict`, `predict_proba`, `score`."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode_jl._validation import numbers, rounded
from pynode_jl.backends import (
    Array,
    Backend,
    BackendLike,
    RetCode,
    as_backend,
    raise_unless_success,
)
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError, InvalidValueError, SolveError
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification, Density

if TYPE_CHECKING:
    from pynode_jl.training._trained import TrainedModel

# So many names of labels are shown.
_SHOWN = 10


class Predicting:
    """What has a `trained_model` answers with it: `predict`, `predict_proba`, `score`.

    Example:
        >>> from pynode_jl.training import Predicting
        >>> isinstance(trained, Predicting)
        True
    """

    @property
    @abstractmethod
    def trained_model(self) -> TrainedModel:
        """The model with its weights and its training solver."""

    def _backend(self, given: BackendLike) -> Backend:
        return as_backend(given, self.trained_model.model)

    def predict(self, x: Any, solver: Any = None, *, backend: BackendLike = None) -> Array:
        """Return the model's answers for inputs, in its task's terms.

        Args:
            x: inputs as the training data had them, ``(n, *input_shape)``: an array of NumPy, torch
                or JAX, a pandas frame with the features' columns in their order, or nested lists.
                Of data that were normalised, `Dataset.transform` makes them, and `Dataset.restore`
                takes the answers back.
            solver: another solver than the training's: a `Solver`, its text or its table.
            backend: what integrates, or its name; default `get_backend()`.

        Returns:
            Of a classification labels ``(n,)``: the data's names where it had names, else integers.
            Of a regression values ``(n, targets)``, of trajectories states ``(n, times, *state)``,
            of a density log-densities ``(n,)`` in nats, of another task its outputs.

        Raises:
            InvalidValueError: inputs of another shape, or no numbers; no solver.
            SolveError: the solve failed, or an answer is not finite.

        Example:
            >>> trained.predict([[-0.5], [0.5]]).tolist()  # as trained
            [1, 0]
            >>> trained.predict([[-0.5], [0.5]], "RK4:dt=1/8").tolist()  # as its ODE
            [0, 1]
        """
        model = self.trained_model
        outputs = _outputs(model, x, solver, self._backend(backend))
        if isinstance(model.model.task, Density):
            return np.asarray(outputs[:, 0])
        if not isinstance(model.model.task, Classification):
            return outputs
        labels = outputs.argmax(axis=1)
        names = model.label_names
        return np.asarray(labels if names is None else np.array(names)[labels])

    def predict_proba(self, x: Any, solver: Any = None, *, backend: BackendLike = None) -> Array:
        """Return the probabilities of the classes, ``(n, classes)`` float64, each row's sum 1.

        They are the softmax of the logits, in the order of the labels.

        Args:
            x, solver, backend: as in `predict`.

        Raises:
            InvalidValueError: the task is no classification, or as in `predict`.
            SolveError: as in `predict`.

        Example:
            >>> trained.predict_proba([[-0.5], [0.5]]).round(2).tolist()
            [[0.12, 0.88], [0.88, 0.12]]
        """
        model = self.trained_model
        if not isinstance(model.model.task, Classification):
            raise InvalidValueError(
                "task",
                model.model.task.kind,
                "a classification: other answers have no probabilities",
                "Use predict.",
            )
        outputs = _outputs(model, x, solver, self._backend(backend)).astype(np.float64)
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def score(
        self, x: Any, y: Any = None, solver: Any = None, *, backend: BackendLike = None
    ) -> float:
        """Return the task's score: an accuracy, an RMSE, nats per dimension (`Task.metric`).

        Args:
            x: inputs as in `predict`, or a `Dataset`, whose test part is taken.
            y: their targets as `predict` gives them; None beside a `Dataset`, and of a density.
            solver, backend: as in `predict`.

        Raises:
            DataError: targets that are not the task's.
            InvalidValueError, SolveError: as in `predict`.

        Example:
            >>> trained.score(data), trained.score(data, solver="RK4:dt=1/8")
            (1.0, 0.0)
        """
        model = self.trained_model
        task = model.model.task
        if isinstance(x, Dataset):
            if y is not None:
                raise InvalidValueError("y", y, "None beside a Dataset", "Leave it out.")
            x, y = x.x_test, x.y_test
        elif y is None and not isinstance(task, Density):
            raise InvalidValueError("y", None, "the targets of x", "Or pass a Dataset for x.")
        else:
            y = _numbered(y, model.label_names)
        outputs = _outputs(model, x, solver, self._backend(backend)).astype(np.float64)
        targets = task.checked_targets("y", y, len(outputs))
        return task.score(task.scores(outputs, targets))


def _outputs(model: TrainedModel, x: Any, solver: Any, backend: Backend) -> Array:
    """Return the outputs of a solve that succeeded, all of them finite."""
    chosen = model.solver if solver is None else Solver.of(solver)
    real = np.float64 if model.precision == "float64" else np.float32
    inputs = rounded("x", numbers("x", x), real)
    found = backend.evaluate(model.model, model.weights, inputs, chosen)
    raise_unless_success(chosen, found.stats.retcode, {"x": inputs, **model.weights})
    rows = found.outputs.reshape(len(inputs), -1)
    bad = np.asarray(~np.isfinite(rows).all(axis=1))
    if bad.any():
        raise SolveError(
            RetCode.Unstable,
            f"{chosen.label}. {int(bad.sum())} of {len(bad)} answers are not finite, the first for"
            f" x[{int(bad.argmax())}].",
        )
    return found.outputs


def _numbered(y: Any, names: tuple[str, ...] | None) -> Any:
    """Return targets as numbers: labels by their names as their places."""
    given = y.detach().cpu() if hasattr(y, "detach") else y
    try:
        array = None if given is None else np.asarray(given)
    except Exception as error:  # whatever the object's own conversion raises
        hint = "Give every row the same length."
        raise DataError("y", type(y).__name__, "an array of targets", hint) from error
    if names is None or array is None or array.dtype.kind not in "OUT":
        return array
    known = {name: place for place, name in enumerate(names)}
    for place, each in enumerate(array.ravel().tolist()):
        if not isinstance(each, str) or each not in known:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            raise DataError(f"y[{place}]", each, f"one of the labels {shown}", "Mend it.")
    return np.array([known[each] for each in array.ravel().tolist()]).reshape(array.shape)
