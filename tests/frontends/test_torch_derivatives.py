"""Derivatives of all orders and ways through solves in torch: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE, odeint, odeint_adjoint, odeint_event

F64 = torch.float64
T = torch.tensor([0.0, 1.0], dtype=F64)
IMPLICIT = {
    "implicit_euler": 0.5, "trapezoid": 0.5, "implicit_midpoint": 0.25, "gl4": 0.25, "TRBDF2": 0.25,
    "KenCarp4": 0.5,
}  # fmt: skip


def chain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).to(F64)


@pytest.mark.parametrize("method", IMPLICIT)
def test_second_and_third_derivatives_of_implicit_methods(method: str) -> None:
    """y' = -5 p y^3: the matrix of Newton's iteration must not count as a constant. Against
    differences of the derivative one order below, which are right to some 1e-9."""

    def end(y: Tensor, p: Tensor) -> Tensor:
        y1 = odeint(
            lambda t, y: -5 * p * y**3, y, T, method=method, options={"step_size": IMPLICIT[method]}
        )
        return y1[-1].sum()

    def derivative(order: int, y: Tensor) -> Tensor:
        p = torch.tensor(1.1, dtype=F64, requires_grad=True)
        y = y.clone().requires_grad_()
        value = end(y, p)
        for i in range(order):
            value = torch.autograd.grad(value, p if i == 1 else y, create_graph=True)[0].sum()
        return value.detach()

    y, h = torch.tensor([0.7], dtype=F64), 1e-5
    for order in (1, 2):
        differences = (derivative(order, y + h) - derivative(order, y - h)) / (2 * h)
        p = torch.tensor(1.1, dtype=F64, requires_grad=True)
        x = y.clone().requires_grad_()
        value = end(x, p)
        for i in range(order):
            value = torch.autograd.grad(value, p if i == 1 else x, create_graph=True)[0].sum()
        exact = torch.autograd.grad(value, x)[0].sum()
        torch.testing.assert_close(exact, differences, rtol=1e-6, atol=1e-7)


def _nested(function: Callable[[Tensor], Tensor], order: int, way: str) -> Callable[..., Tensor]:
    """A derivative of a function of one number."""
    if order == 0:
        return function
    lower = _nested(function, order - 1, way)
    if way == "forward":
        return lambda x: torch.func.jvp(lower, (x,), (torch.ones_like(x),))[1]
    if way == "reverse":
        return torch.func.grad(lower)

    def derivative(x: Tensor) -> Tensor:
        x = x if x.requires_grad else x.clone().requires_grad_()
        return torch.autograd.grad(lower(x), x, create_graph=True)[0]

    return derivative


def _growth(method: str) -> Callable[[Tensor], Tensor]:
    """One step of length 1 of y' = p y from 1, a function of p: the stability function."""
    steps = {"method": method, "options": {"step_size": 1.0}}
    return lambda p: odeint(lambda t, y: p * y, torch.ones(1, dtype=F64), T, **steps)[-1].sum()


@pytest.mark.parametrize("way", ["forward", "reverse", "nested"])
def test_fourth_derivatives_are_right_or_refused(way: str) -> None:
    """RK4's stability function is 1 + p + p^2/2 + p^3/6 + p^4/24, implicit Euler's 1/(1 - p)."""
    p = torch.tensor(0.25, dtype=F64)
    factorial = [1.0, 1.0, 2.0, 6.0, 24.0]
    for order in range(1, 5):
        exact = sum(0.25 ** (k - order) / factorial[k - order] for k in range(order, 5))
        found = _nested(_growth("RK4"), order, way)(p)
        assert found.item() == pytest.approx(exact, rel=1e-12)
        implicit = _nested(_growth("implicit_euler"), order, way)
        if way == "nested" and order == 4:
            with pytest.raises(InvalidValueError, match=r"3 or fewer.*explicit"):
                implicit(p)
        else:
            exact = factorial[order] * 0.75 ** -(order + 1)
            assert implicit(p).item() == pytest.approx(exact, rel=1e-9)


def test_what_is_beyond_the_third_order_is_refused_however_it_is_reached() -> None:
    """The order counts over all ways, inputs and steps; lower ones stay right beside it."""
    p = torch.tensor(0.25, dtype=F64, requires_grad=True)
    growth = _growth("implicit_euler")
    second = torch.func.grad(torch.func.grad(growth))
    (third,) = torch.autograd.grad(second(p), p, create_graph=True)
    assert third.item() == pytest.approx(6 * 0.75**-4, rel=1e-9)
    with pytest.raises(InvalidValueError, match="3 or fewer"):
        third.backward()

    y = torch.tensor([0.7], dtype=F64, requires_grad=True)
    options = {"step_size": 0.25}
    end = odeint(lambda t, y: -p * y**2, y, T, method="trapezoid", options=options)[-1].sum()
    value = end
    for each in (y, p, p):
        value = torch.autograd.grad(value.sum(), each, create_graph=True)[0]
    with pytest.raises(InvalidValueError, match="3 or fewer"):
        torch.autograd.grad(value.sum(), y)


