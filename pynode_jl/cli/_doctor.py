"""What is installed, what is missing, and how to fix it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator
from typing import NamedTuple

import typer
from rich.text import Text

from pynode_jl.cli._commands import ExitCode
from pynode_jl.cli._console import show, stream


class Finding(NamedTuple):
    """One check: its subject, whether all is well, and what was found or how to fix it.

    All is well, too, where what is optional is not there.
    """

    subject: str
    well: bool
    text: str
    found: bool = True


def doctor() -> None:
    """Report what is found, what is missing, and how to fix it."""
    found = []
    for finding in findings():
        found.append(finding)
        good = ("ok", "green") if finding.found else ("--", "dim")
        sign = good if finding.well else ("!!", "bold red")
        stream(Text(*sign), f" {finding.subject:<12} {finding.text}")
    show(lambda: [finding._asdict() for finding in found])
    if not all(finding.well for finding in found):
        raise typer.Exit(int(ExitCode.FAILED))


_OPTIONAL = {
    "torch": "for pynode_jl.torch: pip install 'pynode-jl[torch]'",
    "torchdiffeq": "for the tests: pip install 'pynode-jl[test]'",
}


def findings() -> Iterator[Finding]:
    """Check Python, the JAX backend, its devices and the optional packages."""
    yield Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.platform()}",
    )
    for package in ("jax", "jaxlib", "diffrax", "optax"):
        yield Finding(package, *_version(package))
    yield _jax_backend()
    yield _julia_backend()
    for package, hint in _OPTIONAL.items():
        found, text = _version(package)
        text = text if found else f"not installed, optional, {hint}"
        yield Finding(package, True, text, found)


def _julia_backend() -> Finding:
    from pynode_jl.backends.julia import JuliaBackend, discover, set_at_hand

    discovery = discover()
    if not discovery.found:
        return Finding("backend julia", True, f"not found, optional. {discovery.text}", found=False)
    try:
        backend = JuliaBackend()
        versions = backend.versions()
    except Exception as failure:
        return Finding("backend julia", False, f"{type(failure).__name__}: {failure}")
    found = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    absent = [name for name, number in versions.items() if not number]
    if absent:
        found += f"; not installed, optional: {', '.join(absent)} (using Pkg; Pkg.add({absent}))"
    missing = len(backend.missing_solvers())
    compiled = len(backend.compiled_solvers())
    text = f"{len(backend.solvers())} solvers, {compiled} compiled ahead"
    if not compiled:
        text += " (seconds each on first use; pynode-jl julia precompile)"
    if missing:
        text += f" ({missing} more in other packages or versions: backend.missing_solvers())"
    text += f"; {set_at_hand(versions['OrdinaryDiffEqCore'])}; {found}; {discovery.text}"
    return Finding("backend julia", True, text.replace("'", '"'))


def _version(package: str) -> tuple[bool, str]:
    try:
        return True, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False, f"not installed. pip install {package}"


def _jax_backend() -> Finding:
    import numpy as np

    from pynode_jl.backends import get_backend
    from pynode_jl.fields import LinearField
    from pynode_jl.solvers import Solver

    try:
        backend = get_backend("jax")
        field = LinearField(1)
        weights = field.init(0) | {"layers.0.weight": np.full((1, 1), -1.0)}
        solution = backend.solve(
            field, weights, np.ones((1, 1)), (0.0, 1.0), Solver("Tsit5", rtol=1e-8, atol=1e-8)
        )
        error = abs(float(solution.y1[0, 0]) - np.exp(-1.0))
    except Exception as failure:
        return Finding("backend jax", False, f"{type(failure).__name__}: {failure}")
    text = (
        f"{len(backend.solvers())} solvers on {', '.join(backend.devices())};"
        f" y' = -y solved to {error:.0e}"
    )
    return Finding("backend jax", error < 1e-7, text)
