"""An iteration of the paper's image model at CIFAR-10 size: pynode_jl against torchdiffeq.

`odenet` on 3x32x32 (128 channels), batch 256, Euler, Adam, float32 without TF32, random pixels; and
ours with its field in bfloat16. One process, the same weights and batches; on a CPU one core with
one thread each. The runs take turns, and what is compared is the median of the ratios within a
turn, so that load on the machine meets all of them. First the gradients of one iteration are held
against the CPU's in float64, and the losses of the two libraries against each other.

    python benchmarks/train_images.py [--device gpu] [--batch 256] [--channels 128] [--steps 4 16]
        [--iterations 1] [--repeats 3]

Memory is each library's own peak on a GPU, the process's on a CPU; utilisation is that of the GPU
(nvidia-smi) or of the core, while a run has its turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHAPE, SEED, LEARNING_RATE = (3, 32, 32), 0, 1e-4
GRADIENT_SAMPLES = 16
# What one iteration's gradient may differ by from the CPU's in float64, relative to its norm.
FLOAT32 = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--iterations", type=int, help="In a turn; default 1, or 50 on a GPU.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    device, gpu = arguments.device, arguments.device == "gpu"
    iterations = arguments.iterations or (50 if gpu else 1)
    if gpu:
        # JAX would take three quarters of the memory before torch has any.
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    else:
        # Before anything makes threads.
        os.sched_setaffinity(0, {arguments.core})
    import numpy as np

    print(f"{named(device)}; batch {arguments.batch}, {arguments.channels} channels")
    for steps in arguments.steps:
        compare_gradients(device, arguments.channels, steps)
    print("| h | run | it/s | x torchdiffeq | peak memory, GB | utilisation |")
    print("|---|---|---|---|---|---|")
    for steps in arguments.steps:
        parts = problem(arguments.batch, arguments.channels)
        runs = {
            "pynode_jl": pynode(device, parts, steps, "full"),
            "pynode_jl, bfloat16": pynode(device, parts, steps, "bfloat16"),
            "torchdiffeq": torchdiffeq_run(device, parts, steps),
        }
        # Two iterations: the second loss rests on the first one's gradients.
        losses = {name: run(2) for name, run in runs.items()}
        np.testing.assert_allclose(losses["pynode_jl"], losses["torchdiffeq"], rtol=1e-4)
        for run in runs.values():  # compile for the measured shape
            run(iterations)
        rates: dict[str, list[float]] = {name: [] for name in runs}
        used: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            for name, run in runs.items():
                with utilisation(gpu, used[name]):
                    start = time.perf_counter()
                    run(iterations)
                    rates[name].append(iterations / (time.perf_counter() - start))
        for name, rate in rates.items():
            ratios = [a / b for a, b in zip(rate, rates["torchdiffeq"], strict=True)]
            cells = (
                f"1/{steps}",
                name,
                f"{statistics.median(rate):.3g}",
                f"{statistics.median(ratios):.2f}",
                f"{peak_memory(gpu, name):.2f}",
                f"{statistics.fmean(used[name]):.0%}" if used[name] else "",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def problem(batch: int, channels: int, activation: str = "relu") -> Any:
    import numpy as np

    from pynode_jl.fields import ConvField2d
    from pynode_jl.models import Model

    random = np.random.default_rng(SEED)
    model = Model(ConvField2d(SHAPE, channels=channels, activation=activation), classes=10)
    x = random.random((batch, *SHAPE), np.float32)
    return model, model.init(SEED), x, random.integers(0, 10, batch)


def compare_gradients(device: str, channels: int, steps: int) -> None:
    """Print what one iteration's gradients are off by; refuse float32 that is not.

    With tanh: where rounding moves one relu across its kink, a gradient jumps by 1e-4 of itself.
    """
    import numpy as np

    from pynode_jl.backends import Adam, TrainState
    from pynode_jl.backends.jax import JaxBackend
    from pynode_jl.solvers import Solver

    model, weights, x, labels = problem(GRADIENT_SAMPLES, channels, "tanh")
    rows, solver = np.arange(len(x))[None], Solver("Euler", dt=1 / steps)

    def slopes(device: str, x: Any, precision: str) -> Any:
        """Adam's first moment after one iteration: the gradients, times a constant."""
        state, adam = TrainState.start(weights), Adam(LEARNING_RATE)
        backend = JaxBackend(device)
        chunk = backend.train(model, state, x, labels, rows, solver, adam, precision=precision)
        return chunk.state.mu

    exact = slopes("cpu", x.astype(np.float64), "full")
    found = {}
    for precision in ("full", "bfloat16"):
        ours = slopes(device, x, precision)
        norms = {name: np.linalg.norm(slope) for name, slope in exact.items()}
        found[precision] = max(
            float(np.linalg.norm(ours[name] - slope) / norms[name]) for name, slope in exact.items()
        )
    text = ", ".join(f"{precision} {off:.1e}" for precision, off in found.items())
    print(f"gradients at h = 1/{steps}, against the CPU's in float64: {text}")
    assert found["full"] < FLOAT32, found


