"""The step rules that all backends share: one answer in every arithmetic, and their edges."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynode_jl import solvers
from pynode_jl.solvers import (
    SCALARS,
    Attempt,
    ControlMemory,
    controller,
    torchdiffeq_controller,
    updated_memory,
)

CONTROLS = (controller("Tsit5"), controller("KenCarp4"), torchdiffeq_controller(5))
positive = st.floats(1e-8, 1e8)


def attempted(control: Any, dt: float, proposed: float, error: float, *, started: bool) -> float:
    """The next step after one of length dt, which ends at a stop where it is a shorter one."""
    accepted = error <= 1.0
    memory = ControlMemory(proposed, control.qoldinit, started)
    attempt = Attempt(dt, dt != proposed, error, math.isfinite(error), accepted)
    return float(updated_memory(SCALARS, control, memory, attempt).dt)


@given(
    st.sampled_from(CONTROLS),
    st.floats(1e-3, 1.0),
    st.floats(0.01, 1.0),
    st.just(0.0) | positive | st.just(math.inf),
    st.booleans(),
    st.booleans(),
)
def test_every_arithmetic_gives_one_answer(
    control: Any, proposed: float, share: float, error: float, started: bool, back: bool
) -> None:
    sign = -1.0 if back else 1.0
    memory = ControlMemory(sign * proposed, 0.3, started)
    attempt = Attempt(sign * proposed * share, share < 1, error, math.isfinite(error), error <= 1.0)
    with np.errstate(all="ignore"), jax.enable_x64(True):
        answers = [
            [float(each) for each in updated_memory(xp, control, memory, attempt)]
            for xp in (SCALARS, np, jnp)
        ]
    assert answers[1] == pytest.approx(answers[0], rel=1e-13)
    assert answers[2] == pytest.approx(answers[0], rel=1e-13)


@given(st.integers(1, 8), st.floats(1e-3, 1.0), st.just(0.0) | positive.filter(lambda e: e != 1.0))
def test_the_i_rule_is_that_of_torchdiffeq(order: int, dt: float, error: float) -> None:
    """Written as `torchdiffeq._impl.misc._optimal_step_size` has it."""
    if error == 0:
        expected = 10.0 * dt
    else:
        dfactor = 1.0 if error < 1 else 0.2
        expected = dt * min(10.0, max(0.9 / error ** (1 / order), dfactor))
    assert attempted(torchdiffeq_controller(order), dt, dt, error, started=True) == pytest.approx(
        expected, rel=1e-12
    )


@given(st.sampled_from(CONTROLS), st.floats(1.0, 1e6, exclude_min=True), st.floats(0.1, 1.0))
def test_a_rejected_step_is_followed_by_a_shorter_one(
    control: Any, error: float, dt: float
) -> None:
    assert control.qmin * dt * (1 - 1e-12) <= attempted(control, dt, dt, error, started=True) < dt


def test_after_a_step_without_an_error_comes_the_largest_shrinkage() -> None:
    for error in (math.nan, math.inf):
        assert attempted(CONTROLS[0], 0.5, 0.5, error, started=True) == 0.5 * CONTROLS[0].qmin


def test_a_step_that_a_stop_has_cut_leaves_the_proposed_one_or_says_how_far_it_could_grow() -> None:
    control = CONTROLS[0]
    assert attempted(control, 0.01, 1.0, 0.9, started=True) == 1.0
    assert attempted(control, 0.5, 1.0, 0.0, started=True) == pytest.approx(0.5 * control.qmax)


def test_the_first_step_may_grow_further() -> None:
    control = CONTROLS[0]
    assert attempted(control, 1.0, 1.0, 0.0, started=False) == control.qmax_first_step
    assert attempted(control, 1.0, 1.0, 0.0, started=True) == control.qmax


def test_implicit_methods_hold_a_step_that_is_nearly_right() -> None:
    explicit, implicit = CONTROLS[:2]
    error = 0.35  # q a little above 1 with e_old = 1e-4
    steps = [attempted(each, 1.0, 1.0, error, started=True) for each in (explicit, implicit)]
    assert steps[0] != 1.0
    held = [
        e for e in np.linspace(1e-4, 1, 400) if attempted(implicit, 1.0, 1.0, e, started=True) == 1
    ]
    assert held
    assert all(attempted(explicit, 1.0, 1.0, e, started=True) != 1 for e in held[1:-1])


@pytest.mark.parametrize("rule", ["single", "max", "hairer"])
def test_the_error_of_a_failed_step_is_no_number(rule: str) -> None:
    """NaN estimates must not read as an error of 0, which would let the step stand."""
    for xp in (np, jnp):
        assert bool(xp.isnan(solvers.scaled_error(xp, rule, [xp.nan, xp.nan], lambda e: e)))
    assert math.isnan(solvers.scaled_error(SCALARS, rule, [math.nan, math.nan], float))
    assert math.isnan(solvers.scaled_error(SCALARS, "max", [1.0, math.nan], float))
    assert solvers.scaled_error(np, rule, [0.0, 0.0], float) == 0.0


def test_two_estimates_make_one_error() -> None:
    def error(rule: str) -> float:
        return float(solvers.scaled_error(SCALARS, rule, [3.0, 4.0], float))

    assert error("single") == 3.0
    assert error("max") == 4.0
    assert error("hairer") == pytest.approx(9 / math.sqrt(9 + 0.16))


def test_a_stop_is_reached_up_to_rounding() -> None:
    eps = float(np.finfo(float).eps)
    for sign in (1.0, -1.0):
        for xp in (SCALARS, np):
            assert solvers.reaches_stop(xp, 0.0, sign * (1 - 1e-15), sign, eps)
            assert not solvers.reaches_stop(xp, 0.0, sign * (1 - 1e-12), sign, eps)
            assert not solvers.reaches_stop(xp, 0.0, sign * (1 - 1e-15), sign, 0.0)


@pytest.mark.parametrize(
    ("state", "slope", "bend", "expected"),
    [
        (1.0, 1.0, 100.0, 0.1),  # (0.01 / 100) ** (1 / 4)
        (0.0, 0.0, 0.0, 1e-6),  # nothing moves: the smallest guess
        (1.0, 0.0, 0.0, 1e-6),
        (1.0, math.nan, math.nan, 1e-6),
        (1e6, 1e-4, 0.0, 0.5),  # never longer than the interval
    ],
)
def test_first_steps(state: float, slope: float, bend: float, expected: float) -> None:
    def step(xp: Any) -> float:
        return float(
            solvers.initial_step(
                xp, xp.float64(state), xp.float64(slope), lambda h: bend * h,
                order=4, smallest=0.0, longest=0.5,
            )
        )  # fmt: skip

    with np.errstate(all="ignore"), jax.enable_x64(True):
        assert step(np) == pytest.approx(expected)
        assert step(jnp) == pytest.approx(step(np), rel=1e-13)


def test_newton_stops_by_the_terms_of_the_stage_not_by_their_sum() -> None:
    big = np.array([1e8])
    assert solvers.newton_change(np, np.array([1.0]), big, -big) == pytest.approx(0.5e-8)


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=4))
def test_interpolants_meet_what_they_are_given(given: list[float]) -> None:
    change, first, last, middle = given
    for inside in (
        solvers.interpolant(change, first, last),
        solvers.interpolant(change, first, last, middle),
    ):
        eps = 1e-6
        assert inside(0.0) == 0.0
        assert inside(1.0) == change
        assert (inside(eps) - inside(0.0)) / eps == pytest.approx(first, abs=1e-3)
        assert (inside(1.0) - inside(1 - eps)) / eps == pytest.approx(last, abs=1e-3)
    assert inside(0.5) == pytest.approx(middle, abs=1e-12)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.floats(0, 1))
def test_a_cubic_is_its_own_interpolant(given: list[float], x: float) -> None:
    a, b, c = given

    def cubic(x: float) -> float:
        return a * x + b * x**2 + c * x**3

    ends = (cubic(1.0), a, a + 2 * b + 3 * c)
    for inside in (solvers.interpolant(*ends), solvers.interpolant(*ends, cubic(0.5))):
        assert inside(x) == pytest.approx(cubic(x), abs=1e-11)
