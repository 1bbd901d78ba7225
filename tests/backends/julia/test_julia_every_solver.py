"""Every solver that Julia has, under all four kinds of right-hand side, in both precisions, with
fixed and with adaptive steps where it has them: held against SciPy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from julia_problems import BROKEN, a_tenth, distance, needs_julia
from scipy.integrate import solve_ivp

from pynode_jl.backends import get_backend
from pynode_jl.backends.julia import JuliaSource, lux_field, sublibrary
from pynode_jl.backends.julia._names import FIXED_STEPS_ONLY
from pynode_jl.errors import BackendUnavailableError, SolveError, WrongSolverError
from pynode_jl.fields import Activation, Dense, FunctionField, VectorField
from pynode_jl.solvers import Solver, catalogue, info

pytestmark = needs_julia

NAMES = [
    row.name
    for row in catalogue(backend="julia")
    # GlobalDiffEq is no part of OrdinaryDiffEq.
    if row.plain and row.sublibrary != "GlobalDiffEq"
]
# y' = B tanh(A y + a) + b, four times.
_random = np.random.default_rng(5)
A, B = _random.normal(0, 0.8, (3, 2)), _random.normal(0, 0.8, (2, 3))
a, b = _random.normal(0, 0.3, 3), _random.normal(0, 0.3, 2)
STATES = _random.normal(0, 1, (3, 2))
DENSE = VectorField((2,), (Dense(2, 3), Activation("tanh"), Dense(3, 2)))
SOURCE = JuliaSource("(dy, y, p, t) -> (dy .= p.B' * tanh.(p.A' * y .+ p.a) .+ p.b)")
ARRAYS = (("A", A), ("a", a), ("B", B), ("b", b))


def in_numpy(weights: Any, t: float, y: np.ndarray) -> np.ndarray:
    return np.tanh(y @ weights["A"].T + weights["a"]) @ weights["B"].T + weights["b"]


@cache
def kinds() -> dict[str, tuple[Any, dict[str, np.ndarray]]]:
    import juliacall

    fields: dict[str, Any] = {
        "VectorField": DENSE,
        "Julia": FunctionField(SOURCE, (2,), ARRAYS, backend="julia"),
        "Python": FunctionField(in_numpy, (2,), ARRAYS, backend="numpy"),
    }
    flat = np.concatenate([A.ravel("F"), a, B.ravel("F"), b])
    weights = {key: dict(ARRAYS) for key in fields} | {
        "VectorField": dict(zip(DENSE.weight_shapes(), (A, a, B, b), strict=True))
    }
    try:
        lux = sublibrary("Lux")
    except BackendUnavailableError:
        return {name: (field, weights[name]) for name, field in fields.items()}
    make = "lux -> lux.Chain(lux.Dense(2 => 3, tanh), lux.Dense(3 => 2))"
    fields["Lux"] = lux_field(juliacall.Main.seval(make)(lux), (2,))
    weights["Lux"] = {"parameters": flat}
    return {name: (field, weights[name]) for name, field in fields.items()}


@cache
def exact() -> np.ndarray:
    columns = [
        solve_ivp(
            lambda t, y: in_numpy(dict(ARRAYS), t, y), (0, 1), y0, "DOP853", rtol=1e-12, atol=1e-12
        ).y[:, -1]
        for y0 in STATES
    ]
    return np.stack(columns)


@pytest.fixture(scope="module")
def julia() -> Any:
    return get_backend("julia")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", a_tenth(NAMES))
def test_solves(julia: Any, name: str, dtype: Any) -> None:
    if name not in julia.solvers():
        # A reason that names what brings it, or says that nothing does.
        pytest.skip(f"{name}: {julia.missing_solvers()[name]}")
    if name == "RKV76IIa":
        pytest.xfail(BROKEN[name])
    if name == "QPRK98" and dtype is np.float32:
        with pytest.raises(WrongSolverError, match="their rounding decides the states"):
            _solved(julia, "VectorField", Solver(name, dt=1 / 16), dtype)
        return
    row = info(name)
    # Taylor methods differentiate through the right-hand side: no function in Python.
    allowed = [kind for kind in kinds() if not (kind == "Python" and row.kind == "taylor")]
    if row.fixed_step:
        ends = {kind: _solved(julia, kind, Solver(name, dt=1 / 16), dtype) for kind in allowed}
        for kind, end in ends.items():
            assert distance(end, exact()) < 0.03, f"{kind}, fixed steps"
            # The same steps: apart by rounding, and in Python by the differences for a Jacobian.
            far = {np.float32: 1e-3, np.float64: 1e-6}[dtype]
            assert distance(end, ends["VectorField"]) < far, f"{kind}, fixed steps"
    if row.adaptive and name not in FIXED_STEPS_ONLY:
        for kind in allowed:
            end = _solved(julia, kind, Solver(name, rtol=1e-4, atol=1e-4), dtype)
            assert distance(end, exact()) < 1e-2, f"{kind}, adaptive steps"


# A pulse in mid-span, to which steps come too long and are rejected.
PULSE = FunctionField(
    JuliaSource("(dy, y, p, t) -> (dy .= -y .+ 40 .* exp.(-1000 .* (t .- 0.5) .^ 2))"),
    (2,),
    backend="julia",
)


@pytest.mark.parametrize("name", a_tenth([n for n in NAMES if info(n).adaptive]))
def test_a_rejected_step_leaves_no_trace(julia: Any, name: str) -> None:
    if name not in julia.solvers():
        pytest.skip(f"{name}: {julia.missing_solvers()[name]}")
    if name in FIXED_STEPS_ONLY:
        pytest.skip(FIXED_STEPS_ONLY[name])
    if name in BROKEN:
        pytest.xfail(BROKEN[name])
    exact = julia.solve(PULSE, {}, STATES, (0.0, 1.0), Solver("Vern9", dt=1 / 2000)).y1
    # Loose enough for methods of order 1, whose steps are many, and too tight for a lost step.
    found = julia.solve(PULSE, {}, STATES, (0.0, 1.0), Solver(name, rtol=1e-6, atol=1e-6))
    assert distance(found.y1, exact) < 1e-2


def _solved(julia: Any, kind: str, solver: Solver, dtype: Any) -> np.ndarray:
    field, weights = kinds()[kind]
    cast = {key: np.ascontiguousarray(value, dtype) for key, value in weights.items()}
    try:
        solution = julia.solve(field, cast, STATES.astype(dtype), (0.0, 1.0), solver)
    except SolveError as error:
        raise AssertionError(f"{kind}: {error}") from error
    assert solution.y.dtype == dtype
    return np.asarray(solution.y1, np.float64)
