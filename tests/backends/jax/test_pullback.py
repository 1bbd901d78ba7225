"""A pullback: the solution of `solve`, and gradients at several times against finite differences.

Held to central differences of order 4, in float64, to the weights, the states and the times. The
steps keep their lengths but the last one before each saved time: so the step below does not divide
the intervals, or a perturbed time would move them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.fields import MLP, Activation, Dense, VectorField
from pynode_jl.frontends.torch._methods import dense_method, find_method
from pynode_jl.solvers import Solver

TIMES = np.array([0.1, 0.47, 0.8, 1.3])
EPS = 1e-3


class Case:
    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.field = MLP(2, width=3, depth=1, time_dependent=True)
        self.weights = {
            k: v + 0.2 * random.standard_normal(v.shape) for k, v in self.field.init(1).items()
        }
        self.y0 = random.normal(size=(2, 2))
        self.cotangents = random.normal(size=(3, 2, 2))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def _pulled(backend: Any, case: Case, solver: Solver, times: np.ndarray) -> Any:
    span = (times[0], times[-1])
    return backend.pullback(case.field, case.weights, case.y0, span, solver, save_at=times[1:])


def _differences(loss: Any, at: np.ndarray) -> np.ndarray:
    def slope(index: tuple[int, ...]) -> float:
        def moved(by: float) -> float:
            copy = at.copy()
            copy[index] += by * EPS
            return float(loss(copy))

        return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * EPS)

    return np.reshape([slope(index) for index in np.ndindex(at.shape)], at.shape)


@pytest.mark.parametrize(
    "solver",
    [
        Solver("RK4", dt=0.2),
        pytest.param(Solver("KenCarp4", dt=0.2), marks=pytest.mark.slow),
    ],
    ids=lambda each: each.name,
)
def test_fixed_steps_against_differences(backend: Any, case: Case, solver: Solver) -> None:
    solution, pull = _pulled(backend, case, solver, TIMES)
    span = (TIMES[0], TIMES[-1])

    def solved(weights: Any, y0: np.ndarray) -> np.ndarray:
        solved = backend.solve(case.field, weights, y0, span, solver, save_at=TIMES[1:])
        return np.asarray(solved.y)

    np.testing.assert_allclose(solution.y, solved(case.weights, case.y0), rtol=1e-13)
    found = pull(case.cotangents)

    def loss_of_states(y0: np.ndarray) -> float:
        return float(np.sum(case.cotangents * solved(case.weights, y0)))

    np.testing.assert_allclose(found.y0, _differences(loss_of_states, case.y0), rtol=1e-8)
    assert set(found.weights) == set(case.weights)
    for name, value in case.weights.items():

        def loss_of_weight(each: np.ndarray, name: str = name) -> float:
            return float(np.sum(case.cotangents * solved(case.weights | {name: each}, case.y0)))

        np.testing.assert_allclose(
            found.weights[name], _differences(loss_of_weight, value), rtol=1e-7, atol=1e-10
        )

    def loss_of_times(times: np.ndarray) -> float:
        return float(np.sum(case.cotangents * _pulled(backend, case, solver, times)[0].y))

    np.testing.assert_allclose(found.times, _differences(loss_of_times, TIMES), rtol=1e-7)


def test_adaptive_steps_are_the_continuous_gradient_in_the_limit(backend: Any, case: Case) -> None:
    """At a tight tolerance the discrete gradient is the flow's, to times as well: f there."""
    solver = Solver("Tsit5", rtol=1e-11, atol=1e-12)
    solution, pull = _pulled(backend, case, solver, TIMES)
    found = pull(case.cotangents)
    span = (TIMES[0], TIMES[-1])

    def loss(y0: np.ndarray) -> float:
        y = backend.solve(case.field, case.weights, y0, span, solver, save_at=TIMES[1:]).y
        return float(np.sum(case.cotangents * y))

    np.testing.assert_allclose(found.y0, _differences(loss, case.y0), rtol=1e-7)
    steps = [
        backend.solve(case.field, case.weights, y, (t, t + 1e-5), Solver("RK4", dt=1e-5)).y1 - y
        for y, t in zip([case.y0, *solution.y], TIMES, strict=True)
    ]
    for k in (1, 2, 3):
        at_end = np.sum(case.cotangents[k - 1] * steps[k]) / 1e-5
        assert found.times[k] == pytest.approx(at_end, rel=1e-4)
    # Nothing but time's passing: shifting all of them changes what the field sees of t alone.
    to_start = -np.sum(found.y0 * steps[0]) / 1e-5
    assert found.times[0] == pytest.approx(to_start, rel=1e-4)


