"""Julia's pullback against the JAX one, and torch modules trained through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from julia_problems import distance, needs_julia, problem

from pynode_jl.backends import get_backend
from pynode_jl.errors import InvalidValueError, SolveError, WrongSolverError
from pynode_jl.fields import MLP
from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE, odeint

pytestmark = needs_julia

TIMES = [0.1, 0.47, 0.8, 1.3]
SPAN = (TIMES[0], TIMES[-1])


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


def cotangents(y0: np.ndarray, times: int = 3) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(times, *y0.shape))


def assert_alike(ours: Any, theirs: Any, bound: float = 1e-10) -> None:
    assert distance(ours.y0, theirs.y0) < bound
    assert distance(ours.times, theirs.times) < bound
    assert set(ours.weights) == set(theirs.weights)
    assert all(distance(ours.weights[k], v) < bound for k, v in theirs.weights.items())


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("mlp", "Tsit5"),
        ("mlp", "Vern7"),
        ("conv1d, windows", "Tsit5"),
        pytest.param("mlp", "KenCarp4", marks=pytest.mark.slow),
        pytest.param("conv1d, one matrix", "RK4", marks=pytest.mark.slow),
        pytest.param("conv2d", "RK4", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_fixed_steps_agree(
    julia: Any, backend: Any, name: str, solver: str, backwards: bool
) -> None:
    """The step does not divide the intervals between times: all cases of the times' gradient."""
    field, weights, y0 = problem(name)
    times = TIMES[::-1] if backwards else TIMES
    arguments = (field, weights, y0, (times[0], times[-1]), Solver(solver, dt=0.2))
    (ours, pull), (theirs, pull_theirs) = (
        each.pullback(*arguments, save_at=times[1:]) for each in (julia, backend)
    )
    assert distance(ours.y, theirs.y) < 1e-10
    assert ours.stats.naccept == theirs.stats.naccept
    assert_alike(pull(cotangents(y0)), pull_theirs(cotangents(y0)))


@pytest.mark.parametrize("solver", ["Tsit5", "Vern7"])
def test_adaptive_steps_agree(julia: Any, backend: Any, solver: str) -> None:
    field, weights, y0 = problem("mlp")
    arguments = (field, weights, y0, (0.0, 1.0), Solver(solver, rtol=1e-6, atol=1e-8))
    (ours, pull), (theirs, pull_theirs) = (each.pullback(*arguments) for each in (julia, backend))
    assert ours.stats.naccept == theirs.stats.naccept > 1
    assert distance(ours.y, theirs.y) < 1e-10
    assert_alike(pull(cotangents(y0, 1)), pull_theirs(cotangents(y0, 1)), 1e-9)


def test_pullbacks_do_not_disturb_each_other(julia: Any) -> None:
    """One network serves all solves of a field: what a pullback holds is its own."""
    field, weights, y0 = problem("mlp")
    arguments, bars = (SPAN, Solver("Tsit5", rtol=1e-6)), cotangents(y0)
    others = {name: 2 * value for name, value in weights.items()}
    alone = [
        julia.pullback(field, each, y0, *arguments, save_at=TIMES[1:])[1](bars)
        for each in (weights, others)
    ]
    pulls = [
        julia.pullback(field, each, y0.T.copy().T, *arguments, save_at=TIMES[1:])[1]
        for each in (weights, others)
    ]
    for value in weights.values():
        value += 1.0
    julia.vjp(field, weights, y0, *arguments, bars[0])
    for pull, expected in zip(pulls, alone, strict=True):
        assert_alike(pull(bars), expected, 1e-15)
    assert distance(alone[0].y0, alone[1].y0) > 1e-3


def test_refusals(julia: Any) -> None:
    field, weights, y0 = problem("mlp")
    with pytest.raises(WrongSolverError, match="Rosenbrock23"):
        julia.pullback(field, weights, y0, SPAN, Solver("Rosenbrock23"))
    with pytest.raises(SolveError, match="MaxIters"):
        julia.pullback(field, weights, y0, SPAN, Solver("Tsit5", max_steps=1))
    _, pull = julia.pullback(field, weights, y0, SPAN, Solver("Tsit5"))
    with pytest.raises(InvalidValueError, match=r"cotangents\.shape"):
        pull(y0)


def trained(backend: str, solver: Solver) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and final weights of a short training loop of torch's, in float64."""
    node = NeuralODE(MLP(2, width=6, time_dependent=True), solver, backend=backend).double()
    model = torch.nn.Sequential(node, torch.nn.Linear(2, 1, dtype=torch.float64))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.3, -0.7]]))
        model[1].bias.zero_()
    x = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(16, 2)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(8):
        loss = (model(x) - x.prod(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, {k: v.detach().numpy() for k, v in model.named_parameters()}


@pytest.mark.parametrize(
    "solver", [Solver("Tsit5", rtol=1e-6, atol=1e-8), Solver("Vern7", dt=0.25)], ids=str
)
def test_a_torch_module_trains_with_julias_solvers(solver: Solver) -> None:
    (losses, weights), (expected, expected_weights) = (
        trained(name, solver) for name in ("julia", "jax")
    )
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    for name, value in expected_weights.items():
        np.testing.assert_allclose(weights[name], value, rtol=1e-7, atol=1e-9)


def test_odeint_by_name(backend: Any) -> None:
    """torchdiffeq's call, its gradients to the state, the times and the parameters in Julia."""
    found = []
    for name in ("julia", "jax"):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
        module.double()
        y0 = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
        t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64, requires_grad=True)
        y = odeint(module, y0, t, method="Vern7", options={"step_size": 0.25}, backend=name)
        y.square().sum().backward()
        found.append([y.detach(), y0.grad, t.grad, *(each.grad for each in module.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
