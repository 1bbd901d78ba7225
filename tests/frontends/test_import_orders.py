"""The frameworks and the front ends in every order of import, each in a process of its own.

Julia's part of this matrix is in tests/backends/julia/test_julia_process.py, where Julia is set up.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

import pynode_jl

USES = {
    "torch": "import torch; assert torch.ones(2).sum() == 2",
    "jax": "import jax; assert jax.numpy.ones(2).sum() == 2",
    "front ends": """
import pynode_jl.torch, pynode_jl.jax
import torch, jax
assert torch.__file__ != pynode_jl.torch.__file__ and jax.__file__ != pynode_jl.jax.__file__
node = pynode_jl.torch.NeuralODE(pynode_jl.MLP(2, width=3), pynode_jl.Solver("Euler", dt=0.5))
node(torch.ones(1, 2)).sum().backward()
assert pynode_jl.jax.odeint(lambda y, t: -y, jax.numpy.ones(2), [0.0, 1.0]).shape == (2, 2)
from pynode_jl.dlpack import as_jax, as_torch
assert as_torch(as_jax(torch.ones(16))).sum() == 16
""",
}


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which one process leaves its compilations to the next."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.mark.parametrize("order", list(itertools.permutations(USES)), ids="-".join)
@pytest.mark.slow
def test_every_order(order: tuple[str, ...], compiled_once: dict[str, str]) -> None:
    code = "\n".join(["import pynode_jl", *(USES[name] for name in order)])
    subprocess.run([sys.executable, "-c", code], check=True, env=compiled_once)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_front_end_loads_only_its_own_framework(name: str) -> None:
    other = {"torch": "jax", "jax": "torch"}[name]
    code = f"import pynode_jl.{name}, sys; assert {other!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_run_from_inside_the_package_it_says_what_is_wrong(name: str) -> None:
    """There the front end's folder hides the framework: a clear error, not a broken half of it."""
    run = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        cwd=os.path.dirname(pynode_jl.__file__),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "run Python from the folder above" in run.stderr
