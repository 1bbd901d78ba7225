"""Optimisers: updates as torch and optax have them, rates as optax's schedules, names and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch

import pynode_jl as pn
from pynode_jl.backends import (
    SGD,
    Adam,
    ChunkResult,
    Optimizer,
    RetCode,
    RMSprop,
    TrainState,
    checked_optimizer,
    get_backend,
)
from pynode_jl.backends.jax.kernels.train import train_kernel
from pynode_jl.errors import InvalidValueError, PyNODEError, UnknownNameError
from pynode_jl.fields import LinearField
from pynode_jl.models import Model
from pynode_jl.solvers import Solver

MODEL, EULER, ITERATIONS = Model(LinearField(2), classes=2), Solver("Euler", dt=1.0), 12
CASES: dict[str, Optimizer] = {
    "AdamW": Adam(0.05, weight_decay=0.1, clip_norm=0.3, schedule="cosine", warmup=3, final=0.1),
    "Nesterov": SGD(0.2, 0.9, True, weight_decay=0.05, schedule="exponential", final=0.01),
    "SGD": SGD(0.3, clip_norm=0.3, warmup=4),
    "RMSprop": RMSprop(0.02, 0.9, momentum=0.5, weight_decay=0.1, schedule="linear", warmup=2),
}
random = np.random.default_rng(0)
X, LABELS = random.normal(size=(30, 2)), random.integers(0, 2, 30)
BATCHES = random.integers(0, 30, (ITERATIONS, 10))


def started() -> TrainState:
    return TrainState.start({k: v.astype(np.float64) for k, v in MODEL.init(0).items()})


def trained(name: str, optimizer: Optimizer, state: TrainState, rows: slice) -> ChunkResult:
    return get_backend(name).train(
        MODEL, state, X, LABELS, BATCHES[rows], EULER, optimizer, iterations=ITERATIONS
    )


def schedule(optimizer: Optimizer) -> Callable[[int], Any]:
    """Return the rate by iteration, made of optax's schedules."""
    rate, warmup, share = optimizer.learning_rate, optimizer.warmup, optimizer.final
    rest = ITERATIONS - warmup
    after = {
        "constant": optax.constant_schedule(rate),
        "cosine": optax.cosine_decay_schedule(rate, rest, share),
        "linear": optax.linear_schedule(rate, share * rate, rest),
        "exponential": optax.exponential_decay(rate, rest, share) if share else None,
    }[optimizer.schedule]
    assert after is not None
    if not warmup:
        return after
    rise = optax.linear_schedule(rate / warmup, rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("decay", [{"schedule": "linear"}, {"schedule": "linear", "final": 0.3}])
@pytest.mark.parametrize("warmup", [0, 2, 5])
def test_rates_fall_along_a_line(decay: dict[str, Any], warmup: int, float64: None) -> None:
    check_rates(Adam(0.3, warmup=warmup, **decay))


@pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)
def test_rates_are_those_of_optax(optimizer: Optimizer, float64: None) -> None:
    check_rates(optimizer)


def check_rates(optimizer: Optimizer) -> None:
    rates = optimizer.rates(0, ITERATIONS, ITERATIONS)
    expected = [float(schedule(optimizer)(i)) for i in range(ITERATIONS)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates.max() == optimizer.learning_rate
    # One by one, as chunks of other lengths have them.
    alone = [optimizer.rates(i, 1, ITERATIONS).item() for i in range(ITERATIONS)]
    np.testing.assert_array_equal(rates, alone)


def gradient(weights: dict[str, torch.Tensor], batch: Any) -> tuple[torch.Tensor, ...]:
    """Return the gradient of cross-entropy after one Euler step of a linear field, by torch."""
    x = torch.from_numpy(X[batch])
    slope = x @ weights["field.layers.0.weight"].T + weights["field.layers.0.bias"]
    logits = (x + slope) @ weights["head.weight"].T + weights["head.bias"]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[batch]))
    return torch.autograd.grad(loss, list(weights.values()))


