"""Work that keeps changing, for minutes or hours: memory must stay flat.

``python tests/runs/soak.py --minutes 60 --solves 10000`` goes on until both are reached. It solves
new modules, functions and fields in changing shapes by changing solvers (the front ends of torch
and JAX, and the backend), with gradients, events, trainings, swaps and certificates between, and
prints the memory that the process holds. It ends with 1 where that has grown by more than a tenth
since the first quarter. ``--shapes 5`` solves each new module of torch in five times as many draws
of shape, method and times: more solves in the same time, most of which is compilation.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import gc
import logging
import random
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

import pynode_jl as pn
from pynode_jl import jax as jax_frontend
from pynode_jl import torch as torch_frontend

# Most shapes are known ones, and some are new and compiled.
WIDTHS, BATCHES, STEPS = (8,) * 6 + (4, 12, 16), (16,) * 8 + (1, 2, 5, 33), (2, 3, 4, 8)
FIXED = ("euler", "rk4") * 5 + ("midpoint", "Heun", "RK4", "implicit_midpoint", "KenCarp4")
ADAPTIVE = ("dopri5",) * 4 + ("bosh3", "Tsit5", "BS3")
GROWTH = 1.10
# How many draws of shape, method and times a module of torch gets, of which main() makes more.
DRAWS = [5, 10, 20]


class Chain(nn.Module):
    """A field that can be read and offloaded."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        inner = [each for _ in range(layers) for each in (nn.Linear(width, width), nn.Tanh())]
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), *inner, nn.Linear(width, 2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Return the slope."""
        return self.net(y)


class Counting(Chain):
    """A field that must run in torch."""

    calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Count the call, and return the slope."""
        self.calls += 1
        return self.net(y)


def _times(draw: random.Random) -> Tensor:
    return torch.linspace(0.0, draw.choice((0.5, 1.0)), draw.choice((2, 2, 2, 3, 5)))


def _keywords(draw: random.Random) -> dict[str, Any]:
    if draw.random() < 0.3:
        return {"method": draw.choice(ADAPTIVE), "rtol": draw.choice((1e-3, 1e-5)), "atol": 1e-6}
    return {
        "method": draw.choice(FIXED),
        "options": {"step_size": draw.choice((0.5, 0.25, 0.125))},
    }


def torch_module(draw: random.Random) -> int:
    """Solve several shapes of one new module, with gradients or without."""
    kind = draw.choice((Chain, Chain, Counting))
    made = kind(draw.choice(WIDTHS), draw.choice((0, 0, 1)))
    count = draw.choice(DRAWS)
    for _ in range(count):
        y0 = torch.randn(draw.choice(BATCHES), 2, requires_grad=draw.random() < 0.5)
        states = torch_frontend.odeint(made, y0, _times(draw), **_keywords(draw))
        if draw.random() < 0.7:
            states.pow(2).sum().backward()
    return count


def torch_function(draw: random.Random) -> int:
    """Solve a function: by odeint, by the adjoint, to an event, and with a second derivative."""
    a = torch.rand(1, requires_grad=True)
    y0 = torch.ones(draw.choice(BATCHES))

    def field(t: Tensor, y: Tensor) -> Tensor:
        return -(1 + a) * y

    t = _times(draw)
    torch_frontend.odeint_adjoint(field, y0, t, adjoint_params=(a,), rtol=1e-3).sum().backward()
    start = torch.tensor(0.0)
    torch_frontend.odeint_event(
        field, y0, start, event_fn=lambda t, y: y.sum() - 0.5 * len(y0), atol=1e-5, rtol=1e-3
    )[0].backward()
    end = torch_frontend.odeint(
        field, y0, t, method="implicit_euler", options={"step_size": 0.25}
    ).sum()
    (slope,) = torch.autograd.grad(end, a, create_graph=True)
    slope.sum().backward()
    return 3


def torch_training(draw: random.Random) -> int:
    """Train a new `NeuralODE` for some iterations."""
    solver = pn.Solver(draw.choice(("Euler", "RK4")), dt=1 / draw.choice(STEPS))
    node = torch_frontend.NeuralODE(Chain(draw.choice(WIDTHS), 0), solver)
    model = nn.Sequential(node, nn.Linear(2, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    batch = draw.choice(BATCHES)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(
            model(torch.randn(batch, 2)), torch.zeros(batch, dtype=torch.long)
        )
        loss.backward()
        optimizer.step()
    return 20


def jax_function(draw: random.Random) -> int:
    """Solve new functions of the JAX front end, as they are, under grad, and under jit."""
    scale = draw.random()
    y0 = jnp.ones(draw.choice(BATCHES))
    times = jnp.linspace(0.0, 1.0, draw.choice((2, 3)))
    method = f"{draw.choice(('Euler', 'RK4', 'ImplicitEuler'))}:dt=1/{draw.choice(STEPS)}"

    def end(a: Any, y0: Any) -> Any:
        return jax_frontend.odeint(lambda y, t, a: -scale * a * y, y0, times, a, method=method)[
            -1
        ].sum()

    end(1.0, y0)
    jax.grad(end)(1.0, y0)
    jax.jit(end)(1.0, y0)
    return 3


def jax_module(draw: random.Random) -> int:
    """Differentiate a new module of the JAX front end."""
    solver = pn.Solver(draw.choice(("Euler", "Tsit5")), dt=1 / draw.choice(STEPS))
    node = jax_frontend.NeuralODE(pn.MLP(2, width=draw.choice(WIDTHS)), solver)
    y0 = jnp.ones((draw.choice(BATCHES), 2))
    jax.block_until_ready(jax.tree.leaves(jax.grad(lambda y: node(y).sum())(y0)))
    return 1


def own_solves(draw: random.Random) -> int:
    """Solve a field of the package by several solvers, and pull back."""
    field = pn.MLP(2, width=draw.choice(WIDTHS))
    weights, y0 = field.init(draw.randrange(100)), np.ones((draw.choice(BATCHES), 2), np.float32)
    backend = pn.get_backend("jax")
    for name in draw.sample(("Euler", "RK4", "Tsit5", "BS3", "KenCarp4", "ImplicitEuler"), 4):
        backend.solve(field, weights, y0, (0, 1), pn.Solver(name, dt=1 / draw.choice(STEPS)))
    backend.solve(field, weights, y0, (0, 1), pn.Solver("Tsit5", rtol=draw.choice((1e-3, 1e-6))))
    backend.vjp(field, weights, y0, (0, 1), pn.Solver("RK4", dt=0.25), np.ones_like(y0))
    return 6


def own_training(draw: random.Random) -> int:
    """Train a model, swap its solver, and at times certify it."""
    data = pn.datasets.concentric_spheres(n_train=128, n_test=64, seed=draw.randrange(100))
    model = pn.Model(pn.MLP(2, width=draw.choice(WIDTHS)), classes=2)
    recipe = pn.Recipe(
        pn.Solver("Euler", dt=1 / draw.choice(STEPS)),
        iterations=40,
        batch_size=16,
        seed=draw.randrange(100),
    )
    trained = pn.train(model, data, recipe)
    pn.swap(trained, data, ["Heun", "RK4"])
    if draw.random() < 0.2:
        pn.certify(trained, data)
    return 10


WORK: dict[Callable[[random.Random], int], float] = {
    torch_module: 30, torch_function: 10, torch_training: 10, jax_function: 6, jax_module: 6,
    own_solves: 12, own_training: 1,
}  # fmt: skip


def resident() -> int:
    """Return the bytes that this process holds in memory, without those that malloc could free."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


class Reading(NamedTuple):
    """The memory after so many minutes and solves."""

    minutes: float
    solves: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.minutes:>7.1f} min {self.solves:>7} solves {self.bytes / 2**20:>8.1f} MiB"


def soak(minutes: float, solves: int, seed: int, every: float = 1.0) -> list[Reading]:
    """Work until both are reached; return the memory at the start and every so many minutes."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    begin, done = time.monotonic(), 0
    counts: collections.Counter[str] = collections.Counter()
    readings = [Reading(0.0, 0, resident())]
    print(readings[-1], flush=True)
    while (now := (time.monotonic() - begin) / 60) < minutes or done < solves:
        if now - readings[-1].minutes >= every:
            readings.append(Reading(now, done, resident()))
            print(readings[-1], dict(counts), flush=True)
        (work,) = draw.choices(list(WORK), list(WORK.values()))
        done += work(draw)
        counts[work.__name__] += 1
    readings.append(Reading(now, done, resident()))
    print(readings[-1], dict(counts), flush=True)
    return readings


def main() -> None:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--solves", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=[each.__name__ for each in WORK])
    arguments = parser.parse_args()
    for work in list(WORK):
        if arguments.only and work.__name__ not in arguments.only:
            del WORK[work]
    DRAWS[:] = [each * arguments.shapes for each in DRAWS]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    readings = soak(arguments.minutes, arguments.solves, arguments.seed)
    warm, end = readings[max(1, len(readings) // 4)], readings[-1]
    print(f"after warm-up {warm}\nat the end    {end}")
    sys.exit(end.bytes > GROWTH * warm.bytes)


if __name__ == "__main__":
    main()
