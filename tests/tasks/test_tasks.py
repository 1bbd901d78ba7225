"""Losses, scores and changes of each task, against torch, SciPy and closed forms."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.stats import multivariate_normal

import pynode_jl as pn
from pynode_jl.errors import DataError, InvalidValueError
from pynode_jl.tasks import TASKS, bits_per_dimension

RANDOM = np.random.default_rng(0)
BACKENDS, tree = ["jax", "torch"], pn.ModelWeights.from_dict


@pytest.mark.parametrize("backend", BACKENDS)
def test_initial_states_are_learned(backend: str) -> None:
    """First states that were measured badly are found from what was observed later."""
    random, turn = np.random.default_rng(0), np.array([[0.0, 2.0], [-2.0, 0.0]])
    task = pn.Trajectory(tuple(0.25 * k for k in range(1, 7)))
    true = random.normal(size=(12, 2))
    seen = np.stack([true @ expm(turn * t).T for t in task.times], axis=1)
    learned, held_out = (np.where(np.arange(6)[:, None] % 2 == k, seen, np.nan) for k in (0, 1))
    rough, index = true + 0.5 * random.normal(size=true.shape), np.arange(12)[:, None]
    data = pn.Dataset.from_arrays(index, learned, task=task, x_test=index, y_test=held_out)
    encoder = pn.learned_initial_states(rough, backend=backend)
    model = pn.Model(pn.LinearField(2), task=task, encoder=encoder)
    start = model.init(0) | {"field.layers.0.weight": turn.astype("f")}
    solver = pn.Solver("RK4", dt=1 / 4)
    recipe = pn.Recipe(solver, 80, 12, pn.Adam(0.05), chunk=80)
    trained = pn.train(
        model, data, recipe, resume=pn.TrainedModel(model, start, solver), backend=backend
    )
    found = trained.weights["encoder.initial"]
    assert np.abs(found - true).max() < 0.05 < np.abs(rough - true).max()
    assert pn.swap(trained, data, ["RK4:dt=1/8"], backend=backend).trained < 0.05
    # What is no trajectory's number has no state, and says so.
    nobody = model.initial_state(np.array([[1.0], [12.0], [-1.0], [0.5]]), tree(trained.weights))
    np.testing.assert_array_equal(np.isnan(nobody).all(axis=1), [False, True, True, True])


@pytest.mark.parametrize(
    "array", [np.asarray, jnp.asarray, torch.tensor], ids=["np", "jax", "torch"]
)
def test_losses_are_torchs_in_every_framework(array: Any) -> None:
    logits, labels = RANDOM.normal(size=(6, 3)).astype("f"), np.array([0, 1, 2, 2, 1, 0])
    numbers, targets = RANDOM.normal(size=(2, 6, 2)).astype("f")
    weights = (1.0, 4.0, 0.5)
    plain, weighted = pn.Classification(3), pn.Classification(3, class_weights=weights)
    entropy = torch.nn.functional.cross_entropy
    expected = entropy(torch.tensor(logits), torch.tensor(labels))
    assert float(plain.loss(array(logits), array(labels))) == pytest.approx(float(expected), 1e-6)
    expected = entropy(torch.tensor(logits), torch.tensor(labels), torch.tensor(weights))
    found = weighted.loss(array(logits), array(labels))
    assert float(found) == pytest.approx(float(expected), 1e-6)
    expected = torch.nn.functional.mse_loss(torch.tensor(numbers), torch.tensor(targets))
    found = pn.Regression(2).loss(array(numbers), array(targets))
    assert float(found) == pytest.approx(float(expected), 1e-6)


def test_missing_observations_count_for_nothing() -> None:
    task = pn.Trajectory((0.5, 1.0))
    targets = np.array([[[1.0], [np.nan]], [[2.0], [4.0]]])
    outputs = jnp.zeros((2, 2, 1))
    np.testing.assert_allclose(task.losses(outputs, jnp.asarray(targets)), [1.0, 10.0])
    slope = jax.grad(lambda y: task.loss(y, jnp.asarray(targets)))(outputs)
    np.testing.assert_allclose(slope[..., 0], [[-1.0, 0.0], [-1.0, -2.0]])
    np.testing.assert_allclose(task.changes(np.zeros((2, 2, 1)), targets, targets), [1.0, 10.0])


def test_a_shift_bounds_the_change_of_the_loss() -> None:
    """Of rho the squared error changes by a share of at most 2 rho + rho^2."""
    own, other, y = RANDOM.normal(size=(3, 200, 2))
    task = pn.Regression(2)
    other = own + 0.1 * other
    rho = math.sqrt(task.changes(own, other, y).mean() / task.scale(own, y).mean())
    before, after = (task.losses(each, y).mean() for each in (own, other))
    assert abs(after - before) / before <= 2 * rho + rho**2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_density_of_a_linear_flow_is_that_of_a_normal(backend: str, trace: Any) -> None:
    """z = exp(A) x + b' is standard normal, so that x is normal; of a diagonal A the estimate is
    exact as well."""
    matrix = np.diag([0.5, -0.3]) if trace == "hutchinson" else np.array([[0.5, 0.4], [-0.2, -0.3]])
    model = pn.Model(pn.LinearField(2), task=pn.Density(trace))
    weights = {"field.layers.0.weight": matrix, "field.layers.0.bias": np.zeros(2)}
    x = RANDOM.normal(size=(7, 2))
    solver = pn.Solver("Tsit5", rtol=1e-9, atol=1e-9)
    found = pn.get_backend(backend).evaluate(model, weights, x, solver).outputs
    inverse = expm(-matrix)
    expected = multivariate_normal(cov=inverse @ inverse.T).logpdf(x)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-7)
    score = model.task.score(model.task.scores(found, np.zeros((7, 0))))
    assert score == pytest.approx(-expected.mean() / 2)
    assert bits_per_dimension(score) == pytest.approx(score / math.log(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trajectory_is_read_at_its_times_and_cut_to_what_was_observed(backend: str) -> None:
    task = pn.Trajectory((0.25, 0.3, 1.0))
    matrix = np.array([[-0.1, 2.0, 0], [-2.0, -0.1, 0], [0, 0, 1.0]])
    model = pn.Model(pn.LinearField(3), task=task, augment=1)
    weights = {"field.layers.0.weight": matrix, "field.layers.0.bias": np.zeros(3)}
    x = RANDOM.normal(size=(4, 2))
    solver = pn.Solver("Vern7", rtol=1e-9, atol=1e-9)
    found = pn.get_backend(backend).evaluate(model, weights, x, solver)
    expected = np.stack([x @ expm(matrix[:2, :2] * t).T for t in task.times], axis=1)
    np.testing.assert_allclose(found.outputs, expected, atol=1e-7)
    assert found.along.shape == (4, 9)
    assert (model.t1, model.times) == (1.0, (0.0, 0.25, 0.3, 1.0))


def test_backends_train_each_task_alike() -> None:
    """Two gradients of one loss, by our reverse sweep and by torch's autograd."""
    x = RANDOM.normal(size=(24, 2)).astype("f")
    times = (0.2, 0.7)
    y = np.stack([x * math.exp(-t) for t in times], axis=1)
    y[0, 1] = np.nan
    for task, targets in (
        (pn.Regression(2), x**2),
        (pn.Trajectory(times), y),
        (pn.Density(), None),
        (pn.Classification(2, one_logit=True), x[:, 0] > 0),
        (pn.Classification(2, class_weights=(1, 3)), x[:, 0] > 0),
    ):
        model = pn.Model(pn.MLP(2, width=4, depth=1, time_dependent=True), task=task)
        data = pn.Dataset.from_arrays(x, targets, task=task)
        recipe = pn.Recipe(
            pn.Solver("Midpoint", dt=1 / 2), iterations=3, batch_size=8, optimizer=pn.Adam(1e-2),
            chunk=3,
        )  # fmt: skip
        ours, theirs = (pn.train(model, data, recipe, backend=each) for each in BACKENDS)
        np.testing.assert_allclose(ours.history.loss, theirs.history.loss, rtol=2e-5)
        np.testing.assert_allclose(ours.history.accuracy, theirs.history.accuracy, rtol=2e-5)
        for name, weight in ours.weights.items():
            np.testing.assert_allclose(weight, theirs.weights[name], atol=2e-4, err_msg=name)


