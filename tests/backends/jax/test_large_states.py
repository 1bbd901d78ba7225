"""What lets images train: Winograd, batches in pieces, recording in segments, memory foretold."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynode_jl.backends import Adam, TrainState
from pynode_jl.backends.jax import JaxBackend, _backend, batching, checkpointing, memory, winograd
from pynode_jl.backends.jax.kernels.train import train_kernel
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import MLP, ConvField1d, ConvField2d
from pynode_jl.models import Model
from pynode_jl.solvers import Solver


def direct(h: Any, kernel: Any) -> Any:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=dimensions)


@pytest.mark.parametrize(
    "shape", [(2, 4, 4, 3, 2), (1, 5, 7, 1, 4), (3, 1, 1, 2, 2), (1, 2, 3, 4, 1)]
)
def test_winograd_is_the_convolution(shape: tuple[int, ...]) -> None:
    batch, height, width, inputs, outputs = shape
    random = np.random.default_rng(0)
    h = random.standard_normal((batch, height, width, inputs))
    kernel = random.standard_normal((3, 3, inputs, outputs))
    g = random.standard_normal((batch, height, width, outputs))

    def pulled(conv: Any) -> Any:
        value, pull = jax.vjp(conv, h, kernel)
        return value, pull(g)

    def pushed(conv: Any) -> Any:
        return jax.jvp(conv, (h, kernel), (h[::-1], kernel[::-1]))

    with jax.enable_x64(True):
        same = partial(jax.tree.map, partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11))
        derivatives = {
            (conv, f): jax.jit(f, static_argnums=0)(conv)
            for conv, f in (
                (direct, pulled),
                (direct, pushed),
                (winograd.conv3x3, pulled),
                (winograd.conv3x3, pushed),
                (winograd.conv3x3_reverse, pulled),
            )
        }
    for (_, f), values in derivatives.items():
        same(values, derivatives[direct, f])


def test_winograd_rounds_as_the_direct_sum_does() -> None:
    random = np.random.default_rng(0)
    h = random.standard_normal((4, 16, 16, 128))
    kernel = random.standard_normal((3, 3, 128, 128)) / np.sqrt(9 * 64)
    with jax.enable_x64(True):
        exact = np.asarray(direct(jnp.asarray(h), jnp.asarray(kernel)))
    single = jnp.asarray(h, jnp.float32), jnp.asarray(kernel, jnp.float32)
    with jax.default_matmul_precision("highest"):  # as a backend sets it: no TF32 on a GPU
        errors = {
            f: np.linalg.norm(f(*single) - exact) / np.linalg.norm(exact)
            for f in (direct, winograd.conv3x3)
        }
    assert errors[winograd.conv3x3] < 1e-6
    assert errors[winograd.conv3x3] < 4 * errors[direct]


@given(st.integers(1, 5000), st.integers(0, 2**22), st.integers(1, 2**21))
def test_parts_are_alike_and_fit(batch: int, sample: int, most: int) -> None:
    size = batching.batch_size(batch, sample, most)
    assert 1 <= size <= batch
    assert size == 1 or size * sample <= most
    pieces = -(-batch // size)
    assert pieces * size - batch < pieces  # what is filled up with zeros


def train_once(field: Any, solver: Solver, batch: int = 7) -> Any:
    backend = JaxBackend("cpu")
    random = np.random.default_rng(0)
    model = Model(field, classes=3)
    x = random.random((batch, *field.state_shape))  # float64
    state = TrainState.start(model.init(0))
    rows = np.arange(batch)[None]
    chunk = backend.train(model, state, x, np.arange(batch) % 3, rows, solver, Adam(1e-3))
    # Adam's first moment is a tenth of the gradient.
    return chunk.loss, chunk.state.mu


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one[0], other[0], rtol=1e-12)
    for name, moment in one[1].items():
        assert np.abs(moment).max() > 0, name
        np.testing.assert_allclose(moment, other[1][name], rtol=1e-7, atol=1e-11, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        Solver("Midpoint", dt=1 / 2),
        pytest.param(Solver("BS3", rtol=1e-3, atol=1e-5), marks=pytest.mark.long),
    ],
)
def test_a_batch_in_parts_trains_the_same(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    def anew() -> Any:
        # Kernels are kept by field: this one is to be traced again.
        train_kernel.cache_clear()
        return train_once(ConvField2d((1, 5, 6), channels=3, time_dependent=True), solver)

    whole = anew()
    split: list[int] = []
    cut = batching._split
    monkeypatch.setattr(batching, "_split", lambda y, size: (split.append(size), cut(y, size))[1])
    monkeypatch.setattr(batching, "CPU_BYTES", 3 * 5 * 6 * 3 * 8)  # three samples at a time
    assert_same(anew(), whole)
    assert set(split) == {3}
    train_kernel.cache_clear()


@pytest.mark.parametrize(
    "solver",
    [
        Solver("Euler", dt=1 / 13),
        Solver("Euler", dt=1 / 16),
        Solver("Euler", dt=1.0),
        Solver("Tsit5", rtol=1e-6, atol=1e-8),
        pytest.param(Solver("ImplicitMidpoint", dt=1 / 5), marks=pytest.mark.long),
    ],
    ids=lambda solver: solver.label,
)
def test_dropped_states_gives_the_same_gradient(
    solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = MLP(3, width=5, time_dependent=True)
    whole = train_once(field, solver)
    for every in (2, 4):
        chosen = CheckpointPolicy(16, every)
        monkeypatch.setattr(_backend, "training_policy", lambda *_, policy=chosen: policy)
        assert_same(train_once(field, solver), whole)


@pytest.mark.parametrize("name", ["RK4", pytest.param("TRBDF2", marks=pytest.mark.long)])
def test_a_pullback_drops_states_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field, backend, solver = (
        MLP(3, width=5, time_dependent=True),
        JaxBackend(),
        Solver(name, dt=0.1),
    )
    weights = {key: value.astype(float) for key, value in field.init(0).items()}
    y0 = np.random.default_rng(0).normal(size=(4, 3))
    arguments = (field, weights, y0, (0.0, 1.3), solver)

    def gradients() -> Any:
        _, pull = backend.pullback(*arguments, save_at=[0.35, 0.9, 1.3])
        return pull(np.cos(np.arange(36.0).reshape(3, 4, 3)))

    whole = gradients()
    for stride in (2, 8):
        chosen = CheckpointPolicy(32, stride)
        monkeypatch.setattr(_backend, "pullback_policy", lambda *_, policy=chosen: policy)
        found = gradients()
        np.testing.assert_allclose(found.y0, whole.y0, rtol=1e-12)
        np.testing.assert_allclose(found.times, whole.times, rtol=1e-9, atol=1e-12)
        for key, value in whole.weights.items():
            np.testing.assert_allclose(found.weights[key], value, rtol=1e-10, atol=1e-13)


@given(st.integers(1, 4096), st.integers(1, 2**26))
def test_capacity_for_fixed_steps(n: int, state_bytes: int) -> None:
    solver = Solver("Euler", dt=1 / n)
    policy = checkpointing.training_policy(solver, n, state_bytes)
    assert policy.capacity >= n
    held = policy.held_states * state_bytes
    assert held <= checkpointing._STATES_BYTES or policy.held_states <= 3 * np.sqrt(policy.capacity)
    if 512 * state_bytes <= 2**24 and n <= 512:
        assert policy.capacity == 512  # another step size compiles nothing
    else:
        assert policy.capacity < 2 * n  # 1.6 GB would be reserved for 16 steps at CIFAR-10 size


class _CompiledError(Exception):
    """Carries XLA's own count of bytes out of a call that then does not run."""


