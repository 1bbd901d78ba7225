"""Ctrl-C, SIGTERM, SIGHUP at moments from a seed, under load: state is kept, nothing crashes.

``python tests/cli/interrupts.py --interrupts 40`` sends so many, and prints how the processes ended
and where their runs stood. Half of them come twice, the second at once.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from by_command import main

from pynode_jl.runs import Config, Run

CONFIG = {
    "backend": "jax",
    "data": {"n_train": 400, "n_test": 40},
    "field": {"kind": "mlp", "width": 32},
    "train": {"solver": "Euler:dt=1/32", "iterations": 3000, "learning_rate": 0.01, "chunk": 10},
    "swap": {"solvers": ["RK4", "Tsit5:tol=1e-4"], "factors": [0.5, 1.0]},
}
# A shell in the background has its children ignore Ctrl-C.
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from pynode_jl.cli import main; main()"
)
_SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GOES_ON = "Run the same command again to resume"


def spin() -> None:
    """Keep a processor busy."""
    while True:
        sum(range(10_000))


def interrupted(
    arguments: list[str], seconds: float, twice: bool, sent: signal.Signals
) -> tuple[int, str]:
    """Start a command, interrupt it after `seconds`; return its status and standard error."""
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            time.sleep(seconds)
            for _ in range(1 + twice):
                process.send_signal(sent)
                time.sleep(0.02)
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()
    return process.returncode, said


def outcomes(interrupts: int, seed: int, home: Path) -> collections.Counter[str]:
    """Interrupt so many commands, trainings and swaps; count how they ended."""
    (home / "run.toml").write_text(Config.from_dict(CONFIG).to_toml())
    begun = time.monotonic()
    whole = ["train", str(home / "run.toml"), "--out", str(home / "whole")]
    subprocess.run([sys.executable, "-c", _COMMAND, *whole], check=True, capture_output=True)
    longest = time.monotonic() - begun
    load = [multiprocessing.Process(target=spin, daemon=True) for _ in range(os.cpu_count() or 2)]
    for each in load:
        each.start()
    random, found = np.random.default_rng(seed), collections.Counter[str]()
    try:
        for number in range(interrupts):
            folder = home / f"interrupted{number}"
            train = ["train", str(home / "run.toml"), "--out", str(folder)]
            arguments = ["swap", str(home / "whole")] if number % 4 == 3 else train
            sent = _SENT[number % len(_SENT)]
            status, said = interrupted(
                arguments, random.uniform(0.0, 1.3 * longest), bool(number % 2), sent
            )
            found[_outcome(arguments[0], folder, status, said, sent)] += 1
    finally:
        for each in load:
            each.kill()
    return found


def _outcome(command: str, folder: Path, status: int, said: str, sent: signal.Signals) -> str:
    if status == 0:
        return f"{command}: done before"
    # Python itself ends so, by KeyboardInterrupt, until the command line listens.
    if status == -sent and "pynode_jl/cli/_" not in said:
        return f"{command}: not yet begun"
    if status != 128 + sent or "Traceback" in said or "Stopped." not in said:
        return f"{command}: BAD, status {status}: {said[-300:]}"
    if command == "swap" or not (folder / "checkpoint.safetensors").exists():
        return f"{command}: stopped, nothing to keep"
    done = Run.open(folder).trained.state.iteration
    return (
        f"{command}: stopped and kept" if _GOES_ON in said and done else f"{command}: BAD, {said}"
    )


if __name__ == "__main__":
    main(__doc__, outcomes, "interrupts", 40, "BAD")
