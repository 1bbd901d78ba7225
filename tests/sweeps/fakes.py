"""Sweeps without their numerics: an executor whose jobs end as they are told to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from pynode_jl._io import make_folder, write_json
from pynode_jl.runs import Config
from pynode_jl.sweeps import Job, Outcome, Sweep

BASE = Config.from_dict(
    {
        "backend": "jax",
        "data": {"name": "spheres", "n_train": 64, "n_test": 16},
        "field": {"kind": "mlp", "width": 4},
        "train": {"solver": "Euler:dt=1/2", "iterations": 20, "batch_size": 32, "chunk": 10},
        "swap": {"solvers": ["RK4"], "factors": [1.0]},
    }
)


def sweep(seeds: int = 4, **grid: list[object]) -> Sweep:
    return Sweep(BASE, grid={"seed": list(range(seeds)), **grid})


def fake_result(job: Job) -> Outcome:
    """Write a result, without a training."""
    seed = job.config["seed"]
    folder = make_folder(Path(job.store) / job.folder)
    values = {
        "format": 1,
        "key": job.key,
        "settings": job.settings,
        "attempts": job.attempt,
        "metrics": {"method": "Euler", "score": seed / 10, "verdict": "tied", "iterations": 20},
        "times": {"train_seconds": 1.0, "swap_seconds": 0.1},
        "swap": {"label": ["RK4 h=1/2"], "accuracy": [seed / 10]},
        "files": {},
    }
    write_json(folder / f"result-{job.swap}.json", values)
    return Outcome(job.key, "done")


class FakeExecutor:
    """Ends each job at once, as `script` says: by an outcome or an exception."""

    def __init__(self, script: Callable[[Job], Outcome] = fake_result, slots: int = 2) -> None:
        self.script = script
        self.slots = slots
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> Future[Outcome]:
        self.jobs.append(job)
        future: Future[Outcome] = Future()
        try:
            future.set_result(self.script(job))
        except Exception as error:
            future.set_exception(error)
        return future

    def memory(self, future: Future[Outcome]) -> int:
        return 0

    def kill(self, future: Future[Outcome]) -> None:
        future.cancel()

    def close(self) -> None:
        pass
