"""Names of methods: torchdiffeq's, with its rules of stepping; the catalogue's, with Julia's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pynode_jl.backends.torch import _coefficients
from pynode_jl.backends.torch._coefficients import Coefficients, Row
from pynode_jl.errors import (
    BackendLacksSolverError,
    InvalidValueError,
    UnknownNameError,
    UnknownSolverError,
    WrongProblemError,
)
from pynode_jl.solvers import (
    MIDDLE_WEIGHTS,
    Controller,
    DenseMethod,
    Solver,
    catalogue,
    controller,
    info,
    torchdiffeq_method,
)

Kind = Literal["adaptive", "fixed", "adams", "scipy"]


@dataclass(frozen=True)
class Method:
    """How `odeint` steps under one name.

    Attributes:
        name: as the user wrote it.
        kind: which loop runs it.
        solver: the catalogue's name for its tableau, where it has one.
        coefficients: the tableau; None for multistep methods and SciPy's.
        control: Julia's step size control for a name of the catalogue; None for torchdiffeq's rule.
            It also says how output times are met: Julia's end a step there, torchdiffeq's
            interpolate.
        middle: weights of the stages (and of f at the end, where they are one more) in the state
            half-way through a step, for torchdiffeq's interpolation; None for a cubic one.
        implicit: of an Adams method, whether it corrects.
    """

    name: str
    kind: Kind
    solver: str | None = None
    coefficients: Coefficients | None = None
    control: Controller | None = None
    middle: Row | None = None
    implicit: bool = False

    @property
    def julia(self) -> bool:
        """Whether it steps by Julia's rules."""
        return self.name not in TORCHDIFFEQ


def _tabled(name: str, kind: Kind, solver: str) -> Method:
    middle = MIDDLE_WEIGHTS[solver] if kind == "adaptive" else None
    return Method(name, kind, solver, _coefficients.from_catalogue(solver), middle=middle)


def _own(name: str, coefficients: Coefficients) -> Method:
    return Method(name, "fixed", None, coefficients)


#: torchdiffeq's names. Its `adaptive_heun` and `fehlberg2` take the last stage for f at the end of
#: a step, which it is not, and its `tsit5` goes on with the embedded solution: here all three do
#: what their papers say.
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


def dense(method: Method) -> DenseMethod | None:
    """How a backend takes torchdiffeq's adaptive steps; None for other methods."""
    if method.julia or method.kind != "adaptive" or method.solver is None:
        return None
    return torchdiffeq_method(method.solver)


def found(name: object, options: Mapping[str, Any]) -> Method:
    """The method called `name`.

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
    return Method(
        name,
        "adaptive" if adaptive else "fixed",
        name,
        _coefficients.from_catalogue(name),
        controller(name) if adaptive else None,
    )


def unpacked(
    method: str | Solver | None, rtol: Any, atol: Any, options: Mapping[str, Any] | None
) -> tuple[Method, Any, Any, dict[str, Any]]:
    """Method, tolerances and options; a `Solver` brings its own step or tolerances."""
    given = dict(options or {})
    if isinstance(method, Solver):
        if method.fixed:
            given["step_size"] = method.dt
        else:
            rtol, atol = method.rtol, method.atol
        if method.max_steps is not None:
            given["max_num_steps"] = method.max_steps
        method = method.name
    return found("dopri5" if method is None else method, given), rtol, atol, given
