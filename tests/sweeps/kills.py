"""Sweeps struck at moments drawn from a seed: all results come in the end, and no other ones.

``python tests/sweeps/kills.py --kills 20`` runs a sweep of 200 runs undisturbed, then once more in
another folder, strikes it so many times (a worker, the parent, a Dask scheduler or worker killed;
a full disk; a truncated checkpoint or result; a damaged index), resumes it, and compares.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pynode_jl._io import read_json
from pynode_jl.runs import Config
from pynode_jl.sweeps import Sweep, SweepStore

BASE = {
    "backend": "jax",
    "data": {"name": "spheres", "n_train": 128, "n_test": 100},
    "field": {"kind": "mlp", "width": 8},
    "train": {"iterations": 100, "batch_size": 64, "learning_rate": 0.01},
    "swap": {"solvers": ["Euler", "RK4"], "factors": [0.5, 1.0]},
}
#: Of a result, what differs from one execution to the next.
TIMES = ("times", "host", "finished", "attempts", "packages", "files")
STRIKES = ("worker", "parent", "disk", "checkpoint", "result", "index", "scheduler", "dask worker")


def sweep(runs: int) -> Sweep:
    solvers = ["Euler:dt=1/2", "Euler:dt=1/4", "RK4:dt=1/2", "RK4:dt=1"]
    return Sweep(
        Config.from_dict(BASE),
        grid={"seed": list(range(runs // 4)), "train.solver": solvers},
    )


def outcomes(folder: Path) -> dict[str, Any]:
    """What each run came to, in values that compare: metrics, swap, weights."""
    store, found = SweepStore.open(folder), {}
    for run in store.runs:
        values = read_json(store.result_path(run))
        for name in TIMES:
            values.pop(name)
        del values["swap"]["seconds"]
        from safetensors.numpy import load_file

        arrays = load_file(store.run_folder(run) / "checkpoint.safetensors")
        found[run.key] = values, {name: each.tobytes() for name, each in arrays.items()}
    return found


class Command:
    """``pynode-jl sweep resume`` in a process group of its own, over local or Dask's workers."""

    def __init__(self, folder: Path, scheduler: str | None, bytes_a_file: int | None) -> None:
        how = ["--workers", "2"] if scheduler is None else ["--dask", scheduler]
        code = "from pynode_jl.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "sweep", "resume", str(folder), *how],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if bytes_a_file is None else lambda: _limit(bytes_a_file),
        )

    def end(self, timeout: float | None = None) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=timeout)
        return self.process.returncode, said


def _limit(bytes_a_file: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))


