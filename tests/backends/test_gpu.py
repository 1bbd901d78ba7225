"""What a GPU changes beside the contract (test_contract.py runs on it too): whose memory an array
is, float32 that is not TF32, torch modules that live there, and training to the CPU's result."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import pynode_jl as pn
import pynode_jl.jax
import pynode_jl.torch
from pynode_jl.backends import Adam, get_backend
from pynode_jl.dlpack import as_jax, as_numpy, as_torch
from pynode_jl.errors import BackendUnavailableError, InvalidValueError
from pynode_jl.fields import MLP, ConvField2d, FunctionField
from pynode_jl.solvers import Solver


def missing() -> str:
    try:
        for name in ("jax", "torch"):
            get_backend(name, "gpu")
    except BackendUnavailableError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "both have a GPU")


def test_torch_and_jax_share_the_gpus_memory() -> None:
    x = torch.arange(12.0, device="cuda").reshape(3, 4)
    for tensor in (x, x.T):
        array = as_jax(tensor, copy=False)
        assert array.devices() == {jax.devices("gpu")[0]}
        assert array.unsafe_buffer_pointer() == tensor.data_ptr()
        np.testing.assert_array_equal(array, tensor.cpu())
        back = as_torch(array, copy=False)
        assert (back.device.type, back.data_ptr()) == ("cuda", tensor.data_ptr())
    own = as_jax(x, copy=True)
    assert own.unsafe_buffer_pointer() != x.data_ptr()
    # What torch has queued is done before JAX reads, and the other way.
    product = x
    for _ in range(50):
        product = product @ torch.ones(4, 4, device="cuda") / 4
    np.testing.assert_allclose(as_jax(product) + 1, product.cpu() + 1, rtol=1e-6)
    twice = jax.jit(lambda y: y * 2)(as_jax(x))
    assert torch.equal(as_torch(twice), x * 2)


@pytest.mark.parametrize("on", ["torch", "jax"])
def test_numpy_takes_a_copy(on: str) -> None:
    values = np.arange(12.0, dtype=np.float32)
    x = torch.tensor(values, device="cuda")
    there: Any = x if on == "torch" else jax.device_put(values, jax.devices("gpu")[0])
    np.testing.assert_array_equal(as_numpy(there), values)
    with pytest.raises(InvalidValueError, match="copy"):
        as_numpy(there, copy=False)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_float32_is_not_tf32(backend: str) -> None:
    """TF32 would round the products' factors to 10 bits: errors of 3e-4."""
    field, random = ConvField2d((3, 16, 16), channels=64), np.random.default_rng(0)
    weights = field.init(0)
    y = random.normal(size=(8, 3, 16, 16)).astype(np.float32)
    exact = get_backend("jax", "cpu").rhs(
        field, {k: v.astype(np.float64) for k, v in weights.items()}, 0.0, y.astype(np.float64)
    )
    found = get_backend(backend, "gpu").rhs(field, weights, 0.0, y)
    assert np.linalg.norm(found - exact) < 2e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("precision", ["full", "bfloat16"])
def test_training_learns_what_it_learns_on_the_cpu(precision: Any) -> None:
    data = pn.datasets.concentric_spheres(2, n_train=500, n_test=200)
    model = pn.Model(MLP(2, width=32), classes=2)
    recipe = pn.Recipe(
        Solver("RK4", dt=1 / 4), iterations=200, optimizer=Adam(1e-2), precision=precision
    )
    first, second = (
        pn.train(model, data, recipe, backend=get_backend("jax", device))
        for device in ("cpu", "gpu")
    )
    # float32 in another order: the losses part slowly, from rounding on.
    rtol = 1e-4 if precision == "full" else 2e-2
    np.testing.assert_allclose(first.history.loss[:20], second.history.loss[:20], rtol=rtol)
    here, there = (
        pn.swap(trained, data, backend=get_backend("jax", device)).verdict
        for trained, device in ((first, "cpu"), (second, "gpu"))
    )
    assert here.kind == there.kind


