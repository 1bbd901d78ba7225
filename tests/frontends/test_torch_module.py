"""Modules read as fields, solved whole in a backend: the same numbers, the same torch."""

from __future__ import annotations

import copy
import gc
import io
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchdiffeq
from torch import Tensor, nn

from pynode_jl.backends.jax.checkpointing import pullback_policy
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    SolveError,
    UnknownNameError,
)
from pynode_jl.fields import MLP, Activation, ConvField1d, ConvField2d, Dense, VectorField
from pynode_jl.frontends.torch._methods import dense_method, find_method
from pynode_jl.frontends.torch._odeint import solve_with_stats
from pynode_jl.solvers import Solver, tableau
from pynode_jl.torch import FieldModule, NeuralODE, UntranslatableError, odeint, translate

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Of(nn.Module):
    """A module whose forward is given, over its children."""

    def __init__(self, forward: Callable[..., Tensor], **children: nn.Module) -> None:
        super().__init__()
        self.of = forward
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.of(self, t, y)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))


def timed() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 6), "b": nn.Linear(6, 2, bias=False)}


def joined(self: Any, column: Tensor, y: Tensor) -> Tensor:
    return self.b(torch.tanh(self.a(torch.cat([y, column], dim=1))))


#: name -> (module, shape of the states); the same field with as many samples is compiled once
READ: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "a chain": lambda: (Of(lambda self, t, y: self.net(y), net=chain()), (12, 2)),
    "no batch": lambda: (Of(lambda self, t, y: self.net(y), net=chain()), (2,)),
    "two batch axes": lambda: (Of(lambda self, t, y: self.net(y), net=chain()), (3, 4, 2)),
    "of y alone": lambda: (chain(), (12, 2)),
    "one layer": lambda: (nn.Linear(3, 3), (2, 3)),
    "functions": lambda: (
        Of(
            lambda self, t, y: nn.functional.silu(self.b(nn.functional.softplus(self.a(y).relu()))),
            a=nn.Linear(2, 5),
            b=nn.Linear(5, 2),
        ),
        (3, 2),
    ),
    "all activations": lambda: (
        nn.Sequential(
            nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 4), nn.Sigmoid(),
            nn.Linear(4, 4), nn.SiLU(), nn.Identity(), nn.Linear(4, 2), nn.Softplus(), nn.ReLU(),
        ),
        (3, 2),
    ),
    "a layer twice": lambda: (
        Of(lambda self, t, y: self.a(torch.tanh(self.a(y))), a=nn.Linear(2, 2)),
        (3, 2),
    ),
    "time last": lambda: (
        Of(lambda self, t, y: joined(self, t.expand(y.shape[0], 1), y), **timed()),
        (3, 2),
    ),
    "time as ones": lambda: (
        Of(lambda self, t, y: joined(self, torch.ones_like(y[:, :1]) * t, y), **timed()),
        (3, 2),
    ),
    "time first": lambda: (
        Of(
            lambda self, t, y: self.b(
                torch.tanh(self.a(torch.cat([t * torch.ones_like(y[:, :1]), y], 1)))
            ),
            **timed(),
        ),
        (3, 2),
    ),
    "conv1d": lambda: (
        Of(
            lambda self, t, y: self.b(self.a(y[:, None]).relu())[:, 0],
            a=nn.Conv1d(1, 4, 3, padding=1),
            b=nn.Conv1d(4, 1, 1),
        ),
        (3, 5),
    ),
    "conv1d with a channel": lambda: (
        nn.Sequential(nn.Conv1d(1, 4, 3, padding="same"), nn.Softplus(), nn.Conv1d(4, 1, 1)),
        (3, 1, 5),
    ),
    "conv2d": lambda: (
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 1)),
        (2, 2, 4, 3),
    ),
}  # fmt: skip


def _pulled(
    solve: Callable[..., Tensor],
    module: nn.Module,
    y0: Tensor,
    times: tuple[float, ...] = (0.2, 0.5, 1.1),
) -> list[Tensor]:
    """States at these times, by ``solve(y0, t)``, and the gradients to all that they depend on."""
    y0 = y0.clone().requires_grad_()
    t = torch.tensor(times, dtype=y0.dtype, requires_grad=True)
    y = solve(y0, t)
    weight = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    return [y, *torch.autograd.grad((weight * y).sum(), [y0, t, *module.parameters()])]


