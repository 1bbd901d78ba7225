"""The torch backend: the JAX backend's numbers, and any module where it lives."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pynode_jl.backends import Adam, RetCode, TrainState, get_backend
from pynode_jl.datasets import Dataset
from pynode_jl.diagnostics import certify, swap
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    SolveError,
    UnknownNameError,
    WrongSolverError,
)
from pynode_jl.fields import MLP, ConvField1d, ConvField2d, FunctionField, LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
from pynode_jl.torch import NeuralODE, to_trained
from pynode_jl.training import TrainedModel

FIELD = MLP(2, width=6, depth=1, time_dependent=True)
DECAY = FunctionField(lambda t, y: -y, (1,), backend="torch")
BLOW_UP = FunctionField(lambda t, y: y * y, (1,), backend="torch")
ONE = np.ones((1, 1))


@pytest.fixture(scope="module")
def ours() -> Any:
    return get_backend("torch")


@pytest.fixture(scope="module")
def jax_backend() -> Any:
    return get_backend("jax")


def doubled(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: value.astype(float) for name, value in weights.items()}


def states(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


# The JAX backend's numbers -----------------------------------------------------------------------

SPANS = {"forwards": ((0.1, 1.4), None), "backwards": ((1.4, 0.1), [1.3, 1.25, 0.5])}
SOLVERS = {
    "fixed": Solver("DP5", dt=0.13),
    "adaptive": Solver("Tsit5", rtol=1e-6, atol=1e-8),
    "two error estimates": Solver("DP8", rtol=1e-6, atol=1e-8),
    "rejected steps": Solver("BS3", rtol=1e-2, atol=1e-2),
    "implicit": Solver("ImplicitEuler", dt=0.1),
    "implicit and adaptive": Solver("KenCarp4", rtol=1e-4, atol=1e-6),
}
LONG = ("two error estimates", "rejected steps", "implicit", "implicit and adaptive")


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.long] * (each in LONG)) for each in SOLVERS]
)
def test_steps_and_gradients_are_the_jax_backends(ours: Any, jax_backend: Any, name: str) -> None:
    """States, all counts, and the gradients to weights, y0 and times."""
    solver, weights, y0 = SOLVERS[name], doubled(FIELD.init(1)), states(5, 2)
    for span, save_at in SPANS.values():
        plain = [
            each.solve(FIELD, weights, y0, span, solver, save_at=save_at)
            for each in (ours, jax_backend)
        ]
        kept = [
            each.pullback(FIELD, weights, y0, span, solver, save_at=save_at)
            for each in (ours, jax_backend)
        ]
        for a, b in (plain, (kept[0][0], kept[1][0])):
            np.testing.assert_allclose(a.y, b.y, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(a.t, b.t, rtol=1e-14)
            for count in ("nf", "njac", "naccept", "nreject", "retcode"):
                assert getattr(a.stats, count) == getattr(b.stats, count)
        cotangents = np.cos(np.arange(plain[0].y.size)).reshape(plain[0].y.shape)
        a, b = (pull(cotangents) for _, pull in kept)
        pairs = [(a.weights[each], b.weights[each]) for each in weights]
        for x, y in [(a.y0, b.y0), (a.times, b.times), *pairs]:
            np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-11)


def test_float32_is_the_jax_backends(ours: Any, jax_backend: Any) -> None:
    """Fixed steps to rounding. Adaptive ones move with the rounding of the error estimate."""
    y0 = states(5, 2).astype(np.float32)
    for solver, tolerance in ((Solver("RK4", dt=0.13), 1e-5), (Solver("Tsit5", rtol=1e-4), 1e-3)):
        a, b = (
            each.solve(FIELD, FIELD.init(1), y0, (0.1, 1.4), solver, save_steps=True)
            for each in (ours, jax_backend)
        )
        assert a.y.dtype == np.float32
        assert len(a.t) == len(b.t) == a.stats.naccept + 1
        np.testing.assert_allclose(a.y1, b.y1, rtol=tolerance, atol=tolerance / 10)
        if solver.fixed:
            np.testing.assert_allclose(a.t, b.t, rtol=1e-5)
            np.testing.assert_allclose(a.y, b.y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "shape"),
    [(ConvField1d(5, channels=3, time_dependent=True), (4, 5)),
     (ConvField2d((2, 4, 3), channels=3, time_dependent=True), (2, 2, 4, 3))],
    ids=["conv1d", "conv2d"],
)  # fmt: skip
def test_fields_and_jacobians_are_the_jax_backends(
    ours: Any, jax_backend: Any, field: Any, shape: tuple[int, ...]
) -> None:
    weights, y = doubled(field.init(2)), states(*shape)
    slopes = [each.rhs(field, weights, 0.7, y) for each in (ours, jax_backend)]
    np.testing.assert_allclose(*slopes, rtol=1e-12, atol=1e-13)
    solver = Solver("Midpoint", dt=0.2)
    jacobians = [
        each.step_jacobian(field, weights, y, 0.3, -0.2, solver) for each in (ours, jax_backend)
    ]
    np.testing.assert_allclose(*jacobians, rtol=1e-11, atol=1e-12)


def test_the_jacobian_of_an_implicit_step(ours: Any) -> None:
    """y' = -y: a step of the implicit Euler method divides by 1 + dt."""
    jacobian = ours.step_jacobian(DECAY, {}, states(3, 1), 0.0, 0.5, Solver("ImplicitEuler", dt=1))
    np.testing.assert_allclose(jacobian, np.full((3, 1, 1), 1 / 1.5), rtol=1e-13)


