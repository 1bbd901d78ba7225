"""Names of methods: torchdiffeq's, with its rules of stepping; the catalogue's, with Julia's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pynode_jl.backends.torch import Kind, Method, julia_method
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    UnknownNameError,
    UnknownSolverError,
    WrongProblemError,
)
from pynode_jl.solvers import (
    MIDDLE_WEIGHTS,
    TORCHDIFFEQ_TABLEAUS,
    DenseMethod,
    FixedStep,
    Solver,
    SolverInfo,
    catalogue,
    info,
    tableau,
    torchdiffeq_method,
)


def _tabled(name: str, kind: Kind, solver: str) -> Method:
    middle = MIDDLE_WEIGHTS[solver] if kind == "adaptive" else None
    return Method(name, kind, tableau(solver), middle=middle)


def _own(name: str) -> Method:
    return Method(name, "fixed", TORCHDIFFEQ_TABLEAUS[name])


#: torchdiffeq's names. Its `adaptive_heun` and `fehlberg2` take the last stage for f at the end of
#: a step, which it is not, and its `tsit5` goes on with the embedded solution: here all three do
#: what their papers say. torchdiffeq itself runs none of them: it would be one more dependency, and
#: beside its tableaus the loops here run the catalogue's, with the same events and options.
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
        _own("heun3"),
        _tabled("rk4", "fixed", "RK38"),
        Method("explicit_adams", "adams"),
        Method("implicit_adams", "adams", implicit=True),
        Method("fixed_adams", "adams", implicit=True),
        _tabled("implicit_euler", "fixed", "ImplicitEuler"),
        _tabled("implicit_midpoint", "fixed", "ImplicitMidpoint"),
        _tabled("trapezoid", "fixed", "Trapezoid"),
        _tabled("trbdf2", "fixed", "TRBDF2"),
        _own("sdirk2"),
        _own("radauIIA3"),
        _own("radauIIA5"),
        _own("gl4"),
        _own("gl6"),
        Method("scipy_solver", "scipy"),
    )
}


def dense_method(method: Method) -> DenseMethod | None:
    """Return how a backend takes torchdiffeq's adaptive steps; None for other methods."""
    if method.julia or method.kind != "adaptive" or method.tableau is None:
        return None
    return torchdiffeq_method(method.tableau.name)


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
    return _tableau_method(row, options)


def _tableau_method(row: SolverInfo, options: Mapping[str, Any]) -> Method:
    if row.tableau is None:
        raise BackendLacksSolverError(
            "method",
            row.name,
            "a solver with a Butcher tableau, whose steps can be differentiated",
            'Without gradients the zoo runs it: get_backend("julia").solve(...).',
        )
    stepped = options.get("step_size") is not None or options.get("grid_constructor") is not None
    adaptive = row.tableau.b_error is not None and not stepped
    return julia_method(row, adaptive=adaptive)


def described(method: Any) -> Any:
    """Return the `Solver` of a text with settings, or of a table; all else as it is."""
    if isinstance(method, Mapping) or (isinstance(method, str) and ":" in method):
        return Solver.of(method)
    return method


def resolve(
    method: str | Solver | None, rtol: Any, atol: Any, options: Mapping[str, Any] | None
) -> tuple[Method, Any, Any, dict[str, Any]]:
    """Return method, tolerances and options; a `Solver` brings its own step or tolerances."""
    if options is not None and not isinstance(options, Mapping):
        raise InvalidValueError(
            "options", options, "a dictionary", 'Use options={"step_size": 0.1}, say.'
        )
    given = dict(options or {})
    method = described(method)
    if not isinstance(method, Solver):
        return find_method("dopri5" if method is None else method, given), rtol, atol, given
    stepping = method.stepping
    if isinstance(stepping, FixedStep):
        given["step_size"] = stepping.dt
    else:
        rtol, atol = stepping.rtol, stepping.atol
    if method.max_steps is not None:
        given["max_num_steps"] = method.max_steps
    return _tableau_method(method.info, given), rtol, atol, given