def test_targets_that_do_not_fit_are_named() -> None:
    x = np.zeros((4, 2))
    for task, y, said in (
        (pn.Regression(2), np.zeros((4, 3)), r"y\.shape = \(4, 3\): expected \(4, 2\)"),
        (pn.Regression(), [0.0, 1.0, np.nan, 2.0], r"y\[2, 0\] = nan"),
        (pn.Trajectory((1.0, 2.0)), np.zeros((4, 3, 2)), r"y\.shape"),
        (pn.Density(), np.zeros(4), r"y = \(4,\): expected None"),
        (pn.Classification(2), [0, 1, 2, 0], r"y\[2\] = 2"),
    ):
        with pytest.raises(DataError, match=said):
            pn.Dataset.from_arrays(x, y, task=task)


def test_parts_of_a_model_that_do_not_fit_are_named() -> None:
    field = pn.MLP(2)
    for options, said in (
        ({"task": pn.Trajectory((0.0, 1.0))}, r"task\.times"),
        ({"task": pn.Density(), "augment": 1}, "augment"),
        ({"task": pn.Density(), "head": "linear"}, "head"),
        ({"task": pn.Regression(1), "head": "none"}, "head"),
        ({"task": 3}, "task"),
        ({}, "classes"),
        ({"task": pn.Regression(), "classes": 3}, "classes"),
        ({"task": pn.Regression(), "encoder": len}, "encoder"),
    ):
        with pytest.raises(InvalidValueError, match=said):
            pn.Model(field, **options)


