"""What a model answers: in its task's words, for every kind of array, under any solver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pynode_jl as pn
from pynode_jl.backends import Backend
from pynode_jl.errors import DataError, InvalidValueError, PyNODEError, SolveError

DECAY = {"field.layers.0.weight": np.array([[-1.0]]), "field.layers.0.bias": np.zeros(1)}
HEAD = {"head.weight": np.array([[-1.0], [1.0]]), "head.bias": np.zeros(2)}
EXACT = "Vern9:tol=1e-10"


def decay(task: pn.Task, head: dict[str, Any] | None = None, **options: Any) -> pn.TrainedModel:
    """y' = -y, whose flow is known: y(t) = y(0) exp(-t)."""
    model = pn.Model(pn.LinearField(1), task=task)
    return pn.TrainedModel(model, {**DECAY, **(head or {})}, "Euler:dt=1/4", "float64", **options)


@pytest.fixture(scope="module")
def classifier() -> pn.TrainedModel:
    return decay(pn.Classification(2), HEAD, label_names=("minus", "plus"))


X = np.array([[-2.0], [0.5], [3.0]])


def test_a_classification_answers_by_name(backend: Backend, classifier: pn.TrainedModel) -> None:
    assert classifier.predict(X, backend=backend).tolist() == ["minus", "plus", "plus"]
    nameless = decay(pn.Classification(2), HEAD)
    assert nameless.predict(X, backend=backend).tolist() == [0, 1, 1]


def test_probabilities_are_those_of_the_logits(
    backend: Backend, classifier: pn.TrainedModel
) -> None:
    """Two logits -z and z, z = x exp(-1): the second's share is 1 / (1 + exp(-2 z))."""
    found = classifier.predict_proba(X, EXACT, backend=backend)
    expected = 1 / (1 + np.exp(-2 * X[:, 0] * math.exp(-1)))
    np.testing.assert_allclose(found, np.stack([1 - expected, expected], axis=1), atol=1e-8)


def test_the_solver_decides_the_answers(backend: Backend) -> None:
    """Four steps of Euler take y to y (3/4)^4; the exact flow to y / e."""
    linear = {"head.weight": np.ones((1, 1)), "head.bias": np.zeros(1)}
    model = decay(pn.Regression(), linear)
    np.testing.assert_allclose(model.predict(X, backend=backend), X * 0.75**4, rtol=1e-12)
    for solver in (EXACT, pn.Solver.of(EXACT), pn.Solver.of(EXACT).to_dict()):
        found = model.predict(X, solver, backend=backend)
        np.testing.assert_allclose(found, X * math.exp(-1), rtol=1e-8)
    assert model.score(X, X * math.exp(-1), EXACT, backend=backend) < 1e-7


def test_trajectories_and_densities_answer_in_their_terms(backend: Backend) -> None:
    path = decay(pn.Trajectory((0.5, 1.0))).predict(X, EXACT, backend=backend)
    expected = X[:, None] * np.exp([-0.5, -1.0])[:, None]
    np.testing.assert_allclose(path, expected, rtol=1e-8)
    # log p(x) = log N(x / e; 0, 1) - 1, since the flow shrinks lengths by e.
    flow = decay(pn.Density())
    nats = flow.predict(X, EXACT, backend=backend)
    z = X[:, 0] * math.exp(-1)
    np.testing.assert_allclose(nats, -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 1, rtol=1e-7)
    assert flow.score(X, solver=EXACT, backend=backend) == pytest.approx(-nats.mean())