@cache
def by_torch(optimizer: Optimizer) -> dict[str, Any]:
    weights = {k: torch.from_numpy(v).requires_grad_() for k, v in started().weights.items()}
    parameters = list(weights.values())
    if isinstance(optimizer, Adam):
        peer: Any = torch.optim.AdamW(parameters, weight_decay=optimizer.weight_decay)
    elif isinstance(optimizer, RMSprop):
        peer = torch.optim.RMSprop(
            parameters, alpha=optimizer.decay, eps=optimizer.eps, momentum=optimizer.momentum
        )
    else:
        assert isinstance(optimizer, SGD)
        peer = torch.optim.SGD(parameters, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    for i, batch in enumerate(BATCHES):
        for weight, slope in zip(parameters, gradient(weights, batch), strict=True):
            weight.grad = slope
        if optimizer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, optimizer.clip_norm)
        peer.param_groups[0]["lr"] = rate = float(schedule(optimizer)(i))
        if not isinstance(optimizer, Adam):  # torch's own decay is not decoupled
            with torch.no_grad():
                for weight in parameters:
                    weight *= 1 - rate * optimizer.weight_decay
        peer.step()
    return {name: value.detach().numpy() for name, value in weights.items()}


@cache
def by_optax(optimizer: Optimizer) -> dict[str, Any]:
    if isinstance(optimizer, Adam):
        rule = optax.scale_by_adam()
    elif isinstance(optimizer, RMSprop):
        squares = optax.scale_by_rms(optimizer.decay, optimizer.eps, eps_in_sqrt=False)
        rule = optax.chain(squares, optax.trace(optimizer.momentum))
    else:
        assert isinstance(optimizer, SGD)
        rule = optax.trace(optimizer.momentum, optimizer.nesterov)
    clip = optax.identity()
    if optimizer.clip_norm is not None:
        clip = optax.clip_by_global_norm(optimizer.clip_norm)
    rule = optax.chain(clip, rule, optax.add_decayed_weights(optimizer.weight_decay))
    weights: Any = dict(started().weights)
    state, update = rule.init(weights), jax.jit(rule.update)
    for i, batch in enumerate(BATCHES):
        tensors = {k: torch.tensor(v, requires_grad=True) for k, v in weights.items()}
        slopes = [each.numpy() for each in gradient(tensors, batch)]
        steps, state = update(dict(zip(weights, slopes, strict=True)), state, weights)
        rate = float(schedule(optimizer)(i))
        weights = {name: weights[name] - rate * np.asarray(steps[name]) for name in weights}
    return weights


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)
def test_updates_are_those_of_torch_and_optax(
    optimizer: Optimizer, backend: str, float64: None
) -> None:
    found = trained(backend, optimizer, started(), slice(None))
    assert found.retcode == RetCode.Success
    for name, value in by_optax(optimizer).items():
        np.testing.assert_allclose(found.state.weights[name], value, rtol=1e-11, atol=1e-13)
    # torch's clipping divides by the norm and 1e-6.
    tolerance = 1e-11 if optimizer.clip_norm is None else 1e-4
    for name, value in by_torch(optimizer).items():
        np.testing.assert_allclose(found.state.weights[name], value, rtol=tolerance, atol=1e-6)
    # A chunk that goes on from another is the same training.
    half = trained(backend, optimizer, started(), slice(5))
    rest = trained(backend, optimizer, half.state, slice(5, None))
    for part in ("weights", "mu", "nu"):
        for name, value in getattr(found.state, part).items():
            np.testing.assert_array_equal(getattr(rest.state, part)[name], value)
    if isinstance(optimizer, SGD):
        assert all((value == 0).all() for value in found.state.nu.values())
        assert optimizer.momentum or all((v == 0).all() for v in found.state.mu.values())


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_norm_that_overflows_ends_training(backend: str) -> None:
    """A gradient divided by an infinite norm would be 0: an update of nothing, in silence."""
    x, labels = np.full((2, 2), 1e30, np.float32), np.array([0, 1])
    rows, start = np.array([[0, 1]]), TrainState.start(MODEL.init(0))
    found = get_backend(backend).train(
        MODEL, start, x, labels, rows, EULER, SGD(1e-3, clip_norm=1.0)
    )
    assert (found.retcode, found.state.iteration) == (RetCode.Unstable, 0)


