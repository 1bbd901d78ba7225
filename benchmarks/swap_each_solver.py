"""The demo's two runs under every solver of the JAX backend, swapped in one by one.

A verdict must not depend on which solver is tried: the coarse run is tied and the fine one valid,
whatever its partner, also those that are less accurate than they claim. `make demo` first, then
`python benchmarks/swap_each_solver.py runs/quickstart`.
"""

from __future__ import annotations

import argparse
import collections
import time
from pathlib import Path

from rich.progress import track

from pynode_jl.diagnostics import swap
from pynode_jl.runs import Run
from pynode_jl.solvers import Solver, catalogue

EXPECTED = {"coarse": "tied", "fine": "valid"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of `pynode-jl quickstart`")
    folder = parser.parse_args().folder
    solvers = catalogue(backend="jax")
    for name, expected in EXPECTED.items():
        run = Run.open(folder / name)
        trained, data = run.trained, run.dataset
        begun, found, finer = time.monotonic(), collections.Counter[str](), 0
        for row in track(solvers, name):
            tests = (
                [row.name]
                if row.fixed_step
                else [Solver(row.name, rtol=10.0**-k, atol=10.0**-k) for k in (2, 4, 6)]
            )
            report = swap(trained, data, tests, factors=(0.5, 1.0, 2.0), backend=run.backend)
            verdict = report.verdict
            found[verdict.kind] += 1
            finer += verdict.finer > 0
            if verdict.kind != expected:
                print(f"{name} with {row.name}: {verdict.text}")
        print(
            f"{name}: {dict(found)} under {len(solvers)} solvers, {finer} of them finer at one"
            f" step or more; {time.monotonic() - begun:.0f} s"
        )


if __name__ == "__main__":
    main()