CASES = {
    "spheres": (ConvField1d(2), 128, Solver("Euler", dt=1 / 16)),
    "spheres in 900 dimensions": (ConvField1d(900), 128, Solver("Euler", dt=1 / 16)),
    "wide": (MLP(900, width=900), 128, Solver("RK4", dt=1 / 4)),
    "digits": (ConvField2d((1, 8, 8), channels=32), 128, Solver("Midpoint", dt=1 / 8)),
    "CIFAR-10": (ConvField2d((3, 32, 32)), 256, Solver("Euler", dt=1 / 16)),
    "CIFAR-10, 512 steps": (ConvField2d((3, 32, 32)), 256, Solver("Euler", dt=1 / 512)),
    "CIFAR-10, adaptive": (ConvField2d((3, 32, 32)), 256, Solver("Tsit5", rtol=1e-3, atol=1e-6)),
    "implicit": (MLP(10), 128, Solver("ImplicitEuler", dt=1 / 4)),
}


SLOW = ("CIFAR-10", "CIFAR-10, adaptive")  # to compile


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.long) if c in SLOW else c for c in CASES]
)
def test_memory_is_foretold(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field, batch, solver = CASES[case]
    model = Model(field, classes=10)

    def compile_only(kernel: Any, *arguments: Any) -> Any:
        found = kernel.lower(*arguments).compile().memory_analysis()
        raise _CompiledError(found.temp_size_in_bytes + found.argument_size_in_bytes)

    monkeypatch.setattr(_backend, "run", compile_only)
    estimates: list[int] = []
    monkeypatch.setattr(
        memory, "check_batch", lambda _, batch, needed, *rest: estimates.append(needed(batch))
    )
    x = np.zeros((2 * batch, *field.state_shape), np.float32)
    state = TrainState.start(model.init(0))
    rows = np.zeros((1, batch), int)
    with pytest.raises(_CompiledError) as caught:
        JaxBackend("cpu").train(model, state, x, np.zeros(len(x)), rows, solver, Adam())
    (found,) = caught.value.args
    (estimate,) = estimates
    assert found < 1.2 * estimate
    assert estimate < 2 * found
    if case == "CIFAR-10, 512 steps":
        assert found < 2**29  # 512 states alone are 1.6 GB


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(ConvField2d((3, 32, 32), channels=4), classes=10)
    x = np.zeros((256, 3, 32, 32), np.float32)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 60 * 2**20)
    backend = JaxBackend("cpu")

    def train(batch: int) -> None:
        backend.train(
            model,
            TrainState.start(model.init(0)),
            x,
            np.zeros(256),
            np.zeros((1, batch), int),
            Solver("Euler", dt=1 / 2),
            Adam(),
        )

    with pytest.raises(InvalidValueError, match=r"batch_size = 256: .*60 MiB are free") as caught:
        train(256)
    fitting = int(caught.value.expected.split()[2].rstrip(","))
    assert 1 < fitting < 256
    train(fitting)
    with pytest.raises(InvalidValueError, match="at most"):
        train(fitting + 1)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 30 * 2**20)
    with pytest.raises(InvalidValueError, match=r"len\(x\) = 256: .*at a time"):
        backend.evaluate(model, model.init(0), x, Solver("Euler", dt=1 / 2))
    with pytest.raises(InvalidValueError, match="not even one sample fits"):
        memory.check_batch("batch_size", 5, lambda batch: 2**40 * batch, None, "")


def test_free_memory_is_found_here() -> None:
    free = memory.free_bytes(None)
    assert free is not None
    assert 2**20 < free < 2**44