# Training ----------------------------------------------------------------------------------------


def chunk(backend: Any, model: Model, state: TrainState, rows: slice, **keywords: Any) -> Any:
    x, labels = states(40, 2), np.arange(40) % 2
    batches = np.random.default_rng(1).integers(0, 40, (20, 8))
    solver = keywords.pop("solver", Solver("RK4", dt=0.25))
    return backend.train(model, state, x, labels, batches[rows], solver, Adam(1e-2), **keywords)


def test_training_is_the_jax_backends_and_goes_on(ours: Any, jax_backend: Any) -> None:
    model = Model(MLP(3, width=6), classes=2, augment=1)
    begin = TrainState.start(doubled(model.init(0)))
    theirs = chunk(jax_backend, model, begin, slice(None))
    whole = chunk(ours, model, begin, slice(None))
    assert whole.loss[-1] < whole.loss[0]
    np.testing.assert_allclose(whole.loss, theirs.loss, rtol=1e-11)
    np.testing.assert_array_equal(whole.accuracy, theirs.accuracy)
    np.testing.assert_array_equal(whole.nf, theirs.nf)
    half = chunk(ours, model, begin, slice(10))
    rest = chunk(ours, model, half.state, slice(10, None))
    assert rest.state.iteration == 20
    for name, value in whole.state.weights.items():
        np.testing.assert_allclose(value, theirs.state.weights[name], rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(rest.state.weights[name], value)
        np.testing.assert_array_equal(rest.state.nu[name], whole.state.nu[name])


def test_training_ends_at_the_last_good_state(ours: Any) -> None:
    model = Model(MLP(2, width=6), classes=2)
    begin = TrainState.start(doubled(model.init(0)))
    stopped = chunk(ours, model, begin, slice(None), solver=Solver("RK4", dt=0.1, max_steps=3))
    assert (stopped.retcode, stopped.state.iteration, len(stopped.loss)) == ("MaxIters", 0, 0)
    np.testing.assert_array_equal(
        stopped.state.weights["head.weight"], begin.weights["head.weight"]
    )
    with pytest.raises(InvalidValueError, match="precision"):
        chunk(ours, model, begin, slice(None), precision="bfloat16")
    with pytest.raises(InvalidValueError, match="gradient"):
        chunk(ours, model, begin, slice(None), gradient="BacksolveAdjoint")


# Failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "code"),
    [
        (Solver("RK4", dt=0.1), RetCode.Unstable),
        (Solver("ImplicitEuler", dt=0.4), RetCode.ConvergenceFailure),
        (Solver("Tsit5", rtol=1e-6), RetCode.DtLessThanMin),
        (Solver("Tsit5", rtol=1e-6, max_steps=9), RetCode.MaxIters),
        (Solver("RK4", dt=0.1, max_steps=9), RetCode.MaxIters),
    ],
    ids=str,
)
def test_failures_have_codes(ours: Any, solver: Solver, code: RetCode) -> None:
    """y' = y^2 from 1 leaves every bound at t = 1."""
    with pytest.raises(SolveError, match=code):
        ours.solve(BLOW_UP, {}, ONE, (0.0, 4.0), solver)
    ended = ours.solve(BLOW_UP, {}, ONE, (0.0, 4.0), solver, throw=False)
    assert ended.stats.retcode == code
    assert len(ended.t) == len(ended.y) == 1
    assert np.isnan(ours.solve(BLOW_UP, {}, ONE * np.nan, (0.0, 1.0), solver, throw=False).y).all()