def test_an_encoder_and_a_head_of_ones_own_are_trained_with_the_field() -> None:
    encoder = pn.FunctionMap(
        lambda w, x: x @ w["matrix"], (3,), (2,), {"matrix": np.ones((3, 2), "f") / 3}
    )
    head = pn.FunctionMap(
        lambda w, y: jnp.tanh(y @ w["out"]), (2,), (1,), {"out": np.ones((2, 1), "f")}
    )
    model = pn.Model(pn.MLP(2, width=4), task=pn.Regression(), encoder=encoder, head=head)
    x = RANDOM.normal(size=(40, 3)).astype("f")
    data = pn.Dataset.from_arrays(x, np.tanh(x[:, 0]), task=model.task)
    recipe = pn.Recipe(pn.Solver("Euler", dt=1 / 2), iterations=30, batch_size=32, chunk=30,
                       optimizer=pn.Adam(3e-2))  # fmt: skip
    trained = pn.train(model, data, recipe, backend="jax")
    assert trained.history.loss[-1] < 0.7 * trained.history.loss[0]
    moved = {name for name, each in model.init(0).items() if (each != trained.weights[name]).any()}
    assert {"encoder.matrix", "head.out"} <= moved
    report = pn.swap(trained, data, ["RK4"], backend="jax")
    assert np.isfinite(report.table["shift"]).all()


def test_every_task_of_configurations_says_what_it_is() -> None:
    made = {
        "classification": pn.Classification(3),
        "regression": pn.Regression(2),
        "trajectory": pn.Trajectory((1, 2)),
        "density": pn.Density("hutchinson"),
    }
    assert set(made) == set(TASKS)
    for kind, task in made.items():
        options = task.to_dict()
        assert options.pop("kind") == kind
        assert TASKS[kind](**options) == task


@pytest.mark.parametrize("task", [
    pn.Classification(3), pn.Classification(3, class_weights=(1, 4, 0.5)), pn.Regression(2),
    pn.Trajectory((0.4, 1.1)), pn.Density(),
], ids=str)  # fmt: skip
def test_what_a_task_makes_lies_where_the_outputs_are(task: Any) -> None:
    """Torch's "meta" device stands for a GPU: it refuses arrays of another device as one does."""
    shape = (8, 2, 2) if isinstance(task, pn.Trajectory) else (8, 3)
    outputs = torch.empty(shape, dtype=torch.float64, device="meta")
    targets = {
        pn.Classification: torch.empty(8, dtype=torch.int64, device="meta"),
        pn.Density: None,
    }.get(type(task), outputs)  # fmt: skip
    assert task.loss(outputs, targets).device == outputs.device
    assert task.scores(outputs, targets).device == outputs.device
