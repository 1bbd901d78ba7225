"""Which finer solver a training solver is tested with."""

from __future__ import annotations

from pynode_jl.errors import WrongSolverError
from pynode_jl.solvers import Adaptive, Solver, info

#: For a fixed-step method of each order, the method it is tested with: the paper's up to order 2.
NEXT_ORDER = {
    1: "Midpoint",
    2: "RK4",
    3: "RK4",
    4: "Tsit5",
    5: "Vern6",
    6: "Vern7",
    7: "Vern8",
    8: "Vern9",
}
#: With tolerances: the paper's, a method of order 5, itself where the order is 5 or more.
_WITH_TOLERANCE = "DP5"


def test_method(solver: Solver, given: str | None) -> str:
    """The name of the method that `solver` is tested with: `given`, or the table's.

    Raises:
        WrongSolverError: the pair cannot show an error of the training solver.
    """
    order = solver.order
    if given is None:
        given = _default(solver, order)
    about = info(given)
    test_order = about.order
    if test_order is None or test_order < order:
        raise WrongSolverError(
            "test",
            given,
            f"a method of order {order} or more",
            f"{given} (order {test_order}) is less accurate than {solver.name} (order {order}), so"
            " it would be tested against its own error.",
        )
    if solver.fixed and test_order == order:
        raise WrongSolverError(
            "test",
            given,
            f"a method of an order above {order} for fixed steps",
            f"{given} and {solver.name} have no order gap: their errors shrink together. Take"
            f" {_default(solver, order)}.",
        )
    if not (about.fixed_step if solver.fixed else about.adaptive):
        how = "fixed steps" if solver.fixed else "tolerances"
        raise WrongSolverError(
            "test", given, f"a method with {how}, as {solver.label} has", "Take another."
        )
    return given


def finer_step(solver: Solver, test: str, factor: float = 50.0, *, longest: float = 1.0) -> Solver:
    """`test` at a step whose expected error is `factor` times below that of `solver`.

    With orders p < q the errors go as h^p and h_test^q: h_test = (h^p / factor)^(1/q), never more
    than `longest` times h. For Euler and Midpoint that is the paper's sqrt(h / 50), for Midpoint
    and RK4 its (h^2 / 50)^(1/4).

    Raises:
        WrongSolverError: `solver` adapts its steps, or one of the two has no order.

    Example:
        >>> from pynode_jl.training.step_adaptation import finer_step
        >>> finer_step(pn.Solver("Euler", dt=1 / 8), "Midpoint").label
        'Midpoint h=1/20'
    """
    if not solver.fixed:
        raise WrongSolverError("solver", solver.label, "a fixed step", "Use finer_tolerance.")
    h, finer = solver.stepping.size, Solver(test, solver.stepping)
    return finer.with_step(min(longest * h, (h**solver.order / factor) ** (1 / finer.order)))


def finer_tolerance(solver: Solver, test: str) -> Solver:
    """`test` at a tenth of the tolerances if it is of the same order, at a fifth if of a higher.

    Raises:
        WrongSolverError: `solver` takes fixed steps.

    Example:
        >>> from pynode_jl.training.step_adaptation import finer_tolerance
        >>> finer_tolerance(pn.Solver("DP5", rtol=1e-3, atol=1e-3), "DP5").label
        'DP5 tol=1e-4'
    """
    tolerances = solver.stepping
    if not isinstance(tolerances, Adaptive):
        raise WrongSolverError("solver", solver.label, "tolerances", "Use finer_step.")
    divisor = 10.0 if info(test).order == solver.info.order else 5.0
    return Solver(test, Adaptive(tolerances.rtol / divisor, tolerances.atol / divisor))


def next_order_solver(solver: Solver) -> Solver:
    """Return the solver that the paper tests `solver` with: of the next order, or finer.

    Raises:
        WrongSolverError: there is none.

    Example:
        >>> from pynode_jl.training.step_adaptation import next_order_solver
        >>> next_order_solver(pn.Solver("Euler", dt=1 / 8)).name
        'Midpoint'
    """
    method = test_method(solver, None)
    return finer_step(solver, method) if solver.fixed else finer_tolerance(solver, method)


def _default(solver: Solver, order: int) -> str:
    if solver.fixed:
        if order not in NEXT_ORDER:
            raise WrongSolverError(
                "solver",
                solver.label,
                "a fixed-step method of order 1 to 8",
                "Name its test solver yourself: test=...",
            )
        return NEXT_ORDER[order]
    if order > 5 and solver.own_tableau is not None:
        raise WrongSolverError(
            "solver",
            solver.label,
            "an own tableau of order 1 to 5, or a solver of the catalogue",
            "Name its test solver yourself: test=...",
        )
    return _WITH_TOLERANCE if order <= 5 else solver.name
