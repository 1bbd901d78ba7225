"""A trained model, and how it came about where it was trained here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pynode_jl._display import Drawn
from pynode_jl._validation import instance, mapping, rounded
from pynode_jl.backends import (
    Array,
    BackendLike,
    Precision,
    RetCode,
    TrainState,
    checked_precision,
    in_precision,
)
from pynode_jl.datasets import Dataset, checked_names
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Weights
from pynode_jl.models import Model, ModelWeights, check_model
from pynode_jl.solvers import Solver
from pynode_jl.training._history import History
from pynode_jl.training._onnx import write_onnx
from pynode_jl.training._predicting import Predicting
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._stored import read_model, write_model
from pynode_jl.training.step_adaptation import ControlState, Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class TrainedModel(Drawn, Predicting):
    """A model with its weights and the solver that it was trained with, wherever that was.

    This is what diagnostics take. `train` returns a `Trained`, which is a training's whole result
    and stands for its `Trained.trained_model` in every diagnostic.

    Attributes:
        model: the model.
        weights: by flat name (`Model.weight_shapes`), arrays of any float type.
        solver: the training solver.
        precision: of its training (`PRECISIONS`). One of float64 is evaluated in it, too.
        label_names: what the training data called the classes; None where they were numbers.

    Example:
        >>> from pynode_jl.fields import LinearField
        >>> model = Model(LinearField(2), classes=2)
        >>> foreign = TrainedModel(model, model.init(0), Solver("Euler", dt=1 / 8))
        >>> foreign.solver.label
        'Euler h=1/8'
    """

    model: Model
    weights: Weights
    solver: Solver
    precision: Precision = "full"
    label_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)
        object.__setattr__(self, "solver", Solver.of(self.solver))
        checked_precision(self.precision, self.solver)
        mapping("weights", self.weights, "a mapping of arrays by name", "See Model.weight_shapes.")
        if self.label_names is not None:
            names = checked_names(self.label_names, self.model.classes)
            object.__setattr__(self, "label_names", names)

    def __repr__(self) -> str:
        return f"TrainedModel({self.model!r}, {self.solver.label})"

    @property
    def trained_model(self) -> TrainedModel:
        """The model itself, as a `Trained` has one."""
        return self

    @property
    def field_weights(self) -> Weights:
        """The field's part of the weights, under the field's own names."""
        return dict(ModelWeights.from_dict(self.weights).field)

    def inputs(self, x: Array) -> Array:
        """Return inputs as the model is evaluated on them: in float64 if it was trained so.

        `x` are inputs, ``(n, *input_shape)``.
        """
        return in_precision(x, self.precision)

    def initial_states(self, x: Any) -> Any:
        """Return the states at t0 of inputs: ``(n, *field.state_shape)``, encoded and padded.

        `x` are inputs, ``(n, *input_shape)``.
        """
        return self.model.initial_state(self.inputs(x), ModelWeights.from_dict(self.weights))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, with its solver and checksums.

        Args:
            path: of the file; one that is there is replaced.

        Raises:
            InvalidValueError: a function of your own as field, task, head or encoder.
            OutputError: the file cannot be written.

        Example:
            >>> import tempfile
            >>> foreign = pn.TrainedModel(model, model.init(0), pn.Solver("Euler", dt=1 / 8))
            >>> foreign.save(f"{tempfile.gettempdir()}/model.safetensors")
            >>> pn.TrainedModel.load(f"{tempfile.gettempdir()}/model.safetensors").solver.label
            'Euler h=1/8'
        """
        facts = (self.solver, self.precision, self.label_names)
        write_model(path, self.model, self.weights, *facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainedModel:
        """Return the model that `save` wrote.

        `path` is that of the file.

        Raises:
            InputError: no such file, a damaged one, or another.
        """
        return cls(*read_model(path))

    def to_onnx(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the field and the head as ONNX files, to `folder`.

        ``field.onnx`` gives ``dy`` of ``t``, an array without axes, and of ``y``, ``(batch,
        *field.state_shape)``; ``head.onnx`` the ``outputs`` of a state ``y``. A program of one's
        own makes the steps between. They have the precision of the weights. Zeros that the model
        appends to its inputs are part of a state. A density has a field alone.

        Returns:
            The files.

        Raises:
            InvalidValueError: a function of your own as field, head or encoder.
            MissingDependencyError: onnx is not installed.
            OutputError: a file cannot be written.

        Example:
            >>> [path.name for path in trained.to_onnx("model")]
            ['field.onnx', 'head.onnx']
        """
        return write_onnx(folder, self.model, self.weights)

    def plot(self, data: Dataset, kind: str = "", *, backend: BackendLike = None) -> Figure:
        """Draw what the model answers for test samples, as trained and as an ODE.

        Args:
            data: whose test part is drawn.
            kind: which picture: "regions" or "trajectories" of a classification in the plane,
                "answers" or "trajectories" of a regression there, "fit" of trajectories, "density"
                of a density in the plane; "" for the first that the model has.
            backend: what integrates, or its name; default `get_backend()`.

        Raises:
            InvalidValueError: no such picture: the states have more than two numbers, say.

        Example:
            >>> plane = pn.Model(pn.MLP(2, width=4), classes=2)
            >>> untrained = pn.TrainedModel(plane, plane.init(0), pn.Solver("Euler", dt=0.5))
            >>> figure = untrained.plot(pn.moons(n_train=20, n_test=10))
        """
        return self._figure(data=data, kind=kind, backend=backend)


@dataclass(frozen=True, repr=False)
class Trained(Drawn, Predicting):
    """The result of a training so far: the model, its weights, and how they came about.

    Attributes:
        model, recipe: what is trained, and how.
        state: weights, the optimiser's moments, and the number of iterations done.
        history: what each iteration saw.
        retcode: Success, or why training ended before its last iteration: `state` is then the last
            good one.
        seconds: wall time of training.
        control: where the step adapter stands; None without one, and before the first iteration.
        validation: what the step adapter says of the finished model, if it promises anything.
        best_weights: the last that the step adapter marked as best; when training ends they become
            the model's, and this is None.
        fingerprint: of the training data (`Dataset.fingerprint`); "" where unknown.
        label_names: what they called the classes (`Dataset.label_names`).

    Example:
        >>> data = pn.concentric_spheres(n_train=64, n_test=16)
        >>> model = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> recipe = pn.Recipe(pn.Solver("Euler", dt=0.5), iterations=4, batch_size=32, chunk=4)
        >>> trained = pn.train(model, data, recipe, backend="jax")
        >>> trained.solver.label, trained.history.nf.tolist()
        ('Euler h=1/2', [2, 2, 2, 2])
    """

    model: Model
    recipe: Recipe
    state: TrainState
    history: History
    retcode: RetCode = RetCode.Success
    seconds: float = 0.0
    control: ControlState | None = None
    validation: Validation | None = None
    best_weights: Weights | None = None
    fingerprint: str = ""
    label_names: tuple[str, ...] | None = None

    @property
    def finished(self) -> bool:
        """Whether all iterations were done."""
        return self.state.iteration >= self.recipe.iterations

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do: all iterations were done, or one has failed."""
        return self.finished or self.retcode != RetCode.Success

    @property
    def solver(self) -> Solver:
        """The solver in force: the recipe's, the step adapter's last, or the one validated."""
        if self.validation is not None:
            return self.validation.solver
        return self.recipe.solver if self.control is None else self.control.solver

    @property
    def weights(self) -> Weights:
        """The weights, by flat name."""
        return self.state.weights

    @property
    def field_weights(self) -> Weights:
        """The field's part of the weights, under the field's own names."""
        return self.trained_model.field_weights

    @property
    def trained_model(self) -> TrainedModel:
        """The model as diagnostics take it: without its history."""
        facts = (self.solver, self.recipe.precision, self.label_names)
        return TrainedModel(self.model, self.weights, *facts)

    @property
    def kept(self) -> Weights | None:
        """The former name of `best_weights`."""
        return self.best_weights

    def __repr__(self) -> str:
        done = f"{self.state.iteration} of {self.recipe.iterations} iterations"
        said = "" if self.retcode == RetCode.Success else f", {self.retcode}"
        return f"Trained({self.model!r}, {self.solver.label}, {done}{said})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained model to one file, as `TrainedModel.save`; its history is left out.

        `path` is that of the file.

        Raises:
            InvalidValueError, OutputError: as there.

        Example:
            >>> import tempfile
            >>> data = pn.moons(n_train=64, n_test=16)
            >>> recipe = pn.Recipe("Euler:dt=1/2", iterations=2, batch_size=32)
            >>> net = pn.train(pn.Model(pn.MLP(2, width=4), classes=2), data, recipe, backend="jax")
            >>> net.save(f"{tempfile.gettempdir()}/model.safetensors")
            >>> loaded = pn.TrainedModel.load(f"{tempfile.gettempdir()}/model.safetensors")
            >>> bool((loaded.predict(data.x_test) == net.predict(data.x_test)).all())
            True
        """
        self.trained_model.save(path)

    def to_onnx(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the field and the head as ONNX files to `folder`: `TrainedModel.to_onnx`.

        Returns:
            The files.

        Raises:
            InvalidValueError: a function of your own as field, head or encoder.
            MissingDependencyError: onnx is not installed.
            OutputError: a file cannot be written.

        Example:
            >>> model = pn.Model(pn.MLP(2, width=2), classes=2)
            >>> recipe = pn.Recipe("Euler:dt=1/2", iterations=1, batch_size=2)
            >>> learned = pn.train(model, pn.moons(n_train=8, n_test=8), recipe, backend="jax")
            >>> [path.name for path in learned.to_onnx("model")]
            ['field.onnx', 'head.onnx']
        """
        return self.trained_model.to_onnx(folder)

    def plot(
        self, data: Dataset | None = None, kind: str = "", *, backend: BackendLike = None
    ) -> Figure:
        """Draw the history of the training; with `data` what the model answers for them.

        Args:
            data, kind, backend: as in `TrainedModel.plot`.

        Raises:
            InvalidValueError: no iteration yet, or as in `TrainedModel.plot`.

        Example:
            >>> data = pn.moons(n_train=64, n_test=16)
            >>> recipe = pn.Recipe("Euler:dt=1/2", iterations=2, batch_size=32)
            >>> net = pn.train(pn.Model(pn.MLP(2, width=4), classes=2), data, recipe, backend="jax")
            >>> figure = net.plot()
        """
        if data is not None:
            return self.trained_model.plot(data, kind, backend=backend)
        return self._figure()

    @classmethod
    def of(cls, model: Model, weights: Mapping[str, Any], solver: Solver) -> TrainedModel:
        """Return the `TrainedModel` of a model that was trained elsewhere, with `solver`.

        Raises:
            InvalidValueError: weights that are not the model's, or not finite.
        """
        _check_model(model)
        _check_weights(model, weights)
        return TrainedModel(model, dict(weights), solver)


#: What diagnostics take: either of the two.
TrainedLike: TypeAlias = Trained | TrainedModel


def as_trained_model(trained: TrainedLike) -> TrainedModel:
    """Return the model of a training's result; a `TrainedModel` as it is.

    Raises:
        InvalidValueError: neither of the two.

    Example:
        >>> from pynode_jl.training import as_trained_model
        >>> as_trained_model(trained) is trained
        True
    """
    if isinstance(trained, Trained):
        return trained.trained_model
    if isinstance(trained, TrainedModel):
        return trained
    raise InvalidValueError(
        "trained",
        trained,
        "a Trained or a TrainedModel",
        "`train` returns the one; TrainedModel(model, weights, solver) makes the other.",
    )


def _check_model(model: object) -> None:
    check_model(model)


def start(model: Model, recipe: Recipe, weights: Mapping[str, Any] | None = None) -> Trained:
    """Return a model before its first iteration.

    Args:
        model: the model.
        recipe: how it will be trained.
        weights: by flat name; default the initial ones of the recipe's seed.

    Raises:
        InvalidValueError: weights that are not the model's, or not finite.

    Example:
        >>> from pynode_jl.training import start
        >>> start(model, pn.Recipe(pn.Solver("Euler", dt=0.5), iterations=10)).state.iteration
        0
    """
    _check_model(model)
    instance("recipe", recipe, Recipe, "a Recipe", "Make one: pn.Recipe(solver).")
    if weights is None:
        weights = model.init(recipe.seed)
    else:
        _check_weights(model, weights)
        weights = dict(weights)
    if recipe.precision == "float64":
        weights = {name: rounded(name, value, np.float64) for name, value in weights.items()}
    return Trained(model, recipe, TrainState.start(weights), History())


def _check_weights(model: Model, weights: Mapping[str, Any]) -> None:
    """Refuse weights that are not the model's by name and shape, or not finite."""
    shapes = {name: tuple(shape) for name, shape in model.weight_shapes().items()}
    hint = "`Model.weight_shapes` lists names and shapes."
    weights = mapping("weights", weights, "a mapping of arrays by name", hint)
    if set(weights) != set(shapes):
        raise InvalidValueError("weights", sorted(weights), f"{sorted(shapes)}", hint)
    for name, shape in shapes.items():
        value = weights[name]
        try:
            # A torch tensor may be on a device, and part of a graph.
            array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
            with np.errstate(over="ignore"):
                finite = bool(np.isfinite(array.astype(np.float32)).all())
        except (TypeError, ValueError) as error:
            raise InvalidValueError(
                f"weights[{name!r}]", type(value).__name__, "an array of numbers", f"{error}."
            ) from error
        if array.shape != shape:
            raise InvalidValueError(f"weights[{name!r}].shape", array.shape, f"{shape}", hint)
        if not finite:
            raise InvalidValueError(
                f"weights[{name!r}]", value, "numbers finite in float32", "Its training has failed."
            )
