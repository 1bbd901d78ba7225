"""Training iterations a second on Sphere 2D: pynode_jl, torchdiffeq and diffrax, side by side.

One process, pinned to one core, one thread each; the same weights, batches, solver (Euler) and
optimiser (Adam). The three take turns, and what is compared is the median of the ratios within a
turn, so that load on the machine meets all of them. Losses are checked to be the same numbers.

    python benchmarks/train_sphere.py [--repeats 7] [--core 0]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH, SEED, LEARNING_RATE = 128, 0, 1e-4
STEPS = (16, 64)
# Iterations a turn, by library: about a second each.
ROWS = {"pynode_jl": 256, "torchdiffeq": 24, "diffrax": 128}

FIRST_GRADIENT = """
import numpy as np
from pynode_jl.backends import Adam, TrainState
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.fields import ConvField1d
from pynode_jl.models import Model
from pynode_jl.solvers import Solver
model = Model(ConvField1d(2), classes=2)
x = np.zeros((2000, 2), np.float32)
state = TrainState.start(model.init(0))
batches = np.zeros((1, 128), int)
solver = Solver("Euler", dt=1 / 16)
JaxBackend("cpu").train(model, state, x, np.zeros(2000), batches, solver, Adam())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    # Before anything makes threads.
    os.sched_setaffinity(0, {arguments.core})

    imported, empty, first = (fresh(c) for c in ("import pynode_jl", "pass", FIRST_GRADIENT))
    seconds = imported[0] - empty[0]
    print(f"import pynode_jl: {seconds:.2f} s beyond the interpreter (goal: under 0.3)")
    print(f"start to first gradient: {first[0]:.1f} s, {first[1]:.1f} s of processor (under 6)")
    print()
    print("| h | pynode_jl it/s | torchdiffeq it/s | diffrax it/s | x torchdiffeq | x diffrax |")
    print("|---|---|---|---|---|---|")
    for steps in STEPS:
        runs = {
            "pynode_jl": pynode(steps),
            "torchdiffeq": torchdiffeq_run(method="euler", options={"step_size": 1 / steps}),
            "diffrax": diffrax_run(steps),
        }
        check({name: run(8) for name, run in runs.items()})
        for name, run in runs.items():  # compile for the measured shape
            run(ROWS[name])
        print(in_turns(f"1/{steps}", runs, ROWS, arguments.repeats), flush=True)


def in_turns(
    label: str, runs: dict[str, Callable[[int], Any]], rows: dict[str, int], repeats: int
) -> str:
    """A table's row: iterations a second of each run, and the first one's ratio to the others."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run(rows[name])
            rates[name].append(rows[name] / (time.perf_counter() - start))
    ours, *others = rates.values()
    medians = [f"{statistics.median(each):.0f}" for each in rates.values()]
    ratios = [
        f"{statistics.median(a / b for a, b in zip(ours, each, strict=True)):.2f}"
        for each in others
    ]
    return f"| {' | '.join([label, *medians, *ratios])} |"


def fresh(code: str, tries: int = 3) -> tuple[float, float]:
    """The best wall and processor time of a fresh interpreter that runs `code`."""
    walls, cpus = [], []
    for _ in range(tries):
        start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        walls.append(time.perf_counter() - start)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    return min(walls), min(cpus)


def check(losses: dict[str, Any]) -> None:
    import numpy as np

    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["pynode_jl"], rtol=1e-4, err_msg=name)


def problem() -> tuple[Any, Any, Any, Any, Any]:
    import numpy as np

    from pynode_jl.datasets import load
    from pynode_jl.fields import ConvField1d
    from pynode_jl.models import Model

    data = load("spheres", dim=2, seed=SEED)
    model = Model(ConvField1d(2), classes=2)
    batches = np.random.default_rng(SEED).integers(
        0, len(data.x_train), (max(ROWS.values()), BATCH)
    )
    return model, model.init(SEED), data.x_train, data.y_train, batches


def pynode(steps: int) -> Callable[[int], Any]:
    from pynode_jl.backends import Adam, TrainState
    from pynode_jl.backends.jax import JaxBackend
    from pynode_jl.solvers import Solver

    model, weights, x, labels, batches = problem()
    backend, solver = JaxBackend("cpu"), Solver("Euler", dt=1 / steps)
    state, adam = TrainState.start(weights), Adam(LEARNING_RATE)
    return lambda n: backend.train(model, state, x, labels, batches[:n], solver, adam).loss


def torchdiffeq_run(**solve: Any) -> Callable[[int], Any]:
    import torch
    from torchdiffeq import odeint

    span = torch.tensor([0.0, 1.0])
    return torch_run(lambda field, y0: odeint(field, y0, span, **solve)[-1])


def torch_run(integrate: Callable[[Any, Any], Any]) -> Callable[[int], Any]:
    """Training in torch, y(1) by `integrate(field, y0)`."""
    import torch

    torch.set_num_threads(1)
    _, weights, x, labels, batches = problem()

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Conv1d(1, 32, 1),
                torch.nn.ReLU(),
                torch.nn.Conv1d(32, 32, 3, padding=1),
                torch.nn.ReLU(),
                torch.nn.Conv1d(32, 1, 1),
            )

        def forward(self, t: Any, y: Any) -> Any:
            return self.layers(y)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field, self.head = Field(), torch.nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return self.head(integrate(self.field, x[:, None]).flatten(1))

    inputs, targets = torch.from_numpy(x.copy()), torch.from_numpy(labels.astype("int64"))

    def run(n: int) -> Any:
        net = Net()
        net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
        losses = []
        for batch in batches[:n]:
            loss = torch.nn.functional.cross_entropy(net(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


def diffrax_run(steps: int) -> Callable[[int], Any]:
    import diffrax
    import jax
    import numpy as np
    import optax

    from pynode_jl.backends.jax import field_eval
    from pynode_jl.models import ModelWeights

    model, weights, x, labels, batches = problem()
    # The same right-hand side as ours, so that the loop and its gradient are what is compared.
    prepare, apply = field_eval.right_hand_side(model.field)
    optimizer = optax.adam(LEARNING_RATE)

    def loss_of(weights: Any, x: Any, labels: Any) -> Any:
        tree = ModelWeights.from_dict(weights)
        prepared = prepare(tree.field)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: apply(args, t, y)),
            diffrax.Euler(),
            0.0,
            1.0,
            1 / steps,
            x,
            prepared,
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
            max_steps=steps,
        )
        logits = model.logits(solution.ys[-1], tree)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def chunk(weights: Any, batches: Any, x: Any, labels: Any) -> Any:
        def iterate(carry: Any, index: Any) -> Any:
            weights, state = carry
            loss, slope = jax.value_and_grad(loss_of)(weights, x[index], labels[index])
            update, state = optimizer.update(slope, state)
            return (optax.apply_updates(weights, update), state), loss

        return jax.lax.scan(iterate, (weights, optimizer.init(weights)), batches)[1]

    labels = labels.astype(np.int32)
    return lambda n: np.asarray(chunk(weights, batches[:n], x, labels))


if __name__ == "__main__":
    main()
