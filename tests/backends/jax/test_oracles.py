"""The same numbers as others: SciPy, torchdiffeq, diffrax and torch's own training loop."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
import torch
import torchdiffeq
from scipy.integrate import solve_ivp

from pynode_jl.backends import Adam, RetCode, TrainState
from pynode_jl.backends.jax import field_eval
from pynode_jl.fields import MLP, ConvField1d, VectorField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver, info, tableau_names

SPAN = (0.0, 1.0)


class Shared:
    """A field with its weights, states, and torch twin."""

    def __init__(self, field: VectorField, twin: Any) -> None:
        random = np.random.default_rng(11)
        self.field = field
        self.weights = {
            k: v + 0.1 * random.standard_normal(v.shape) for k, v in field.init(2).items()
        }
        self.y0 = random.normal(size=(3, *field.state_shape))
        self.twin = twin(field, self.weights)

    def torch_solve(self, method: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
        with torch.no_grad():
            t = torch.tensor(SPAN, dtype=dtype)
            y0 = torch.from_numpy(self.y0).to(dtype)
            twin = copy.deepcopy(self.twin).to(dtype)  # .to() rounds in place
            return torchdiffeq.odeint(twin, y0, t, method=method, **options)[-1].numpy()


@pytest.fixture(scope="module")
def mlp(torch_twin: Any) -> Shared:
    return Shared(MLP(3, width=8, depth=2, time_dependent=True), torch_twin)


@pytest.fixture(scope="module")
def conv(torch_twin: Any) -> Shared:
    return Shared(ConvField1d(5, channels=4, activation="softplus"), torch_twin)


@pytest.fixture(params=["mlp", "conv"])
def shared(request: pytest.FixtureRequest) -> Shared:
    found: Shared = request.getfixturevalue(request.param)
    return found


# SciPy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "name", "oracle"),
    [
        ("mlp", "DP5", "DOP853"),
        ("mlp", "DP5", "Radau"),
        ("mlp", "Vern7", "DOP853"),
        pytest.param("mlp", "KenCarp4", "DOP853", marks=pytest.mark.slow),
        ("conv", "DP5", "DOP853"),
        ("conv", "DP5", "Radau"),
    ],
)
def test_scipy(
    backend: Any, which: str, name: str, oracle: str, request: pytest.FixtureRequest
) -> None:
    shared: Shared = request.getfixturevalue(which)

    def f(t: float, y: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return shared.twin(t, torch.from_numpy(y.reshape(shared.y0.shape))).numpy().ravel()

    expected = solve_ivp(f, SPAN, shared.y0.ravel(), method=oracle, rtol=1e-10, atol=1e-10)
    solver = Solver(name, rtol=1e-9, atol=1e-9)
    y1 = backend.solve(shared.field, shared.weights, shared.y0, SPAN, solver).y1
    np.testing.assert_allclose(y1.ravel(), expected.y[:, -1], rtol=1e-7, atol=1e-7)


# torchdiffeq --------------------------------------------------------------------------------------

FIXED = {
    "Euler": "euler", "Midpoint": "midpoint", "Heun": "heun2", "RK38": "rk4",
}  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("name", FIXED)
def test_torchdiffeq_fixed_steps(
    backend: Any, shared: Shared, name: str, dtype: type, tolerance: float
) -> None:
    torch_dtype = {np.float64: torch.float64, np.float32: torch.float32}[dtype]
    for dt in (1 / 8, 0.3):
        expected = shared.torch_solve(FIXED[name], torch_dtype, options={"step_size": dt})
        y0 = shared.y0.astype(dtype)
        y1 = backend.solve(shared.field, shared.weights, y0, SPAN, Solver(name, dt=dt)).y1
        np.testing.assert_allclose(y1, expected, rtol=tolerance, atol=tolerance)


def test_rk4_is_not_torchdiffeqs(backend: Any, mlp: Shared) -> None:
    y1 = backend.solve(mlp.field, mlp.weights, mlp.y0, SPAN, Solver("RK4", dt=0.5)).y1
    expected = mlp.torch_solve("rk4", options={"step_size": 0.5})
    assert 1e-8 < np.abs(y1 - expected).max() < 1e-2


@pytest.mark.parametrize(
    ("name", "method", "tolerance", "allowed"),
    [
        ("DP5Shampine", "dopri5", 1e-10, 1e-8),
        # torchdiffeq steps past t1 and interpolates back: that costs bosh3 and dopri8 digits.
        ("BS3", "bosh3", 1e-9, 5e-6),
        ("Fehlberg21", "fehlberg2", 1e-8, 1e-5),
        ("Dopri8", "dopri8", 1e-11, 1e-7),
    ],
)
def test_torchdiffeq_adaptive(
    backend: Any, mlp: Shared, name: str, method: str, tolerance: float, allowed: float
) -> None:
    """Steps differ (another controller, and the end): both are right, then."""
    expected = mlp.torch_solve(method, rtol=tolerance, atol=tolerance)
    solver = Solver(name, rtol=tolerance, atol=tolerance)
    y1 = backend.solve(mlp.field, mlp.weights, mlp.y0, SPAN, solver).y1
    np.testing.assert_allclose(y1, expected, atol=allowed, rtol=0)


@pytest.mark.parametrize(
    ("which", "name"), [("mlp", "RK38"), ("conv", "Euler"), ("conv", "Midpoint")]
)
def test_torchdiffeq_gradients(
    backend: Any, which: str, name: str, request: pytest.FixtureRequest
) -> None:
    shared: Shared = request.getfixturevalue(which)
    cotangent = np.random.default_rng(0).normal(size=shared.y0.shape)
    y0 = torch.from_numpy(shared.y0).requires_grad_()
    t = torch.tensor(SPAN, dtype=torch.float64)
    options = {"step_size": 1 / 8}
    y1 = torchdiffeq.odeint(shared.twin, y0, t, method=FIXED[name], options=options)[-1]
    names, parameters = zip(*shared.twin.named_parameters(), strict=True)
    *expected, expected_y0 = torch.autograd.grad(
        (torch.from_numpy(cotangent) * y1).sum(), [*parameters, y0]
    )
    to_weights, to_y0 = backend.vjp(
        shared.field, shared.weights, shared.y0, SPAN, Solver(name, dt=1 / 8), cotangent
    )
    np.testing.assert_allclose(to_y0, expected_y0.numpy(), rtol=1e-9, atol=1e-12)
    assert set(to_weights) == set(names)
    for each, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(to_weights[each], value.numpy(), rtol=1e-9, atol=1e-12)


def test_fifty_iterations_of_training_are_torchs(backend: Any, torch_twin: Any) -> None:
    random = np.random.default_rng(4)
    model = Model(ConvField1d(2, channels=6), classes=2)
    weights = {k: v.astype(np.float64) for k, v in model.init(0).items()}
    x = random.normal(size=(60, 2))
    labels = (np.linalg.norm(x, axis=1) > 1.1).astype(int)
    batches = random.integers(0, 60, size=(50, 16))
    result = backend.train(
        model, TrainState.start(weights), x, labels, batches, Solver("Euler", dt=1 / 8), Adam(1e-2)
    )
    assert result.retcode == RetCode.Success

    field = {k.removeprefix("field."): v for k, v in weights.items() if k.startswith("field.")}
    f = torch_twin(model.field, field)
    head = torch.nn.Linear(2, 2).to(torch.float64)
    head.load_state_dict(
        {k: torch.from_numpy(weights[f"head.{k}"].copy()) for k in ("weight", "bias")}
    )
    optimizer = torch.optim.Adam([*f.parameters(), *head.parameters()], lr=1e-2)
    t, inputs = torch.tensor(SPAN, dtype=torch.float64), torch.from_numpy(x)
    losses = []
    for batch in batches:
        y1 = torchdiffeq.odeint(f, inputs[batch], t, method="euler", options={"step_size": 1 / 8})[
            -1
        ]
        loss = torch.nn.functional.cross_entropy(head(y1), torch.from_numpy(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(result.loss, losses, rtol=1e-6)
    assert losses[-1] < 0.8 * losses[0]
    trained = {f"field.{k}": v for k, v in f.state_dict().items()}
    trained |= {f"head.{k}": v for k, v in head.state_dict().items()}
    assert set(trained) == set(result.state.weights)
    for name, value in trained.items():
        np.testing.assert_allclose(result.state.weights[name], value.numpy(), rtol=1e-6, atol=1e-6)


# diffrax ------------------------------------------------------------------------------------------

TWINS = {n: info(n).same_as["diffrax"] for n in tableau_names() if "diffrax" in info(n).same_as}
STEP = (0.15, 0.4)


@contextlib.contextmanager
def _diffrax_step() -> Iterator[Callable[..., tuple[np.ndarray, np.ndarray]]]:
    def step(shared: Shared, peer: str) -> tuple[np.ndarray, np.ndarray]:
        prepare, apply = field_eval.right_hand_side(shared.field)
        prepared = prepare({k: jnp.asarray(v) for k, v in shared.weights.items()})
        term: Any = diffrax.ODETerm(lambda t, y, args: apply(prepared, t, y))
        kind = getattr(diffrax, peer)
        solver = kind()
        if peer.startswith(("KenCarp", "Kvaerno", "Implicit")):
            solver = kind(root_finder=optimistix.Newton(rtol=1e-14, atol=1e-14))
        if peer.startswith("KenCarp"):  # additive methods: all of f in the implicit part
            zero = diffrax.ODETerm(lambda t, y, args: jnp.zeros_like(y))
            term = diffrax.MultiTerm(zero, term)
        t0, t1 = (jnp.asarray(t) for t in STEP)
        y0 = jnp.asarray(shared.y0)

        @jax.jit
        def run(y0: Any) -> Any:
            state = solver.init(term, t0, t1, y0, None)
            y1, error, *_ = solver.step(term, t0, t1, y0, None, state, made_jump=False)
            return y1, jnp.zeros_like(y1) if error is None else error

        y1, error = run(y0)
        return np.asarray(y1), np.asarray(error)

    with jax.enable_x64(True):
        yield step


def _twins() -> list[Any]:
    implicit = [n for n in TWINS if info(n).implicit]
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in implicit]
    return [*(n for n in TWINS if n not in implicit), *slow]


def test_catalogue_names_twins() -> None:
    assert {"Euler", "DP5Shampine", "Tsit5", "KenCarp4", "KenCarp5", "Kvaerno5"} <= set(TWINS)


@pytest.mark.parametrize("name", _twins())
def test_diffrax_step(backend: Any, mlp: Shared, name: str) -> None:
    """`same_as` is a claim: one step gives the same state."""
    with _diffrax_step() as step:
        expected, _ = step(mlp, TWINS[name])
    solver = Solver(name, dt=STEP[1] - STEP[0])
    y1 = backend.solve(mlp.field, mlp.weights, mlp.y0, STEP, solver).y1
    assert np.abs(y1 - mlp.y0).max() > 1e-3
    np.testing.assert_allclose(y1, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["BS3", "DP5Shampine", "Tsit5"])
def test_diffrax_error_estimate(mlp: Shared, name: str) -> None:
    """... and the same error estimate, whose sign is nobody's business."""
    with _diffrax_step() as step:
        _, expected = step(mlp, TWINS[name])
    table, (t0, t1) = info(name).tableau, STEP
    assert table is not None
    assert table.b_error is not None
    ks: list[np.ndarray] = []
    for a, c in zip(table.a, table.c, strict=True):
        y = mlp.y0 + (t1 - t0) * sum((w * k for w, k in zip(a, ks, strict=False)), np.zeros(1))
        with torch.no_grad():
            ks.append(mlp.twin(t0 + c * (t1 - t0), torch.from_numpy(y)).numpy())
    error = (t1 - t0) * np.tensordot(table.b_error, np.stack(ks), 1)
    np.testing.assert_allclose(np.abs(error), np.abs(expected), rtol=1e-6, atol=1e-14)
