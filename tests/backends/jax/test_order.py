"""Every tableau shows its order, on the zoo's problem: non-autonomous, nonlinear, coupled.

A wrong abscissa, which autonomous problems cannot see, costs order there:
`test_problem_sees_a_wrong_abscissa` holds the problem to that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from pynode_jl.backends.conformance import SLACK, STEPS, T0, T1, exact, right_hand_side, slope
from pynode_jl.fields import FunctionField
from pynode_jl.solvers import Solver, info, tableau, tableau_names

# Solvers that do not show the order of the catalogue, and why. Strict: one that mends itself fails.
SUSPECTS = {
    "CKLLSRK95_4C": "Julia's coefficients satisfy order 1 only; the catalogue repeats Julia's 5",
    "QPRK98": "coefficients of 1e5 that cancel: float64 leaves 1e-8, its order needs quadruple"
    " precision (in exact arithmetic the order conditions hold to 1e-30)",
    "RKM": "order 4 holds for linear problems; on nonlinear ones it is 3",
}
# Those of them whose tableau states the lower order itself.
ADMITTED = {"CKLLSRK95_4C", "RKM"}


@pytest.fixture(scope="module")
def field() -> FunctionField:
    import jax.numpy as jnp

    return FunctionField(right_hand_side(jnp), (3,))


@pytest.fixture(scope="module")
def measured(backend: Any, field: FunctionField) -> Callable[[str], float]:
    """Slope of log error over log step, by solver."""

    @cache
    def order(name: str) -> float:
        claimed = tableau(name).order
        steps = STEPS[claimed]
        return slope(
            steps,
            [
                _rms(backend.solve(field, {}, exact(T0), (T0, T1), _fixed(name, n)).y1 - exact(T1))
                for n in steps
            ],
        )

    return order


def _fixed(name: str, n: int) -> Solver:
    return Solver(name, dt=(T1 - T0) / n)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x * x)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.xfail(reason=SUSPECTS[n], strict=True))
        if n in SUSPECTS
        else n
        for n in tableau_names()
    ],
)
def test_order_of_the_catalogue(
    name: str, measured: Callable[[str], float], record_property: Callable[[str, object], None]
) -> None:
    claimed, seen = info(name).order, measured(name)
    assert claimed is not None
    if seen < claimed - SLACK:
        text = f"{seen:.2f} measured, {claimed} claimed. {SUSPECTS.get(name, 'Not explained!')}"
        record_property(f"order {name}", text)
    assert seen >= claimed - SLACK


@pytest.mark.parametrize("name", sorted(ADMITTED))
def test_order_that_the_tableau_admits(name: str, measured: Callable[[str], float]) -> None:
    assert measured(name) == pytest.approx(tableau(name).order, abs=SLACK)


@pytest.mark.parametrize(
    "name", [n for n in tableau_names() if tableau(n).order <= 4 and n != "SIR54"]
)
def test_order_is_not_understated(name: str, measured: Callable[[str], float]) -> None:
    # Efficient pairs of high order make their leading error term so small that the next one shows;
    # at low orders a whole order more would be a wrong row of the catalogue.
    assert measured(name) < tableau(name).order + 1.1


def test_stated_orders_agree() -> None:
    differing = {n for n in tableau_names() if info(n).order != tableau(n).order}
    # SIR54: Julia's digits satisfy order 5 to 1.7e-6 only, which these errors do not resolve.
    assert differing <= ADMITTED | {"SIR54"}


@pytest.mark.parametrize(("c3", "order"), [(0.5, 4), (0.4, 1)])
def test_problem_sees_a_wrong_abscissa(c3: float, order: int) -> None:
    rhs = right_hand_side(np)

    def solve(n: int) -> np.ndarray:
        y, h = exact(T0), (T1 - T0) / n
        for i in range(n):
            t = T0 + i * h
            k1 = rhs(None, t, y)
            k2 = rhs(None, t + h / 2, y + h / 2 * k1)
            k3 = rhs(None, t + c3 * h, y + h / 2 * k2)
            k4 = rhs(None, t + h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y

    errors = [_rms(solve(n) - exact(T1)) for n in STEPS[4]]
    assert slope(STEPS[4], errors) == pytest.approx(order, abs=SLACK)


# What adapts on the JAX backend.
ADAPTIVE = [n for n in tableau_names() if info(n).adaptive and tableau(n).b_error is not None]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_tolerance_controls_the_error(name: str, backend: Any, field: FunctionField) -> None:
    # A low order pays for each digit with many steps.
    tolerances = (1e-3, 1e-6) if tableau(name).order <= 2 else (1e-4, 1e-7)
    errors = []
    for tolerance in tolerances:
        solver = Solver(name, rtol=tolerance, atol=tolerance)
        solution = backend.solve(field, {}, exact(T0), (T0, T1), solver, save_steps=True)
        # Every step ends where the next one begins, and the last one at t1 itself.
        assert solution.t[0] == T0
        assert solution.t[-1] == T1
        assert (np.diff(solution.t) > 0).all()
        assert len(solution.t) == solution.stats.naccept + 1
        errors.append(_rms(solution.y1 - exact(T1)))
    assert errors[1] < errors[0] / 20
    # The error of a step is controlled; that of the solve exceeds the tolerance by the problem's
    # growth and, where the companion is of higher order (TRBDF2) or close (Fehlberg21), by more.
    assert all(error < 1000 * tol for error, tol in zip(errors, tolerances, strict=True))