def test_rates_are_not_compiled_in() -> None:
    trained("jax", Adam(0.1), started(), slice(4))
    before = train_kernel.cache_info().misses
    for optimizer in (Adam(0.2), Adam(0.1, schedule="cosine"), Adam(0.3, warmup=2)):
        trained("jax", optimizer, started(), slice(4))
    assert train_kernel.cache_info().misses == before


# Names, texts, tables ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("adam", Adam()),
        ("Adam: b1=0.8, learning_rate=1/8", Adam(1 / 8, 0.8)),
        ("sgd:learning_rate=0.1,momentum=0.9,nesterov=True", SGD(0.1, 0.9, True)),
        (
            "SGD:schedule=cosine,warmup=10,clip_norm=1",
            SGD(schedule="cosine", warmup=10, clip_norm=1),
        ),
        ({"name": "sgd", "momentum": 0.5}, SGD(momentum=0.5)),
        ("RMSprop:decay=0.9,learning_rate=0.01", RMSprop(0.01, 0.9)),
        ({"name": "adam", "weight_decay": 0.1, "clip_norm": None}, Adam(weight_decay=0.1)),
    ],
)
def test_ways_to_write_one(given: Any, meant: Optimizer) -> None:
    assert Optimizer.of(given) == meant
    assert pn.Recipe(EULER, optimizer=given).optimizer == meant
    assert Optimizer.of(meant.to_dict()) == meant


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Optimizer.of("adamw"), r"did you mean adam \(adam:weight_decay=0.01\)"),
        (lambda: Optimizer.of("adma"), "did you mean adam"),
        (lambda: Optimizer.of({"name": 3}), "unknown optimizer 3"),
        (lambda: Optimizer.of({"momentum": 0.9}), "a table with a name"),
        (lambda: Optimizer.of({"name": "adam", "momentum": 0.9}), "optimizer.momentum = 0.9.*b1"),
        (lambda: Optimizer.of("adam:momentum=0.9"), "'momentum=0.9'.*learning_rate.*key=value"),
        (lambda: Optimizer.of("sgd:nesterov=maybe"), "nesterov = 'maybe'"),
        (lambda: Optimizer.of("sgd:warmup=0.5"), "warmup = 0.5: expected an integer"),
        (lambda: Optimizer.of("sgd:learning_rate=fast"), "learning_rate = 'fast'"),
        (lambda: Optimizer.of(3), "optimizer = 3"),
        (lambda: SGD(momentum=1), "momentum = 1: expected a number of at least 0 and below 1"),
        (lambda: RMSprop(decay=1), "decay = 1: expected a number of at least 0 and below 1"),
        (lambda: SGD(nesterov=True), "nesterov.*momentum=0.9"),
        (lambda: Adam(weight_decay=-0.1), "weight_decay = -0.1"),
        (lambda: Adam(clip_norm=0), "clip_norm = 0: expected a number above 0"),
        (lambda: Adam(schedule="step"), "schedule = 'step'.*'constant' or 'cosine'"),
        (lambda: Adam(schedule="exponential"), "final = 0.0: expected a share above 0"),
        (lambda: Adam(final=0.1), "final = 0.1: expected 0 with a constant"),
        (lambda: Adam(schedule="cosine", warmup=5).rates(0, 5), "iterations = None"),
        (
            lambda: pn.Recipe(EULER, 5, optimizer="adam:schedule=linear,warmup=5"),
            "optimizer.warmup = 5: expected fewer than all 5",
        ),
    ],
)
def test_what_is_none_is_refused_with_the_fix(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(PyNODEError, match=said):
        make()


def test_a_backend_says_what_it_lacks() -> None:
    assert checked_optimizer("adam:b1=0.5", backend="julia") == Adam(b1=0.5)
    for optimizer, said in (
        (RMSprop(), 'expected Adam on the julia backend. Or use backend="jax"'),
        (SGD(), 'expected Adam on the julia backend. Or use backend="jax"'),
        (Adam(weight_decay=0.1), "no weight_decay on the julia backend"),
        (Adam(clip_norm=1.0), "no clip_norm on the julia backend"),
        (Adam(warmup=1), "no schedule on the julia backend"),
    ):
        with pytest.raises(InvalidValueError, match=said):
            checked_optimizer(optimizer, backend="julia")
    with pytest.raises(UnknownNameError):
        checked_optimizer("lion")
