"""A new backend is one class and one registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pynode_jl.backends import (
    BACKENDS,
    Backend,
    Capabilities,
    ChunkResult,
    Evaluation,
    Gradients,
    RetCode,
    Solution,
    Stats,
    get_backend,
    register_backend,
)
from pynode_jl.backends._registry import _ROWS
from pynode_jl.errors import BackendLacksSolverError, InvalidValueError, SolveError
from pynode_jl.fields import LinearField
from pynode_jl.models import Model, ModelWeights
from pynode_jl.runs import Config
from pynode_jl.solvers import Solver


class NumpyEuler(Backend):
    """Explicit Euler for linear fields, in NumPy."""

    name = "toy"

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def solvers(self) -> tuple[str, ...]:
        return ("Euler",)

    def _check_solver(self, solver: Solver, dense: Any) -> None:
        if solver.name != "Euler":
            raise BackendLacksSolverError("solver", solver.name, "Euler", "Take it.")

    def _solve(self, problem: Any, save_steps: bool) -> Solution:
        y, states, n, t = problem.y0, [], 0, problem.t0
        for grid, stop in zip(problem.grids(), problem.stops, strict=True):
            for i in range(grid.n):
                h = grid.dt if i < grid.n - 1 else grid.dt_last
                y = y + h * self._rhs(problem.field, problem.weights, t, y)
                t, n = t + h, n + 1
            t = stop
            states.append(y)
        stats = Stats(n, 0, n, 0, RetCode.Success)
        return Solution(np.array(problem.stops), np.stack(states), stats)

    def _rhs(self, field: Any, weights: Any, t: float, y: Any) -> Any:
        return y @ weights["layers.0.weight"].T + weights["layers.0.bias"]

    def _pullback(self, *arguments: Any) -> tuple[Solution, Callable[[Any], Gradients]]:
        raise SolveError("Failure", "the toy takes no gradients.")

    def _train(self, chunk: Any) -> ChunkResult:
        raise SolveError("Failure", "the toy does not train.")

    def _evaluate(self, model: Any, weights: Any, x: Any, solver: Any, precision: Any) -> Any:
        parts = ModelWeights.from_dict(weights)
        span = (model.t0, model.t1)
        found = self.solve(model.field, parts.field, model.initial_state(x), span, solver)
        return Evaluation(model.logits(found.y1, parts), found.y1, found.stats)

    def _step_jacobian(self, problem: Any, dt: float) -> Any:
        size = problem.field.size
        one = np.eye(size) + dt * problem.weights["layers.0.weight"]
        return np.broadcast_to(one, (len(problem.y0), size, size))


@pytest.fixture
def toy() -> Iterator[None]:
    register_backend("toy", lambda device: NumpyEuler(), Capabilities())
    yield
    del _ROWS["toy"]
    from pynode_jl.backends import _made

    _made.cache_clear()


@pytest.mark.usefixtures("toy")
def test_a_registered_backend_solves_and_evaluates() -> None:
    assert "toy" in BACKENDS
    backend, field = get_backend("toy"), LinearField(2)
    weights = {"layers.0.weight": -np.eye(2), "layers.0.bias": np.zeros(2)}
    solver = Solver("Euler", dt=1 / 4)
    solution = backend.solve(
        field, weights, np.ones((3, 2)), (0.0, 1.0), solver, save_at=[0.5, 1.0]
    )
    np.testing.assert_allclose(solution.y[:, 0, 0], [0.75**2, 0.75**4])
    assert solution.stats.seconds > 0  # measured once, in the base
    with pytest.raises(InvalidValueError, match="BacksolveAdjoint"):
        backend.vjp(
            field, weights, np.ones((3, 2)), (0.0, 1.0), solver, np.ones((3, 2)),
            gradient="BacksolveAdjoint",
        )  # fmt: skip
    model = Model(field, classes=2)
    head = {"head.weight": np.eye(2), "head.bias": np.zeros(2)}
    every = {f"field.{key}": value for key, value in weights.items()} | head
    found = backend.evaluate(model, every, np.array([[2.0, 1.0], [1.0, 2.0]]), solver)
    assert found.predictions.tolist() == [0, 1]
    Config.from_dict({"backend": "toy", "train": {"solver": "Euler:dt=1/4"}})


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["toy", "jax", "auto", "no name"])
def test_a_name_is_taken_once(name: str) -> None:
    with pytest.raises(InvalidValueError, match="name"):
        register_backend(name, lambda device: NumpyEuler())
