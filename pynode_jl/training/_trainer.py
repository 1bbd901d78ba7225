"""The training loop: batches from a seed, chunks of iterations on a backend, a state to go on from.

Nothing here is random beyond the seed, and the state is all that the next iteration depends on: a
run that was stopped anywhere and goes on from its state equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from pynode_jl._display import Advance, progress_bar
from pynode_jl._validation import instance, optional_callable
from pynode_jl.backends import (
    Array,
    Backend,
    BackendLike,
    ChunkResult,
    RetCode,
    TrainingCall,
    as_backend,
    in_precision,
)
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError
from pynode_jl.models import Model
from pynode_jl.training._adaptation import AnyAdaptation, adaptation_of
from pynode_jl.training._batches import batch_indices, check_fit, check_same_data
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._resume import check_resumable
from pynode_jl.training._trained import Trained, TrainedLike, as_trained_model, start

_LOG = logging.getLogger(__name__)


def train(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    *,
    backend: BackendLike = None,
    resume: TrainedLike | None = None,
    on_chunk: Callable[[Trained], None] | None = None,
    progress: bool | None = None,
) -> Trained:
    """Train a model.

    Args:
        model: the model; its input shape and classes must be the data's.
        dataset: only its training part is looked at.
        recipe: how to train.
        backend: what integrates, or its name; default `get_backend()`.
        resume: a `Trained` of the same model, recipe and data to go on from, the recipe's
            iterations apart, of which there may be more, unless a step adapter or a learning rate
            that decays rests on their number; or a `TrainedModel`, whose weights stand in place of
            initial ones.
        on_chunk: called after each chunk with the state so far: show it, store it.
        progress: whether to show a progress bar; default: in a notebook.

    Returns:
        The result. With a step adapter (`Recipe.controller`) its weights are those that the adapter
        marked as best, if it marks any, or the last; its `solver` is the one that was in force for
        them; checks and validation are in `history` and `validation`. When a loss, a gradient or a
        state stops being finite, or a solve fails, training ends there: `retcode` says why and the
        state is the last good one.

    Raises:
        DataError: the data do not fit the model, are fewer than one batch, or are not those that
            `resume` was trained on.
        InvalidValueError: `resume` was trained with another model or recipe, or has weights that
            are not the model's or not finite.

    Example:
        >>> data = pn.concentric_spheres(n_train=64, n_test=16)
        >>> model = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> recipe = pn.Recipe(pn.Solver("Euler", dt=0.5), iterations=4, batch_size=32, chunk=4)
        >>> trained = pn.train(model, data, recipe, backend="jax")
        >>> trained.finished, len(trained.history.loss)
        (True, 4)
    """
    optional_callable("on_chunk", on_chunk)
    trainer, trained = trainer_of(model, dataset, recipe, backend, resume)
    _LOG.info("train with %s on %s: %d iterations", *_said(trained, dataset))
    with progress_bar("train", progress) as advance:
        found = trainer.run(trained, _telling(advance, on_chunk))
    if found.retcode == RetCode.Success:
        _LOG.info("trained in %.1f s", found.seconds)
    else:
        done = found.state.iteration
        _LOG.warning("training ended after %d iterations: %s", done, found.retcode.meaning)
    return found


def trainer_of(
    model: Model,
    dataset: Dataset,
    recipe: Recipe,
    backend: BackendLike,
    resume: TrainedLike | None,
) -> tuple[Trainer, Trained]:
    """Return the loop of a training, and where it stands; the arguments are those of `train`."""
    check_fit(model, dataset)
    instance("recipe", recipe, Recipe, "a Recipe", "Make one: pn.Recipe(solver).")
    if recipe.batch_size > dataset.n_train:
        raise DataError(
            "batch_size",
            recipe.batch_size,
            f"at most the {dataset.n_train} training samples of {dataset.name}",
            "Make the batches smaller.",
        )
    backend = as_backend(backend, model)
    if isinstance(resume, Trained):
        check_same_data(resume.fingerprint, dataset)
        check_resumable(resume, model, recipe)
        trained = replace(resume, model=model, recipe=recipe)
    else:
        given = None if resume is None else as_trained_model(resume).weights
        trained = start(model, recipe, given)
    trained = replace(trained, fingerprint=dataset.fingerprint, label_names=dataset.label_names)
    trainer = Trainer(backend, dataset, recipe, adaptation_of(recipe, dataset, backend))
    return trainer, trained


def _said(trained: Trained, dataset: Dataset) -> tuple[str, str, int]:
    return trained.solver.label, dataset.name, trained.recipe.iterations - trained.state.iteration


def _telling(
    advance: Advance | None, on_chunk: Callable[[Trained], None] | None
) -> Callable[[Trained], None]:
    """Return what is called after each chunk: logs it, moves a bar, calls the user's function."""

    def tell(trained: Trained) -> None:
        done, of = trained.state.iteration, trained.recipe.iterations
        loss = trained.history.loss[-1:].mean() if len(trained.history) else math.nan
        _LOG.debug("iteration %d of %d: loss %.4g", done, of, loss)
        if advance is not None:
            advance(done, of, f"loss {loss:.4g}")
        if on_chunk is not None:
            on_chunk(trained)

    return tell


@dataclass(frozen=True)
class Trainer:
    """The loop of a training: a chunk of iterations, a check, a callback, until it has ended."""

    backend: Backend
    dataset: Dataset
    recipe: Recipe
    adaptation: AnyAdaptation

    @cached_property
    def inputs(self) -> Array:
        """All training inputs, in the recipe's precision."""
        return in_precision(self.dataset.x_train, self.recipe.precision)

    def run(self, trained: Trained, on_chunk: Callable[[Trained], None] | None = None) -> Trained:
        """Train from where `trained` stands to its end."""
        trained = self.adaptation.begin(trained)
        while not trained.ended:
            trained = self.adaptation.check(self.step(trained))
            if on_chunk is not None:
                on_chunk(trained)
        return self.adaptation.conclude(trained)

    def step(self, trained: Trained) -> Trained:
        """Do one chunk of iterations with the solver in force."""
        chunk = self.backend.train(**vars(self.call(trained)))
        return self.after(trained, chunk)

    def call(self, trained: Trained) -> TrainingCall:
        """Return the next chunk of iterations, as the backend takes it."""
        recipe, pool = self.recipe, self.adaptation.batch_pool
        first = trained.state.iteration
        last = min(first + self.adaptation.every, recipe.iterations)
        return TrainingCall(
            trained.model,
            trained.state,
            self.inputs,
            self.dataset.y_train,
            pool[batch_indices(recipe.seed, len(pool), recipe.batch_size, first, last)],
            trained.solver,
            recipe.optimizer,
            iterations=recipe.iterations,
            gradient=recipe.gradient,
            precision=recipe.precision,
        )

    def after(self, trained: Trained, chunk: ChunkResult) -> Trained:
        """Return where the training stands after a chunk."""
        return replace(
            trained,
            state=chunk.state,
            history=trained.history.extended(chunk, trained.solver),
            retcode=chunk.retcode,
            seconds=trained.seconds + chunk.seconds,
        )
