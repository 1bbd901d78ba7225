"""Names of methods: torchdiffeq's, with its rules of stepping; the catalogue's, with Julia's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pynode_jl.backends.torch import _coefficients
from pynode_jl.backends.torch._coefficients import Coefficients
from pynode_jl.backends.torch._method import Kind, Method, catalogue_method
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    UnknownNameError,
    UnknownSolverError,
    WrongProblemError,
)
from pynode_jl.solvers import (
    MIDDLE_WEIGHTS,
    DenseMethod,
    Solver,
    catalogue,
    info,
    torchdiffeq_method,
)


def _tabled(name: str, kind: Kind, solver: str) -> Method:
    middle = MIDDLE_WEIGHTS[solver] if kind == "adaptive" else None
    return Method(name, kind, solver, _coefficients.from_catalogue(solver), middle=middle)


def _own(name: str, coefficients: Coefficients) -> Method:
    return Method(name, "fixed", None, coefficients)


#: torchdiffeq's names. Its `adaptive_heun` and `fehlberg2` take the last stage for f at the end of
#: a step, which it is not, and its `tsit5` goes on with the embedded solution: here all three do
#: what their papers say. torchdiffeq itself runs none of them: it would be one more dependency, and
#: beside its tableaus the loops here have to run the catalogue's, with the same events and options.
TORCHDIFFEQ: Mapping[str, Method] = {
    method.name: method
    for method in (
        _tabled("dopri8", "adaptive", "Dopri8"),
        _tabled("dopri5", "adaptive", "DP5Shampine"),
        _tabled("tsit5", "adaptive", "Tsit5"),
        _tabled("bosh3", "adaptive", "BS3"),
        _tabled("fehlberg2", "adaptive", "Fehlberg21"),
        _tabled("adaptive_heun", "adaptive", "Heun"),
        _tabled("euler", "fixed", "Euler"),
        _tabled("midpoint", "fixed", "Midpoint"),
        _tabled("heun2", "fixed", "Heun"),
        _own("heun3", _coefficients.HEUN3),
        _tabled("rk4", "fixed", "RK38"),
        Method("explicit_adams", "adams"),
        Method("implicit_adams", "adams", implicit=True),
        Method("fixed_adams", "adams", implicit=True),
        _tabled("implicit_euler", "fixed", "ImplicitEuler"),
        _tabled("implicit_midpoint", "fixed", "ImplicitMidpoint"),
        _tabled("trapezoid", "fixed", "Trapezoid"),
        _tabled("trbdf2", "fixed", "TRBDF2"),
        _own("sdirk2", _coefficients.SDIRK2_ALEXANDER),
        _own("radauIIA3", _coefficients.RADAU3),
        _own("radauIIA5", _coefficients.RADAU5),
        _own("gl4", _coefficients.GAUSS4),
        _own("gl6", _coefficients.GAUSS6),
        Method("scipy_solver", "scipy"),
    )
}


def dense_method(method: Method) -> DenseMethod | None:
    """Return how a backend takes torchdiffeq's adaptive steps; None for other methods."""
    if method.ends_at_outputs or method.kind != "adaptive" or method.solver is None:
        return None
    return torchdiffeq_method(method.solver)


def find_method(name: object, options: Mapping[str, Any]) -> Method:
    """Return the method called `name`.

    A name of the catalogue adapts its steps where its tableau has an error estimate, unless
    `options` gives a step or a grid.

    Raises:
        UnknownNameError: neither torchdiffeq nor the catalogue has the name.
        WrongProblemError, BackendLacksSolverError: a solver that is of no use here.
    """
    if not isinstance(name, str):
        raise InvalidValueError(
            "method", name, "a name or a Solver", 'Use method="dopri5" or method="Vern7", say.'
        )
    if name in TORCHDIFFEQ:
        return TORCHDIFFEQ[name]
    try:
        row = info(name)
    except UnknownSolverError:
        known = [*TORCHDIFFEQ, *(row.name for row in catalogue())]
        raise UnknownNameError("method", name, known) from None
    if not row.plain:
        raise WrongProblemError(
            "method", name, "a solver of y' = f(t, y)", f"{name} needs a {row.problem}."
        )
    if row.tableau is None:
        raise BackendLacksSolverError(
            "method",
            name,
            "a solver with a Butcher tableau, whose steps can be differentiated",
            'Without gradients the zoo runs it: get_backend("julia").solve(...).',
        )
    stepped = options.get("step_size") is not None or options.get("grid_constructor") is not None
    adaptive = row.tableau.b_error is not None and not stepped
    return catalogue_method(name, adaptive=adaptive)


def resolve(
    method: str | Solver | None, rtol: Any, atol: Any, options: Mapping[str, Any] | None
) -> tuple[Method, Any, Any, dict[str, Any]]:
    """Return method, tolerances and options; a `Solver` brings its own step or tolerances."""
    given = dict(options or {})
    if isinstance(method, Solver):
        if method.fixed:
            given["step_size"] = method.dt
        else:
            rtol, atol = method.rtol, method.atol
        if method.max_steps is not None:
            given["max_num_steps"] = method.max_steps
        method = method.name
    name = "dopri5" if method is None else method
    return find_method(name, given), rtol, atol, given
