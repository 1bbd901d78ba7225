"""Several trainings at a time: a chunk of each, together where the backend can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pynode_jl._validation import flag, items, optional_callable
from pynode_jl.backends import Backend, BackendLike
from pynode_jl.datasets import Dataset
from pynode_jl.errors import InvalidValueError
from pynode_jl.models import Model
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._trained import Trained, TrainedLike
from pynode_jl.training._trainer import Trainer, trainer_of


def train_many(
    models: Model | Sequence[Model],
    datasets: Dataset | Sequence[Dataset],
    recipes: Recipe | Sequence[Recipe],
    *,
    backend: BackendLike = None,
    exact: bool = False,
    resume: Sequence[TrainedLike | None] | None = None,
    on_chunk: Callable[[int, Trained], None] | None = None,
) -> list[Trained]:
    """Train many models, those of one shape together.

    On JAX, trainings of equal models, batch size, optimiser (its learning rate and schedule apart)
    and fixed steps are one vectorised program, up to 8 at a time; any others run one after
    another, chunk by chunk: other shapes, adaptive steps, the adjoint ODE's gradient, images. Julia
    and torch train one after another throughout. Each training has its own weights, batches and
    step adapter, from its own seed: its result is that of `train`, but for rounding, whatever is
    trained beside it. One that fails ends by itself.

    Args:
        models, datasets, recipes: those of each training, as for `train`; one that is no sequence
            is for all.
        backend: what integrates, or its name; default `get_backend()`.
        exact: results equal those of `train` bit for bit: trainings run one after another, each by
            the same program as alone.
        resume: for each training what `train` takes, or None.
        on_chunk: called after each chunk of each training, with its number and its state so far:
            show it, store it. What was stored goes on here, or in `train`.

    Returns:
        The results, in order.

    Raises:
        InvalidValueError: sequences of different lengths, or what `train` raises.
        DataError: as for `train`.

    Example:
        >>> data = pn.concentric_spheres(n_train=64, n_test=16)
        >>> model = pn.Model(pn.MLP(2, width=4), classes=2)
        >>> solver = pn.Solver("Euler", dt=0.5)
        >>> recipes = [pn.Recipe(solver, iterations=4, batch_size=32, seed=i) for i in range(3)]
        >>> runs = pn.train_many(model, data, recipes, backend="jax")
        >>> [run.recipe.seed for run in runs if run.finished]
        [0, 1, 2]
    """
    flag("exact", exact)
    optional_callable("on_chunk", on_chunk)
    given = {
        "models": _sequence("models", models, Model),
        "datasets": _sequence("datasets", datasets, Dataset),
        "recipes": _sequence("recipes", recipes, Recipe),
        "resume": [None] if resume is None else _sequence("resume", resume, object),
    }
    count = _common_length(given)
    columns = [each * count if len(each) == 1 else each for each in given.values()]
    runs = []
    for model, dataset, recipe, from_here in zip(*columns, strict=True):
        trainer, trained = trainer_of(model, dataset, recipe, backend, from_here)
        runs.append(_Run(trainer, trainer.adaptation.begin(trained)))
    while any(not run.trained.ended for run in runs):
        _train_chunks(runs, exact, on_chunk)
    return [run.trainer.adaptation.conclude(run.trained) for run in runs]


@dataclass
class _Run:
    """A training, and where it stands."""

    trainer: Trainer
    trained: Trained


def _train_chunks(
    runs: list[_Run], exact: bool, on_chunk: Callable[[int, Trained], None] | None
) -> None:
    """Do one chunk of each training that has not ended."""
    waiting: dict[int, tuple[Backend, list[int]]] = {}
    for i, run in enumerate(runs):
        if not run.trained.ended:
            backend = run.trainer.backend
            waiting.setdefault(id(backend), (backend, []))[1].append(i)
    for backend, members in waiting.values():
        calls = [runs[i].trainer.call(runs[i].trained) for i in members]
        for i, chunk in zip(members, backend.train_many(calls, exact=exact), strict=True):
            trainer = runs[i].trainer
            runs[i].trained = trainer.adaptation.check(trainer.after(runs[i].trained, chunk))
            if on_chunk is not None:
                on_chunk(i, runs[i].trained)


def _sequence(argument: str, value: Any, kind: type) -> list[Any]:
    """Return the items of a sequence, or one that stands for all as the only item."""
    if kind is not object and isinstance(value, kind):
        return [value]
    expected = f"a {kind.__name__}, or a list of them" if kind is not object else "a list, or None"
    found = items(argument, value, expected, "Give one for each training.")
    if not found:
        raise InvalidValueError(argument, value, expected, "Give one training at least.")
    return found


def _common_length(given: dict[str, list[Any]]) -> int:
    """Return how many trainings there are.

    Raises:
        InvalidValueError: sequences of different lengths.
    """
    lengths = {name: len(each) for name, each in given.items()}
    count = max(lengths.values())
    for name, length in lengths.items():
        if length not in (1, count):
            raise InvalidValueError(
                f"len({name})", length, f"1 or {count}, as of the others", "Give one for each."
            )
    return count