class Cluster:
    """A Dask scheduler and two workers, as processes that can be killed."""

    def __init__(self, port: int) -> None:
        self.address = f"tcp://127.0.0.1:{port}"
        tool = [sys.executable, "-m", "distributed.cli"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        scheduler = [*tool[:2], f"{tool[2]}.dask_scheduler", "--port", str(port), "--no-dashboard"]
        worker = [*tool[:2], f"{tool[2]}.dask_worker", self.address, "--nthreads", "1"]
        home = tempfile.mkdtemp(prefix="dask-")
        worker += ["--no-dashboard", "--no-nanny", "--local-directory", home]
        self.scheduler = subprocess.Popen([*scheduler, "--host", "127.0.0.1"], **quiet)
        self.workers = [subprocess.Popen(worker, **quiet) for _ in range(2)]

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()


def children(pid: int) -> list[int]:
    """Return the worker processes of a parent: not the resource tracker."""
    found = []
    for home in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((home / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (home / "cmdline").read_bytes():
                found.append(int(home.name))
        except (OSError, ValueError, IndexError):
            continue
    return found


def strike(kind: str, folder: Path, random: np.random.Generator, port: int, most: float) -> str:
    """Start the sweep, let it work for a while, strike; return what came of it."""
    store = SweepStore.open(folder)
    done = sorted((folder / "runs").glob("*/result-*.json"))
    if kind in ("checkpoint", "result", "index"):
        if kind == "index":
            path = folder / "index.sqlite"
        elif not done:
            return f"{kind}: nothing to damage"
        else:
            path = done[random.integers(len(done))]
            path = path if kind == "result" else path.with_name("checkpoint.safetensors")
        content = bytearray(path.read_bytes())
        if kind == "checkpoint":
            content = content[: random.integers(len(content))]
        else:
            place = int(random.integers(len(content)))
            content[place : place + 64] = bytes(random.integers(0, 256, 64, dtype=np.uint8))
        path.write_bytes(content)
    cluster = Cluster(port) if kind in ("scheduler", "dask worker") else None
    limit = 6000 if kind == "disk" else None
    command = Command(folder, cluster and cluster.address, limit)
    try:
        if kind == "disk":
            code, said = command.end(600)
            full = "expected a f" in said and "a resume" not in said
            return f"disk: exit {code}, {'named' if full else f'NOT NAMED {said[-300:]}'}"
        wait = float(random.uniform(0.0, most))
        deadline = time.monotonic() + 120
        before = len(done)
        while time.monotonic() < deadline and command.process.poll() is None:
            if len(list((folder / "runs").glob("*/result-*.json"))) > before:
                break  # it works: compilation is over
            time.sleep(0.2)
        time.sleep(wait)
        if command.process.poll() is not None:
            return f"{kind}: it had ended"
        if kind == "worker" and (found := children(command.process.pid)):
            os.kill(found[random.integers(len(found))], signal.SIGKILL)
            time.sleep(5.0)
            kind = "worker" if command.process.poll() is None else "WORKER, AND ITS PARENT WITH IT"
        elif kind == "scheduler" and cluster:
            cluster.scheduler.kill()
            code, said = command.end(120)
            named = "ExecutorLostError" in said
            return f"scheduler: exit {code}, {'named' if named else f'NOT NAMED {said[-300:]}'}"
        elif kind == "dask worker" and cluster:
            cluster.workers[0].kill()
            time.sleep(5.0)
        workers = children(command.process.pid)
        command.process.kill()
        command.end()
        time.sleep(2.0)
        left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        return f"{kind}: {f'LEFT {left}' if left else 'struck'}"
    finally:
        if command.process.poll() is None:
            command.process.kill()
            command.end()
        if cluster:
            cluster.close()
        del store


def struck(home: Path, runs: int, kills: int, seed: int) -> list[str]:
    """Run, strike and resume; return what was found, a line a finding; NOT in what is wrong."""
    random, found = np.random.default_rng(seed), list[str]()
    begun = time.monotonic()
    whole, other = home / "whole", home / "struck"
    SweepStore.create(sweep(runs), whole)
    code, said = Command(whole, None, None).end()
    if code:
        return [f"NOT RUN: {said}"]
    found.append(f"undisturbed: {time.monotonic() - begun:.0f} s")
    SweepStore.create(sweep(runs), other)
    order = [STRIKES[i % len(STRIKES)] for i in range(kills)]
    for number, kind in enumerate(random.permutation(order)):
        said = strike(str(kind), other, random, 18700 + number, 4.0)
        done = len(list((other / "runs").glob("*/result-*.json")))
        found.append(f"{number}: {said}; {done} results")
        print(found[-1], flush=True)
    code, said = Command(other, None, None).end()
    counts = SweepStore.open(other).counts()
    found.append(f"resumed: exit {code}, {counts}")
    mine, theirs = outcomes(whole), outcomes(other)
    files = [path.name for path in (other / "runs").glob("*/result-*.json")]
    differ = [key for key in mine if mine[key] != theirs.get(key)]
    said = "all equal" if not differ and mine.keys() == theirs.keys() else f"NOT EQUAL {differ}"
    found.append(f"{len(files)} results of {runs}, {len(set(mine))} keys: {said}")
    if len(files) != runs or counts["done"] != runs:
        found.append("NOT ALL")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", help="with the sweep that was run undisturbed, if it was")
    arguments = parser.parse_args()
    folder = Path(arguments.home or tempfile.mkdtemp(prefix="sweep-kills-"))
    lines = struck(folder, arguments.runs, arguments.kills, arguments.seed)
    print("\n".join(lines))
    bad = any("NOT" in line or "LEFT" in line or "WITH IT" in line for line in lines)
    print(json.dumps({"wrong": bad, "folder": str(folder)}))
    if not bad:
        shutil.rmtree(folder)
    sys.exit(bad)
