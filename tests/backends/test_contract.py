"""The contract of `Backend`: every registered backend behaves the same, to the number.

The JAX backend is the reference of counts; closed forms and a NumPy loop are those of states.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from julia_problems import needs_julia

from pynode_jl.backends import BACKENDS, Adam, RetCode, TrainState, get_backend
from pynode_jl.errors import (
    BackendLacksSolverError,
    BackendUnavailableError,
    InvalidValueError,
    SolveError,
    WrongSolverError,
)
from pynode_jl.fields import MLP, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Classification, Density, Regression, Trajectory

FIELD = MLP(2, width=4, activation="tanh", time_dependent=True)
# No float32 among them: what is narrowed on the way shows.
WEIGHTS = {
    name: value + 0.1 * np.random.default_rng(1).normal(size=value.shape)
    for name, value in FIELD.init(3).items()
}
Y0 = np.random.default_rng(0).normal(size=(5, 2))
DECAY = LinearField(1)
RK4 = Solver("RK4", dt=0.1)
MARKS = {"julia": needs_julia}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, device), marks=MARKS.get(name, ()), id=f"{name}-{device}")
        for name in BACKENDS
        for device in ("cpu", "gpu")
    ],
)
def each(request: pytest.FixtureRequest) -> Any:
    name, device = request.param
    if name == "torch":
        pytest.importorskip("torch")
    try:
        return get_backend(name, device)
    except BackendUnavailableError as error:
        if device == "cpu":
            raise
        pytest.skip(str(error))


def decay(rate: float) -> dict[str, np.ndarray]:
    return {"layers.0.weight": np.array([[rate]]), "layers.0.bias": np.zeros(1)}


def slope(t: float, y: np.ndarray) -> np.ndarray:
    """FIELD's own function, in NumPy."""
    h = np.concatenate([y, np.full((len(y), 1), t)], axis=1)
    for i in (0, 2, 4):
        h = h @ WEIGHTS[f"layers.{i}.weight"].T + WEIGHTS[f"layers.{i}.bias"]
        h = np.tanh(h) if i < 4 else h
    return h


def rk4(times: list[float], y: np.ndarray) -> np.ndarray:
    """The state after one step between each two times."""
    for t, end in itertools.pairwise(times):
        h = end - t
        k1 = slope(t, y)
        k2 = slope(t + h / 2, y + h / 2 * k1)
        k3 = slope(t + h / 2, y + h / 2 * k2)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + slope(end, y + h * k3))
    return y


def test_the_right_hand_side(each: Any) -> None:
    np.testing.assert_allclose(each.rhs(FIELD, WEIGHTS, 0.3, Y0), slope(0.3, Y0), rtol=1e-13)


def test_fixed_steps_are_those_of_the_tableau(each: Any) -> None:
    found = each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4)
    np.testing.assert_allclose(found.y1, rk4(list(np.linspace(0, 1, 11)), Y0), rtol=1e-12)
    assert found.t.tolist() == [1.0]
    assert (found.stats.naccept, found.stats.nreject) == (10, 0)
    # Julia evaluates f once before the first step.
    assert found.stats.nf == 40 + (each.name == "julia")


def test_it_integrates_backwards(each: Any) -> None:
    found = each.solve(FIELD, WEIGHTS, Y0, (1.0, 0.2), RK4)
    np.testing.assert_allclose(found.y1, rk4(list(np.linspace(1, 0.2, 9)), Y0), rtol=1e-12)


def test_a_save_time_cuts_a_longer_step(each: Any) -> None:
    found = each.solve(FIELD, WEIGHTS, Y0, (0.0, 0.3), RK4, save_at=[0.05, 0.08, 0.3])
    assert found.t.tolist() == [0.05, 0.08, 0.3]
    steps = [0.0, 0.05, 0.08, 0.18, 0.28, 0.3]
    for i, until in enumerate((2, 3, 6)):
        np.testing.assert_allclose(found.y[i], rk4(steps[:until], Y0), rtol=1e-12)


