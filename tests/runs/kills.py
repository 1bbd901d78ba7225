"""Runs killed at moments drawn from a seed: each goes on, and ends as the one that was not killed.

``python tests/runs/kills.py --kills 100`` kills so many and prints where they stood.
"""

from __future__ import annotations

import collections
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
from by_command import main

from pynode_jl.runs import Config, Run

CONFIG = {
    "seed": 3,
    "backend": "jax",
    "data": {"name": "spheres", "n_train": 200, "n_test": 40},
    "field": {"kind": "mlp", "width": 8},
    "train": {
        "solver": "Euler:dt=1/4",
        "iterations": 1500,
        "batch_size": 50,
        "learning_rate": 0.01,
        "chunk": 10,
    },
}


def train(folder: str) -> Run:
    """Make or open the run and train it; state is kept after every chunk."""
    import pynode_jl.runs._run as home

    home._SECONDS_BETWEEN_SAVES = 0.0
    run = Run.create(Config.from_dict(CONFIG), folder)
    run.train()
    return run


def outcome(run: Run) -> list[Any]:
    """The run's end, in values that compare."""
    trained = run.trained
    arrays = [*trained.weights.values(), *trained.state.nu.values(), trained.history.loss]
    return [trained.state.iteration, trained.retcode, *(each.tobytes() for each in arrays)]


def outcomes(kills: int, seed: int, home: Path) -> collections.Counter[str]:
    """Kill so many runs, each in a folder of its own; count where they stood and how they ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pynode_jl.runs", "pynode_jl.backends.jax"])
    begun = time.monotonic()
    child = context.Process(target=train, args=(str(home / "whole"),))
    child.start()
    child.join()
    longest = time.monotonic() - begun
    expected = outcome(Run.open(home / "whole"))
    random, found = np.random.default_rng(seed), collections.Counter[str]()
    for number in range(kills):
        folder = home / f"killed{number}"
        child = context.Process(target=train, args=(str(folder),))
        child.start()
        time.sleep(random.uniform(0.0, longest))
        child.kill()
        child.join()
        stood = "before its first checkpoint"
        if (folder / "checkpoint.safetensors").exists():
            stood = "at its end" if Run.open(folder).trained.finished else "on its way"
        equal = outcome(train(str(folder))) == expected
        found[f"{stood}: {'equal' if equal else f'NOT EQUAL, kill {number} of seed {seed}'}"] += 1
    return found


if __name__ == "__main__":
    main(__doc__, outcomes, "kills", 100, "NOT EQUAL")
