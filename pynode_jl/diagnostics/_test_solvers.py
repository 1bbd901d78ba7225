"""Which solvers a model is swapped to: methods at multiples of its own step, and others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pynode_jl._validation import items, real_number
from pynode_jl.errors import InvalidValueError, WrongSolverError
from pynode_jl.solvers import Solver

#: The paper's factors on the training step or tolerance.
STEP_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
#: The same for tolerances.
TOLERANCE_FACTORS = (0.1, 1.0, 10.0)
#: The paper's test solvers for a fixed-step and for an adaptive training solver, from the training
#: solver's order upwards.
FIXED_TEST_SOLVERS = ("Euler", "Midpoint", "RK4")
#: The same for an adaptive one.
ADAPTIVE_TEST_SOLVERS = ("Fehlberg21", "DP5")


def planned(
    train_solver: Solver,
    tests: Sequence[str | Solver] | None,
    factors: Sequence[float] | None,
    span: float,
    *,
    longest: float = math.inf,
) -> Iterator[tuple[Solver, float]]:
    """Yield each test solver with its factor; nan for one with settings of its own.

    Args:
        train_solver: the training solver.
        tests, factors: as for `swap`.
        span: the length of the interval: a longer step is left out.
        longest: the longest time between two read-outs, which cut longer steps. Of a method's steps
            of that length or more, which are one solve, one is kept: the training solver's, or else
            the first.

    Raises:
        PyNODEError: what `swap` would refuse.
        InvalidValueError: a factor that is not above 0, among them.

    Example:
        >>> from pynode_jl.diagnostics import planned
        >>> [solver.label for solver, _ in planned(pn.Solver("Euler", dt=0.5), ["RK4"], [1, 2], 1)]
        ['RK4 h=1/2', 'RK4 h=1']
    """
    fixed = train_solver.fixed
    if tests is None:
        names = FIXED_TEST_SOLVERS if fixed else ADAPTIVE_TEST_SOLVERS
        # Of a method that varies its order each of them may be the finer one.
        order = train_solver.info.order
        above = (name for name in names if order is None or like(train_solver, name).order > order)
        tests = [train_solver.name, *above]
    if factors is None:
        factors = STEP_FACTORS if fixed else TOLERANCE_FACTORS
    hint = "0.5 halves the step."
    factors = [
        real_number("factors", each, hint, above=0)
        for each in items("factors", factors, "a list of numbers", hint)
    ]
    if not factors:
        raise InvalidValueError("factors", factors, "one number or more", hint)
    cut: set[str] = set()
    if fixed and train_solver.stepping.size >= longest * (1 - 1e-6):
        cut.add(train_solver.name)
    for test in checked_tests(tests):
        if isinstance(test, str) and ":" in test:
            test = Solver.parse(test)
        if isinstance(test, Solver):
            yield test, float("nan")
            continue
        for factor in factors:
            solver = like(train_solver, test).scaled(factor)
            if solver.fixed and solver.stepping.size > span * (1 + 1e-6):
                continue
            if solver.fixed and solver.stepping.size >= longest * (1 - 1e-6):
                if solver.name in cut and solver != train_solver:
                    continue
                cut.add(solver.name)
            yield solver, float(factor)


def checked_tests(tests: object) -> list[str | Solver]:
    """Return a list of names and solvers; one of them alone is a list of one, a table a solver."""
    if isinstance(tests, (str, Solver, Mapping)):
        tests = [tests]
    expected, hint = "names of solvers, or Solvers", 'Use ["RK4", "Tsit5:tol=1e-6"], say.'
    found = items("tests", tests, expected, hint)
    for each in found:
        if not isinstance(each, (str, Solver, Mapping)):
            raise InvalidValueError("tests", each, expected, hint)
    return [Solver.from_dict(each) if isinstance(each, Mapping) else each for each in found]


def like(train_solver: Solver, name: str) -> Solver:
    """Return the method `name` with the training solver's step or tolerances.

    Raises:
        WrongSolverError: it cannot step so.
    """
    try:
        own = train_solver.own_tableau
        method = own if own is not None and name == own.name else name
        return Solver(method, train_solver.stepping)
    except WrongSolverError as error:
        how = "steps" if train_solver.fixed else "tolerances"
        raise WrongSolverError(
            "tests",
            name,
            f"names of solvers that take {how}, as the training solver {train_solver.label} does",
            f'Give it settings of its own: "{name}:dt=1/16" or "{name}:rtol=1e-3".',
        ) from error
