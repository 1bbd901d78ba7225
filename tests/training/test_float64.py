"""Training in float64: weights, history and all that is evaluated afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.backends import TrainState
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.diagnostics import Context, by_step
from pynode_jl.training import batch_indices
from pynode_jl.training.step_adaptation import PaperController

EULER = pn.Solver("Euler", dt=1 / 2)
RECIPE = pn.Recipe(EULER, 12, 16, pn.Adam(1e-2), precision="float64", chunk=5)


class Watched(JaxBackend):
    """The JAX backend, which notes the precision of all that it trains and evaluates."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.seen: set[str] = set()

    def _train(self, chunk: Any) -> Any:
        self.seen.add(chunk.x.dtype.name)
        return super()._train(chunk)

    def _evaluate(self, model: Any, weights: Any, x: Any, *rest: Any) -> Any:
        self.seen.add(x.dtype.name)
        return super()._evaluate(model, weights, x, *rest)


@pytest.fixture(scope="module")
def data() -> pn.Dataset:
    return pn.concentric_spheres(2, n_train=100, n_test=60, seed=3)


@pytest.fixture(scope="module")
def model() -> pn.Model:
    return pn.Model(pn.LinearField(2), classes=2)


def test_it_is_the_training_of_float64_arrays(model: pn.Model, data: pn.Dataset) -> None:
    trained = pn.train(model, data, RECIPE, backend="jax")
    weights = {name: value.astype(np.float64) for name, value in model.init(0).items()}
    x = data.x_train.astype(np.float64)
    rows = batch_indices(0, data.n_train, 16, 0, 12)
    for backend in ("jax", "torch"):
        found = pn.get_backend(backend).train(
            model, TrainState.start(weights), x, data.y_train, rows, EULER, pn.Adam(1e-2)
        )
        np.testing.assert_allclose(trained.history.loss, found.loss, rtol=1e-12)
        for name, value in found.state.weights.items():
            np.testing.assert_allclose(trained.weights[name], value, rtol=1e-10)
    state = trained.state
    for part in (state.weights, state.mu, state.nu):
        assert {value.dtype.name for value in part.values()} == {"float64"}
    full = pn.train(model, data, replace(RECIPE, precision="full"), backend="jax")
    off = max(np.abs(full.weights[name] - value).max() for name, value in state.weights.items())
    assert 1e-9 < off < 1e-5


def test_all_that_follows_is_evaluated_in_float64(model: pn.Model, data: pn.Dataset) -> None:
    backend = Watched()
    recipe = replace(RECIPE, controller=PaperController(every=4))
    trained = pn.train(model, data, recipe, backend=backend)
    own = trained.trained_model
    report = pn.swap(trained, data, ["RK4"], backend=backend)
    assert report.rounding is None
    context = Context(own, data, backend, report, samples=8)
    assert by_step(context)["own"].sum() == 1
    assert context.few.dtype == np.float64
    assert backend.seen == {"float64"}
    # As of a model from elsewhere that says so; one that does not is evaluated as its data are.
    assert own.inputs(data.x_test).dtype == own.initial_states(data.x_test).dtype == np.float64
    pn.swap(replace(own, precision="full"), data, ["RK4"], backend=backend)
    assert backend.seen == {"float64", "float32"}
