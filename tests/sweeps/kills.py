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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pynode_jl._io import read_json
from pynode_jl.runs import Config
from pynode_jl.sweeps import Sweep, SweepStore
from pynode_jl.sweeps._result_files import METRICS

BASE = {
    "backend": "jax",
    "data": {"name": "spheres", "n_train": 128, "n_test": 100},
    "field": {"kind": "mlp", "width": 8},
    "train": {"iterations": 100, "batch_size": 64, "learning_rate": 0.01},
    "swap": {"solvers": ["Euler", "RK4"], "factors": [0.5, 1.0]},
}
#: Of a result, what differs from one execution to the next.
TIMES = ("times", "host", "finished", "attempts", "packages", "files")
STRIKES = (
    *("worker", "parent", "checkpoint", "result", "index", "dask worker", "scheduler", "disk"),
    *("worker", "parent", "checkpoint", "result", "index", "worker", "parent", "checkpoint"),
    *("result", "index", "worker", "dask worker"),
)


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
        self.ended: tuple[int, str] | None = None
        code = "from pynode_jl.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "sweep", "resume", str(folder), *how],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if bytes_a_file is None else lambda: _limit(bytes_a_file),
        )

    def end(self, timeout: float | None = None) -> tuple[int, str]:
        if not self.ended:
            _, said = self.process.communicate(timeout=timeout)
            self.ended = (self.process.returncode, said)
        return self.ended


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


def results(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("*/result-*.json"))


def damage(kind: str, folder: Path, random: np.random.Generator) -> str:
    """Cut a checkpoint short, or write over 64 bytes of a result or the index."""
    done = results(folder)
    if kind != "index" and not done:
        return "nothing to damage"
    path = folder / "index.sqlite" if kind == "index" else done[random.integers(len(done))]
    path = path.with_name("checkpoint.safetensors") if kind == "checkpoint" else path
    if not path.exists():
        return "nothing to damage"
    content = bytearray(path.read_bytes())
    if kind == "checkpoint":
        content = content[: random.integers(len(content))]
    else:
        place = int(random.integers(len(content)))
        content[place : place + 64] = bytes(random.integers(0, 256, 64, dtype=np.uint8))
    path.write_bytes(content)
    return "damaged"


class Session:
    """A command at work, with a cluster or without; strikes come while it works."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.cluster = None if port is None else Cluster(port)
        self.command = Command(folder, self.cluster and self.cluster.address, None)

    def works(self, moment: float) -> bool:
        """Wait until there are so many results; return whether the command is still at it."""
        whole, part = divmod(moment, 1)
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline and self.command.process.poll() is None:
            if len(results(self.folder)) >= whole:
                break
            time.sleep(0.05)
        time.sleep(part)
        return self.command.process.poll() is None

    def kill_worker(self, random: np.random.Generator) -> str:
        found = children(self.command.process.pid)
        if not found:
            return "no worker to kill"
        os.kill(found[random.integers(len(found))], signal.SIGKILL)
        time.sleep(3.0)
        return "killed" if self.command.process.poll() is None else "killed, AND ITS PARENT WITH IT"

    def close(self) -> str:
        """Kill the parent; see that its workers end with it."""
        workers = children(self.command.process.pid)
        self.command.process.kill()
        self.command.end()
        if self.cluster:
            self.cluster.close()
        deadline = time.monotonic() + 60
        while (left := [w for w in workers if Path(f"/proc/{w}").exists()]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.2)
        return f"LEFT {left}" if left else "killed"


def strikes(
    kinds: list[str], folder: Path, runs: int, random: np.random.Generator, port: int
) -> Iterator[str]:
    """Yield what came of each strike. The command is started where there is none.

    A strike comes at a moment of the sweep drawn from all of it: at so many results, and a bit.
    """
    session: Session | None = None
    moments = np.sort(random.uniform(1, 0.95 * runs, len(kinds)))
    for number, (kind, moment) in enumerate(zip(kinds, moments, strict=True)):
        dask = kind in ("scheduler", "dask worker")
        if kind == "disk":
            if session:
                session.close()
                session = None
            code, text = Command(folder, None, 6000).end(900)
            named = "too large" in text or "full" in text
            said = f"exit {code}, {'named' if named else f'NOT NAMED {text[-400:]}'}"
        else:
            if session and (session.cluster is not None) != dask:
                session.close()
                session = None
            session = session or Session(folder, port + number if dask else None)
            if not session.works(moment):
                said = f"it had ended: {session.command.end()[1][-300:]}"
                session = None
            elif kind in ("checkpoint", "result", "index"):
                said = damage(kind, folder, random)
            elif kind == "worker":
                said = session.kill_worker(random)
            elif kind == "parent":
                said, session = session.close(), None
            elif kind == "dask worker" and session.cluster:
                session.cluster.workers.pop().kill()
                said = "killed"
                if not session.cluster.workers:
                    session.close()
                    session = None
            elif session.cluster:
                session.cluster.scheduler.kill()
                code, text = session.command.end(300)
                named = "ExecutorLostError" in text
                said = f"exit {code}, {'named' if named else f'NOT NAMED {text[-400:]}'}"
                session.close()
                session = None
        yield f"{number}: {kind}: {said}; {len(results(folder))} results"
    if session:
        session.close()


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
    shuffled = [str(kind) for kind in random.permutation(order)]
    for said in strikes(shuffled, other, runs, random, 18700):
        found.append(said)
        print(said, flush=True)
    code, said = Command(other, None, None).end()
    counts = SweepStore.open(other).counts()
    found.append(f"resumed: exit {code}, {counts}")
    mine, theirs = outcomes(whole), outcomes(other)
    files = [path.name for path in (other / "runs").glob("*/result-*.json")]
    differ = [key for key in mine if mine[key] != theirs.get(key)]
    said = "all equal" if not differ and mine.keys() == theirs.keys() else f"NOT EQUAL {differ}"
    found.append(f"{len(files)} results of {runs}, {len(set(mine))} keys: {said}")
    listed = [SweepStore.open(place).table()[[*METRICS, "state"]] for place in (whole, other)]
    found.append(f"indices: {'equal' if listed[0].equals(listed[1]) else 'NOT EQUAL'}")
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