def test_far_from_zero_the_steps_are_those_at_zero(each: Any) -> None:
    """Where float32 tells times apart by 1/16 only: they are counted from t0, but for the field,
    which sees its own."""
    field, far = MLP(2, width=4, activation="tanh"), 1e6
    weights, y0 = field.init(3), Y0.astype(np.float32)
    for solver in (Solver("RK4", dt=1 / 64), Solver("Tsit5", rtol=1e-5, atol=1e-6)):
        near, moved = (
            each.pullback(field, weights, y0, (t, t + 1), solver, save_at=[t + 0.5, t + 1])
            for t in (0.0, far)
        )
        np.testing.assert_allclose(moved[0].y, near[0].y, rtol=1e-6)
        assert moved[0].stats.naccept == near[0].stats.naccept
        assert moved[0].t.tolist() == [far + 0.5, far + 1]
        ours, theirs = (pull(np.ones_like(near[0].y)) for _, pull in (moved, near))
        np.testing.assert_allclose(ours.y0, theirs.y0, rtol=1e-5)
        np.testing.assert_allclose(ours.times, theirs.times, rtol=1e-4, atol=1e-5)
        saved = each.solve(field, weights, y0, (far, far + 1), solver, save_steps=True)
        assert saved.t[[0, -1]].tolist() == [far, far + 1]
    clock = {name: np.zeros(shape) for name, shape in FIELD.weight_shapes().items()}
    clock["layers.0.weight"][0, 2] = 1e-6
    clock["layers.2.weight"][0, 0] = clock["layers.4.weight"][0, 0] = 1.0
    found = each.solve(FIELD, clock, 0 * y0, (far, far + 1), Solver("RK4", dt=1 / 64))
    np.testing.assert_allclose(found.y1[:, 0], np.tanh(np.tanh(1.0)), rtol=1e-5)


def test_a_step_longer_than_the_interval_is_refused(each: Any) -> None:
    long, model = Solver("RK4", dt=2.0), Model(FIELD, classes=2)
    weights = model.init(0)
    calls = (
        lambda: each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), long),
        lambda: each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), long, save_at=[0.5, 1.0]),
        lambda: each.pullback(FIELD, WEIGHTS, Y0, (0.0, 1.0), long),
        lambda: each.vjp(FIELD, WEIGHTS, Y0, (0.0, 1.0), long, Y0),
        lambda: each.evaluate(model, weights, Y0, long),
        lambda: each.train(
            model, TrainState.start(weights), Y0, np.zeros(5, int), np.zeros((1, 2), int), long,
            Adam(),
        ),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(InvalidValueError, match=r"dt = 2.0.*at most \|t1 - t0\|"):
            call()


@pytest.mark.parametrize(
    "solver",
    [Solver("RK4", dt=0.1, max_steps=6), Solver("Tsit5", rtol=1e-8, atol=1e-8, max_steps=6)],
    ids=lambda solver: solver.label,
)
def test_max_steps_is_one_budget_over_all_save_times(each: Any, solver: Solver) -> None:
    times = [0.5, 1.0]
    weights = {name: 3 * value for name, value in WEIGHTS.items()}
    arguments = (FIELD, weights, Y0, (0.0, 1.0), solver)
    found = each.solve(*arguments, save_at=times, throw=False)
    assert found.stats.retcode == RetCode.MaxIters
    assert found.stats.naccept + found.stats.nreject == 6
    assert len(found.t) == len(found.y)
    assert found.t[-1] < 1.0  # what lies beyond is left out
    assert np.isfinite(found.y).all()
    for call in (each.solve, each.pullback):
        with pytest.raises(SolveError, match="MaxIters"):
            call(*arguments, save_at=times)


