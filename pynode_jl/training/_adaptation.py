"""Step adaptation within a training: between two chunks it looks at the model and sets the solver.

`Adaptation` has a step adapter do so; `NoAdaptation`, its null object, leaves all as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from pynode_jl.backends import Array, Backend
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError
from pynode_jl.seeding import generator
from pynode_jl.tasks import Classification
from pynode_jl.training._batches import batch_indices
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._trained import Trained
from pynode_jl.training.step_adaptation import ControlState, Probe, StepAdapter


@dataclass(frozen=True)
class NoAdaptation:
    """The solver stays the recipe's.

    Attributes:
        every: iterations in a chunk.
        batch_pool: (n_train,), indices of the samples that batches are drawn from: all.
    """

    every: int
    batch_pool: Array

    def begin(self, trained: Trained) -> Trained:
        """Return `trained` as it is, as do `check` and `conclude`."""
        return trained

    check = conclude = begin


@dataclass(frozen=True)
class Adaptation:
    """A step adapter at work.

    Attributes:
        adapter: what decides.
        backend, dataset: what it looks at the model with.
        batch_pool, held_out: indices of the training samples that batches are drawn from, and of
            those that are never trained on.
    """

    adapter: StepAdapter
    backend: Backend
    dataset: Dataset
    batch_pool: Array
    held_out: Array

    @property
    def every(self) -> int:
        """Iterations in a chunk: from one check to the next."""
        return self.adapter.every

    def begin(self, trained: Trained) -> Trained:
        """Choose the first solver, before the first iteration."""
        if trained.control is not None:
            return trained
        control, check = self.adapter.start(trained.recipe.solver, self._probe(trained))
        return replace(trained, control=control, history=trained.history.checked(check))

    def check(self, trained: Trained) -> Trained:
        """Set the solver of the next chunk; after the last one there is nothing to adapt for."""
        if trained.ended:
            return trained
        control, check = self.adapter.check(_control(trained), self._probe(trained))
        return replace(
            trained,
            control=control,
            history=trained.history.checked(check),
            best_weights=trained.weights if check.best else trained.best_weights,
        )

    def conclude(self, trained: Trained) -> Trained:
        """Take the best weights, with the solver that was in force for them, and validate them."""
        if not trained.finished or trained.validation is not None:
            return trained
        control = _control(trained)
        if trained.best_weights is not None:
            (*_, best) = (check for check in trained.history.checks if check.best)
            state = replace(trained.state, weights=trained.best_weights)
            control = replace(control, solver=best.solver)
            trained = replace(trained, state=state, control=control, best_weights=None)
        validation = self.adapter.validate(control, self._probe(trained))
        return replace(trained, validation=validation)

    def _probe(self, trained: Trained) -> Probe:
        recipe, done = trained.recipe, trained.state.iteration
        pool, held = self.batch_pool, self.held_out
        last = max(done - 1, 0)
        batch = pool[batch_indices(recipe.seed, len(pool), recipe.batch_size, last, last + 1)[0]]
        x, y = trained.trained_model.inputs(self.dataset.x_train), self.dataset.y_train
        return Probe(
            self.backend,
            trained.model,
            trained.weights,
            seed=recipe.seed,
            iteration=done,
            iterations=recipe.iterations,
            batch=(x[batch], y[batch]),
            pool=(x[pool], y[pool]),
            held=(x[held], y[held]),
            recent_nf=[int(nf) for nf in trained.history.nf[-5:]],
        )


AnyAdaptation: TypeAlias = Adaptation | NoAdaptation


def adaptation_of(recipe: Recipe, dataset: Dataset, backend: Backend) -> AnyAdaptation:
    """Return the recipe's step adapter at work on these data, or the null object without one.

    Raises:
        DataError: it holds out so many samples that a batch is larger than the rest, or so few that
            its validation cannot be passed.
    """
    n, adapter = dataset.n_train, recipe.controller
    if adapter is None:
        return NoAdaptation(recipe.chunk, np.arange(n, dtype=np.int32))
    held_out, batch_pool = np.arange(0, dtype=np.int32), np.arange(n, dtype=np.int32)
    if adapter.holdout:
        order = generator(recipe.seed, "controller").permutation(n).astype(np.int32)
        held_out, batch_pool = np.split(order, [max(1, round(adapter.holdout * n))])
    if recipe.batch_size > len(batch_pool):
        raise DataError(
            "batch_size",
            recipe.batch_size,
            f"at most {len(batch_pool)}: of {n} training samples of {dataset.name} the step adapter"
            f" holds out {len(held_out)}",
            "Make the batches smaller, or hold out less.",
        )
    # Of those that promise something about the end.
    check = getattr(adapter, "check_held_out", None)
    if check is not None and isinstance(dataset.task, Classification):
        check(len(held_out))
    return Adaptation(adapter, backend, dataset, batch_pool, held_out)


def _control(trained: Trained) -> ControlState:
    """Where the step adapter stands; `begin` has set it."""
    return trained.control or ControlState(trained.recipe.solver)
