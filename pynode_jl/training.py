"""The training loop: batches from a seed, chunks of iterations on a backend, a state to go on from.

Nothing here is random beyond the seed, and the state is all that the next iteration depends on: a
run that was stopped anywhere and goes on from its state equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from pynode_jl.adaptation import Check, Controller, ControlState, Probe, Validation
from pynode_jl.backends import (
    Adam,
    Array,
    Backend,
    BackendLike,
    ChunkResult,
    GradientMethod,
    Precision,
    RetCode,
    TrainState,
    as_backend,
    checked_gradient,
    checked_precision,
)
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataChangedError, DataError, InvalidValueError
from pynode_jl.fields import Weights
from pynode_jl.models import Model
from pynode_jl.seeding import checked_seed, generator
from pynode_jl.solvers import Solver


@dataclass(frozen=True)
class Recipe:
    """How to train: the paper's protocol by default (Ott et al. 2021).

    Attributes:
        solver: the solver to train with; under a controller, the one to start from.
        iterations: updates in all.
        batch_size: samples in a batch; an epoch's last, smaller batch is left out.
        optimizer: Adam's constants.
        seed: decides the initial weights and the batches.
        gradient: "discrete" (through the solver's own steps) or another of `GRADIENTS`.
        precision: "full", or "bfloat16" for the field's layers while training (`PRECISIONS`); what
            is evaluated afterwards is evaluated in full.
        chunk: iterations per compiled call; between two of them progress is shown and state kept.
            Under a controller its check interval stands for it.
        controller: adapts the solver's step or tolerance between chunks; None leaves it fixed.
    """

    solver: Solver
    iterations: int = 10_000
    batch_size: int = 128
    optimizer: Adam = field(default_factory=Adam)
    seed: int = 0
    gradient: GradientMethod = "discrete"
    precision: Precision = "full"
    chunk: int = 50
    controller: Controller | None = None

    def __post_init__(self) -> None:
        if self.controller is not None:
            self.controller.check_solver(self.solver)
        checked_seed(self.seed)
        checked_gradient(self.gradient)
        checked_precision(self.precision, self.solver, self.gradient)
        for name in ("iterations", "batch_size", "chunk"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidValueError(name, value, "an integer of 1 or more", "Give a count.")


@dataclass(frozen=True)
class History:
    """What each iteration saw: `loss`, `accuracy` of its batch before the update, `nf`, the
    evaluations of the right-hand side in its forward solve, and `step`, the solver's fixed step or
    relative tolerance. Each ``(iterations,)``. `checks` are the controller's, in their order."""

    loss: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    accuracy: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    nf: Array = field(default_factory=lambda: np.zeros(0, np.int32))
    step: Array = field(default_factory=lambda: np.zeros(0, np.float64))
    checks: tuple[Check, ...] = ()

    def __len__(self) -> int:
        return int(self.loss.shape[0])

    @property
    def training_nf(self) -> int:
        """Evaluations of the right-hand side in all forward solves of training."""
        return int(self.nf.sum(dtype=np.int64))

    @property
    def check_nf(self) -> int:
        """Evaluations of the right-hand side in all checks, the start's among them."""
        return sum(check.nf for check in self.checks)

    def extended(self, chunk: ChunkResult, solver: Solver) -> History:
        """This history and behind it a chunk's that was trained with `solver`."""
        step = solver.dt if solver.dt is not None else solver.rtol
        return replace(
            self,
            loss=np.concatenate([self.loss, chunk.loss]),
            accuracy=np.concatenate([self.accuracy, chunk.accuracy]),
            nf=np.concatenate([self.nf, chunk.nf]),
            step=np.concatenate([self.step, np.full(chunk.loss.shape, step, np.float64)]),
        )

    def checked(self, check: Check) -> History:
        """This history and one more check."""
        return replace(self, checks=(*self.checks, check))


@dataclass(frozen=True)
class Trained:
    """A model with its weights and how they came about.

    `retcode` is Success, or why training ended before its last iteration: `state` is then the last
    good one. Under a controller, `control` is where that stands (None before the first iteration),
    and `validation` what it says of the finished model, if it promises anything. If it marks
    weights as best, the last so marked are `kept` until training ends and become the model's there.
    `fingerprint` is that of the data it was trained on (`Dataset.fingerprint`); "" where unknown.
    """

    model: Model
    recipe: Recipe
    state: TrainState
    history: History
    retcode: RetCode = RetCode.Success
    seconds: float = 0.0
    control: ControlState | None = None
    validation: Validation | None = None
    kept: Weights | None = None
    fingerprint: str = ""

    @property
    def finished(self) -> bool:
        """Whether all iterations were done."""
        return self.state.iteration >= self.recipe.iterations

    @property
    def solver(self) -> Solver:
        """The solver in force: the recipe's, the controller's last, or the one validated."""
        if self.validation is not None:
            return self.validation.solver
        return self.recipe.solver if self.control is None else self.control.solver

    @property
    def weights(self) -> Weights:
        """The weights, by name."""
        return self.state.weights

    @property
    def field_weights(self) -> Weights:
        """The field's part of the weights, under the field's own names."""
        return {
            name.removeprefix("field."): value
            for name, value in self.weights.items()
            if name.startswith("field.")
        }

    @classmethod
    def of(cls, model: Model, weights: Mapping[str, Any], solver: Solver) -> Trained:
        """A model that was trained elsewhere, with `solver`, to be analysed here."""
        return cls(model, Recipe(solver, iterations=1), TrainState.start(dict(weights)), History())


def start(model: Model, recipe: Recipe) -> Trained:
    """A model before its first iteration, with the initial weights of the recipe's seed."""
    return Trained(model, recipe, TrainState.start(model.init(recipe.seed)), History())


def train(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    *,
    backend: BackendLike = None,
    resume: Trained | None = None,
    on_chunk: Callable[[Trained], None] | None = None,
) -> Trained:
    """Train a model.

    Args:
        model: the model; its input shape and classes must be the data's.
        dataset: only its training part is looked at.
        recipe: how to train.
        backend: what integrates, or its name; default `get_backend()`.
        resume: a `Trained` of the same model, recipe and data to go on from.
        on_chunk: called after each chunk with the state so far: show it, store it.

    Returns:
        The trained model. Under a controller its weights are those that it marked as best, if it
        marks any, or the last; its `solver` is the one that was in force for them; checks and
        validation are in `history` and `validation`. When a loss, a gradient or a state stops
        being finite, or a solve fails, training ends there: `retcode` says why and the state is
        the last good one.

    Raises:
        DataError: the data do not fit the model, are fewer than one batch, or are not those that
            `resume` was trained on.
    """
    check_fit(model, dataset)
    if resume is not None:
        check_same_data(resume.fingerprint, dataset)
    if recipe.batch_size > dataset.n_train:
        raise DataError(
            "batch_size",
            recipe.batch_size,
            f"at most the {dataset.n_train} training samples of {dataset.name}",
            "Make the batches smaller.",
        )
    backend = as_backend(backend)
    trained = start(model, recipe) if resume is None else replace(resume, recipe=recipe)
    trained = replace(trained, fingerprint=dataset.fingerprint)
    controller = recipe.controller
    kept, held = _parts(dataset, recipe)
    chunk_length = recipe.chunk if controller is None else controller.every
    look = partial(_probe, backend, dataset, kept, held)
    if controller is not None and trained.control is None:
        control, check = controller.start(recipe.solver, look(trained))
        trained = replace(trained, control=control, history=trained.history.checked(check))
    while not trained.finished and trained.retcode == RetCode.Success:
        first = trained.state.iteration
        last = min(first + chunk_length, recipe.iterations)
        solver = trained.solver
        chunk = backend.train(
            model,
            trained.state,
            dataset.x_train,
            dataset.y_train,
            kept[batch_indices(recipe.seed, len(kept), recipe.batch_size, first, last)],
            solver,
            recipe.optimizer,
            gradient=recipe.gradient,
            precision=recipe.precision,
        )
        trained = replace(
            trained,
            state=chunk.state,
            history=trained.history.extended(chunk, solver),
            retcode=chunk.retcode,
            seconds=trained.seconds + chunk.seconds,
        )
        # After the last iteration there is nothing left to adapt for.
        if controller is not None and chunk.retcode == RetCode.Success and not trained.finished:
            assert trained.control is not None
            control, check = controller.check(trained.control, look(trained))
            trained = replace(
                trained,
                control=control,
                history=trained.history.checked(check),
                kept=trained.weights if check.best else trained.kept,
            )
        if on_chunk is not None:
            on_chunk(trained)
    if controller is not None and trained.finished and trained.validation is None:
        assert trained.control is not None
        control = trained.control
        if trained.kept is not None:
            (*_, best) = (check for check in trained.history.checks if check.best)
            state = replace(trained.state, weights=trained.kept)
            control = replace(control, solver=best.solver)
            trained = replace(trained, state=state, control=control, kept=None)
        trained = replace(trained, validation=controller.validate(control, look(trained)))
    return trained


def _parts(dataset: Dataset, recipe: Recipe) -> tuple[Array, Array]:
    """Indices of the training samples that batches are drawn from, and of those held out."""
    n = dataset.n_train
    share = 0.0 if recipe.controller is None else recipe.controller.holdout
    if not share:
        return np.arange(n, dtype=np.int32), np.arange(0, dtype=np.int32)
    order = generator(recipe.seed, "controller").permutation(n).astype(np.int32)
    count = max(1, round(share * n))
    kept, held = order[count:], order[:count]
    if recipe.batch_size > len(kept):
        raise DataError(
            "batch_size",
            recipe.batch_size,
            f"at most {len(kept)}: of {n} training samples of {dataset.name} the controller holds"
            f" out {count}",
            "Make the batches smaller, or hold out less.",
        )
    return kept, held


def _probe(backend: Backend, dataset: Dataset, kept: Array, held: Array, trained: Trained) -> Probe:
    recipe, done = trained.recipe, trained.state.iteration
    last = max(done - 1, 0)
    batch = kept[batch_indices(recipe.seed, len(kept), recipe.batch_size, last, last + 1)[0]]
    x, y = dataset.x_train, dataset.y_train
    return Probe(
        backend,
        trained.model,
        trained.weights,
        seed=recipe.seed,
        iteration=done,
        iterations=recipe.iterations,
        batch=(x[batch], y[batch]),
        pool=(x[kept], y[kept]),
        held=(x[held], y[held]),
        recent_nf=[int(nf) for nf in trained.history.nf[-5:]],
    )


def batch_indices(seed: int, n: int, batch_size: int, first: int, last: int) -> Array:
    """The batches of iterations ``first`` to ``last - 1``: indices, (last - first, batch_size).

    Every epoch is a permutation of its own, so that any iteration's batch is known without those
    before it.
    """
    per_epoch = n // batch_size
    epochs = {
        epoch: generator(seed, "batches", epoch).permutation(n)
        for epoch in range(first // per_epoch, (last - 1) // per_epoch + 1)
    }
    rows = [
        epochs[i // per_epoch][(i % per_epoch) * batch_size :][:batch_size]
        for i in range(first, last)
    ]
    return np.stack(rows).astype(np.int32)


def check_fit(model: Model, dataset: Dataset) -> None:
    """Refuse data that a model cannot take.

    Raises:
        DataError: samples of another shape, or more classes than the model has.
    """
    if dataset.state_shape != model.input_shape:
        raise DataError(
            "dataset.state_shape",
            dataset.state_shape,
            f"{model.input_shape}, the model's input",
            "Make the field for this shape (plus `augment`).",
        )
    if dataset.classes > model.classes:
        raise DataError(
            "dataset.classes",
            dataset.classes,
            f"at most {model.classes}, the model's",
            "Give the model as many classes.",
        )


def check_same_data(recorded: str, dataset: Dataset) -> None:
    """Refuse data other than those that a model was trained on.

    Args:
        recorded: the fingerprint of the training's data; "" where unknown, which passes.
        dataset: what is to be used now; its training and test parts both count.

    Raises:
        DataChangedError: another fingerprint.
    """
    if recorded and dataset.fingerprint != recorded:
        raise DataChangedError(dataset.name, dataset.fingerprint, recorded)
