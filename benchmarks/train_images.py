"""An iteration of the paper's image model at CIFAR-10 size: pynode_jl against torchdiffeq.

`odenet` on 3x32x32 (128 channels), batch 256, Euler, Adam, float32, random pixels: one process, one
core, one thread each, the same weights and batches. The two take turns, and what is compared is the
median of the ratios within a turn, so that load on the machine meets both. Losses are checked to be
the same numbers.

    python benchmarks/train_images.py [--batch 256] [--channels 128] [--steps 4 16] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

SHAPE, SEED, LEARNING_RATE = (3, 32, 32), 0, 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    # Before anything makes threads.
    os.sched_setaffinity(0, {arguments.core})
    import numpy as np

    print(f"batch {arguments.batch}, {arguments.channels} channels")
    print("| h | pynode_jl s/it | torchdiffeq s/it | x torchdiffeq |")
    print("|---|---|---|---|")
    for steps in arguments.steps:
        parts = problem(arguments.batch, arguments.channels)
        runs = {"pynode_jl": pynode(parts, steps), "torchdiffeq": torchdiffeq_run(parts, steps)}
        # Two iterations: the second loss rests on the first one's gradients.
        ours, theirs = (np.array([run() for _ in range(2)]) for run in runs.values())
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
        ratio = statistics.median(
            theirs / ours
            for ours, theirs in zip(seconds["pynode_jl"], seconds["torchdiffeq"], strict=True)
        )
        medians = [f"{statistics.median(seconds[name]):.2f}" for name in runs]
        print(f"| 1/{steps} | {' | '.join(medians)} | {ratio:.2f} |", flush=True)


def problem(batch: int, channels: int) -> Any:
    import numpy as np

    from pynode_jl.fields import ConvField2d
    from pynode_jl.models import Model

    random = np.random.default_rng(SEED)
    model = Model(ConvField2d(SHAPE, channels=channels), classes=10)
    x = random.random((batch, *SHAPE), np.float32)
    return model, model.init(SEED), x, random.integers(0, 10, batch)


def pynode(parts: Any, steps: int) -> Callable[[], float]:
    """One iteration a call, from where the last one ended."""
    import numpy as np

    from pynode_jl.backends._protocol import Adam, TrainState
    from pynode_jl.backends.jax import JaxBackend
    from pynode_jl.solvers import Solver

    model, weights, x, labels = parts
    backend, solver, adam = JaxBackend("cpu"), Solver("Euler", dt=1 / steps), Adam(LEARNING_RATE)
    rows, state = np.arange(len(x))[None], TrainState.start(weights)

    def iterate() -> float:
        nonlocal state
        chunk = backend.train(model, state, x, labels, rows, solver, adam)
        state = chunk.state
        return float(chunk.loss[0])

    return iterate


def torchdiffeq_run(parts: Any, steps: int) -> Callable[[], float]:
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    model, weights, x, labels = parts
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)
    channels = model.field.layers[0].outputs

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(SHAPE[0], channels, 1),
                torch.nn.ReLU(),
                torch.nn.Conv2d(channels, channels, 3, padding=1),
                torch.nn.ReLU(),
                torch.nn.Conv2d(channels, SHAPE[0], 1),
            )

        def forward(self, t: Any, y: Any) -> Any:
            return self.layers(y)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field, self.head = Field(), torch.nn.Linear(x[0].size, 10)

        def forward(self, x: Any) -> Any:
            options = {"step_size": 1 / steps}
            span = torch.tensor([0.0, 1.0])
            y = odeint(self.field, x, span, method="euler", options=options)
            return self.head(y[-1].flatten(1))

    net = Net()
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def iterate() -> float:
        loss = torch.nn.functional.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return iterate


if __name__ == "__main__":
    main()