@pytest.mark.parametrize("kind", ["list", "frame", "torch", "jax", "float32", "integers"])
def test_every_kind_of_array_is_taken(
    backend: Backend, classifier: pn.TrainedModel, kind: str
) -> None:
    given: Any = np.array([[-2.0], [1.0], [3.0]])
    if kind == "torch":
        given = pytest.importorskip("torch").tensor(given, requires_grad=True)
    elif kind == "jax":
        import jax.numpy as jnp

        given = jnp.asarray(given)
    else:
        made: dict[str, Any] = {
            "list": given.tolist(),
            "frame": pd.DataFrame(given, columns=["a"]),
            "float32": given.astype(np.float32),
            "integers": given.astype(int),
        }
        given = made[kind]
    names = ["minus", "plus", "plus"]
    assert classifier.predict(given, backend=backend).tolist() == names
    targets: Any = pd.Series(names) if kind == "frame" else names
    assert classifier.score(given, targets, backend=backend) == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: m.predict([1.0, 2.0]), "x.shape"),
        (lambda m: m.predict(X, "Eular"), "did you mean Euler"),
        (lambda m: m.predict(pd.DataFrame({"a": ["x"]})), "real numbers"),
        (lambda m: m.predict(np.full((2, 1), np.nan)), "2 NaN"),
        (lambda m: m.score(X), "y = None"),
        (lambda m: m.score(X, ["minus", "plus", "left"]), r"y\[2\] = 'left'"),
        (lambda m: m.score(X, [0, 1, 2]), "whole numbers from 0 to 1"),
        (lambda m: m.score(pn.moons(n_train=4, n_test=2), [0, 1]), "beside a Dataset"),
        (lambda m: decay(pn.Trajectory((1.0,))).predict_proba(X), "no probabilities"),
        (lambda m: m.predict(X, "Tsit5:tol=1e-9,max_steps=2"), "MaxIters"),
    ],
    ids=range(10),
)
def test_what_has_no_answer_is_refused(
    classifier: pn.TrainedModel, call: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PyNODEError, match=said):
        call(classifier)


def test_answers_that_are_not_finite_are_no_answers(backend: Backend) -> None:
    """float32 overflows in the head, after a solve that succeeds."""
    huge = {"head.weight": np.full((1, 1), 3e38, "f"), "head.bias": np.zeros(1, "f")}
    model = pn.Model(pn.LinearField(1), task=pn.Regression())
    weights = {**{name: each.astype("f") for name, each in DECAY.items()}, **huge}
    with pytest.raises(SolveError, match=r"1 of 2 answers .* the first for x\[1\]"):
        pn.TrainedModel(model, weights, "Euler:dt=1/4").predict([[0.0], [9.0]], backend=backend)


def test_names_of_labels_go_with_the_model(backend: Backend, tmp_path: Any) -> None:
    """From the data through training and file to the answers."""
    x = np.random.default_rng(0).normal(size=(60, 1))
    data = pn.Dataset.from_arrays(x, np.where(x[:, 0] > 0, "plus", "minus"))
    recipe = pn.Recipe("Euler:dt=1/2", iterations=2, batch_size=32)
    trained = pn.train(pn.Model(pn.LinearField(1), classes=2), data, recipe, backend=backend)
    assert trained.label_names == ("minus", "plus")
    trained.save(tmp_path / "model.safetensors")
    read = pn.TrainedModel.load(tmp_path / "model.safetensors")
    own = trained.predict(data.x_test, backend=backend)
    assert set(own) <= {"minus", "plus"}
    np.testing.assert_array_equal(read.predict(data.x_test, backend=backend), own)
    names = np.array(data.label_names)[data.y_test]
    scores = {
        trained.score(data, backend=backend),
        trained.score(data.x_test, data.y_test, backend=backend),
        trained.score(data.x_test, names, backend=backend),
    }
    assert len(scores) == 1
    with pytest.raises(InvalidValueError, match="label_names"):
        pn.TrainedModel(trained.model, trained.weights, trained.solver, label_names=("a",))


def test_a_run_answers_as_what_it_trained(backend: Backend, tmp_path: Any) -> None:
    config = pn.Config.from_dict(
        {
            "backend": "jax",
            "data": {"n_train": 64, "n_test": 16},
            "train": {"iterations": 2, "batch_size": 32, "solver": "Euler:dt=1/2"},
        }
    )
    run = pn.Run.create(config, tmp_path / "run")
    trained = run.train()
    x = run.dataset.x_test
    np.testing.assert_array_equal(run.predict(x), trained.predict(x, backend=backend))
    assert run.score(run.dataset) == trained.score(run.dataset, backend=backend)
    assert len(run.plot().axes) >= 2


def test_targets_of_another_length_are_refused(
    backend: Backend, classifier: pn.TrainedModel
) -> None:
    with pytest.raises(DataError, match="y = "):
        classifier.score(X, [0, 1], backend=backend)
