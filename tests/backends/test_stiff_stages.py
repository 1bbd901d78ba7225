"""Implicit stages of stiff linear fields: solved to rounding, by every method, in both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.fields import LinearField
from pynode_jl.solvers import Solver, catalogue

FIELD = LinearField(1)
METHODS = [row.name for row in catalogue(backend="jax", implicit=True) if row.fixed_step]
Y0 = np.array([[1.0], [2.0], [-0.3]])


def _relative_error(backend: Any, name: str, rate: float, dtype: str) -> float:
    """Return the largest error of one step of dt = 1 of y' = -rate y, in units of |y0|.

    The step is the method's stability function, R(z) = 1 + z b' (1 - z A)^-1 1 with z = -rate dt
    (Hairer, Wanner, Solving ODEs II, IV.3).
    """
    solver = Solver(name, dt=1.0)
    table = solver.tableau
    assert table is not None
    ones, eye = np.ones(table.stages), np.eye(table.stages)
    factor = 1 - rate * table.b @ np.linalg.solve(eye + rate * table.a, ones)
    weights = {
        "layers.0.weight": np.array([[-rate]], dtype), "layers.0.bias": np.zeros(1, dtype),
    }  # fmt: skip
    y0 = Y0.astype(dtype)
    found = backend.solve(FIELD, weights, y0, (0.0, 1.0), solver).y1
    return float(np.max(np.abs(found - factor * y0) / np.abs(y0)))


@pytest.mark.parametrize("rate", [1e3, 1e5])
@pytest.mark.parametrize(("dtype", "eps"), [("f4", 1.2e-7), ("f8", 2.2e-16)])
def test_every_implicit_method_steps_over_a_stiff_field(
    backend: Any, dtype: str, eps: float, rate: float
) -> None:
    """u = base + dt a k is a difference of terms of size dt L |y|: it is known to their rounding.

    Held against the rounding of u itself, Newton's iteration failed for 20 of these methods.
    """
    for name in METHODS:
        assert _relative_error(backend, name, rate, dtype) < 100 * rate * eps, name


@pytest.mark.parametrize("name", ["ImplicitEuler", "TRBDF2", "KenCarp4", "SDIRK2"])
def test_torch_steps_over_a_stiff_field(name: str) -> None:
    ours = pn.get_backend("torch")
    for rate in (1e3, 1e5):
        assert _relative_error(ours, name, rate, "f8") < 100 * rate * 2.2e-16