WAYS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "vectorize": lambda f, y: jacobian(f, y, vectorize=True),
    "forward": lambda f, y: jacobian(f, y, vectorize=True, strategy="forward-mode"),
    "jacrev": lambda f, y: torch.func.jacrev(f)(y),
    "jacfwd": lambda f, y: torch.func.jacfwd(f)(y),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["rk4", "dopri5", "implicit_midpoint"])
def test_every_way_to_a_jacobian(method: str, way: str) -> None:
    """Whole in the backend, as far as it can, and in torch: as torch's plain one."""
    node, y = chain(), torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = node

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.net(y)

    options = {} if method == "dopri5" else {"step_size": 0.25}

    def end(y: Tensor, backend: str = "auto") -> Tensor:
        states = odeint(Field(), y, T, method=method, options=options, backend=backend)
        return states[-1].sin().sum(0)

    expected = jacobian(lambda y: end(y, "torch"), y)
    torch.testing.assert_close(WAYS[way](end, y), expected, rtol=1e-7, atol=1e-8)


def test_hessians_whole_and_under_transforms() -> None:
    node = NeuralODE(chain(), Solver("RK4", dt=0.25))
    y = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))

    def loss(y: Tensor) -> Tensor:
        return node(y).pow(2).sum()

    node.backend = "torch"
    expected = hessian(loss, y)
    node.backend = "auto"
    for found in (hessian(loss, y), hessian(loss, y, vectorize=True), torch.func.hessian(loss)(y)):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def test_other_weights_get_the_gradients_of_their_solve() -> None:
    """MAML: the graph of a gradient belongs to the weights of that time, not to the module's."""
    node, y = NeuralODE(chain(), Solver("RK4", dt=0.25)), torch.randn(3, 2, dtype=F64)
    others = {k: (v * 0.5).detach().requires_grad_() for k, v in node.named_parameters()}
    results = []
    for backend in ("torch", "auto"):
        for graph in (False, True):
            node.backend = backend
            z = y.clone().requires_grad_()
            value = functional_call(node, others, (z,)).pow(2).sum()
            results.append(torch.autograd.grad(value, [z, *others.values()], create_graph=graph))
    for each in results[1:]:
        for a, b in zip(each, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_what_changes_between_a_solve_and_its_gradient_plays_no_part() -> None:
    y, gradients = torch.randn(3, 2, dtype=F64), []
    for backend in ("torch", "auto"):
        field = chain()
        node = NeuralODE(field, Solver("RK4", dt=0.25), backend=backend)
        z = y.clone().requires_grad_()
        value = node(z).pow(2).sum()
        field[0].weight, field[1] = nn.Parameter(torch.zeros(4, 2, dtype=F64)), nn.ReLU()
        gradients.append(torch.autograd.grad(value, z, create_graph=True)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


def test_the_adjoint_and_events_refuse_second_derivatives() -> None:
    a = torch.tensor(2.0, dtype=F64, requires_grad=True)
    y0 = torch.tensor([3.0], dtype=F64)

    def field(t: Tensor, y: Tensor) -> Tensor:
        return -a * y

    def by_event() -> Tensor:
        start = torch.zeros((), dtype=F64)
        return odeint_event(field, y0, start, event_fn=lambda t, y: y.sum() - 1.0)[0]

    for value, name in (
        (odeint_adjoint(field, y0, T, adjoint_params=(a,))[-1].sum(), "odeint_adjoint"),
        (by_event(), "odeint_event"),
    ):
        (first,) = torch.autograd.grad(value, a, create_graph=True)
        with pytest.raises(InvalidValueError, match=name):
            (value + first**2).backward()
    with pytest.raises(InvalidValueError, match="Use odeint"):
        torch.func.jacrev(lambda y: odeint_adjoint(field, y, T, adjoint_params=(a,))[-1])(y0)


def test_vmap_where_values_are_asked_for() -> None:
    """An explicit method with fixed steps asks for none."""
    y0 = torch.randn(3, 2, dtype=F64)

    def end(y: Tensor, **keywords: Any) -> Tensor:
        return odeint(lambda t, y: -y, y, T, **keywords)[-1]

    steps: dict[str, Any] = {"method": "rk4", "options": {"step_size": 0.5}}
    mapped = torch.vmap(lambda y: end(y, **steps))(y0)
    torch.testing.assert_close(mapped, end(y0, **steps))
    with pytest.raises(InvalidValueError, match="batch"):
        torch.vmap(end)(y0)