def _solved(module: nn.Module, shape: tuple[int, ...], **keywords: Any) -> list[Tensor]:
    """`_pulled` of a module of t and y, or of y alone."""
    random = torch.Generator().manual_seed(2)
    y0 = torch.randn(shape, generator=random, dtype=F64)
    if isinstance(module, Of):
        return _pulled(partial(odeint, module, **keywords), module, y0)
    node = NeuralODE(module, keywords["method"], backend=keywords["backend"])
    return _pulled(node, module, y0)


#: Compiled for what is in the others already.
SLOW = ("two batch axes", "functions", "all activations", "time as ones", "conv2d",
        "conv1d with a channel")  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in READ]
)
def test_a_read_module_is_the_module(name: str) -> None:
    """Fixed steps: states and gradients in the backend are torch's to rounding."""
    module, shape = READ[name]()
    module.to(F64)
    solver = Solver("RK4", dt=0.2)
    whole, here = (
        _solved(module, shape, method=solver, backend=backend) for backend in ("jax", "torch")
    )
    for a, b in zip(whole, here, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_what_is_read() -> None:
    module, _ = READ["time first"]()
    field = translate(module, torch.zeros(3, 2)).field
    assert field == VectorField((2,), (Dense(3, 6), Activation("tanh"), Dense(6, 2)), True)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.nfe, self.seen = chain(), 0, []

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        self.seen.append(t)
        return self.net(y)


def hooked() -> nn.Module:
    module = chain()
    module[0].register_forward_hook(lambda module, args, output: 2 * output)
    return module


class Doubled(nn.Linear):
    def forward(self, y: Tensor) -> Tensor:
        return 2 * super().forward(y)


#: name -> (module, what the reason says)
REFUSED: dict[str, Callable[[], tuple[nn.Module, str]]] = {
    "a product": lambda: (Of(lambda self, t, y: self.net(y) * y, net=chain()), "mul"),
    "a scale": lambda: (Of(lambda self, t, y: 0.5 * self.net(y), net=chain()), "mul"),
    "a skip": lambda: (Of(lambda self, t, y: self.net(y) + y, net=chain()), "add"),
    "a branch": lambda: (
        Of(lambda self, t, y: self.net(y) if y.sum() > 0 else y, net=chain()),
        "sum",
    ),
    "a counter": lambda: (Counting(), "changes self"),
    "a hook": lambda: (hooked(), "hooks"),
    "a subclass": lambda: (nn.Sequential(Doubled(2, 2)), "mul|layer"),
    "dropout": lambda: (nn.Sequential(nn.Linear(2, 2), nn.Dropout()), "Dropout"),
    "a batch norm": lambda: (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "BatchNorm"),
    "another gelu": lambda: (nn.Sequential(nn.Linear(2, 2), nn.GELU("tanh")), "gelu"),
    "an even kernel": lambda: (nn.Sequential(nn.Conv1d(1, 1, 2)), "conv1d"),
    "time in the middle": lambda: (
        Of(
            lambda self, t, y: joined(self, t.expand(y.shape[0], 1), torch.tanh(self.c(y))),
            c=nn.Linear(2, 2),
            **timed(),
        ),
        "cat",
    ),
    "no layer": lambda: (Of(lambda self, t, y: torch.tanh(y), unused=nn.Linear(2, 2)), "no Linear"),
    "a parametrization": lambda: (
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
        "layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_with_the_reason_and_runs_in_torch(name: str) -> None:
    module, reason = REFUSED[name]()
    y0 = torch.randn(3, 1, 2) if name == "an even kernel" else torch.randn(3, 2)
    with pytest.raises(UntranslatableError, match=reason):
        NeuralODE(module, Solver("Euler", dt=0.5), backend="jax")(y0)
    if name not in ("an even kernel", "a branch"):
        whole = NeuralODE(module.eval(), Solver("Euler", dt=0.5))
        assert whole(y0).shape == y0.shape
        assert whole.where(y0).startswith("in torch")


def test_reading_leaves_no_trace() -> None:
    module = Counting()
    with pytest.raises(UntranslatableError):
        translate(module, torch.zeros(3, 2))
    assert module.nfe == 0
    assert module.seen == []


def test_a_changed_module_is_read_again() -> None:
    net = chain()
    node = NeuralODE(net, Solver("RK4", dt=0.25), backend="jax")
    y0 = torch.randn(3, 2)
    node(y0)
    net[1] = nn.ReLU()
    expected = NeuralODE(net, Solver("RK4", dt=0.25), backend="torch")(y0)
    torch.testing.assert_close(node(y0), expected)
    with torch.no_grad():
        net[0].weight.mul_(2)
    expected = NeuralODE(net, Solver("RK4", dt=0.25), backend="torch")(y0)
    torch.testing.assert_close(node(y0), expected)


def test_it_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Sequential(nn.Linear(2, 13), nn.Tanh(), nn.Linear(13, 2))
    node = NeuralODE(module, Solver("Euler", dt=0.5))
    with caplog.at_level(logging.WARNING, logger="pynode_jl.torch"):
        for _ in range(3):
            node(torch.zeros(1, 2))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "jax backend" in line
    assert "Dense(inputs=2, outputs=13)" in line


def test_the_environment_is_asked_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Of(lambda self, t, y: self.net(y), net=chain())
    y0, t = torch.zeros(3, 2), torch.tensor([0.0, 1.0])
    odeint(module, y0, t)
    monkeypatch.setenv("PYNODE_BACKEND", "no such backend")
    with pytest.raises(UnknownNameError, match="PYNODE_BACKEND"):
        odeint(module, y0, t)


def test_shapes_that_keep_changing_go_to_torch() -> None:
    module = Of(lambda self, t, y: self.net(y), net=chain())
    t = torch.tensor([0.0, 1.0])
    compiled = 0
    for batch in range(1, 12):
        y = odeint(module, torch.zeros(batch, 2), t, method="Euler", options={"step_size": 0.5})
        compiled += "Solve" in y.grad_fn.name()
    assert compiled == 8


# gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        Solver("RK4", dt=0.3),
        Solver("DP5", rtol=1e-9, atol=1e-11),
        pytest.param(Solver("KenCarp4", dt=0.3), marks=pytest.mark.slow),
    ],
    ids=lambda each: each.name,
)
def test_gradcheck_in_the_backend(solver: Solver) -> None:
    module, _ = READ["time last"]()
    module.to(F64)
    y0 = torch.randn(3, 2, dtype=F64, requires_grad=True)
    t = torch.tensor([0.1, 0.6, 1.2], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda y0, t: odeint(module, y0, t, method=solver, backend="jax"), (y0, t), rtol=1e-3
    )


#: As many both ways: they share their compilations.
TIMES = {
    "forwards": (0.1, 0.13, 0.17, 0.9, 1.6),
    "backwards": (1.6, 1.5, 1.47, 0.8, 0.2),
}


@pytest.mark.parametrize("direction", TIMES)
@pytest.mark.parametrize(
    "method",
    [
        "dopri5",
        "bosh3",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("dopri8", "tsit5", "fehlberg2", "adaptive_heun")
        ),
    ],
)
def test_torchdiffeqs_names_take_torchdiffeqs_steps(method: str, direction: str) -> None:
    """Whole in the backend as step by step in torch: several times within a step, states and all
    gradients, and torchdiffeq's states and evaluations where it does what its papers say."""
    module, _ = READ["time last"]()
    module.to(F64)
    y0, t = torch.randn(5, 2, dtype=F64), torch.tensor(TIMES[direction], dtype=F64)
    keywords: dict[str, Any] = {"method": method, "rtol": 1e-4, "atol": 1e-6}
    results = [
        _pulled(partial(odeint, module, backend=each, **keywords), module, y0, TIMES[direction])
        for each in ("jax", "torch")
    ]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        kept_nothing = odeint(module, y0, t, backend="jax", **keywords)
    torch.testing.assert_close(kept_nothing, results[0][0].detach(), rtol=1e-13, atol=1e-14)
    if method in ("dopri5", "bosh3", "dopri8"):
        calls = []
        hook = module.register_forward_hook(lambda *_: calls.append(1))
        theirs = torchdiffeq.odeint(module, y0, t, **keywords)
        hook.remove()
        torch.testing.assert_close(results[0][0], theirs, rtol=1e-8, atol=1e-9)
        _, stats = solve_with_stats(module, module, y0, t, 1e-4, 1e-6, method, backend="jax")
        assert stats is not None
        assert stats.nf == len(calls)


