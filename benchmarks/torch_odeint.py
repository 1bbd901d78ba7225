"""`pynode_jl.torch.odeint` on a translated MLP beside torchdiffeq: forward and backward, one run.

    taskset -c 0 python benchmarks/torch_odeint.py

One core and one thread each, in turns, so that load on the machine falls on both. The ratio of a
row is the median over turns of (torchdiffeq's time / ours) by the process's own clock, which other
processes do not move; the wall times are the best. Both solve to the same tolerances with the same
tableau, and their states and gradients are held to agree before anything is timed.

It also times arrays crossing between the frameworks; with --julia, to Julia and back too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import torch
import torchdiffeq
from torch import Tensor, nn

from pynode_jl.dlpack import as_jax, as_julia, as_numpy, as_torch
from pynode_jl.torch import odeint

GOAL_RATIO, GOAL_MICROSECONDS = 5.0, 20.0


class Field(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        widths = [2, *[width] * depth, 2]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


def once(solve: Callable[..., Any], field: Field, y0: Tensor, **keywords: Any) -> Tensor:
    field.zero_grad(set_to_none=True)
    y1 = solve(field, y0, torch.tensor([0.0, 1.0]), method="dopri5", **keywords)[-1]
    y1.sum().backward()
    return y1.detach()


def measured(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of this process, and of the wall, for one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def row(width: int, depth: int, rtol: float, atol: float, turns: int) -> str:
    torch.manual_seed(0)
    field, y0 = Field(width, depth), torch.randn(128, 2)
    weight = next(field.parameters())
    tolerances = {"rtol": rtol, "atol": atol}

    def ours() -> Tensor:
        return once(odeint, field, y0, backend="jax", **tolerances)

    def theirs() -> Tensor:
        return once(torchdiffeq.odeint, field, y0, **tolerances)

    answers = []
    for solve in (ours, theirs):
        y1 = solve()
        assert weight.grad is not None
        answers.append((y1, weight.grad.clone()))
    torch.testing.assert_close(answers[0][0], answers[1][0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(answers[0][1], answers[1][1], rtol=3e-2, atol=3e-2)
    pairs = [(measured(ours, 10), measured(theirs, 3)) for _ in range(turns)]
    ratio = statistics.median(b[0] / a[0] for a, b in pairs)
    best = [min(pair[i][1] for pair in pairs) * 1e3 for i in (0, 1)]
    mark = "" if ratio >= GOAL_RATIO else f"  below {GOAL_RATIO:g}"
    return f"{width:5d} {depth:5d}  {rtol:.0e} {best[0]:9.2f} {best[1]:15.2f} {ratio:7.2f}{mark}"


def solves(turns: int) -> None:
    print("dopri5, batch 128, float32, forward + backward")
    print("width depth   rtol   ours ms  torchdiffeq ms   ratio")
    for width, depth in ((16, 2), (32, 1), (64, 1), (64, 2)):
        for rtol, atol in ((1e-3, 1e-6), (1e-7, 1e-9)):
            print(row(width, depth, rtol, atol, turns), flush=True)


def crossings(julia: bool) -> None:
    tensor = torch.randn(128, 64)
    array, buffer = as_jax(tensor), as_numpy(tensor)
    print("\narrays across, (128, 64) float32, microseconds (best of 5)")
    directions: dict[str, Callable[[], object]] = {
        "torch to JAX": lambda: as_jax(tensor),
        "  JAX's own from_dlpack": lambda: jax.dlpack.from_dlpack(tensor),
        "JAX to torch": lambda: as_torch(array),
        "torch to NumPy": lambda: as_numpy(tensor),
        "NumPy to torch": lambda: as_torch(buffer),
        "JAX to NumPy": lambda: as_numpy(array),
        "NumPy to JAX": lambda: as_jax(buffer),
    }
    if julia:
        there = as_julia(tensor)
        directions |= {
            "torch to Julia": lambda: as_julia(tensor),
            "Julia to NumPy": lambda: as_numpy(there),
            "Julia to torch": lambda: as_torch(there),
            "Julia to JAX": lambda: as_jax(there),
        }
    for name, work in directions.items():
        best = min(measured(work, 1000)[0] for _ in range(5)) * 1e6
        mark = "" if best < GOAL_MICROSECONDS else f"  above {GOAL_MICROSECONDS:g}"
        print(f"{name:24s} {best:6.1f}{mark}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--julia", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    solves(arguments.turns)
    crossings(arguments.julia)


if __name__ == "__main__":
    main()
