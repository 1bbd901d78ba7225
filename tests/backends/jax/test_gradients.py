"""Gradients: discretise-then-optimise to rounding, and the adjoint ODE's in the limit.

`gradient="discrete"` is held to central differences of order 4 in float64. Where a controller
chooses the steps, its choice is a constant of the gradient by contract (as everywhere that
differentiates through an adaptive solver with stopped step sizes). What is differenced then is not
the solve, whose steps would move with the perturbation and jump where one more is rejected, but a
*replay*: the accepted steps of the unperturbed solve, read off `save_steps`, taken again one by one
as fixed steps.

Convolutions are held to torch's gradients, in test_oracles.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pynode_jl.fields import MLP, Field, VectorField
from pynode_jl.solvers import Solver

EPS = 2e-3
RTOL = 1e-6
SPAN = (0.1, 1.3)

Solve = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]


class Case:
    """A time-dependent field with weights, states and a cotangent, in float64."""

    def __init__(self, field: VectorField) -> None:
        random = np.random.default_rng(5)
        self.field = field
        self.weights = {
            k: v + 0.2 * random.standard_normal(v.shape) for k, v in field.init(1).items()
        }
        self.y0 = random.normal(size=(2, *field.state_shape))
        self.cotangent = random.normal(size=self.y0.shape)


@pytest.fixture(scope="module")
def mlp() -> Case:
    return Case(MLP(2, width=3, depth=1, time_dependent=True))


def differences(solve: Solve, case: Case) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Central differences of order 4 of sum(cotangent * solve(weights, y0)), number by number."""

    def slope(change: Callable[[float], tuple[dict[str, np.ndarray], np.ndarray]]) -> float:
        value = {k: np.sum(case.cotangent * solve(*change(k * EPS))) for k in (1, -1, 2, -2)}
        return float(8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * EPS)

    def shifted(array: np.ndarray, index: tuple[int, ...], by: float) -> np.ndarray:
        copy = array.copy()
        copy[index] += by
        return copy

    to_weights = {
        name: np.array(
            [
                slope(
                    lambda by, name=name, value=value, index=index: (
                        case.weights | {name: shifted(value, index, by)},
                        case.y0,
                    )
                )
                for index in np.ndindex(value.shape)
            ]
        ).reshape(value.shape)
        for name, value in case.weights.items()
    }
    to_y0 = [
        slope(lambda by, index=index: (case.weights, shifted(case.y0, index, by)))
        for index in np.ndindex(case.y0.shape)
    ]
    return to_weights, np.reshape(to_y0, case.y0.shape)


def assert_close(
    got: tuple[dict[str, np.ndarray], np.ndarray],
    expected: tuple[dict[str, np.ndarray], np.ndarray],
) -> None:
    assert got[0].keys() == expected[0].keys()
    for a, b in [(got[1], expected[1]), *((got[0][k], expected[0][k]) for k in got[0])]:
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= RTOL * np.linalg.norm(b)


def replay(backend: Any, field: Field, name: str, times: np.ndarray) -> Solve:
    """The given steps, one by one."""
    steps = [(a, b, Solver(name, dt=abs(b - a))) for a, b in itertools.pairwise(times)]

    def solve(weights: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
        for a, b, solver in steps:
            y = backend.solve(field, weights, y, (a, b), solver).y1
        return y

    return solve


FIXED = ["Euler", "RK4", "DP5", "ImplicitEuler", "Trapezoid"]
FIXED_SLOW = [
    "Tsit5", "SSPRK33", "Vern7", "SDIRK2", "KenCarp4", "Kvaerno5", "CarpenterKennedy2N54",
]  # fmt: skip
ADAPTIVE = ["BS3", "DP5"]
ADAPTIVE_SLOW = ["Heun", "Tsit5", "Vern7", "SDIRK2", "KenCarp4", "Kvaerno5"]


def _named(quick: list[str], slow: list[str]) -> list[Any]:
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize("name", _named(FIXED, FIXED_SLOW))
def test_discrete_gradient_of_fixed_steps(backend: Any, mlp: Case, name: str) -> None:
    solver = Solver(name, dt=0.25)  # the last of five steps is shortened

    def solve(weights: dict[str, np.ndarray], y0: np.ndarray) -> np.ndarray:
        return backend.solve(mlp.field, weights, y0, SPAN, solver).y1

    got = backend.vjp(mlp.field, mlp.weights, mlp.y0, SPAN, solver, mlp.cotangent)
    assert_close(got, differences(solve, mlp))


@pytest.mark.parametrize("name", _named(ADAPTIVE, ADAPTIVE_SLOW))
def test_discrete_gradient_of_adaptive_steps(backend: Any, mlp: Case, name: str) -> None:
    solver = Solver(name, rtol=1e-2, atol=1e-2)
    times = backend.solve(mlp.field, mlp.weights, mlp.y0, SPAN, solver, save_steps=True).t
    assert len(times) >= 3
    got = backend.vjp(mlp.field, mlp.weights, mlp.y0, SPAN, solver, mlp.cotangent)
    assert_close(got, differences(replay(backend, mlp.field, name, times), mlp))


def test_discrete_gradient_backwards_in_time(backend: Any, mlp: Case) -> None:
    solver, span = Solver("RK4", dt=0.5), (SPAN[1], SPAN[0])

    def solve(weights: dict[str, np.ndarray], y0: np.ndarray) -> np.ndarray:
        return backend.solve(mlp.field, weights, y0, span, solver).y1

    got = backend.vjp(mlp.field, mlp.weights, mlp.y0, span, solver, mlp.cotangent)
    assert_close(got, differences(solve, mlp))


@pytest.mark.parametrize(
    ("name", "order"), [("Euler", 1), pytest.param("RK4", 4, marks=pytest.mark.slow)]
)
def test_backsolve_tends_to_discrete(backend: Any, mlp: Case, name: str, order: int) -> None:
    """Both converge to the gradient of the exact flow, and so to each other, at the order."""

    def difference(n: int) -> float:
        solver = Solver(name, dt=(SPAN[1] - SPAN[0]) / n)
        (w1, y1), (w2, y2) = (
            backend.vjp(
                mlp.field, mlp.weights, mlp.y0, SPAN, solver, mlp.cotangent, gradient=gradient
            )
            for gradient in ("discrete", "BacksolveAdjoint")
        )
        parts = [y1 - y2, *(w1[k] - w2[k] for k in w1)]
        return float(np.sqrt(sum(np.sum(part**2) for part in parts)))

    steps = {1: (64, 128, 256), 4: (8, 16, 32)}[order]
    errors = [difference(n) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.3)


def test_backsolve_is_not_the_discrete_gradient(backend: Any, mlp: Case) -> None:
    """At a coarse step they differ by far more than rounding: the name must not be ignored."""
    got = [
        backend.vjp(
            mlp.field, mlp.weights, mlp.y0, SPAN, Solver("Euler", dt=0.1), mlp.cotangent,
            gradient=gradient,
        )[1]
        for gradient in ("discrete", "BacksolveAdjoint")
    ]  # fmt: skip
    assert np.abs(got[0] - got[1]).max() > 1e-3