def test_more_steps_than_there_was_room_for() -> None:
    """Steps over the saved times too are all kept, however many; limits and failures are told."""
    module, _ = READ["time last"]()
    module.to(F64)
    y0, t = torch.randn(2, 2, dtype=F64, requires_grad=True), torch.tensor([0.0, 9.0], dtype=F64)
    keywords: dict[str, Any] = {"method": "bosh3", "rtol": 1e-8, "atol": 1e-10}
    grads = []
    for backend in ("jax", "torch"):
        y1 = odeint(module, y0, t, backend=backend, **keywords)[-1]
        grads.append(torch.autograd.grad(y1.sum(), y0)[0])
    _, stats = solve_with_stats(module, module, y0, t, 1e-8, 1e-10, "bosh3", backend="jax")
    assert stats is not None
    assert stats.naccept > 128
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-10)
    with pytest.raises(SolveError, match="MaxIters"):
        odeint(module, y0, t, backend="jax", options={"max_num_steps": 5}, **keywords)
    with torch.no_grad():
        module.b.weight.mul_(1e200)
    with pytest.raises(SolveError, match="DtLessThanMin"):
        odeint(module, y0, t, backend="jax", **keywords)


class Wide(nn.Module):
    """Wide enough for the stages of its steps to be kept."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 48), activation(), nn.Linear(48, 48), activation(), nn.Linear(48, 2)
        )

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


KEPT: dict[str, dict[str, Any]] = {
    "dopri5": {"method": "dopri5"},
    "DP5": {"method": "DP5"},
    "RK4": {"method": "RK4", "options": {"step_size": 0.07}},
}


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        *((nn.Tanh, name) for name in KEPT),
        *(
            pytest.param(each, "dopri5", marks=pytest.mark.slow)
            for each in (nn.Softplus, nn.Sigmoid, nn.ReLU, nn.ELU)
        ),
    ],
)
def test_stages_that_are_kept_give_the_gradient(activation: type[nn.Module], name: str) -> None:
    module = Wide(activation).to(F64)
    field = translate(module, torch.zeros(3, 2, dtype=F64)).field
    method = dense_method(find_method(name, {}))
    table = tableau(name) if method is None else method.tableau
    assert pullback_policy(field, table, name == "RK4", 0, 3, np.dtype("f8")).save_residuals
    y0 = torch.randn(3, 2, dtype=F64)
    whole, here = (
        _pulled(
            partial(odeint, module, rtol=1e-6, atol=1e-8, backend=backend, **KEPT[name]), module, y0
        )
        for backend in ("jax", "torch")
    )
    if name == "DP5":
        # A time moves the end of Julia's last step in the backend, and its interpolant here.
        torch.testing.assert_close(whole.pop(2), here.pop(2), rtol=1e-6, atol=1e-8)
    for a, b in zip(whole, here, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_solves_that_wait_for_their_backward_keep_their_own_stages() -> None:
    """The memory for stages passes from a solve to the next only when the first is gone."""
    module, t = Wide(nn.Tanh), torch.tensor([0.0, 1.0])
    starts = [torch.randn(32, 2) for _ in range(3)]

    def loss(y0: Tensor) -> Tensor:
        return odeint(module, y0, t, method="dopri5", rtol=1e-4, backend="jax")[-1].pow(2).sum()

    def gradient(loss: Tensor, **keywords: Any) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(module.parameters()), **keywords))

    alone = [gradient(loss(y0)) for y0 in starts]
    waiting = [loss(y0) for y0 in starts]
    again = [gradient(each, retain_graph=True) for each in waiting]
    once_more = [gradient(each) for each in reversed(waiting)][::-1]
    for expected, *twice in zip(alone, again, once_more, strict=True):
        for each in twice:
            for a, b in zip(each, expected, strict=True):
                assert torch.equal(a, b)


def test_second_derivatives_come_from_torch() -> None:
    node = NeuralODE(chain(), Solver("RK4", dt=0.5), backend="jax").to(F64)
    y0 = torch.randn(2, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(node, (y0,))


def test_parts_without_gradient() -> None:
    node = NeuralODE(chain(), Solver("RK4", dt=0.5), backend="jax")
    node.field[0].weight.requires_grad_(False)
    node(torch.randn(3, 2)).sum().backward()
    assert node.field[0].weight.grad is None
    assert node.field[2].weight.grad is not None
    with torch.no_grad():
        assert not node(torch.randn(3, 2)).requires_grad


def test_backward_twice_adds_up() -> None:
    node = NeuralODE(chain(), Solver("RK4", dt=0.5), backend="jax")
    loss = node(torch.randn(3, 2)).pow(2).sum()
    loss.backward(retain_graph=True)
    once = node.field[0].weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(node.field[0].weight.grad, 2 * once)


def test_training_whole_is_torchdiffeqs() -> None:
    """Thirty steps of Adam through the backend: losses and weights are torchdiffeq's to 1e-6."""
    data, target = torch.randn(8, 2, dtype=F64), torch.randn(8, 2, dtype=F64)
    t = torch.tensor([0.0, 1.0], dtype=F64)
    module = Of(lambda self, t, y: self.net(y), net=chain()).to(F64)
    for method, options in (("rk4", {"step_size": 0.25}), ("dopri5", {})):
        results = []
        for solve in (odeint, torchdiffeq.odeint):
            twin, losses = copy.deepcopy(module), []
            optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
            for _ in range(30):
                y1 = solve(twin, data, t, method=method, options=options)[-1]
                loss = (y1 - target).pow(2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            results.append([torch.stack(losses), *(p.detach() for p in twin.parameters())])
        assert float(results[0][0][-1]) < 0.9 * float(results[0][0][0])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


# the module ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        (MLP(2, width=5, time_dependent=True), (4, 2)),
        (ConvField1d(6, channels=3), (4, 6)),
        (ConvField2d((1, 4, 4), channels=3), (2, 1, 4, 4)),
    ],
    ids=["mlp", "conv1d", "conv2d"],
)
def test_a_field_spec_is_a_module(backend: Any, field: VectorField, shape: tuple[int, ...]) -> None:
    solver = Solver("BS3", dt=0.25)
    node = NeuralODE(field, solver, t_span=(0.5, 1.5), seed=3)
    y0 = torch.randn(shape)
    expected = backend.solve(field, field.init(3), y0.numpy(), (0.5, 1.5), solver).y1
    assert node.where(y0).startswith("whole in a backend")
    np.testing.assert_allclose(node(y0).detach().numpy(), expected, rtol=1e-6, atol=1e-6)
    node.backend = "torch"
    np.testing.assert_allclose(node(y0).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_state_dict_copies_and_precision() -> None:
    node = NeuralODE(MLP(2, width=5), Solver("Vern7", rtol=1e-6))
    y0 = torch.randn(3, 2)
    y1 = node(y0)
    file = io.BytesIO()
    torch.save(node.state_dict(), file)
    file.seek(0)
    other = NeuralODE(MLP(2, width=5), Solver("Vern7", rtol=1e-6), seed=1)
    assert not torch.equal(other(y0), y1)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(y0), y1, rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(node)(y0), y1, rtol=0, atol=0)
    double = copy.deepcopy(node).double()(y0.double())
    assert double.dtype == F64
    torch.testing.assert_close(double.float(), y1, rtol=1e-5, atol=1e-5)
    assert node.to("cpu") is node