REPEATED = """
import hashlib
import numpy as np
import pynode_jl as pn
from pynode_jl.backends import Adam, TrainState, get_backend
model = pn.Model(pn.ConvField2d((1, 8, 8), channels=8), classes=10)
random = np.random.default_rng(0)
x, labels = random.random((64, 1, 8, 8), np.float32), random.integers(0, 10, 64)
rows, start = random.integers(0, 64, (10, 32)), TrainState.start(model.init(0))
solver, backend = pn.Solver("Euler", dt=1 / 4), get_backend("jax", "gpu")
for _ in range(2):
    chunk = backend.train(model, start, x, labels, rows, solver, Adam(1e-3))
    weights = b"".join(value.tobytes() for value in chunk.state.weights.values())
    print(hashlib.md5(weights).hexdigest())
"""


def test_with_xlas_flag_a_run_is_repeated_bit_for_bit() -> None:
    """Within a process and in another. Without it, cuDNN adds in the order of the moment."""
    flag = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}
    command = [sys.executable, "-c", REPEATED]
    printed = [
        subprocess.run(command, env=os.environ | flag, text=True, capture_output=True, check=True)
        for _ in range(2)
    ]
    (_,) = {line for each in printed for line in each.stdout.split()}


@pytest.mark.parametrize("call", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("method", ["euler", "dopri5", "implicit_euler"])
def test_odeint_stays_where_its_tensors_are(call: str, method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Any, y: Any) -> Any:
            return self.net(y)

    field, start = Field(), torch.randn(5, 2, dtype=torch.float64)
    found = {}
    for device in ("cpu", "cuda"):
        field.to(device).zero_grad()
        y0 = start.clone().to(device).requires_grad_()
        t = torch.linspace(0, 1, 5, dtype=torch.float64, device=device)
        y = getattr(pynode_jl.torch, call)(field, y0, t, method=method, rtol=1e-8, atol=1e-8)
        assert y.device.type == device
        y[-1].square().sum().backward()
        found[device] = [y.detach(), y0.grad, *(each.grad for each in field.parameters())]
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there.cpu(), here.cpu(), rtol=1e-8, atol=1e-10)


def test_a_torch_module_is_solved_where_it_lives() -> None:
    seen = set()

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2).double()

        def forward(self, t: Any, y: Any) -> Any:
            seen.add(y.device.type)
            return torch.tanh(self.linear(y))

    module, y0 = Field().cuda(), np.ones((3, 2))
    field = FunctionField(module, (2,), backend="torch")
    weights = {name: as_numpy(each.detach()) for name, each in module.named_parameters()}
    solver = Solver("Tsit5", rtol=1e-8, atol=1e-8)
    there = get_backend("torch").solve(field, weights, y0, (0.0, 1.0), solver)
    assert seen == {"cuda"}
    here = get_backend("torch", "cpu").solve(field, weights, y0, (0.0, 1.0), solver)
    np.testing.assert_allclose(there.y1, here.y1, rtol=1e-10)
    assert there.stats.nf == here.stats.nf


def test_a_model_made_here_runs_as_a_module_there() -> None:
    model = pn.Model(MLP(2, width=8), classes=2)
    data = pn.datasets.concentric_spheres(2, n_train=64, n_test=32)
    trained = pn.train(
        model, data, pn.Recipe(Solver("Euler", dt=1 / 4), iterations=5, batch_size=32),
        backend=get_backend("jax", "gpu"),
    )  # fmt: skip
    own = get_backend("jax", "gpu").evaluate(
        model, trained.weights, data.x_test, Solver("Euler", dt=1 / 4)
    )
    exact = get_backend("jax", "cpu").evaluate(
        model, trained.weights, data.x_test.astype(np.float64), Solver("Euler", dt=1 / 4)
    )
    np.testing.assert_allclose(own.logits, exact.logits, atol=1e-5)
    assert jnp.asarray(own.logits).dtype == jnp.float32


