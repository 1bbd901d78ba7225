"""Solvers compiled ahead: which are meant, what is compiled then, what a wait is told of."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from julia_problems import needs_julia

from pynode_jl.backends.julia import (
    Discovery,
    _calls,
    _names,
    _precompiled,
    build_images,
    solvers_by_library,
)
from pynode_jl.errors import BackendUnavailableError, InvalidValueError
from pynode_jl.solvers import Solver, catalogue


def names(*wanted: str) -> set[str]:
    return {row.name for rows in solvers_by_library(wanted).values() for row in rows}


def test_all_solvers_of_a_plain_ode_are_meant() -> None:
    rows = catalogue(backend="julia")
    every = {row.name for row in rows if row.plain and row.sublibrary}
    assert names() == every - set(_names.UNSOLVABLE)


@pytest.mark.parametrize(
    ("wanted", "there", "not_there"),
    [
        (("Vern7",), {"Vern7"}, {"Vern8"}),
        (("OrdinaryDiffEqVerner",), {"Vern7", "AutoVern7"}, {"Tsit5"}),
        (("low storage", "Tsit5"), {"ORK256", "Tsit5"}, {"AutoTsit5", "Vern7"}),
        (("sdirk",), {"TRBDF2", "KenCarp4"}, {"Rodas5P"}),
    ],
)
def test_families_libraries_and_names(
    wanted: tuple[str, ...], there: set[str], not_there: set[str]
) -> None:
    found = names(*wanted)
    assert there <= found
    assert not not_there & found


def test_a_name_of_nothing_is_refused_with_the_families() -> None:
    with pytest.raises(InvalidValueError, match="explicit RK: low storage"):
        solvers_by_library(["Vern77"])


def test_without_a_julia_the_way_to_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _precompiled, "discover", lambda: Discovery(False, "no Julia. pip install it")
    )
    with pytest.raises(BackendUnavailableError, match="pip install it"):
        list(build_images(solvers_by_library(["Tsit5"])))


def test_a_long_first_run_is_spoken_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_calls, "_PATIENCE", 0.01)
    monkeypatch.setattr(_calls, "_MET", set())
    caplog.set_level(logging.WARNING, "pynode_jl.julia")
    for _ in range(2):
        _calls.run(Solver("Vern7", dt=0.1), time.sleep, 0.2, call=lambda f, *a: f(*a))
    (record,) = caplog.records
    assert "pynode-jl julia precompile Vern7" in record.getMessage()


# With Julia


SOLVE = """
import json, numpy as np, pynode_jl as pn
julia = pn.get_backend("julia")
field = pn.MLP(3, width=4)
found = []
for dtype in (np.float32, np.float64):
    for solver in (pn.Solver("VCABM3", rtol=1e-3), pn.Solver("VCABM3", dt=1 / 4)):
        weights = {k: v.astype(dtype) for k, v in field.init(0).items()}
        y0 = np.ones((5, 3), dtype)
        found.append(julia.solve(field, weights, y0, (0.0, 1.0), solver).stats.compile_seconds)
print(json.dumps([list(julia.compiled_solvers()), found]))
"""


@needs_julia
@pytest.mark.slow
def test_a_fresh_process_compiles_nothing(tmp_path: Path) -> None:
    rest = os.environ.get("JULIA_DEPOT_PATH") or str(Path.home() / ".julia")
    environment = os.environ | {"JULIA_DEPOT_PATH": os.pathsep.join([str(tmp_path), rest])}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    compiled, before = json.loads(run("-c", SOLVE).splitlines()[-1])
    assert compiled == []
    assert max(before) > 1
    cli = "from pynode_jl.cli import main; main()"
    assert "1 solver compiled in " in run("-c", cli, "julia", "precompile", "VCABM3")
    compiled, after = json.loads(run("-c", SOLVE).splitlines()[-1])
    assert compiled == ["VCABM3"]
    assert max(after) < 0.5
