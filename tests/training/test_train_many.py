"""Many trainings at a time: each as alone, whatever runs beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.backends import RetCode, TrainingCall, TrainState
from pynode_jl.backends._training import TrainingChunk
from pynode_jl.backends.jax.jobs import Job, Joined, groups
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.training.step_adaptation import PaperController

EULER = pn.Solver("Euler", dt=1 / 4)


def recipe(seed: int, rate: float = 1e-2, **options: Any) -> pn.Recipe:
    defaults: dict[str, Any] = {"iterations": 12, "batch_size": 16, "chunk": 8}
    return pn.Recipe(EULER, seed=seed, optimizer=pn.Adam(rate), **(defaults | options))


def spheres(seed: int) -> pn.Dataset:
    return pn.concentric_spheres(2, n_train=64 + 4 * seed, n_test=8, seed=seed)


@pytest.fixture(scope="module")
def model() -> pn.Model:
    return pn.Model(pn.ConvField1d(2, channels=4), classes=2)


def classifiers() -> tuple[pn.Model, list[pn.Dataset]]:
    return pn.Model(pn.ConvField1d(2, channels=4), classes=2), [spheres(0), spheres(1), spheres(0)]


def trajectories() -> tuple[pn.Model, list[pn.Dataset]]:
    task, random = pn.Trajectory((0.5, 1.0)), np.random.default_rng(0)
    x, y = random.normal(size=(40, 2)), random.normal(size=(40, 2, 2))
    return pn.Model(pn.MLP(2, width=4), task=task), [pn.Dataset.from_arrays(x, y, task=task)] * 3


def flows() -> tuple[pn.Model, list[pn.Dataset]]:
    task, x = pn.Density(), np.random.default_rng(0).normal(size=(40, 2))
    return pn.Model(pn.MLP(2, width=4), task=task), [pn.Dataset.from_arrays(x, None, task=task)] * 3


def distance(a: pn.Trained, b: pn.Trained) -> float:
    """The largest difference of weights and losses."""
    assert a.state.iteration == b.state.iteration
    assert a.history.nf.tolist() == b.history.nf.tolist()
    pairs = [(a.weights[name], b.weights[name]) for name in a.weights]
    pairs.append((a.history.loss, b.history.loss))
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def equal(a: pn.Trained, b: pn.Trained) -> bool:
    return distance(a, b) == 0 and all(
        np.array_equal(getattr(a.state, part)[name], getattr(b.state, part)[name])
        for part in ("mu", "nu")
        for name in a.weights
    )


@pytest.mark.parametrize("made", [classifiers, trajectories, flows])
def test_together_is_alone_but_for_rounding(
    made: Callable[[], tuple[pn.Model, list[pn.Dataset]]],
) -> None:
    """Seeds, learning rates, data and iterations of their own: nothing of another's comes in."""
    model, datasets = made()
    recipes = [recipe(0), recipe(1, 1e-3, iterations=10), recipe(2)]
    together = pn.train_many(model, datasets, recipes, backend="jax")
    for run, data, each in zip(together, datasets, recipes, strict=True):
        assert run.finished
        assert run.recipe == each
        assert run.fingerprint == data.fingerprint
        assert distance(run, pn.train(model, data, each, backend="jax")) < 1e-5
    assert distance(together[0], together[2]) > 1e-3  # not one training three times


@pytest.mark.parametrize("solver", [EULER, pn.Solver("BS3", rtol=1e-2, atol=1e-3)])
def test_exact_is_alone_bit_for_bit(model: pn.Model, solver: pn.Solver) -> None:
    """Where steps adapt it is so without asking."""
    recipes = [replace(recipe(seed), solver=solver) for seed in range(3)]
    together = pn.train_many(model, spheres(0), recipes, backend="jax", exact=solver.fixed)
    for run, each in zip(together, recipes, strict=True):
        assert equal(run, pn.train(model, spheres(0), each, backend="jax"))


