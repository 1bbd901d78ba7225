"""The training loop: batches from a seed, chunks of iterations on a backend, a state to go on from.

Nothing here is random beyond the seed, and the state is all that the next iteration depends on: a
run that was stopped anywhere and goes on from its state equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from pynode_jl.backends import (
    Array,
    Backend,
    BackendLike,
    RetCode,
    as_backend,
)
from pynode_jl.datasets import Dataset
from pynode_jl.errors import DataError
from pynode_jl.models import Model
from pynode_jl.seeding import generator
from pynode_jl.training._batches import batch_indices, check_fit, check_same_data
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._trained import Trained, start
from pynode_jl.training.step_adaptation import Probe


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
