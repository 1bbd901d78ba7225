"""Training iterations a second of each task: Julia, JAX and torchdiffeq, side by side.

One process, pinned to one core, one thread each; the same MLP, weights, batches, optimiser (Adam)
and 16 steps of a method of order 4 (RK4; torchdiffeq's is the 3/8 rule). They take turns, and what
is compared is the median of the ratios within a turn. Losses are checked to be the same. Julia
takes part where it is set up.

    python benchmarks/train_tasks.py [--repeats 7] [--core 0]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

BATCH, SEED, LEARNING_RATE, STEPS, SAMPLES = 128, 0, 1e-3, 16, 2000
TIMES = (0.25, 0.5, 0.75, 1.0)
TASKS = ("regression", "trajectory", "density")
# Iterations a turn.
ROWS = {"julia": 256, "jax": 256, "torchdiffeq": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    # Before anything makes threads.
    os.sched_setaffinity(0, {arguments.core})
    from pynode_jl.backends.julia import discover

    names = ["julia"] * discover().found + ["jax", "torchdiffeq"]
    print(f"| task | {' | '.join(f'{name} it/s' for name in names)} |", end="")
    print("".join(f" {name} x torchdiffeq |" for name in names[:-1]))
    print("|---" * (2 * len(names)) + "|")
    for task in TASKS:
        runs = {
            name: torch_run(task) if name == "torchdiffeq" else pynode_run(name, task)
            for name in names
        }
        check({name: run(4) for name, run in runs.items()})
        for name, run in runs.items():  # compile for the measured shape
            run(ROWS[name])
        print(in_turns(task, runs, arguments.repeats), flush=True)


def in_turns(label: str, runs: dict[str, Callable[[int], Any]], repeats: int) -> str:
    """A table's row: iterations a second of each run, and their ratios to the last one's."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run(ROWS[name])
            rates[name].append(ROWS[name] / (time.perf_counter() - start))
    *ours, last = rates.values()
    medians = [f"{statistics.median(each):.0f}" for each in rates.values()]
    ratios = [
        f"{statistics.median(a / b for a, b in zip(each, last, strict=True)):.1f}" for each in ours
    ]
    return f"| {' | '.join([label, *medians, *ratios])} |"


def check(losses: dict[str, Any]) -> None:
    import numpy as np

    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["jax"], rtol=1e-4, atol=1e-5, err_msg=name)


def problem(task: str) -> tuple[Any, Any, Any, Any]:
    """A model, inputs, targets and batches."""
    import numpy as np

    import pynode_jl as pn
    from pynode_jl.tasks import Density, Regression, Trajectory

    kinds = {"regression": Regression(2), "trajectory": Trajectory(TIMES), "density": Density()}
    drawn = np.random.default_rng(SEED)
    model = pn.Model(pn.MLP(2, width=32), task=kinds[task])
    x = drawn.normal(size=(SAMPLES, 2)).astype(np.float32)
    shape = {"regression": (SAMPLES, 2), "trajectory": (SAMPLES, len(TIMES), 2)}.get(task)
    targets = None if shape is None else drawn.normal(size=shape).astype(np.float32)
    return model, x, targets, drawn.integers(0, SAMPLES, (max(ROWS.values()), BATCH))


def pynode_run(backend: str, task: str) -> Callable[[int], Any]:
    from pynode_jl.backends import Adam, TrainState, get_backend
    from pynode_jl.solvers import Solver

    model, x, targets, batches = problem(task)
    made, solver = get_backend(backend), Solver("RK4", dt=1 / STEPS)
    state, adam = TrainState.start(model.init(SEED)), Adam(LEARNING_RATE)
    return lambda n: made.train(model, state, x, targets, batches[:n], solver, adam).loss


def torch_run(task: str) -> Callable[[int], Any]:
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    model, x, targets, batches = problem(task)
    weights = {k: torch.from_numpy(v.copy()) for k, v in model.init(SEED).items()}

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(2, 32),
                torch.nn.Tanh(),
                torch.nn.Linear(32, 32),
                torch.nn.Tanh(),
                torch.nn.Linear(32, 2),
            )

        def forward(self, t: Any, y: Any) -> Any:
            if task != "density":
                return self.layers(y)
            # The exact trace, as FFJORD's example has it.
            z = y[0].requires_grad_(True)
            slope = self.layers(z)
            trace = sum(
                torch.autograd.grad(slope[:, i].sum(), z, create_graph=True)[0][:, i]
                for i in range(2)
            )
            return slope, trace

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field = Field()
            if task == "regression":
                self.head = torch.nn.Linear(2, 2)

        def loss(self, x: Any, targets: Any) -> Any:
            times = torch.tensor([0.0, *(TIMES if task == "trajectory" else [1.0])])
            # torchdiffeq's "rk4" is the 3/8 rule.
            how = {"method": "rk4", "options": {"step_size": 1 / STEPS}}
            if task == "density":
                start = (x, torch.zeros(len(x)))
                z, gained = (each[-1] for each in odeint(self.field, start, times, **how))
                normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
                return -(normal + gained).mean() / 2
            states = odeint(self.field, x, times, **how)
            answers = self.head(states[-1]) if task == "regression" else states[1:].transpose(0, 1)
            return ((answers - targets) ** 2).mean()

    inputs = torch.from_numpy(x)
    aims = inputs if targets is None else torch.from_numpy(targets)

    def run(n: int) -> Any:
        net = Net()
        net.load_state_dict(weights)
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
        losses = []
        for batch in batches[:n]:
            loss = net.loss(inputs[batch], aims[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


if __name__ == "__main__":
    main()