def test_nfe_is_reported() -> None:
    for backend in ("jax", "torch"):
        node = NeuralODE(MLP(2, width=5), Solver("RK4", dt=0.25), backend=backend)
        node(torch.randn(3, 2))
        assert node.nfe == 16


def test_times_and_refusals() -> None:
    node = NeuralODE(MLP(2, width=5), Solver("RK4", dt=0.25))
    y0 = torch.randn(3, 2)
    states = node(y0, torch.tensor([0.0, 0.5, 1.0]))
    assert states.shape == (3, 3, 2)
    torch.testing.assert_close(states[-1], node(y0))
    torch.testing.assert_close(states[0], y0)
    with pytest.raises(InvalidValueError, match="field"):
        NeuralODE(lambda t, y: y)  # type: ignore[arg-type]
    t = torch.tensor([0.0, 1.0])
    with pytest.raises(UnknownNameError, match="backend"):
        odeint(node.field, y0, t, backend="jaks")
    with pytest.raises(InvalidValueError, match="event_fn"):
        odeint(node.field, y0, t, backend="jax", event_fn=lambda t, y: y.sum())
    with pytest.raises(InvalidValueError, match="torch's alone"):
        odeint(node.field, y0, t, backend="jax", options={"min_step": 0.1})
    with pytest.raises(InvalidValueError, match="cannot be read"):
        odeint(lambda t, y: y, y0, t, backend="jax")
    with pytest.raises(BackendLacksSolverError):
        odeint(node.field, y0, t, method="Rodas5P", backend="jax")