def test_steps_beyond_the_budget_cost_nothing(each: Any) -> None:
    """Of 10^9 steps twenty are allowed: laid out, they would fill the memory."""
    tiny, model = Solver("RK4", dt=1e-9, max_steps=20), Model(FIELD, classes=2)
    start = TrainState.start(model.init(0))
    arguments = (FIELD, WEIGHTS, Y0, (0.0, 1.0), tiny)
    found = each.solve(*arguments, throw=False)
    assert found.stats.retcode == RetCode.MaxIters
    assert found.stats.naccept == 20
    np.testing.assert_allclose(found.t, [2e-8], rtol=1e-6)
    for call in (each.solve, each.pullback, lambda *all: each.solve(*all, save_steps=True)):
        with pytest.raises(SolveError, match="MaxIters"):
            call(*arguments)
    trained = each.train(
        model, start, Y0, np.zeros(5, int), np.zeros((1, 2), int), tiny, Adam()
    )  # fmt: skip
    assert trained.retcode == RetCode.MaxIters


def test_adaptive_steps_are_the_same(each: Any, backend: Any) -> None:
    for name in ("Tsit5", "KenCarp4"):
        arguments = (FIELD, WEIGHTS, Y0, (0.0, 2.0), Solver(name, rtol=1e-5, atol=1e-7))
        ours, theirs = (one.solve(*arguments, save_at=[0.7, 2.0]) for one in (each, backend))
        # Julia solves an adaptive solve's stages to a part of the tolerance, not to rounding.
        rtol = 1e-4 if name == "KenCarp4" else 1e-6
        np.testing.assert_allclose(ours.y, theirs.y, rtol=rtol, atol=rtol / 100, err_msg=name)
        if each.name != "julia":  # which grows a step that a save time has cut, and rejects more
            np.testing.assert_allclose(ours.y, theirs.y, rtol=1e-10, atol=1e-12, err_msg=name)
            for count in ("nf", "njac", "naccept", "nreject"):
                assert getattr(ours.stats, count) == getattr(theirs.stats, count), (name, count)


def test_a_stiff_start_takes_steps_that_float32_would_lose_later(each: Any) -> None:
    """y' = -1e6 y + 1 begins with steps of 1e-8, less than a rounding of t1 = 1."""
    weights = {"layers.0.weight": np.array([[-1e6]]), "layers.0.bias": np.ones(1)}
    solver = Solver("KenCarp4", rtol=1e-5, atol=1e-8)
    found = each.solve(DECAY, weights, np.ones((2, 1), np.float32), (0.0, 1.0), solver)
    np.testing.assert_allclose(found.y1, 1e-6, atol=1e-7)


def test_every_accepted_step_is_returned(each: Any) -> None:
    found = each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), Solver("RK4", dt=0.3), save_steps=True)
    np.testing.assert_allclose(found.t, [0.0, 0.3, 0.6, 0.9, 1.0], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(found.y[0], Y0)
    np.testing.assert_allclose(found.y[-1], rk4([0.0, 0.3, 0.6, 0.9, 1.0], Y0), rtol=1e-12)
    with pytest.raises(InvalidValueError, match="save_steps"):
        each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4, save_at=[1.0], save_steps=True)


@pytest.mark.parametrize(
    "times", [[0.0, 1.0], [0.5, 0.5], [0.7, 0.2], [1.2], [0.5, 0.5 + 1e-17], []]
)
def test_save_times_that_make_no_sense_are_refused(each: Any, times: list[float]) -> None:
    for call in (each.solve, each.pullback):
        with pytest.raises(InvalidValueError, match="save_at"):
            call(FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4, save_at=times)


def test_weights_whose_rounding_would_decide_the_states_are_refused(each: Any) -> None:
    """QPRK98's add up to 1.2e5: in float32 four steps are wrong by a sixth, and return Success."""
    solver = Solver("QPRK98", dt=1 / 4)
    single = {name: value.astype(np.float32) for name, value in WEIGHTS.items()}
    model = Model(FIELD, classes=2)
    y0 = Y0.astype(np.float32)
    for call in (
        lambda: each.solve(FIELD, single, y0, (0, 1), solver),
        lambda: each.vjp(FIELD, single, y0, (0, 1), solver, y0),
        lambda: each.evaluate(model, model.init(0), y0, solver),
    ):
        with pytest.raises(WrongSolverError, match=r"add up to 1.2e\+05.*Solve in float64"):
            call()
    found = each.solve(FIELD, WEIGHTS, Y0, (0, 1), solver).y1
    fine = each.solve(FIELD, WEIGHTS, Y0, (0, 1), Solver("RK4", dt=1 / 256)).y1
    np.testing.assert_allclose(found, fine, atol=1e-6)


