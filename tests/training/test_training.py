"""Training: seeded batches, exact resume, divergence, misfits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynode_jl as pn
from pynode_jl.backends import Adam, RetCode, get_backend
from pynode_jl.datasets import Dataset, concentric_spheres
from pynode_jl.errors import (
    DataChangedError,
    DataError,
    InvalidValueError,
    PyNODEError,
    UnknownNameError,
)
from pynode_jl.fields import MLP, ConvField1d
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.training import (
    Recipe,
    Trained,
    TrainedModel,
    as_trained_model,
    batch_indices,
    train,
)

RECIPE = Recipe(
    Solver("Euler", dt=1 / 4), iterations=40, batch_size=32, optimizer=Adam(1e-2), chunk=16
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return concentric_spheres(2, n_train=100, n_test=40, seed=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(ConvField1d(2, channels=8), classes=2)


@pytest.fixture(scope="module")
def trained(model: Model, data: Dataset) -> Trained:
    return train(model, data, RECIPE)


def equal(a: Trained, b: Trained) -> bool:
    same = all(
        np.array_equal(getattr(a.state, part)[name], getattr(b.state, part)[name])
        for part in ("weights", "mu", "nu")
        for name in a.weights
    )
    return same and np.array_equal(a.history.loss, b.history.loss)


def test_two_runs_of_a_seed_are_equal_bit_for_bit(
    trained: Trained, model: Model, data: Dataset
) -> None:
    assert equal(trained, train(model, data, RECIPE))
    assert not equal(trained, train(model, data, replace(RECIPE, seed=1)))


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_chunks_do_not_matter(trained: Trained, model: Model, data: Dataset, chunk: int) -> None:
    assert equal(trained, train(model, data, replace(RECIPE, chunk=chunk)))


@pytest.mark.parametrize("stop", [16, 32])
def test_resumed_equals_uninterrupted(
    trained: Trained, model: Model, data: Dataset, stop: int
) -> None:
    kept: list[Trained] = []

    def interrupt(state: Trained) -> None:
        kept.append(state)
        if state.state.iteration == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, data, RECIPE, on_chunk=interrupt)
    assert kept[-1].state.iteration == stop
    assert not kept[-1].finished
    assert equal(trained, train(model, data, RECIPE, resume=kept[-1]))


def test_history_has_every_iteration(trained: Trained) -> None:
    assert len(trained.history) == trained.state.iteration == 40
    assert (trained.history.nf == 4).all()
    assert trained.history.loss[-5:].mean() < trained.history.loss[:5].mean()


def test_divergence_keeps_the_last_good_state(model: Model, data: Dataset) -> None:
    wild = replace(RECIPE, optimizer=Adam(1e12))
    result = train(model, data, wild)
    assert result.retcode == RetCode.Unstable
    assert 0 < result.state.iteration < 40
    assert len(result.history) == result.state.iteration
    assert all(np.isfinite(value).all() for value in result.weights.values())
    assert np.isfinite(result.history.loss).all()


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(4, 200),
    batch=st.integers(1, 60),
    first=st.integers(0, 300),
    count=st.integers(1, 80),
    seed=st.integers(0, 2**32),
)
def test_batches(n: int, batch: int, first: int, count: int, seed: int) -> None:
    batch = min(batch, n)
    rows = batch_indices(seed, n, batch, first, first + count)
    assert rows.shape == (count, batch)
    assert rows.min() >= 0
    assert rows.max() < n
    assert all(len(set(row)) == batch for row in rows)
    # Any part of the sequence is the same drawn alone.
    middle = first + count // 2
    assert np.array_equal(rows[count // 2 :], batch_indices(seed, n, batch, middle, first + count))


def test_an_epoch_sees_a_sample_once() -> None:
    epoch = batch_indices(0, 96, 32, 3, 6)
    assert sorted(epoch.ravel()) == list(range(96))


def test_a_model_is_held_to_the_data_it_was_trained_on(
    trained: Trained, model: Model, data: Dataset
) -> None:
    """Training goes on with the same data only; where these are not known, with any."""
    assert trained.fingerprint == data.fingerprint
    half = replace(trained, state=replace(trained.state, iteration=20))
    scaled = replace(data, x_train=2 * data.x_train)
    with pytest.raises(DataChangedError) as caught:
        train(model, scaled, RECIPE, resume=half)
    assert isinstance(caught.value, DataError)
    for said in (scaled.fingerprint, data.fingerprint, "Restore", "another folder"):
        assert said in str(caught.value)
    unknown = replace(half, fingerprint="")
    assert train(model, scaled, RECIPE, resume=unknown).fingerprint == scaled.fingerprint


def test_data_that_do_not_fit(model: Model, data: Dataset) -> None:
    with pytest.raises(DataError, match=r"batch_size = 101.*at most the 100 training samples"):
        train(model, data, replace(RECIPE, batch_size=101))
    with pytest.raises(DataError, match=r"dataset.state_shape = \(2,\).*\(3,\)"):
        train(Model(MLP(3), 2), data, RECIPE)
    three = Dataset.from_arrays(
        data.x_train, np.arange(100) % 3, x_test=data.x_test, y_test=np.arange(40) % 3
    )
    with pytest.raises(DataError, match="at most 2"):
        train(model, three, RECIPE)


@pytest.mark.parametrize(
    ("name", "value"), [("iterations", 0), ("batch_size", 2.5), ("chunk", True), ("seed", -1)]
)
def test_recipe_refuses(name: str, value: object) -> None:
    with pytest.raises(InvalidValueError, match=name):
        Recipe(Solver("Euler", dt=1 / 2), **{name: value})  # type: ignore[arg-type]


def test_a_model_from_elsewhere_is_no_training(model: Model) -> None:
    weights = model.init(5)
    foreign = Trained.of(model, weights, Solver("Tsit5"))
    assert foreign == TrainedModel(model, weights, Solver("Tsit5"))
    assert foreign.weights["head.bias"] is weights["head.bias"]
    # No iteration of it is known: it has neither begun nor finished.
    assert not {"finished", "recipe", "state", "history"} & set(dir(foreign))


def test_diagnostics_see_a_training_and_its_model_alike(trained: Trained, data: Dataset) -> None:
    narrow = replace(trained, recipe=replace(RECIPE, precision="bfloat16"))
    for result in (trained, narrow):
        model = as_trained_model(result)
        assert model == result.trained_model == as_trained_model(model)
        assert (model.solver, model.precision) == (result.solver, result.recipe.precision)
    for call in (pn.swap, pn.certify):
        with pytest.raises(InvalidValueError, match=r"trained = 7: .*TrainedModel"):
            call(7, data)  # type: ignore[operator]


def test_weights_from_elsewhere_are_trained_on(
    trained: Trained, model: Model, data: Dataset
) -> None:
    anew = train(model, data, RECIPE, resume=TrainedModel(model, model.init(0), RECIPE.solver))
    assert equal(anew, trained)
    further = train(model, data, RECIPE, resume=trained.trained_model)
    assert (further.state.iteration, len(further.history)) == (40, 40)
    assert further.history.loss.mean() < trained.history.loss.mean()


@pytest.mark.parametrize(
    "call",
    [
        lambda trained, data, backend: (
            pn.train(
                trained.model, data, replace(trained.recipe, iterations=1), backend=backend
            ).recipe
        ),
        lambda trained, data, backend: len(
            pn.swap(trained, data, ["Heun"], factors=(1.0,), backend=backend).table
        ),
        lambda trained, data, backend: (
            pn.certify(trained, data, diagnostics=(), backend=backend).verdict.kind
        ),
    ],
    ids=["train", "swap", "certify"],
)
def test_a_backend_goes_by_its_name(trained: Trained, data: Dataset, call: Any) -> None:
    assert call(trained, data, "jax") == call(trained, data, get_backend("jax"))
    with pytest.raises(UnknownNameError, match="julia"):
        call(trained, data, "julai")
    for odd in (7, "", ("jax",)):
        with pytest.raises(PyNODEError, match="jax, julia"):
            call(trained, data, odd)
