"""What a sweep costs beside its trainings, and how quickly its index answers.

    python benchmarks/sweep.py                 # all three, some minutes
    python benchmarks/sweep.py --runs 50 --rows 20000

1. A sweep in this process against the same trainings and swaps, without folders: its overhead.
2. Scheduling: a sweep whose jobs do nothing.
3. The index: so many rows listed, filtered and counted.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pynode_jl as pn
from pynode_jl._io import make_folder, write_json
from pynode_jl.sweeps import Job, Outcome, SweepStore, run_sweep
from pynode_jl.sweeps._result_files import METRICS, TIMES

BASE = {
    "backend": "jax",
    "data": {"name": "spheres", "n_train": 512, "n_test": 200},
    "field": {"kind": "mlp", "width": 16},
    "train": {"iterations": 1000, "batch_size": 128, "learning_rate": 0.003},
    "swap": {"solvers": ["Euler", "Midpoint", "RK4"], "factors": [0.5, 1.0, 2.0]},
}


def sweep(runs: int, iterations: int) -> pn.Sweep:
    base = pn.Config.from_dict(BASE).changed({"train.iterations": iterations})
    solvers = ["Euler:dt=1/4", "Euler:dt=1/16"]
    return pn.Sweep(base, grid={"train.solver": solvers, "seed": list(range(runs // 2))})


def bare(planned: Any) -> tuple[float, float]:
    """Train and swap without any folder; return seconds, wall and processor."""
    begun = time.perf_counter(), time.process_time()
    config = planned.config
    dataset = config.dataset()
    model = config.make_model(dataset)
    trained = pn.train(model, dataset, config.recipe(), backend="jax")
    swap = config.swap
    pn.swap(trained, dataset, swap.solvers, factors=swap.factors, backend="jax")
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


class Empty:
    """An executor whose jobs write a result and compute nothing."""

    slots = 1

    def submit(self, job: Job) -> Future[Outcome]:
        folder = make_folder(Path(job.store) / job.folder)
        values = {"format": 1, "settings": job.settings, "metrics": {}, "times": {}, "files": {}}
        write_json(folder / f"result-{job.swap}.json", values)
        future: Future[Outcome] = Future()
        future.set_result(Outcome(job.key, "done"))
        return future

    def memory(self, future: Future[Outcome]) -> int:
        return 0

    def kill(self, future: Future[Outcome]) -> None: ...

    def close(self) -> None: ...


def overhead(runs: int, iterations: int, home: Path) -> None:
    """Alternate bare runs with a sweep's, so that both meet the same load of the machine."""
    planned = sweep(runs, iterations)
    for each in planned.runs[:: max(1, runs // 2)]:
        bare(each)  # compiles
    marks = [(time.perf_counter(), time.process_time())]
    alone = [0.0, 0.0]

    def after(progress: Any) -> None:
        nonlocal alone
        if progress.done > len(marks) - 1:
            now = time.perf_counter(), time.process_time()
            spent.append((now[0] - marks[-1][0], now[1] - marks[-1][1]))
            wall, processor = bare(planned.runs[progress.done - 1])
            alone = [alone[0] + wall, alone[1] + processor]
            marks.append((time.perf_counter(), time.process_time()))

    spent: list[tuple[float, float]] = []
    run_sweep(planned, home / "whole", on_progress=after)
    for name, place in (("wall time", 0), ("processor time", 1)):
        mine = sum(each[place] for each in spent)
        print(
            f"{name}: sweep {mine:.2f} s, bare {alone[place]:.2f} s, {runs} runs,"
            f" overhead {mine / alone[place] - 1:+.1%}, {(mine - alone[place]) / runs * 1e3:.1f} ms"
            " a run"
        )


def scheduling(runs: int, home: Path) -> None:
    planned = sweep(runs, 10)
    begun = time.perf_counter(), time.process_time()
    run_sweep(planned, home / "empty", executor=Empty())
    wall, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(f"scheduling: {wall / runs * 1e3:.1f} ms a run, {processor / runs * 1e3:.1f} processor")
    begun = time.perf_counter(), time.process_time()
    run_sweep(planned, home / "empty", executor=Empty())
    print(f"nothing to do: {(time.perf_counter() - begun[0]) / runs * 1e3:.1f} ms a run")


def index(rows: int, home: Path) -> None:
    """List and filter finished runs as `SweepStore.table` does, with every column filled."""
    solvers = [f"Euler:dt=1/{2**i}" for i in range(10)]
    many = pn.Sweep(grid={"train.solver": solvers, "seed": list(range(rows // 10))})
    store = SweepStore(many, home)  # its runs are not made: that takes longer
    keys = [hashlib.sha256(f"{number}".encode()).hexdigest()[:33] for number in range(rows)]
    labels = [pn.Solver.parse(solver).label for solver in solvers]
    begun = time.perf_counter()
    store.index.put(
        {
            "key": key,
            "state": "done",
            "settings": {"seed": number // 10, "train.solver": labels[number % 10]},
            **{name: number / 7 % 1 for name, kind in (METRICS | TIMES).items() if kind == "REAL"},
            "score": (number % 1000) / 1000,
            "method": "Euler",
            "metric": "accuracy",
            "verdict": "tied" if number % 3 else "valid",
            "iterations": 1000,
            "attempts": 1,
            "finished": "2026-11-26T12:00:00Z",
            "host": "here",
        }
        for number, key in enumerate(keys)
    )
    print(f"index: {rows:,} rows written in {time.perf_counter() - begun:.2f} s")
    store.index.put_members(store._digest, keys)
    for texts in ([], ["verdict=tied", "score>=0.9"], ["train.solver=Euler:dt=1/8", "seed<5000"]):
        begun = time.perf_counter(), time.process_time()
        found = store.table(texts)
        print(
            f"  {' and '.join(texts) or 'all'}: {len(found):,} rows in"
            f" {time.perf_counter() - begun[0]:.3f} s, {time.process_time() - begun[1]:.3f} s of a"
            " processor"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index(arguments.rows, Path(folder))
        scheduling(arguments.runs, Path(folder))
        overhead(arguments.runs, arguments.iterations, Path(folder))
