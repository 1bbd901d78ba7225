"""Every task is trained in Julia as in the JAX backend: the same losses, scores and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from julia_problems import distance, needs_julia

import pynode_jl as pn
from pynode_jl.backends import Adam, RetCode, TrainState, get_backend
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import LogDensityField
from pynode_jl.models import FunctionMap
from pynode_jl.tasks import (
    Classification,
    CustomTask,
    Density,
    Regression,
    Trajectory,
)

pytestmark = needs_julia

BOUNDS = {np.float64: 1e-9, np.float32: 1e-4}
EULER, ADAPTIVE = pn.Solver("Euler", dt=1 / 4), pn.Solver("Tsit5", rtol=1e-6, atol=1e-6)
FIELD = pn.MLP(3, width=6, activation="tanh", time_dependent=True)
CURVED = pn.MLP(2, width=6, activation="gelu", time_dependent=True)
TIMES = (0.3, 0.8, 1.1)


@dataclass(frozen=True)
class Case:
    model: pn.Model
    solver: pn.Solver = EULER


WEIGHTED = Classification(3, class_weights=(1.0, 4.0, 0.5))
CASES = {
    "class weights": Case(pn.Model(FIELD, task=WEIGHTED, augment=1)),
    "one logit": Case(pn.Model(FIELD, task=Classification(2, one_logit=True))),
    "regression": Case(pn.Model(FIELD, task=Regression(2), augment=1)),
    "regression, no head": Case(pn.Model(FIELD, task=Regression(3), head="none")),
    "trajectory": Case(pn.Model(FIELD, task=Trajectory(TIMES))),
    "trajectory, adaptive, augmented": Case(
        pn.Model(FIELD, task=Trajectory(TIMES), augment=1), ADAPTIVE
    ),
    "trajectory, linear head": Case(
        pn.Model(FIELD, task=Trajectory(TIMES), head="linear", augment=1)
    ),
    "density": Case(pn.Model(CURVED, task=Density())),
    "density, estimated": Case(pn.Model(CURVED, task=Density("hutchinson"))),
    "density, convolutions": Case(pn.Model(pn.ConvField1d(3, channels=4), task=Density())),
}
SINGLE = ("class weights", "trajectory, adaptive, augmented", "density")


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def _data(model: pn.Model, dtype: Any) -> tuple[np.ndarray, np.ndarray | None]:
    drawn, task = np.random.default_rng(0), model.task
    x = drawn.normal(size=(40, *model.input_shape)).astype(dtype)
    if isinstance(task, Classification):
        return x, drawn.integers(0, task.classes, 40)
    if isinstance(task, Density):
        return x, None
    targets = drawn.normal(size=(40, *[len(TIMES)] * isinstance(task, Trajectory), model.outputs))
    if isinstance(task, Trajectory):
        targets[drawn.random(targets.shape) < 0.3] = np.nan
        targets[0] = np.nan
    return x, targets


def _trained(backend: Any, model: pn.Model, solver: pn.Solver, dtype: Any) -> Any:
    x, targets = _data(model, dtype)
    batches = np.random.default_rng(1).integers(0, 40, (20, 16)).astype(np.int32)
    start = TrainState.start(model.init(0))
    return backend.train(model, start, x, targets, batches, solver, Adam(1e-2))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*[(name, np.float64) for name in CASES], *[(name, np.float32) for name in SINGLE]],
)
def test_a_task_is_trained_as_by_jax(julia: Any, backend: Any, name: str, dtype: Any) -> None:
    case = CASES[name]
    ours, theirs = (_trained(each, case.model, case.solver, dtype) for each in (julia, backend))
    assert ours.retcode == theirs.retcode == RetCode.Success
    assert len(ours.loss) == 20
    bound = BOUNDS[dtype] if case.solver.fixed else max(BOUNDS[dtype], 1e-5)
    assert distance(ours.loss, theirs.loss) < bound, "losses"
    assert distance(ours.accuracy, theirs.accuracy) < bound, "scores"
    for key, value in theirs.state.weights.items():
        assert distance(ours.state.weights[key], value) < bound, key
    x, _ = _data(case.model, dtype)
    weights = ours.state.weights
    answers, others = (
        each.evaluate(case.model, weights, x, case.solver) for each in (julia, backend)
    )
    assert distance(answers.outputs, others.outputs) < bound, "answers"


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_a_log_density_field_is_the_same(julia: Any, backend: Any, trace: Any) -> None:
    field = LogDensityField(CURVED, trace)
    random = np.random.default_rng(3)
    weights = {k: random.normal(0, 0.5, s) for k, s in field.weight_shapes().items()}
    y0 = field.initial_state(random.normal(size=(5, 2)))
    for solver in (EULER, ADAPTIVE):
        ours, theirs = (
            each.solve(field, weights, y0, (0.0, 1.0), solver) for each in (julia, backend)
        )
        assert distance(ours.y1, theirs.y1) < (1e-5 if solver is ADAPTIVE else 1e-10)
    arguments = (field, weights, y0, (0.0, 1.0), EULER)
    gradients = []
    for each in (julia, backend):
        solution, pull = each.pullback(*arguments, save_at=[0.4, 1.0])
        gradients.append(pull(np.cos(solution.y)))
    ours, theirs = gradients
    assert distance(ours.y0, theirs.y0) < 1e-10
    assert distance(ours.times, theirs.times) < 1e-10
    assert all(distance(ours.weights[key], theirs.weights[key]) < 1e-10 for key in weights)
    jacobians = [
        each.step_jacobian(field, weights, y0, 0.0, 0.25, EULER) for each in (julia, backend)
    ]
    assert distance(*jacobians) < 1e-10


def test_what_julia_does_not_train_is_refused_by_name(julia: Any, backend: Any) -> None:
    def square(outputs: Any, targets: Any) -> Any:
        return ((outputs - targets) ** 2).mean(axis=1)

    def same(weights: Any, x: Any) -> Any:
        return x

    own, task = FunctionMap(same, (3,), (3,)), Regression(3)
    refused = {
        "model.task": pn.Model(FIELD, task=CustomTask(square, square, (3,), (3,))),
        "model.encoder": pn.Model(FIELD, task=task, encoder=own),
        "model.head": pn.Model(FIELD, task=task, head=own),
        "field.field": pn.Model(pn.FunctionField(lambda weights, t, y: -y, (3,)), task=Density()),
    }
    for name, model in refused.items():
        with pytest.raises(InvalidValueError, match=f'{name} = .*backend="jax"'):
            _trained(julia, model, EULER, np.float32)
    model = CASES["density"].model
    x, batch, start = np.zeros((4, 2)), np.zeros((1, 2), int), TrainState.start(model.init(0))
    with pytest.raises(InvalidValueError, match=r'gradient = .*backend="jax"'):
        julia.train(model, start, x, None, batch, EULER, Adam(), gradient="GaussAdjoint")
    # What it does not train it evaluates.
    model = refused["model.encoder"]
    x, _ = _data(model, np.float64)
    ours, theirs = (each.evaluate(model, model.init(0), x, EULER) for each in (julia, backend))
    assert distance(ours.outputs, theirs.outputs) < 1e-12
