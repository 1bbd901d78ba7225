"""The training loop: batches from a seed, chunks of iterations on a backend, a state to go on from.

Nothing here is random beyond the seed, and the state is all that the next iteration depends on: a
run that was stopped anywhere and goes on from its state equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pynode_jl.backends import (
    Adam,
    Array,
    Backend,
    ChunkResult,
    GradientMethod,
    RetCode,
    TrainState,
    checked_gradient,
    get_backend,
)
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.fields import Weights
from pynode_jl.models import Model
from pynode_jl.seeding import checked_seed, generator
from pynode_jl.solvers import Solver


@dataclass(frozen=True)
class Recipe:
    """How to train: the paper's protocol by default (Ott et al. 2021).

    Attributes:
        solver: the solver to train with.
        iterations: updates in all.
        batch_size: samples in a batch; an epoch's last, smaller batch is left out.
        optimizer: Adam's constants.
        seed: decides the initial weights and the batches.
        gradient: "discrete" (through the solver's own steps) or another of `GRADIENTS`.
        chunk: iterations per compiled call; between two of them progress is shown and state kept.
    """

    solver: Solver
    iterations: int = 10_000
    batch_size: int = 128
    optimizer: Adam = field(default_factory=Adam)
    seed: int = 0
    gradient: GradientMethod = "discrete"
    chunk: int = 50

    def __post_init__(self) -> None:
        checked_seed(self.seed)
        checked_gradient(self.gradient)
        for name in ("iterations", "batch_size", "chunk"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidValueError(name, value, "an integer of 1 or more", "Give a count.")


@dataclass(frozen=True)
class History:
    """What each iteration saw: `loss`, `accuracy` of its batch before the update, and `nf`, the
    evaluations of the right-hand side in its forward solve. Each ``(iterations,)``."""

    loss: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    accuracy: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    nf: Array = field(default_factory=lambda: np.zeros(0, np.int32))

    def __len__(self) -> int:
        return int(self.loss.shape[0])

    def extended(self, chunk: ChunkResult) -> History:
        """This history and a chunk's behind it."""
        return History(
            np.concatenate([self.loss, chunk.loss]),
            np.concatenate([self.accuracy, chunk.accuracy]),
            np.concatenate([self.nf, chunk.nf]),
        )


@dataclass(frozen=True)
class Trained:
    """A model with its weights and how they came about.

    `retcode` is Success, or why training ended before its last iteration: `state` is then the last
    good one.
    """

    model: Model
    recipe: Recipe
    state: TrainState
    history: History
    retcode: RetCode = RetCode.Success
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether all iterations were done."""
        return self.state.iteration >= self.recipe.iterations

    @property
    def solver(self) -> Solver:
        """The solver it was trained with."""
        return self.recipe.solver

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
    backend: Backend | None = None,
    resume: Trained | None = None,
    on_chunk: Callable[[Trained], None] | None = None,
) -> Trained:
    """Train a model.

    Args:
        model: the model; its input shape and classes must be the data's.
        dataset: only its training part is looked at.
        recipe: how to train.
        backend: what integrates; default `get_backend()`.
        resume: a `Trained` of the same model and recipe to go on from.
        on_chunk: called after each chunk with the state so far: show it, store it.

    Returns:
        The trained model. When a loss, a gradient or a state stops being finite, or a solve fails,
        training ends there: `retcode` says why and the state is the last good one.

    Raises:
        DataError: the data do not fit the model, or are fewer than one batch.
    """
    check_fit(model, dataset)
    if recipe.batch_size > dataset.n_train:
        raise DataError(
            "batch_size",
            recipe.batch_size,
            f"at most the {dataset.n_train} training samples of {dataset.name}",
            "Make the batches smaller.",
        )
    backend = get_backend() if backend is None else backend
    trained = start(model, recipe) if resume is None else replace(resume, recipe=recipe)
    while not trained.finished and trained.retcode == RetCode.Success:
        first = trained.state.iteration
        last = min(first + recipe.chunk, recipe.iterations)
        chunk = backend.train(
            model,
            trained.state,
            dataset.x_train,
            dataset.y_train,
            batch_indices(recipe.seed, dataset.n_train, recipe.batch_size, first, last),
            recipe.solver,
            recipe.optimizer,
            gradient=recipe.gradient,
        )
        trained = replace(
            trained,
            state=chunk.state,
            history=trained.history.extended(chunk),
            retcode=chunk.retcode,
            seconds=trained.seconds + chunk.seconds,
        )
        if on_chunk is not None:
            on_chunk(trained)
    return trained


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