class Counting(nn.Module):
    """A field that no reader can take over: it counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        self.calls = 0

    def forward(self, t: Any, y: Any) -> Any:
        self.calls += 1
        return self.net(y)


@pytest.mark.parametrize("counts", [False, True], ids=["read", "run in torch"])
def test_a_module_that_lives_there_is_judged(counts: bool) -> None:
    torch.manual_seed(0)
    head = nn.Linear(2, 2)
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(64, 2)).astype(np.float32), random.integers(0, 2, 64)
    field, tables = Counting(), {}
    # Without its counter it is a plain chain of layers.
    judged = field if counts else field.net
    for device in ("cpu", "cuda"):
        report = pynode_jl.torch.swap(
            judged.to(device), head.to(device), torch.tensor(x, device=device),
            torch.tensor(labels, device=device), solver=Solver("Euler", dt=1 / 4),
        )  # fmt: skip
        tables[device] = report.table
    here, there = tables["cpu"], tables["cuda"]
    assert list(here["label"]) == list(there["label"])
    np.testing.assert_allclose(there["accuracy"], here["accuracy"], atol=1 / 64 + 1e-9)


@pytest.mark.parametrize("name", ["regression", "trajectory", "density"])
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_task_is_judged_there(backend: str, name: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 2)).astype(np.float32)
    task, y = {
        "regression": (pn.Regression(1), x[:, :1] ** 2),
        "trajectory": (pn.Trajectory((0.5, 1.0)), np.stack([x, -x], 1)),
        "density": (pn.Density(), None),
    }[name]  # fmt: skip
    data = pn.Dataset.from_arrays(x, y, task=task)
    model = pn.Model(MLP(2, width=8), task=task)
    recipe = pn.Recipe(Solver("Euler", dt=1 / 4), iterations=5, batch_size=16)
    found = [
        pn.train(model, data, recipe, backend=get_backend(backend, device))
        for device in ("cpu", "gpu")
    ]
    np.testing.assert_allclose(found[1].history.loss, found[0].history.loss, rtol=1e-4)
    here, there = (
        pn.certify(found[0], data, samples=8, backend=get_backend(backend, device))
        for device in ("cpu", "gpu")
    )
    assert here.verdict.kind == there.verdict.kind


def test_events_stay_there() -> None:
    t0 = torch.tensor(0.0, dtype=torch.float64, device="cuda")
    start = torch.tensor([1.0], dtype=torch.float64, device="cuda", requires_grad=True)
    t, y = pynode_jl.torch.odeint_event(
        lambda t, y: -y, start, t0, event_fn=lambda t, y: y[0] - 0.5, rtol=1e-10, atol=1e-10
    )
    assert (t.device.type, y.device.type) == ("cuda", "cuda")
    np.testing.assert_allclose(t.detach().cpu(), np.log(2), rtol=1e-8)
    t.backward()
    np.testing.assert_allclose(start.grad.cpu(), [1.0], rtol=1e-6)


def test_jaxs_front_end_solves_there() -> None:
    def end(y0: Any, scale: Any) -> Any:
        times = jnp.linspace(0.0, 1.0, 3)
        return pynode_jl.jax.odeint(lambda y, t, k: -k * y, y0, times, scale, method="Tsit5")[-1]

    gradient = jax.jit(jax.grad(lambda *values: end(*values).sum(), argnums=(0, 1)))
    y0, scale = (jax.device_put(np.float32(v), jax.devices("gpu")[0]) for v in ([1.0, 2.0], 0.5))
    to_y0, to_scale = gradient(y0, scale)
    assert to_y0.devices() == {jax.devices("gpu")[0]}
    np.testing.assert_allclose(to_y0, np.exp(-0.5) * np.ones(2), rtol=1e-4)
    np.testing.assert_allclose(to_scale, -3 * np.exp(-0.5), rtol=1e-4)
