"""Every tableau that both backends have: the same states, gradients and trainings from Julia as
from the JAX backend, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from julia_problems import PARITY, a_tenth, distance, needs_julia

from pynode_jl.backends import Adam, RetCode, TrainState, get_backend
from pynode_jl.backends.julia._names import OTHER_ABSCISSAE, OTHER_STEPS
from pynode_jl.errors import WrongSolverError
from pynode_jl.fields import MLP
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, tableau

pytestmark = needs_julia

# Autonomous: of some solvers Julia's abscissae are not their tableaus' row sums.
MODEL = Model(MLP(3, width=6, activation="tanh"), classes=3, augment=1)
BOUNDS = {np.float64: 1e-9, np.float32: 2e-4}


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", a_tenth(PARITY))
def test_a_tableau_is_the_same_solver(julia: Any, backend: Any, name: str, dtype: Any) -> None:
    if name not in julia.solvers():
        pytest.skip(f"{name}: {julia.missing_solvers()[name]}")
    solver = Solver(name, dt=1 / 4)
    # What a step rounds its weights multiply: their sizes add up to 1 or 2, to 354 in Vern6.
    bound = BOUNDS[dtype] * max(1.0, np.abs(tableau(name).b).sum() / 50)
    drawn = np.random.default_rng(11)
    weights = {k: v.astype(dtype) for k, v in MODEL.field.init(1).items()}
    y0 = drawn.normal(size=(5, 3)).astype(dtype)
    if name == "QPRK98" and dtype is np.float32:
        with pytest.raises(WrongSolverError, match="their rounding decides the states"):
            julia.solve(MODEL.field, weights, y0, (0.0, 1.0), solver)
        return
    if name in OTHER_STEPS:
        with pytest.raises(WrongSolverError, match="OrdinaryDiffEq"):
            julia.vjp(MODEL.field, weights, y0, (0.0, 1.0), solver, y0)
        return
    ours, theirs = (
        each.solve(MODEL.field, weights, y0, (0.0, 1.0), solver) for each in (julia, backend)
    )
    assert distance(ours.y1, theirs.y1) < bound, "states"
    cotangent = np.cos(y0)
    ours, theirs = (
        each.vjp(MODEL.field, weights, y0, (0.0, 1.0), solver, cotangent)
        for each in (julia, backend)
    )
    assert distance(ours[1], theirs[1]) < bound, "gradients to y0"
    assert all(distance(ours[0][key], theirs[0][key]) < bound for key in weights), "to weights"
    ours, theirs = (_trained(each, solver, dtype) for each in (julia, backend))
    assert ours.retcode == theirs.retcode == RetCode.Success
    assert ours.state.iteration == theirs.state.iteration == 100
    # A training moves rounding about: a hundred updates by Adam, each a ratio of small numbers.
    assert distance(ours.loss, theirs.loss) < 10 * bound, "losses"
    assert all(
        distance(ours.state.weights[key], value) < 10 * bound
        for key, value in theirs.state.weights.items()
    ), "trained weights"


def _trained(backend: Any, solver: Solver, dtype: Any) -> Any:
    drawn = np.random.default_rng(0)
    x, labels = drawn.normal(size=(64, 2)).astype(dtype), drawn.integers(0, 3, 64)
    batches = drawn.integers(0, 64, (100, 16)).astype(np.int32)
    start = TrainState.start(MODEL.init(0))
    return backend.train(MODEL, start, x, labels, batches, solver, Adam(1e-3))


def test_what_is_not_the_same_is_known() -> None:
    assert set(PARITY) >= OTHER_ABSCISSAE | set(OTHER_STEPS)


def test_steps_that_are_not_the_tableaus_are_not_differentiated(julia: Any) -> None:
    """Kvaerno4 of another gamma, Kvaerno3 at other times: gradients of another method."""
    forced = Model(MLP(3, width=6, time_dependent=True), classes=3, augment=1)
    for model, name in ((MODEL, "Kvaerno4"), (forced, "Kvaerno3")):
        weights, y0, solver = model.field.init(0), np.ones((2, 3), "f"), Solver(name, dt=1 / 4)
        start = TrainState.start(model.init(0))
        calls = (
            lambda m=model, w=weights, y=y0, s=solver: julia.pullback(m.field, w, y, (0.0, 1.0), s),
            lambda m=model, b=start, s=solver: julia.train(
                m, b, np.ones((2, 2), "f"), np.zeros(2, int), np.zeros((1, 2), int), s, Adam()
            ),
        )
        for call in calls:
            with pytest.raises(WrongSolverError, match=f"{name}.*OrdinaryDiffEq"):
                call()
