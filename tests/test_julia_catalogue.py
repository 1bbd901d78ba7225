"""The catalogue against the running library: no solver exported that it lacks, none that is not."""

from __future__ import annotations

from typing import Any

import pytest

from pynode_jl.backends import get_backend
from pynode_jl.backends.julia import discover
from pynode_jl.solvers import catalogue

pytestmark = [
    pytest.mark.skipif(not discover().found, reason=discover().text),
    pytest.mark.slow,  # every sub-library is loaded, and compiled where it never was
]
LIBRARIES = sorted(
    {row.sublibrary for row in catalogue(backend="julia") if row.problem == "ODEProblem"} - {None}
)


@pytest.mark.parametrize("library", LIBRARIES)
def test_catalogue_is_the_librarys(library: str) -> None:
    module: Any = get_backend("julia")._module  # type: ignore[attr-defined]
    if not module.available(library):
        pytest.skip(f'using Pkg; Pkg.add("{library}") in the Julia environment')
    exported = {str(name) for name in module.exported_solvers(library)}
    listed = {row.name for row in catalogue(backend="julia") if row.sublibrary == library}
    assert exported == listed
