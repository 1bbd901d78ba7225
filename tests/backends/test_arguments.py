"""What a backend makes of its arguments: nothing narrowed in silence, no time lost in rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pynode_jl.backends import Adam, TrainState
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.fields import FunctionField, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver

FIELD = LinearField(2)
DECAY = {"layers.0.weight": -np.eye(2, dtype="f"), "layers.0.bias": np.zeros(2, "f")}
DECAY64 = {name: each.astype(np.float64) for name, each in DECAY.items()}
EULER, HEUN = Solver("Euler", dt=0.5), Solver("Heun", rtol=1e-3, atol=1e-6)
TWO = np.array([[1.0, 2.0]], "f")


@pytest.mark.parametrize("solver", [EULER, HEUN], ids=lambda each: each.name)
def test_a_short_interval_far_from_zero_is_solved_as_one_at_zero(
    backend: Any, solver: Solver
) -> None:
    """The steps of an autonomous field do not depend on t: not a bit of the states may either.

    In float32 the time 1e6 is a multiple of 1/16; a step added to it would be another step, and a
    stop within 100 roundings of it the whole interval.
    """
    near = backend.solve(FIELD, DECAY, TWO, (0, 1), solver, save_at=[0.5, 1.0])
    far = backend.solve(FIELD, DECAY, TWO, (1e6, 1e6 + 1), solver, save_at=[1e6 + 0.5, 1e6 + 1])
    np.testing.assert_array_equal(far.y, near.y)
    np.testing.assert_array_equal(far.t, [1e6 + 0.5, 1e6 + 1])
    assert far.stats.naccept == near.stats.naccept > 1


def test_a_gradient_far_from_zero_is_that_at_zero(backend: Any) -> None:
    near, far = (
        backend.pullback(FIELD, DECAY, TWO, (t0, t0 + 1), HEUN)[1](np.ones((1, 1, 2)))
        for t0 in (0.0, 1e6)
    )
    np.testing.assert_array_equal(far.y0, near.y0)
    np.testing.assert_array_equal(far.times, near.times)


def test_the_field_sees_its_own_time_far_from_zero(backend: Any) -> None:
    clock = FunctionField(lambda weights, t, y: 0 * y + t, (2,))
    found = backend.solve(clock, {}, np.zeros((1, 2)), (1e6, 1e6 + 1), Solver("Midpoint", dt=0.5))
    np.testing.assert_allclose(found.y1, 1e6 + 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("span", "dtype"),
    [
        ((1e8, 1e8 + 1), "f4"),
        ((-1e8, -1e8 - 1), "f4"),
        ((1e5, 1e5 + 0.003), "f4"),
        ((1e17, 1e17 + 64), "f8"),
        ((0, 1e-40), "f4"),
        ((0, 1e300), "f4"),
        ((-1e308, 1e308), "f8"),
    ],
)
def test_an_interval_that_the_precision_does_not_hold_is_refused(
    backend: Any, span: tuple[float, float], dtype: str
) -> None:
    weights = DECAY if dtype == "f4" else DECAY64
    for solver in (Solver("Euler", dt=abs(span[1] / 2 - span[0] / 2)), HEUN):
        with pytest.raises(InvalidValueError, match="t_span"):
            backend.solve(FIELD, weights, TWO.astype(dtype), span, solver)
    model = Model(FIELD, classes=2, t0=span[0], t1=span[1])
    with pytest.raises(InvalidValueError, match="t_span"):
        backend.evaluate(model, model.init(0), TWO.astype(dtype), HEUN)
    state, batches = TrainState.start(model.init(0)), np.zeros((1, 1), int)
    with pytest.raises(InvalidValueError, match="t_span"):
        backend.train(model, state, TWO.astype(dtype), [0], batches, HEUN, Adam())


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"y0": [[1j, 2]]}, "y0.dtype"),
        ({"y0": [["a", "b"]]}, "y0.dtype"),
        ({"y0": [[1], [1, 2]]}, "y0"),
        ({"y0": [[None, 1.0]]}, "y0.dtype"),
        ({"y0": [[2**24 + 1, 0]]}, "y0"),
        ({"y0": [[1e300, 0]]}, "y0"),
        ({"weights": {name: each + 5j for name, each in DECAY.items()}}, "weights.*dtype"),
        ({"weights": {name: 1e300 * (each + 1) for name, each in DECAY64.items()}}, "weights"),
        ({"weights": None}, "weights"),
        ({"weights": list(DECAY)}, "weights"),
        ({"weights": {1: 2}}, "weights"),
        ({"t_span": (0,)}, "t_span"),
        ({"t_span": None}, "t_span"),
        ({"t_span": "01"}, "t_span"),
        ({"t_span": (0, 1j)}, "t_span"),
        ({"save_at": "1"}, "save_at"),
        ({"save_at": 1.0}, "save_at"),
        ({"field": None}, "field"),
        ({"field": np.tanh}, "field"),
        ({"solver": None}, "solver"),
        ({"solver": 3}, "solver"),
    ],
    ids=str,
)
def test_what_would_lose_its_meaning_is_refused(
    backend: Any, change: dict[str, Any], argument: str
) -> None:
    arguments: dict[str, Any] = {
        "field": FIELD, "weights": DECAY, "y0": TWO, "t_span": (0, 1), "solver": EULER,
    }  # fmt: skip
    with pytest.raises(InvalidValueError, match=argument):
        backend.solve(**arguments | change)


def test_lists_have_the_precision_of_the_weights(backend: Any) -> None:
    third = [[1 / 3, 1]]
    double = backend.solve(FIELD, DECAY64, third, (0, 1), EULER).y1
    assert double.dtype == np.float64
    assert double[0, 0] == 0.25 * (1 / 3)
    assert backend.solve(FIELD, DECAY, third, (0, 1), EULER).y1.dtype == np.float32


def test_a_solver_may_be_given_as_text(backend: Any) -> None:
    as_text = backend.solve(FIELD, DECAY, TWO, np.array([0, 1]), "Euler:dt=1/2").y1
    np.testing.assert_array_equal(as_text, backend.solve(FIELD, DECAY, TWO, (0, 1), EULER).y1)


NAN = FunctionField(lambda weights, t, y: y * np.nan, (2,))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"y0": [[1.0, np.nan]]}, "y0 holds 1 NaN of 2 numbers"),
        ({"y0": [[-np.inf, np.nan]]}, "y0 holds 1 NaN and 1 infinite of 2"),
        (
            {"weights": DECAY | {"layers.0.bias": np.array([np.nan, 0], "f")}},
            r"weights\['layers.0.bias'\] holds 1 NaN of 2",
        ),
        ({"field": NAN, "weights": {}}, r"f\(t0, y0\).* holds 2 NaN of 2"),
    ],
    ids=["y0", "infinite", "weights", "field"],
)
@pytest.mark.parametrize("solver", [EULER, HEUN], ids=lambda each: each.name)
def test_a_solve_that_cannot_begin_says_what_is_not_finite(
    backend: Any, solver: Solver, change: dict[str, Any], reason: str
) -> None:
    """Smaller steps and other tolerances do not mend a NaN that was there from the start."""
    arguments: dict[str, Any] = {
        "field": FIELD, "weights": DECAY, "y0": TWO, "t_span": (0, 1), "solver": solver,
    }  # fmt: skip
    with pytest.raises(SolveError, match=f"{reason}.*no step or tolerance would help"):
        backend.solve(**arguments | change)


def test_a_gradient_and_a_training_have_the_budget_of_a_solve(backend: Any) -> None:
    """dt = 1e-9 is a billion steps: at most 100,000 are taken where nothing else is said."""
    tiny = Solver("Euler", dt=1e-9)
    with pytest.raises(SolveError, match="MaxIters"):
        backend.vjp(FIELD, DECAY, TWO, (0, 1), tiny, TWO)
    model = Model(FIELD, classes=2)
    state = TrainState.start(model.init(0))
    found = backend.train(model, state, TWO, [0], np.zeros((1, 1), int), tiny, Adam())
    assert (found.retcode, found.state.iteration) == ("MaxIters", 0)


def test_the_most_steps_are_those_that_32_bits_count() -> None:
    assert Solver("Tsit5", max_steps=2**31 - 1).max_steps == 2**31 - 1
    with pytest.raises(
        InvalidValueError, match=r"max_steps = 2147483648: expected an integer of 1"
    ):
        Solver("Tsit5", max_steps=2**31)
