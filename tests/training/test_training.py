"""Training: seeded batches, exact resume, divergence, misfits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynode_jl as pn
from pynode_jl.backends import SGD, Adam, RetCode, get_backend
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
    training_facts,
)
from pynode_jl.training.step_adaptation import PaperController

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


@settings(max_examples=50)
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


# What a training may be resumed as


def test_more_iterations_go_on_bit_for_bit(trained: Trained, model: Model, data: Dataset) -> None:
    short = train(model, data, replace(RECIPE, iterations=23))
    assert equal(train(model, data, RECIPE, resume=short), trained)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"solver": Solver("RK4", dt=1 / 4)}, "recipe.solver"),
        ({"solver": RECIPE.solver.scaled(0.5)}, "recipe.solver"),
        ({"optimizer": Adam(0.5)}, "recipe.optimizer"),
        ({"optimizer": Adam(1e-2, clip_norm=1.0)}, "recipe.optimizer"),
        ({"optimizer": SGD(1e-2)}, "recipe.optimizer.*'sgd'"),
        ({"precision": "float64"}, "recipe.precision"),
        ({"batch_size": 16}, "recipe.batch_size"),
        ({"seed": 1}, "recipe.seed"),
        ({"gradient": "BacksolveAdjoint"}, "recipe.gradient"),
        ({"controller": PaperController()}, "recipe.controller"),
        ({"iterations": 39}, "recipe.iterations = 39: expected 40 or more"),
    ],
)
def test_a_training_is_not_resumed_by_another_recipe(
    trained: Trained, model: Model, data: Dataset, change: dict[str, Any], name: str
) -> None:
    with pytest.raises(InvalidValueError, match=name):
        train(model, data, replace(RECIPE, **change), resume=trained)


def test_a_training_is_not_resumed_as_another_model(trained: Trained, data: Dataset) -> None:
    for other in (
        Model(pn.MLP(2, width=4), classes=2),
        replace(trained.model, t1=2.0),
        replace(trained.model, classes=3),
    ):
        with pytest.raises(InvalidValueError, match=r"model\.\w+ = .*as `resume` was trained with"):
            train(other, data, RECIPE, resume=trained)


def test_a_step_adapter_is_held_to_its_iterations(model: Model, data: Dataset) -> None:
    """Its phases are shares of all iterations: those of more would have been others."""
    recipe = replace(RECIPE, iterations=4, controller=PaperController(every=4))
    adapted = train(model, data, recipe)
    with pytest.raises(InvalidValueError, match=r"recipe\.iterations = 8: expected 4"):
        train(model, data, replace(recipe, iterations=8), resume=adapted)


@pytest.mark.parametrize("decays", [True, False])
def test_a_rate_that_changes_goes_on_bit_for_bit(data: Dataset, decays: bool) -> None:
    """A rate that decays is a function of all iterations: of more it would have been another."""
    model = Model(pn.LinearField(2), classes=2)
    optimizer = SGD(0.1, momentum=0.9, schedule="cosine" if decays else "constant", warmup=5)
    recipe = replace(RECIPE, iterations=20, optimizer=optimizer)
    kept: list[Trained] = []
    whole = train(model, data, recipe, on_chunk=kept.append)
    assert kept[0].state.iteration == 16
    assert equal(train(model, data, replace(recipe, chunk=3), resume=kept[0]), whole)
    more = replace(recipe, iterations=24)
    if decays:
        with pytest.raises(InvalidValueError, match=r"recipe\.iterations = 24: expected 20"):
            train(model, data, more, resume=whole)
    else:
        assert equal(train(model, data, more, resume=whole), train(model, data, more))


def test_facts_of_plain_adam_are_those_of_the_first_checkpoints(model: Model) -> None:
    facts = training_facts(model, RECIPE)
    plain = {"learning_rate": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    assert facts["recipe.optimizer"] == plain
    assert "recipe.iterations" not in facts


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_weights_that_are_not_finite_are_not_trained_on(
    model: Model, data: Dataset, value: float
) -> None:
    weights = model.init(0)
    weights["head.bias"] = np.array([0.0, value])
    with pytest.raises(InvalidValueError, match=r"head\.bias.*finite"):
        Trained.of(model, weights, RECIPE.solver)
    with pytest.raises(InvalidValueError, match=r"head\.bias.*finite"):
        train(model, data, RECIPE, resume=TrainedModel(model, weights, RECIPE.solver))


def test_weights_of_another_model_are_not_taken(model: Model) -> None:
    weights = model.init(0)
    with pytest.raises(InvalidValueError, match=r"head\.bias.*shape = \(3,\)"):
        Trained.of(model, {**weights, "head.bias": np.zeros(3)}, RECIPE.solver)
    with pytest.raises(InvalidValueError, match=r"expected \['field"):
        Trained.of(model, {"head.bias": np.zeros(2)}, RECIPE.solver)


def test_the_state_kept_is_finite_whatever_the_rate(data: Dataset) -> None:
    """At 1e39, infinite in float32, gradients are finite and the first update is not."""
    model = Model(pn.LinearField(2), classes=2)
    with pytest.warns(RuntimeWarning, match="overflow"):
        failed = train(model, data, replace(RECIPE, optimizer=Adam(1e39)))
    assert (failed.retcode, failed.state.iteration) == (RetCode.Unstable, 0)
    assert failed.state.finite
    assert len(failed.history) == 0


def test_the_last_finite_update_is_found(data: Dataset) -> None:
    """A field whose gradient grows in every iteration, so that an update overflows in the sixth."""
    backend = get_backend("jax", "cpu")  # equal bit for bit: on a GPU only with XLA's flag
    model = Model(pn.LinearField(2), classes=2)
    calls: list[int] = []

    class Overflowing(type(backend)):  # type: ignore[misc]
        def _train(self, chunk: Any) -> Any:
            result = super()._train(chunk)
            calls.append(len(chunk.indices))
            if result.state.iteration <= 5:
                return result
            broken = {name: value * np.inf for name, value in result.state.weights.items()}
            return replace(result, state=replace(result.state, weights=broken))

    recipe = replace(RECIPE, chunk=16, iterations=16)
    found = train(model, data, recipe, backend=Overflowing("cpu"))
    assert (found.state.iteration, len(found.history), found.retcode) == (5, 5, "Unstable")
    five = train(model, data, replace(recipe, iterations=5), backend=backend)
    assert all(np.array_equal(found.weights[name], five.weights[name]) for name in five.weights)
    assert len(calls) <= 6
