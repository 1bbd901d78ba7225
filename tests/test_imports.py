"""`import pynode_jl` is quick, and loads none of the heavy packages until they are asked for."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = ("jax", "torch", "pandas", "matplotlib", "scipy", "sklearn", "diffrax", "juliacall")
LIMIT_SECONDS = 0.3


def _seconds(code: str, tries: int = 7) -> float:
    """The best processor time of a fresh interpreter that runs `code`: little changed by load."""
    times = []
    for _ in range(tries):
        start = _processor_seconds()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(_processor_seconds() - start)
    return min(times)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_import_is_quick() -> None:
    assert _seconds("import pynode_jl") - _seconds("pass") < LIMIT_SECONDS


@pytest.mark.parametrize("module", ["pynode_jl", "pynode_jl.cli._app"])
def test_import_loads_nothing_heavy(module: str) -> None:
    """The command line, too: a shell starts it at each press of the tabulator."""
    code = f"import {module}, sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert loaded.stdout.decode().split() == []


def test_import_warns_of_nothing() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", "import pynode_jl"], check=True)


def test_importing_the_backend_leaves_jax_as_it_is() -> None:
    code = """
import jax
from pynode_jl.backends.jax import JaxBackend
JaxBackend()
assert not jax.config.jax_enable_x64
assert jax.numpy.ones(1).dtype == "float32"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_told_the_nearest() -> None:
    import pynode_jl as pn

    with pytest.raises(AttributeError, match="did you mean SwapMatrix, swap_matrix"):
        pn.swapmatrix  # noqa: B018
    assert not hasattr(pn, "__nothing__")
