"""Damage to the files of a run, drawn from a seed: what a reader makes of them.

``python tests/runs/damage.py --cases 1000`` makes so many and prints what came of them. Every file
must load the values that were written, or be refused by an error of the package.
"""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
from by_command import main

from pynode_jl.errors import PyNODEError
from pynode_jl.runs import Config, Run

CONFIG = {
    "seed": 3,
    "backend": "jax",
    "data": {"name": "spheres", "n_train": 64, "n_test": 16},
    "field": {"kind": "mlp", "width": 4},
    "train": {
        "solver": "Euler:dt=1/4",
        "iterations": 20,
        "batch_size": 16,
        "learning_rate": 0.01,
        "chunk": 10,
    },
    "adapt": {"controller": "steady", "every": 5, "samples": 16, "explore": 0.1, "margin": 0.5},
    "swap": {"solvers": ["RK4"], "factors": [1.0]},
}
KINDS = ("flip", "truncate", "empty", "exchange", "zeros", "repeat", "foreign")
SUFFIXES = (".toml", ".json", ".safetensors", ".csv")


def make_run(folder: Path, seed: int) -> Run:
    """A trained and swapped run."""
    run = Run.create(Config.from_dict({**CONFIG, "seed": seed}), folder)
    run.train()
    run.swap()
    return run


def files_of(folder: Path) -> list[Path]:
    """The files that are read back, in one order."""
    found = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    found = [path for path in found if path.name not in ("metrics.csv", "checks.csv")]
    return sorted(path.relative_to(folder) for path in found)


def content(folder: Path) -> dict[str, Any]:
    """All that a run's folder says, in values that compare."""
    run = Run.open(folder)
    trained, swapped = run.trained, run.stored_swap()
    return {
        "config": run.config.to_dict(),
        "weights": {name: value.tobytes() for name, value in trained.weights.items()},
        "moments": {name: value.tobytes() for name, value in trained.state.nu.items()},
        "trained": (trained.state.iteration, trained.retcode, trained.seconds, trained.fingerprint),
        "adapted": (trained.control, trained.validation, str(trained.history.checks)),
        "history": [getattr(trained.history, name).tobytes() for name in ("loss", "nf", "step")],
        "environment": run.environment,
        "verdict": swapped.to_dict(),
        "table": swapped.table.to_csv(),
    }


def damaged(kind: str, good: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """A file's content after damage of a kind; `other` is another file's."""
    place = int(random.integers(len(good)))
    if kind == "flip":
        changed = bytearray(good)
        changed[place] ^= 1 << int(random.integers(8))
        return bytes(changed)
    if kind == "zeros":
        return good[:place] + bytes(len(good[place : place + 64])) + good[place + 64 :]
    if kind == "repeat":
        return good[:place] + good[max(0, place - 40) :]
    return {"truncate": good[:place], "empty": b"", "exchange": other, "foreign": other}[kind]


def outcomes(cases: int, seed: int, folder: Path) -> collections.Counter[str]:
    """Damage a run so many times; count what came of it, what must not be as "WRONG ..."."""
    random = np.random.default_rng(seed)
    run, stranger = make_run(folder / "run", 3), make_run(folder / "stranger", 4)
    files, expected = files_of(run.folder), content(run.folder)
    whole = {name: (run.folder / name).read_bytes() for name in files}
    found: collections.Counter[str] = collections.Counter()
    for case in range(cases):
        name, kind = files[case % len(files)], KINDS[case // len(files) % len(KINDS)]
        # The same file of another run, or another file of this run.
        other = whole[files[int(random.integers(len(files)))]]
        if kind == "foreign":
            other = (stranger.folder / name).read_bytes()
        (run.folder / name).write_bytes(damaged(kind, whole[name], other, random))
        try:
            said = "right" if content(run.folder) == expected else "WRONG VALUES"
        except PyNODEError as error:
            said = type(error).__name__
        except Exception as error:
            said = f"WRONG {type(error).__name__}"
        if said.startswith("WRONG"):
            said += f": {kind} of {name}, case {case} of seed {seed}"
        found[said] += 1
        (run.folder / name).write_bytes(whole[name])
    assert content(run.folder) == expected
    return found


if __name__ == "__main__":
    main(__doc__, outcomes, "cases", 1000, "WRONG")