def test_the_budget_is_one_over_all_save_times(ours: Any) -> None:
    solver = Solver("Euler", dt=0.1, max_steps=6)
    ended = ours.solve(DECAY, {}, ONE, (0.0, 1.0), solver, save_at=[0.5, 1.0], throw=False)
    assert ended.stats.retcode == RetCode.MaxIters
    assert ended.stats.naccept == 6
    np.testing.assert_allclose(ended.t, [0.5, 0.6])
    np.testing.assert_allclose(ended.y[:, 0, 0], [0.9**5, 0.9**6])


def test_save_times_cut_steps_and_steps_can_be_saved(ours: Any) -> None:
    solver = Solver("Euler", dt=0.5)
    cut = ours.solve(DECAY, {}, ONE, (0.0, 1.0), solver, save_at=[0.25, 1.0])
    np.testing.assert_allclose(cut.y[:, 0, 0], [0.75, 0.75 * 0.5 * 0.75])
    every = ours.solve(DECAY, {}, ONE, (1.0, 0.0), solver, save_steps=True)
    np.testing.assert_allclose(every.t, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(every.y[:, 0, 0], [1.0, 1.5, 2.25])


def test_what_it_does_not_have_is_refused(ours: Any, jax_backend: Any) -> None:
    assert "Vern7" in ours.solvers()
    assert "cpu" in ours.devices()
    for solver, error in (
        (Solver("Rodas5P"), BackendLacksSolverError),
        (Solver("RK4", rtol=1e-3), BackendLacksSolverError),
        (Solver("Tsit5", options={"lazy": False}), WrongSolverError),
        (Solver("Euler", dt=2.0), InvalidValueError),
    ):
        with pytest.raises(error):
            ours.solve(DECAY, {}, ONE, (0.0, 1.0), solver)
    with pytest.raises(InvalidValueError, match='backend="torch"'):
        jax_backend.solve(DECAY, {}, ONE, (0.0, 1.0), Solver("Euler", dt=0.5))
    theirs = FunctionField(lambda weights, t, y: -y, (1,))
    with pytest.raises(InvalidValueError, match='backend="jax"'):
        ours.solve(theirs, {}, ONE, (0.0, 1.0), Solver("Euler", dt=0.5))
    with pytest.raises(InvalidValueError, match="device"):
        get_backend("torch", "tpu")
    with pytest.raises(UnknownNameError):
        get_backend("pytorch")


# Modules where they live -------------------------------------------------------------------------


class Counted(nn.Module):
    """More than a `VectorField`: it counts, normalises, scales, and has a buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("scale", torch.tensor(1.5))
        self.nfe = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        h = torch.cat([y, t.expand(len(y), 1)], 1)
        return self.scale * self.last(torch.tanh(self.norm(self.first(h))))


def in_jax(weights: Any, t: Any, y: Any) -> Any:
    """`Counted`, written in JAX."""
    import jax.numpy as jnp

    h = jnp.concatenate([y, jnp.full((len(y), 1), t, y.dtype)], 1)
    h = h @ weights["first.weight"].T + weights["first.bias"]
    centred = h - h.mean(1, keepdims=True)
    h = centred / jnp.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    h = jnp.tanh(h * weights["norm.weight"] + weights["norm.bias"])
    return 1.5 * (h @ weights["last.weight"].T + weights["last.bias"])


def test_a_module_is_a_field(ours: Any) -> None:
    """Its parameters by name are the weights; it keeps its own, and counts its calls."""
    module = Counted()
    field = FunctionField(module, (2,), backend="torch")
    weights = field.init(0)
    assert list(weights) == [name for name, _ in module.named_parameters()]
    own = {name: value.clone() for name, value in module.state_dict().items()}
    zero = {name: np.zeros_like(value) for name, value in weights.items()}
    solution = ours.solve(field, zero, states(4, 2), (0.0, 1.0), Solver("Euler", dt=0.5))
    np.testing.assert_allclose(solution.y1, states(4, 2))
    assert solution.stats.nf == 2
    assert module.nfe == 2 + 2  # the first solve looks whether samples are apart
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, own[name], rtol=0, atol=0)
        assert isinstance(dict(module.named_parameters()).get(name, value), Tensor)
    again = FunctionField(nn.Linear(2, 2), (2,), backend="torch")  # a function of y alone
    assert ours.rhs(again, again.init(0), 0.0, states(4, 2)).shape == (4, 2)
    written = FunctionField(
        lambda weights, t, y: weights["rate"] * y, (1,), (("rate", np.ones(1)),), "torch"
    )
    assert ours.rhs(written, {"rate": np.full(1, 3.0)}, 0.0, ONE).item() == 3.0


def test_the_gradient_of_a_module_is_autograds(ours: Any) -> None:
    module = Counted().double()
    field = FunctionField(module, (2,), backend="torch")
    y0, solver = states(4, 2), Solver("RK4", dt=0.25)
    _, pull = ours.pullback(field, field.init(0), y0, (0.0, 1.0), solver)
    found = pull(np.ones((1, 4, 2)))
    y = torch.tensor(y0, requires_grad=True)
    y1 = NeuralODE(module, solver, backend="torch")(y)
    expected = torch.autograd.grad(y1.sum(), [y, *module.parameters()])
    for a, b in zip([found.y0, *found.weights.values()], expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "module",
    [nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.BatchNorm1d(2), nn.Softmax(dim=0)],
    ids=lambda each: type(each).__name__,
)
def test_modules_that_mix_samples_or_draw_are_refused(ours: Any, module: nn.Module) -> None:
    field = FunctionField(module, (2,), backend="torch")
    solver = Solver("Euler", dt=0.5)
    with pytest.raises(InvalidValueError, match=r"eval\(\)"):
        ours.solve(field, field.init(0), states(4, 2), (0.0, 1.0), solver)
    if not isinstance(module, nn.Softmax):
        module.eval()
        ours.solve(field, field.init(0), states(4, 2), (0.0, 1.0), solver)


def test_two_threads_share_a_module(ours: Any) -> None:
    """Each solve sees the weights that it was given."""
    field = FunctionField(nn.Linear(1, 1, bias=False), (1,), backend="torch")
    solver = Solver("Euler", dt=1 / 64)
    ends: dict[float, float] = {}

    def solve(rate: float) -> None:
        ends[rate] = ours.solve(field, {"weight": [[rate]]}, ONE, (0.0, 1.0), solver).y1.item()

    threads = [threading.Thread(target=solve, args=(rate,)) for rate in (-1.0, 0.0, 1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rate, end in ends.items():
        assert end == pytest.approx((1 + rate / 64) ** 64, rel=1e-9)
    assert len(ends) == 4


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """A module that is no `VectorField`, trained in torch."""
    data, module = waves(), Counted()
    node, head = NeuralODE(module, Solver("Euler", dt=1 / 4)), nn.Linear(2, 2)
    x, labels = (torch.from_numpy(each.copy()) for each in (data.x_train, data.y_train))
    optimizer = torch.optim.Adam([*node.parameters(), *head.parameters()], lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(node(x)), labels.long()).backward()
        optimizer.step()
    found = to_trained(node, head, x)
    assert isinstance(found.model.field, FunctionField)
    assert found.model.field.function is not module
    return found


@cache
def waves() -> Dataset:
    """Two classes on either side of a wave."""
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype(np.float32)
    y = (x[:, 0] > 0.4 * np.sin(4 * x[:, 1])).astype(np.int32)
    return Dataset("waves", x[:200], y[:200], x[200:], y[200:], classes=2)


def test_a_module_is_swapped_where_it_lives(trained: TrainedModel) -> None:
    """As the same function in JAX is: the table, the verdict and its numbers."""
    ours = swap(trained, waves())
    model = Model(FunctionField(in_jax, (2,), trained.model.field.initial), classes=2)
    theirs = swap(TrainedModel(model, trained.weights, trained.solver), waves())
    assert ours.trained > 0.8
    assert ours.verdict.kind == theirs.verdict.kind
    assert list(ours.table["label"]) == list(theirs.table["label"])
    for name in ("accuracy", "nf", "naccept", "flips"):
        np.testing.assert_array_equal(ours.table[name], theirs.table[name])
    np.testing.assert_allclose(ours.table["state_error"], theirs.table["state_error"], rtol=1e-3)


@pytest.mark.slow
def test_a_module_is_certified_where_it_lives(trained: TrainedModel) -> None:
    certificate = certify(trained, waves(), samples=8)
    assert certificate.backend == "torch"
    assert certificate.verdict.kind in ("valid", "tied", "undecided")
    assert {each.outcome for each in certificate.findings} - {"not run"}


def test_a_readable_module_is_the_same_either_way(ours: Any, jax_backend: Any) -> None:
    torch.manual_seed(0)
    field, head = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)), nn.Linear(2, 2)
    data, solver = waves(), Solver("RK4", dt=1 / 4)
    read = to_trained(field, head, torch.zeros(1, 2), solver=solver)
    kept = FunctionField(field, (2,), backend="torch")
    model = Model(kept, classes=2)
    weights = {f"field.{name}": value for name, value in kept.init(0).items()}
    weights |= {name: value for name, value in read.weights.items() if name.startswith("head")}
    a, b, c = (
        ours.evaluate(read.model, read.weights, data.x_test, solver),
        ours.evaluate(model, weights, data.x_test, solver),
        jax_backend.evaluate(read.model, read.weights, data.x_test, solver),
    )
    np.testing.assert_allclose(a.logits, b.logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(a.logits, c.logits, rtol=1e-5, atol=1e-5)
    assert a.stats.nf == b.stats.nf == c.stats.nf == 16
    with pytest.raises(InvalidValueError, match="shape"):
        ours.evaluate(model, weights, np.zeros((3, 5)), solver)


def test_a_function_of_another_shape_is_refused(ours: Any) -> None:
    field = FunctionField(lambda t, y: y[:, :1], (2,), backend="torch")
    with pytest.raises(InvalidValueError, match="function"):
        ours.solve(field, {}, states(3, 2), (0.0, 1.0), Solver("Euler", dt=0.5))
    linear = LinearField(2)
    assert ours.solve(linear, linear.init(0), states(3, 2), (0, 1), Solver("Euler", dt=1)).y1.shape


def test_more_steps_than_memory_has_room_for_are_not_laid_out(ours: Any) -> None:
    solver = Solver("Euler", dt=1e-9, max_steps=5)
    ended = ours.solve(DECAY, {}, ONE, (0.0, 1.0), solver, throw=False)
    assert (ended.stats.retcode, ended.stats.naccept) == (RetCode.MaxIters, 5)
    np.testing.assert_allclose(ended.t, [5e-9])
