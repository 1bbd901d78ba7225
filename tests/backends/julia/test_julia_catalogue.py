"""The catalogue against the running library: no solver exported that it lacks, none that is not."""

from __future__ import annotations

from typing import Any

import pytest

from pynode_jl.backends import get_backend
from pynode_jl.backends.julia import _names, discover
from pynode_jl.solvers import catalogue

pytestmark = [
    pytest.mark.skipif(not discover().found, reason=discover().text),
    pytest.mark.slow,  # every sub-library is loaded, and compiled where it never was
]
LIBRARIES = sorted(
    {row.sublibrary for row in catalogue(backend="julia") if row.problem == "ODEProblem"} - {None}
)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


SINCE = {name: _numbers(version) for name, version in _names.SINCE.items()}


@pytest.mark.parametrize("library", LIBRARIES)
def test_catalogue_is_the_librarys(library: str) -> None:
    module: Any = get_backend("julia")._module  # type: ignore[attr-defined]
    if not module.has_package(library):
        pytest.skip(f'using Pkg; Pkg.add("{library}") in the Julia environment')
    version = _numbers(str(module.package_version(library)))
    listed = {row.name for row in catalogue(backend="julia") if row.sublibrary == library}
    exported = {str(name) for name in module.exported_solvers(library)}
    assert exported <= listed
    # Some are functions that make an algorithm (AutoTsit5), or not exported (Tsit5DA).
    there = {name for name in listed if module.has_solver(name, library)}
    assert there == {name for name in listed if SINCE.get(name, version) <= version}