def test_backwards_in_time(backend: Any, case: Case) -> None:
    times = TIMES[::-1].copy()
    solver = Solver("RK4", dt=0.2)
    solution, pull = _pulled(backend, case, solver, times)
    found = pull(case.cotangents)

    def loss(times: np.ndarray) -> float:
        return float(np.sum(case.cotangents * _pulled(backend, case, solver, times)[0].y))

    assert solution.y.shape == (3, 2, 2)
    np.testing.assert_allclose(found.times, _differences(loss, times), rtol=1e-7)


@pytest.mark.parametrize("name", ["DP5", "KenCarp3", "Vern6"])
def test_one_time_is_vjp(backend: Any, case: Case, name: str) -> None:
    solver = Solver(name, rtol=1e-6, atol=1e-8)
    _, pull = backend.pullback(case.field, case.weights, case.y0, (0.1, 1.3), solver)
    found = pull(case.cotangents[:1])
    to_weights, to_y0 = backend.vjp(
        case.field, case.weights, case.y0, (0.1, 1.3), solver, case.cotangents[0]
    )
    np.testing.assert_allclose(found.y0, to_y0, rtol=1e-12)
    for name, value in to_weights.items():
        np.testing.assert_allclose(found.weights[name], value, rtol=1e-11, atol=1e-14)


def test_steps_that_were_not_kept_give_no_gradient(backend: Any, case: Case) -> None:
    method = dense_method(find_method("dopri5", {}))
    solver = Solver("DP5Shampine", rtol=1e-3)
    arguments = (case.field, case.weights, case.y0, (0.0, 1.0), solver)
    solution, pull = backend.pullback(*arguments, dense=method, keep=False)
    with pytest.raises(InvalidValueError, match="keep"):
        pull(np.ones_like(solution.y))


def test_every_activation(backend: Any) -> None:
    """Their derivatives by their values, as a pullback takes them, are automatic differentiation's,
    where a value of 0 stands for a whole half-line and where values saturate too."""
    layers: list[Any] = [Dense(2, 6)]
    for name in ("tanh", "relu", "sigmoid", "softplus", "elu", "silu", "gelu"):
        layers += [Activation(name), Dense(6, 6)]
    field = VectorField((2,), (*layers, Activation("relu"), Dense(6, 2)))
    weights = {k: 2 * v.astype(float) for k, v in field.init(4).items()}
    random = np.random.default_rng(5)
    y0, cotangent = 30 * random.normal(size=(9, 2)), random.normal(size=(9, 2))
    solver = Solver("Midpoint", dt=0.25)
    _, pull = backend.pullback(field, weights, y0, (0.0, 0.5), solver)
    found = pull(cotangent[None])
    to_weights, to_y0 = backend.vjp(field, weights, y0, (0.0, 0.5), solver, cotangent)
    np.testing.assert_allclose(found.y0, to_y0, rtol=1e-10, atol=1e-12)
    for name, value in to_weights.items():
        np.testing.assert_allclose(found.weights[name], value, rtol=1e-9, atol=1e-11)


def test_room_grows_with_the_steps(backend: Any, case: Case) -> None:
    """More steps than there is room for at first: the same gradient as that of shorter pieces."""
    solver = Solver("BS3", rtol=1e-8, atol=1e-10)
    solution, pull = backend.pullback(case.field, case.weights, case.y0, (0.0, 4.0), solver)
    assert solution.stats.naccept > 128
    cotangent = case.cotangents[0]
    expected = backend.vjp(case.field, case.weights, case.y0, (0.0, 4.0), solver, cotangent)
    np.testing.assert_allclose(pull(cotangent[None]).y0, expected[1], rtol=1e-11)


def test_later_changes_of_weights_do_not_reach_back(backend: Any, case: Case) -> None:
    weights = {name: value.copy() for name, value in case.weights.items()}
    solver = Solver("Euler", dt=0.4)
    _, pull = backend.pullback(case.field, weights, case.y0, (0.0, 1.2), solver)
    first = pull(case.cotangents[:1])
    for value in weights.values():
        value += 1.0
    second = pull(case.cotangents[:1])
    for name in weights:
        np.testing.assert_array_equal(first.weights[name], second.weights[name])


def test_refusals(backend: Any, case: Case) -> None:
    solver = Solver("Euler", dt=0.4)
    with pytest.raises(InvalidValueError, match=r"cotangents\.shape"):
        _pulled(backend, case, solver, TIMES)[1](case.cotangents[0])
    close = np.float32(0.5) + np.array([0.0, 1e-9])
    y0, single = case.y0.astype("f"), {k: v.astype("f") for k, v in case.weights.items()}
    with pytest.raises(InvalidValueError, match="save_at"):
        backend.pullback(case.field, single, y0, (0.0, 1.0), Solver("BS3"), save_at=close)
    with pytest.raises(SolveError, match="MaxIters"):
        backend.pullback(
            case.field, case.weights, case.y0, (0.0, 1.0), Solver("Euler", dt=0.1, max_steps=3)
        )