def test_a_state_that_blows_up_is_unstable(each: Any) -> None:
    solver = Solver("Euler", dt=0.5)
    arguments = (DECAY, decay(1e4), np.ones((2, 1), np.float32), (0.0, 50.0), solver)
    found = each.solve(*arguments, throw=False)
    assert found.stats.retcode == RetCode.Unstable
    with pytest.raises(SolveError, match="Unstable"):
        each.solve(*arguments)


def test_a_failed_evaluation_has_a_return_code_and_no_prediction(each: Any) -> None:
    model = Model(DECAY, classes=2, t1=50.0)
    weights = model.init(0) | {"field.layers.0.weight": np.array([[1e4]])}
    found = each.evaluate(model, weights, np.ones((3, 1), np.float32), Solver("Euler", dt=0.5))
    assert found.stats.retcode == RetCode.Unstable
    assert found.predictions.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("name", ["RK4", "Tsit5", "TRBDF2"])
def test_a_pullback_is_the_derivative_of_the_steps(each: Any, name: str) -> None:
    if name == "TRBDF2" and each.name == "julia":
        pytest.skip("an implicit pullback is Julia's own test: minutes to compile")
    times, solver = [0.35, 1.0], Solver(name, dt=0.25)
    cotangents = np.cos(np.arange(20.0)).reshape(2, 5, 2)

    def value(weights: dict[str, np.ndarray], y0: np.ndarray, times: list[float]) -> float:
        *_, last = times
        found = each.solve(FIELD, weights, y0, (0.0, last), solver, save_at=times)
        return float(np.sum(found.y * cotangents))

    found, pull = each.pullback(FIELD, WEIGHTS, Y0, (0.0, 1.0), solver, save_at=times)
    np.testing.assert_allclose(
        found.y, each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), solver, save_at=times).y, rtol=1e-12
    )
    gradients = pull(cotangents)
    random = np.random.default_rng(1)
    along = {key: random.normal(size=each.shape) for key, each in WEIGHTS.items()}
    to_y0 = random.normal(size=Y0.shape)
    h = 1e-6
    up, down = (
        value({k: v + s * h * along[k] for k, v in WEIGHTS.items()}, Y0 + s * h * to_y0, times)
        for s in (1, -1)
    )
    expected = sum(np.sum(gradients.weights[key] * along[key]) for key in along)
    expected += np.sum(gradients.y0 * to_y0)
    assert (up - down) / (2 * h) == pytest.approx(expected, rel=1e-7)
    for i in range(2):
        moved = [[t + s * h * (i == j) for j, t in enumerate(times)] for s in (1, -1)]
        up, down = (value(WEIGHTS, Y0, each) for each in moved)
        assert (up - down) / (2 * h) == pytest.approx(gradients.times[i + 1], rel=1e-6)


def test_vjp_is_a_pullback_at_one_time(each: Any) -> None:
    arguments = (FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4)
    to_weights, to_y0 = each.vjp(*arguments, np.cos(Y0))
    _, pull = each.pullback(*arguments)
    gradients = pull(np.cos(Y0)[None])
    np.testing.assert_array_equal(to_y0, gradients.y0)
    for key, value in gradients.weights.items():
        np.testing.assert_array_equal(to_weights[key], value)


def test_a_pullback_that_saved_nothing_refuses(each: Any) -> None:
    _, pull = each.pullback(FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4, keep=False)
    with pytest.raises(InvalidValueError, match="keep"):
        pull(np.ones((1, *Y0.shape)))
    _, pull = each.pullback(FIELD, WEIGHTS, Y0, (0.0, 1.0), RK4)
    with pytest.raises(InvalidValueError, match="cotangents"):
        pull(Y0)