def test_one_that_fails_harms_no_other(model: pn.Model) -> None:
    """Learning rates so large that weights overflow: those end, at their last good states."""
    rates = (1e-2, 1e36, 1e-2)
    recipes = [recipe(seed, rate) for seed, rate in enumerate(rates)]
    good, bad, also = pn.train_many(model, spheres(0), recipes, backend="jax")
    assert bad.retcode == RetCode.Unstable
    assert bad.state.finite
    alone = pn.train(model, spheres(0), recipes[1], backend="jax")
    assert bad.state.iteration == alone.state.iteration < 12
    for run, each in ((good, recipes[0]), (also, recipes[2])):
        assert run.finished
        assert distance(run, pn.train(model, spheres(0), each, backend="jax")) < 1e-5


def test_what_was_stored_goes_on(model: pn.Model) -> None:
    """From the states after the first chunk, bit for bit: the same program runs."""
    recipes, stored = [recipe(seed) for seed in range(3)], {}

    def store(i: int, run: pn.Trained) -> None:
        stored.setdefault(i, run)

    whole = pn.train_many(model, spheres(0), recipes, backend="jax", on_chunk=store)
    assert [stored[i].state.iteration for i in range(3)] == [8, 8, 8]
    halves = [stored[i] for i in range(3)]
    resumed = pn.train_many(model, spheres(0), recipes, backend="jax", resume=halves)
    assert all(map(equal, whole, resumed))
    assert distance(pn.train(model, spheres(0), recipes[0], resume=stored[0]), whole[0]) < 1e-5


@pytest.mark.slow
def test_each_has_a_step_adapter_of_its_own(model: pn.Model) -> None:
    """Their steps part ways: each goes on as alone."""
    recipes = [
        recipe(seed, iterations=60, controller=PaperController(every=10)) for seed in range(3)
    ]
    together = pn.train_many(model, spheres(0), recipes, backend="jax")
    for run, each in zip(together, recipes, strict=True):
        alone = pn.train(model, spheres(0), each, backend="jax")
        assert [check.solver for check in run.history.checks] == [
            check.solver for check in alone.history.checks
        ]
        assert distance(run, alone) < 1e-4


def job(model: pn.Model, solver: pn.Solver = EULER, batch: int = 4, **options: Any) -> Job:
    x, labels = np.zeros((8, *model.input_shape), np.float32), np.zeros(8, np.int32)
    state, rows = TrainState.start(model.init(0)), np.zeros((2, batch), int)
    call = TrainingCall(model, state, x, labels, rows, solver, pn.Adam(), **options)
    return Job.of(TrainingChunk.of(call, "jax", lambda solver, dense: None))


def test_those_of_one_program_run_together(model: pn.Model) -> None:
    """Others by themselves, in parts of few sizes."""
    other = pn.Model(pn.MLP(2, width=4), classes=2)
    jobs = [job(model), job(other), job(model, pn.Solver("Euler", dt=1 / 8)), job(model, batch=5)]
    assert groups([*jobs, job(model)], exact=False) == [[0, 4], [1], [2], [3]]
    assert groups([job(model)] * 2, exact=True) == [[0], [1]]
    adaptive = pn.Solver("Tsit5", rtol=1e-3, atol=1e-6)
    assert groups([job(model, adaptive)] * 2, exact=False) == [[0], [1]]
    image = pn.Model(pn.ConvField2d((1, 8, 8), channels=2), classes=2)
    assert groups([job(image)] * 2, exact=False) == [[0], [1]]
    assert [len(part) for part in groups([job(model)] * 15, exact=False)] == [8, 4, 2, 1]


def test_data_that_are_shared_are_there_once(model: pn.Model) -> None:
    """And an index into data that are not means the sample it meant."""
    first, other = job(model), job(model)
    shared = Joined.of([first, first])
    assert shared.x is first.chunk.x
    joined = Joined.of([first, other, first])
    assert len(joined.x) == 16
    assert [rows.max() for rows in joined.indices[:, :2]] == [0, 8, 0]


def test_lists_that_do_not_fit_are_refused(model: pn.Model) -> None:
    recipes = [recipe(0), recipe(1), recipe(2)]
    with pytest.raises(InvalidValueError, match=r"len\(datasets\)"):
        pn.train_many(model, [spheres(0)] * 2, recipes)
    with pytest.raises(InvalidValueError, match="recipes"):
        pn.train_many(model, spheres(0), [])
    with pytest.raises(DataError, match="batch_size"):
        pn.train_many(model, spheres(0), [recipe(0), recipe(1, batch_size=1000)])