def test_a_budget_of_steps_holds_wherever_it_is_solved() -> None:
    field = FieldModule(VectorField((1,), (Dense(1, 1), Activation("softplus"))))
    y0, t = torch.ones(1, 1), torch.tensor([0.0, 1.0])
    keywords: dict[str, Any] = {"method": Solver("Euler", dt=0.01, max_steps=3)}
    for backend in ("auto", "jax", "torch"):
        with pytest.raises(SolveError, match="MaxIters"):
            odeint(field, y0, t, backend=backend, **keywords)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_torch_compile_breaks_around_a_solve() -> None:
    """Whatever the compiler makes of the rest, the solve in its middle is the same."""

    class Classifier(nn.Module):
        def __init__(self, backend: str) -> None:
            super().__init__()
            self.ode = NeuralODE(MLP(2, width=5), Solver("RK4", dt=0.25), backend=backend)
            self.head = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.ode(2 * x)))

    x = torch.randn(3, 2)
    for backend in ("jax", "torch"):
        model = Classifier(backend)
        expected = model(x)
        compiled = torch.compile(model, backend="eager")
        got = compiled(x)
        torch.testing.assert_close(got, expected)
        got.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.long
@pytest.mark.parametrize("way", ["steps kept", "stages kept", "torch"])
def test_a_thousand_solves_leave_nothing(way: str) -> None:
    """Forward and backward, a thousand times: neither Python's objects nor the process grow."""
    import resource

    backend = "torch" if way == "torch" else "jax"
    y0, t = torch.randn(1024, 2), torch.tensor([0.0, 1.0])
    small = NeuralODE(MLP(2, width=4, depth=1), Solver("Tsit5", rtol=1e-2), backend=backend)
    # One state kept by each solve would be 8 MB in the end.
    module, start, solve = small, y0, small
    if way == "stages kept":
        module, start = Wide(nn.Tanh), y0[:32]
        solve = partial(odeint, module, t=t, method="dopri5", rtol=1e-2, backend=backend)

    def after(times: int) -> tuple[int, int]:
        for _ in range(times):
            module.zero_grad()
            solve(start).sum().backward()
        gc.collect()
        return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    objects, peak = after(60)
    objects_then, peak_then = after(1000)
    assert objects_then - objects < 500
    assert peak_then - peak < 6_000  # KiB


def test_a_backward_keeps_no_solve_alive() -> None:
    """Dropped without a backward, a solve and its steps are gone."""
    node = NeuralODE(MLP(2, width=5), Solver("RK4", dt=0.25), backend="jax")
    y = node(torch.randn(3, 2))
    assert y.grad_fn is not None
    del y
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each).__name__ == "Plan"]
    assert kept == []
