"""A certificate of a torch module that cannot be read, beside its solves alone in torchdiffeq.

    taskset -c 0 python benchmarks/certify_torch.py

The model has the shape of torchdiffeq's ODE-net example, for 8x8 digits: a field of convolutions
with norms, time in each and a counter; its head pools. Every solve that the certificate makes is
made again by torchdiffeq: the same batch, precision and interval, the same steps or tolerances, by
its own method of that order. One thread each, by the process's own clock, which other processes do
not move. The goal is a ratio of at most 3.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torchdiffeq
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pynode_jl as pn
from pynode_jl.backends.torch import TorchBackend
from pynode_jl.torch import certify

METHODS = {"Euler": "euler", "Midpoint": "midpoint", "RK4": "rk4", "Tsit5": "dopri5"}


class TimeConv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.conv(torch.cat([torch.ones_like(y[:, :1]) * t, y], dim=1))


class Field(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(2, channels) for _ in range(3))
        self.convs = nn.ModuleList(TimeConv(channels) for _ in range(2))
        self.nfe = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.nfe += 1
        for norm, conv in zip(self.norms, self.convs, strict=False):
            y = conv(t, torch.relu(norm(y)))
        return self.norms[-1](y)


class Recording(TorchBackend):
    """The torch backend, which notes its solves, and the time of everything that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.solves: list[tuple[Any, ...]] = []
        self.seconds: dict[str, float] = defaultdict(float)

    def _integrate(
        self, field: Any, weights: Any, y0: Tensor, times: Tensor, *rest: Any, **more: Any
    ):
        self.solves.append((y0.detach().clone(), times.clone(), rest[0]))
        return self._timed("solves", super()._integrate, field, weights, y0, times, *rest, **more)

    def _step_jacobian(self, *arguments: Any) -> Any:
        return self._timed("Jacobians", super()._step_jacobian, *arguments)

    def _timed(self, name: str, work: Any, *arguments: Any, **more: Any) -> Any:
        started = time.process_time()
        try:
            return work(*arguments, **more)
        finally:
            self.seconds[name] += time.process_time() - started


def replayed(field: Field, solves: list[tuple[Any, ...]]) -> float:
    """Return torchdiffeq's seconds for the same solves."""
    total = 0.0
    double = Field(field.norms[0].num_channels).double()
    double.load_state_dict(field.state_dict())
    for y0, times, solver in solves:
        f = double if y0.dtype == torch.float64 else field
        # A method that it does not have is stood for by one of as many evaluations or more.
        method = METHODS.get(solver.name, "rk4" if solver.fixed else "dopri5")
        settings: dict[str, Any] = {"rtol": solver.rtol, "atol": solver.atol}
        if solver.fixed:
            settings = {"options": {"step_size": solver.dt}}
        started = time.process_time()
        with torch.no_grad():
            torchdiffeq.odeint(f, y0, times.to(y0.dtype), method=method, **settings)
        total += time.process_time() - started
    return total


def model(channels: int, iterations: int) -> tuple[nn.Module, Field, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(y)
    encoder = nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.GroupNorm(2, channels), nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 4, 2, 1),
    )  # fmt: skip
    field = Field(channels)
    head = nn.Sequential(
        nn.GroupNorm(2, channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(), nn.Linear(channels, 10),
    )  # fmt: skip
    parts = nn.ModuleList([encoder, field, head])
    optimizer = torch.optim.Adam(parts.parameters(), lr=1e-2)
    for _ in range(iterations):
        rows = torch.randint(0, 1400, (128,))
        states = torchdiffeq.odeint(
            field, encoder(images[rows]), torch.tensor([0.0, 1.0]), method="euler",
            options={"step_size": 0.25},
        )  # fmt: skip
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(states[-1]), labels[rows]).backward()
        optimizer.step()
    return encoder, field, head, images[1400:], labels[1400:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--samples", type=int, default=397)
    parser.add_argument("--steps", type=int, default=4, help="Euler's, of the training solver")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, field, head, x, y = model(arguments.channels, arguments.iterations)
    backend, n = Recording(), arguments.samples
    stages: list[tuple[str, float]] = []
    started = time.process_time()
    found = certify(
        field, head, x[:n], y[:n], solver=pn.Solver("Euler", dt=1 / arguments.steps),
        encoder=encoder, backend=backend,
        on_stage=lambda name: stages.append((name, time.process_time())),
    )  # fmt: skip
    ended = time.process_time()
    theirs = replayed(field, backend.solves)
    print(found.text)
    for (name, begun), (_, until) in zip(stages, [*stages[1:], ("", ended)], strict=True):
        print(f"  {name:16s} {until - begun:7.1f} s")
    for name, seconds in backend.seconds.items():
        print(f"  {name:16s} {seconds:7.1f} s, in all")
    ours = ended - started
    print(f"{len(backend.solves)} solves: torchdiffeq {theirs:.1f} s, certificate {ours:.1f} s")
    ratio = ours / theirs
    print(f"ratio {ratio:.2f}" + ("" if ratio <= 3 else "  above 3"))


if __name__ == "__main__":
    main()