def pynode(device: str, parts: Any, steps: int, precision: str) -> Callable[[int], list[float]]:
    """So many iterations a call, from where the last one ended; their losses."""
    import numpy as np

    from pynode_jl.backends import Adam, TrainState
    from pynode_jl.backends.jax import JaxBackend
    from pynode_jl.solvers import Solver

    model, weights, x, labels = parts
    backend, solver, adam = JaxBackend(device), Solver("Euler", dt=1 / steps), Adam(LEARNING_RATE)
    state = TrainState.start(weights)

    def iterate(count: int) -> list[float]:
        nonlocal state
        rows = np.tile(np.arange(len(x)), (count, 1))
        chunk = backend.train(model, state, x, labels, rows, solver, adam, precision=precision)
        state = chunk.state
        return [float(loss) for loss in chunk.loss]

    return iterate


def torchdiffeq_run(device: str, parts: Any, steps: int) -> Callable[[int], list[float]]:
    import torch
    from torchdiffeq import odeint

    where = torch.device("cuda" if device == "gpu" else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device == "cpu":
        torch.set_num_threads(1)
    model, weights, x, labels = parts
    inputs, targets = torch.from_numpy(x).to(where), torch.from_numpy(labels).to(where)
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
            span = torch.tensor([0.0, 1.0], device=where)
            y = odeint(self.field, x, span, method="euler", options=options)
            return self.head(y[-1].flatten(1))

    net = Net()
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
    net.to(where)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def iterate(count: int) -> list[float]:
        losses = []
        for _ in range(count):
            loss = torch.nn.functional.cross_entropy(net(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        # One look at the end: a look at each would wait for the GPU.
        return [float(loss) for loss in losses]

    return iterate


def named(device: str) -> str:
    import jax

    return f"{jax.devices(device)[0].device_kind}, jax {jax.__version__}"


@contextmanager
def utilisation(gpu: bool, seen: list[float]) -> Iterator[None]:
    """Adds to `seen` the share of the time that the device was busy."""
    if not gpu:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        seen.append((time.process_time() - cpu) / (time.perf_counter() - wall))
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with subprocess.Popen([*query, "-lms", "100"], stdout=subprocess.PIPE, text=True) as process:
        yield
        process.terminate()
        lines, _ = process.communicate()
    # The last line may have been cut off.
    seen += [float(line) / 100 for line in lines.splitlines()[:-1]]


def peak_memory(gpu: bool, name: str) -> float:
    if not gpu:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if name == "torchdiffeq":
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    import jax

    return (jax.devices("gpu")[0].memory_stats() or {})["peak_bytes_in_use"] / 2**30


if __name__ == "__main__":
    main()
