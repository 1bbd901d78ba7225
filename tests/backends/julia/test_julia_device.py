"""Julia on a device: explicit solvers and gradients on JLArrays, which live in the host's memory
and forbid what a GPU forbids (scalar indexing), against the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from julia_problems import a_tenth, distance, needs_julia

from pynode_jl.backends import get_backend
from pynode_jl.backends.julia import sublibrary
from pynode_jl.backends.julia._names import FIXED_STEPS_ONLY, OTHER_ABSCISSAE, OTHER_STEPS
from pynode_jl.errors import BackendLacksSolverError, BackendUnavailableError
from pynode_jl.fields import MLP
from pynode_jl.solvers import Solver, catalogue, info

pytestmark = needs_julia

EXPLICIT = [
    row.name
    for row in catalogue(backend="julia")
    if row.plain and not row.takes_jacobian and row.sublibrary != "GlobalDiffEq"
]
FIELD = MLP(2, width=4, activation="tanh", time_dependent=True)
_random = np.random.default_rng(3)
WEIGHTS = {name: _random.normal(0, 0.5, shape) for name, shape in FIELD.weight_shapes().items()}
STATES, BAR = _random.normal(0, 1, (2, 3, 2))
SPAN = (0.0, 1.0)


@pytest.fixture(scope="module")
def device() -> Iterator[Any]:
    """The backend on JLArrays, where "gpu" is."""
    try:
        arrays, core, _ = map(sublibrary, ("JLArrays", "GPUArraysCore", "Lux"))
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    devices = get_backend("julia")._module.DEVICES  # type: ignore[attr-defined]
    if "gpu" in devices:
        pytest.skip("a GPU is there")
    core.allowscalar(False)
    devices["gpu"] = arrays.JLArray
    yield get_backend("julia", device="gpu")
    devices.pop("gpu")


@pytest.mark.parametrize("name", a_tenth(EXPLICIT))
def test_solves_as_the_host(device: Any, name: str) -> None:
    host, row = get_backend("julia"), info(name)
    if name not in host.solvers():
        pytest.skip(f"{name}: {host.missing_solvers()[name]}")
    if name not in device.solvers():
        with pytest.raises(BackendLacksSolverError, match="On the CPU only"):
            device.solve(FIELD, WEIGHTS, STATES, SPAN, Solver(name, dt=1 / 8))
        return
    steps = [Solver(name, dt=1 / 8)] if row.fixed_step else []
    if row.adaptive and name not in FIXED_STEPS_ONLY:
        steps.append(Solver(name, rtol=1e-4, atol=1e-4))
    for solver in steps:
        ours = device.solve(FIELD, WEIGHTS, STATES, SPAN, solver)
        theirs = host.solve(FIELD, WEIGHTS, STATES, SPAN, solver)
        assert distance(ours.y, theirs.y) < 1e-6
        differs = name in OTHER_STEPS or name in OTHER_ABSCISSAE
        if row.tableau is not None and row.tableau.explicit and not differs:
            arguments = (FIELD, WEIGHTS, STATES, SPAN, solver, BAR)
            (ours_w, ours_y), (theirs_w, theirs_y) = device.vjp(*arguments), host.vjp(*arguments)
            assert distance(ours_y, theirs_y) < 1e-6
            for key, value in theirs_w.items():
                assert distance(ours_w[key], value) < 1e-6


def test_implicit_solvers_are_refused(device: Any) -> None:
    assert "TRBDF2" not in device.solvers()
    assert "Leave device out" in device.missing_solvers()["TRBDF2"]
    with pytest.raises(BackendLacksSolverError, match="On the CPU only"):
        device.solve(FIELD, WEIGHTS, STATES, SPAN, Solver("TRBDF2", dt=1 / 8))