def test_training_and_evaluation_agree(each: Any, backend: Any) -> None:
    model, random = Model(FIELD, classes=3), np.random.default_rng(4)
    x, labels = random.normal(size=(40, 2)), random.integers(0, 3, 40)
    batches = random.integers(0, 40, (20, 8))
    start = TrainState.start(model.init(0))
    solver = Solver("RK4", dt=0.25)
    ours, theirs = (
        one.train(model, start, x, labels, batches, solver, Adam(1e-2)) for one in (each, backend)
    )
    assert ours.retcode == theirs.retcode == RetCode.Success
    assert ours.state.iteration == 20
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-8)
    np.testing.assert_array_equal(ours.nf, theirs.nf)
    a, b = (one.evaluate(model, ours.state.weights, x, solver) for one in (each, backend))
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-9, atol=1e-11)


RANDOM = np.random.default_rng(8)
INPUTS = RANDOM.normal(size=(40, 2))
SPARSE = np.where(RANDOM.random((40, 2, 2)) < 0.7, RANDOM.normal(size=(40, 2, 2)), np.nan)
TASKS = {
    "class weights": (Classification(3, class_weights=(1.0, 4.0, 0.5)), RANDOM.integers(0, 3, 40)),
    "regression": (Regression(1), RANDOM.normal(size=(40, 1))),
    "trajectory": (Trajectory((0.4, 1.1)), SPARSE),
    "density": (Density(), None),
}


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_is_trained_alike(each: Any, backend: Any, name: str) -> None:
    task, targets = TASKS[name]
    model, x = Model(FIELD, task=task), INPUTS
    batches = np.random.default_rng(4).integers(0, 40, (20, 8))
    start, solver = TrainState.start(model.init(0)), Solver("Euler", dt=0.25)
    ours, theirs = (
        one.train(model, start, x, targets, batches, solver, Adam(1e-2)) for one in (each, backend)
    )
    assert ours.retcode == theirs.retcode == RetCode.Success
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-8)
    np.testing.assert_allclose(ours.accuracy, theirs.accuracy, rtol=1e-8)
    np.testing.assert_array_equal(ours.nf, theirs.nf)
    a, b = (one.evaluate(model, ours.state.weights, x, solver) for one in (each, backend))
    np.testing.assert_allclose(a.outputs, b.outputs, rtol=1e-9, atol=1e-11)


def test_a_failing_iteration_leaves_the_last_good_state(each: Any) -> None:
    model = Model(DECAY, classes=2, t1=50.0)
    weights = model.init(0) | {"field.layers.0.weight": np.array([[1e4]], np.float32)}
    start = TrainState.start(weights)
    found = each.train(
        model, start, np.ones((4, 1), np.float32), np.zeros(4, int), np.zeros((3, 2), int),
        Solver("Euler", dt=0.5), Adam(),
    )  # fmt: skip
    assert found.retcode == RetCode.Unstable
    assert found.state.iteration == len(found.loss) == 0
    for key, value in weights.items():
        np.testing.assert_array_equal(found.state.weights[key], value)


def test_the_jacobian_of_a_step(each: Any) -> None:
    found = each.step_jacobian(FIELD, WEIGHTS, Y0, 0.2, 0.5, Solver("RK4", dt=0.1))
    h = 1e-6
    for i in range(2):
        moved = h * np.eye(2)[i]
        expected = (rk4([0.2, 0.7], Y0 + moved) - rk4([0.2, 0.7], Y0 - moved)) / (2 * h)
        np.testing.assert_allclose(found[:, :, i], expected, rtol=1e-7, atol=1e-9)


def test_what_it_lacks_it_says(each: Any) -> None:
    for name in {"VCABM3"} - set(each.solvers()):
        with pytest.raises(BackendLacksSolverError, match=name):
            each.solve(FIELD, WEIGHTS, Y0, (0.0, 1.0), Solver(name, rtol=1e-3, atol=1e-3))
