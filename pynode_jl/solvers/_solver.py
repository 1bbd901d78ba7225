"""`Solver`: which method, and by which rule it steps. Plain data; the backends do the work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

from pynode_jl._display import ShortRepr, Viewed
from pynode_jl._validation import (
    mapping,
    number_of_text,
    real_number,
    settings_of_text,
    whole_number,
)
from pynode_jl._validation import text as checked_text
from pynode_jl.errors import InvalidValueError, WrongProblemError, WrongSolverError
from pynode_jl.solvers._catalogue import SolverInfo, info, own_info, solver_names
from pynode_jl.solvers._controller import Controller, controller
from pynode_jl.solvers._order_conditions import check_order
from pynode_jl.solvers._peers import name_of_object
from pynode_jl.solvers._step_control import SCALARS, STEP_GUARD, fixed_grid
from pynode_jl.solvers._stepping import Adaptive, FixedStep, Stepping
from pynode_jl.solvers._tableau import Tableau

Option = float | int | str | bool


# Steps are counted in 32 bits.
_MOST_STEPS = 2**31 - 1


class StepGrid(NamedTuple):
    """A division of ``[t0, t1]`` into `n` steps of `dt`, of which the last one is `dt_last`.

    Both carry the sign of ``t1 - t0``, and ``(n - 1) * dt + dt_last`` is the span. When the step
    divides the span the steps are equal: ``dt == dt_last == (t1 - t0) / n``.

    Example:
        >>> pn.Solver("Euler", dt=0.3).grid(0.0, 0.75)
        StepGrid(n=3, dt=0.3, dt_last=0.15...)
    """

    n: int
    dt: float
    dt_last: float


@dataclass(frozen=True, repr=False)
class Solver(ShortRepr, Viewed):
    """A method and how it steps.

    ``Solver("Euler", dt=1/16)`` takes steps of `dt`, the last one shortened so that it ends at the
    end of the interval. ``Solver("Tsit5", rtol=1e-3, atol=1e-6)`` adapts its steps; a tolerance
    left out is Julia's default, 1e-3 for `rtol` and 1e-6 for `atol`. The same in two parts are
    ``Solver("Euler", FixedStep(1/16))`` and ``Solver("Tsit5", Adaptive(1e-3, 1e-6))``.

    A `Tableau` in place of the name makes a solver of the user's own: it steps by Julia's rule for
    its order, and runs in the JAX backend and the front ends. Solvers are equal where method,
    numbers and options are; how a number was written plays no part.

    Attributes:
        name: a name of `catalogue()`, or that of the own tableau.
        dt: the fixed step, positive; None for adaptive steps.
        rtol: relative tolerance; None for fixed steps.
        atol: absolute tolerance; None for fixed steps.
        max_steps: the most steps that one solve may take; None for the backend's own limit.
        options: keyword arguments for the constructor of the Julia algorithm, given as a mapping
            (``{"lazy": False}``) and kept as sorted pairs, so that a Solver can be hashed.
        algorithm: the Julia algorithm itself, made by the user; `julia_solver` sets it. It cannot
            be written to a file.
        own_tableau: the user's own tableau; None for a solver of the catalogue.
        stepping: `dt` as a `FixedStep`, or the tolerances as an `Adaptive`.

    Raises:
        UnknownSolverError: no solver has that name.
        InvalidValueError: a step or a tolerance that is not positive and finite, or both at once;
            an own tableau that does not have its order, or has the name of another method.
        WrongSolverError: a tolerance for a method without error estimate, a step for a method
            without fixed steps, neither for a method that needs a step.
        WrongProblemError: the method solves another kind of problem than y' = f(t, y).

    Example:
        >>> from pynode_jl.solvers import Solver, Tableau
        >>> mine = Tableau("Mine", c=[0, 2 / 3], a=[[0, 0], [2 / 3, 0]], b=[1 / 4, 3 / 4])
        >>> Solver(mine, dt=1 / 16).label
        'Mine h=1/16'
    """

    name: str
    dt: float | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int | None = None
    options: Mapping[str, Option] | tuple[tuple[str, Option], ...] = ()
    algorithm: Any = None
    own_tableau: Tableau | None = field(default=None, repr=False)
    stepping: Stepping = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        name: str | Tableau,
        dt: float | Stepping | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        max_steps: int | None = None,
        options: Mapping[str, Option] | Iterable[tuple[str, Option]] = (),
        algorithm: Any = None,
        own_tableau: Tableau | None = None,
    ) -> None:
        if isinstance(name, Tableau):
            own_tableau = name
            name = name.name
        elif own_tableau is not None and not isinstance(own_tableau, Tableau):
            raise InvalidValueError("own_tableau", own_tableau, "a Tableau", "Leave it out.")
        if not isinstance(name, str):
            if name_of_object(name) is not None:
                info(name)  # says which of ours it is
            raise InvalidValueError(
                "name", name, "the name of a solver, or a Tableau", 'Use Solver("Tsit5"), say.'
            )
        own = None if own_tableau is None else _checked_own(name, own_tableau)
        about = info(name) if own is None else own_info(own)
        _check_problem(about)
        stepping = _stepping(about, dt, rtol, atol)
        values = {
            "name": name,
            "dt": stepping.dt if isinstance(stepping, FixedStep) else None,
            "rtol": None if isinstance(stepping, FixedStep) else stepping.rtol,
            "atol": None if isinstance(stepping, FixedStep) else stepping.atol,
            "max_steps": _count("max_steps", max_steps),
            "options": _pairs(options),
            "algorithm": algorithm,
            "own_tableau": own,
            "stepping": stepping,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def __str__(self) -> str:
        """Return the text that `parse` reads back; options and an own tableau are not in it."""
        values = {"dt": self.dt, "rtol": self.rtol, "atol": self.atol, "max_steps": self.max_steps}
        given = ",".join(f"{key}={value!r}" for key, value in values.items() if value is not None)
        return f"{self.name}:{given}"

    @property
    def info(self) -> SolverInfo:
        """The row of this solver in the catalogue, or one made from its own tableau."""
        return info(self.name) if self.own_tableau is None else own_info(self.own_tableau)

    @property
    def tableau(self) -> Tableau | None:
        """The coefficients, where they are known."""
        return self.info.tableau

    @property
    def order(self) -> int:
        """The order of convergence.

        Raises:
            WrongSolverError: the method varies its order, or takes it as an option.
        """
        order = self.info.order
        if order is None:
            raise WrongSolverError(
                "solver",
                self.name,
                f"a method of one order: {self.name} varies its order",
                "Take Tsit5 or KenCarp4, say.",
            )
        return order

    @property
    def controller(self) -> Controller:
        """The control of its step sizes: Julia's, or Julia's rule for an own tableau.

        Raises:
            WrongSolverError: the method does not adapt its steps, or not by these numbers.
        """
        return controller(self.info)

    @property
    def fixed(self) -> bool:
        """True for fixed steps, False for adaptive ones."""
        return self.stepping.fixed

    @property
    def label(self) -> str:
        """Short text for legends and logs: ``Euler h=1/16``, ``Tsit5 tol=1e-3``."""
        return f"{self.name} {self.stepping.label}"

    def with_stepping(self, stepping: Stepping) -> Solver:
        """Return the same method with this stepping.

        Raises:
            InvalidValueError: `stepping` is neither a `FixedStep` nor an `Adaptive`.
        """
        if isinstance(stepping, FixedStep):
            return self.with_step(stepping.dt)
        if not isinstance(stepping, Adaptive):
            raise InvalidValueError(
                "stepping", stepping, "a FixedStep or an Adaptive", "Use FixedStep(1/16), say."
            )
        return self.with_tolerance(stepping.rtol, stepping.atol)

    def scaled(self, factor: float) -> Solver:
        """Return the same solver with its step, or both its tolerances, times `factor`."""
        return self.with_stepping(self.stepping.scaled(factor))

    def with_step(self, dt: float) -> Solver:
        """Return the same method with fixed steps of `dt`."""
        return replace(self, dt=dt, rtol=None, atol=None)

    def with_tolerance(self, rtol: float, atol: float | None = None) -> Solver:
        """Return the same method with these tolerances; `atol` is Julia's default, 1e-6."""
        return replace(self, dt=None, rtol=rtol, atol=atol)

    def grid(self, t0: float, t1: float) -> StepGrid:
        """Return the fixed steps from `t0` to `t1` (either direction).

        Raises:
            WrongSolverError: the solver adapts its steps.
            InvalidValueError: an empty or infinite interval, one shorter than a step, or one of
                more than 2**31 - 1 steps.
        """
        if self.dt is None:
            raise WrongSolverError(
                "dt",
                None,
                f"a fixed step: {self.name} adapts its steps here",
                "Use with_step first.",
            )
        hint = "Give another interval."
        span = real_number("t1", t1, hint) - real_number("t0", t0, hint)
        if not math.isfinite(span) or span == 0.0:
            raise InvalidValueError("(t0, t1)", (t0, t1), "two finite times that differ", hint)
        if abs(span) < self.dt * (1 - STEP_GUARD):
            raise InvalidValueError(
                "dt",
                self.dt,
                f"a step of at most |t1 - t0| = {abs(span):g}",
                f"Use dt={abs(span):g} for a single step.",
            )
        if abs(span) / _MOST_STEPS > self.dt:
            raise InvalidValueError(
                "dt",
                self.dt,
                f"a step of at least |t1 - t0| / {_MOST_STEPS} = {abs(span) / _MOST_STEPS:g}",
                "Take a longer step.",
            )
        return _divided(self.dt, span)

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of plain values for JSON or TOML; what is None or empty is left out.

        Raises:
            WrongSolverError: the solver holds a Julia object.
        """
        if self.algorithm is not None:
            raise WrongSolverError(
                "algorithm",
                self.algorithm,
                "None where a solver is written down",
                f'Name it instead: Solver("{self.name}", options=...).',
            )
        own = self.own_tableau
        values: dict[str, Any] = {key: getattr(self, key) for key in _WRITTEN}
        values["options"] = dict(self.options)
        values["tableau"] = None if own is None else own.to_dict()
        return {key: value for key, value in values.items() if value not in (None, {})}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Solver:
        """Return the solver that `to_dict` wrote.

        `values` are plain: name, dt or rtol and atol, options.

        Raises:
            InvalidValueError: a key that `Solver` does not have, or no name.
        """
        table = mapping("solver", values, "a table", 'Write {"name": "Tsit5"}, say.')
        unknown = sorted(set(table) - {*_WRITTEN, "tableau"})
        if unknown or "name" not in values:
            raise InvalidValueError(
                "solver",
                dict(values),
                f"a table with name and any of {', '.join(_WRITTEN[1:])}, tableau",
                f"Remove {', '.join(unknown)}." if unknown else 'Add name = "Tsit5", say.',
            )
        given = table
        own = given.pop("tableau", None)
        return Solver(**given, own_tableau=None if own is None else Tableau.from_dict(own))

    @staticmethod
    def of(value: Solver | str | Mapping[str, Any]) -> Solver:
        """Return the solver that is meant by itself, by the text of `parse`, or by `from_dict`.

        So two ways to write one solver can be compared.

        `value` is a `Solver`, a text or a table.

        Raises:
            PyNODEError: it is none of these, or is refused.

        Example:
            >>> from pynode_jl.solvers import Solver
            >>> Solver.of("Euler:dt=1/256") == Solver.of({"name": "Euler", "dt": 0.00390625})
            True
        """
        if isinstance(value, Solver):
            return value
        if isinstance(value, str):
            return Solver.parse(value)
        if isinstance(value, Mapping):
            return Solver.from_dict(value)
        if name_of_object(value) is not None:
            return Solver(cast(str, value))  # refuses it, and says which of ours it is
        raise InvalidValueError(
            "solver", value, "a Solver, a text or a table", 'Use "Euler:dt=1/16", say.'
        )

    @staticmethod
    def parse(text: str) -> Solver:
        """Read a solver from the command line: ``Euler:dt=1/16``, ``Tsit5:rtol=1e-6,atol=1e-8``.

        The keys are dt, rtol, atol, tol (both tolerances at once) and max_steps; a number may be
        written as a fraction. A bare name takes Julia's default tolerances.

        Raises:
            InvalidValueError: text that does not read as that.
        """
        given = checked_text("text", text, 'Write "Euler:dt=1/16", say.')
        hint = "Write it as {0}:dt=1/16 or {0}:rtol=1e-6,atol=1e-8.".format(
            given.strip().partition(":")[0]
        )
        name, texts = settings_of_text("solver", given, _PARSED_KEYS, "key=number", hint)
        values: dict[str, Any] = {
            key: _parsed_number(f"solver {text!r}, {key}", key, each) for key, each in texts.items()
        }
        if "tol" in values:
            if "rtol" in values or "atol" in values:
                raise InvalidValueError(
                    "solver", text, "tol, or rtol and atol", "tol sets both: keep one of the two."
                )
            values["rtol"] = values["atol"] = values.pop("tol")
        return Solver(name, **values)


_WRITTEN = ("name", "dt", "rtol", "atol", "max_steps", "options")
_PARSED_KEYS = ("dt", "rtol", "atol", "tol", "max_steps")


def _parsed_number(argument: str, key: str, number: str) -> float | int:
    if key != "max_steps":
        return number_of_text(argument, number)
    try:
        return int(number)
    except ValueError as error:
        raise InvalidValueError(argument, number, "an integer", "Mend the number.") from error


def _check_problem(about: SolverInfo) -> None:
    if not about.plain:
        raise WrongProblemError(
            "name",
            about.name,
            "a solver of a plain ODEProblem y' = f(t, y)",
            f"{about.name} needs a {about.problem}; `pynode-jl solvers` lists those that do not.",
        )


def _checked_own(name: str, own: Tableau) -> Tableau | None:
    """Return the own tableau; None where it is the catalogue's of that name."""
    if name != own.name:
        raise InvalidValueError(
            "name", name, f"{own.name!r}, the name of the own tableau", "Make a new Solver."
        )
    if name in solver_names():
        if own.same_method(info(name).tableau):
            return None
        raise InvalidValueError(
            f"tableau {name!r}, name",
            name,
            f"a name of its own: {name} is another method in the catalogue",
            f'Rename it: replace(tableau, name="My {name}").',
        )
    check_order(own)
    return own


def _stepping(
    about: SolverInfo, dt: float | Stepping | None, rtol: float | None, atol: float | None
) -> Stepping:
    """Return how it steps, of what `Solver` was given."""
    if dt is not None and not (rtol is None and atol is None):
        raise InvalidValueError(
            "dt",
            dt,
            "a fixed step or tolerances, not both",
            "Leave out rtol and atol for fixed steps, or dt for adaptive ones.",
        )
    if isinstance(dt, Adaptive):
        return _checked_adaptive(about, dt.rtol, dt.atol)
    if dt is None:
        return _checked_adaptive(about, rtol, atol)
    stepping = dt if isinstance(dt, FixedStep) else FixedStep(dt)
    if not about.fixed_step:
        raise WrongSolverError(
            "dt",
            stepping.dt,
            f"no fixed step: {about.name} always chooses its steps",
            f'Use Solver("{about.name}", rtol=1e-3, atol=1e-6).',
        )
    return stepping


def _checked_adaptive(about: SolverInfo, rtol: float | None, atol: float | None) -> Adaptive:
    given = {"rtol": rtol, "atol": atol}
    stepping = Adaptive(**{key: value for key, value in given.items() if value is not None})
    if about.adaptive:
        return stepping
    hint = f'Use Solver("{about.name}", dt=1/16), say.'
    if rtol is None and atol is None:
        raise WrongSolverError(
            "dt", None, f"a positive step: {about.name} has no error estimate", hint
        )
    argument, value = ("atol", atol) if rtol is None else ("rtol", rtol)
    raise WrongSolverError(
        argument, value, f"no tolerance: {about.name} has no error estimate", hint
    )


@lru_cache(maxsize=256)
def _divided(dt: float, span: float) -> StepGrid:
    n, step, last = fixed_grid(SCALARS, dt, span)
    return StepGrid(int(n), step, last)


def _count(argument: str, value: object) -> int | None:
    if value is None:
        return None
    return whole_number(argument, value, most=_MOST_STEPS, hint=f"Or leave {argument} out.")


def _pairs(options: Mapping[str, Option] | Iterable[tuple[str, Option]]) -> tuple[Any, ...]:
    try:
        table = dict(options)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            "options", options, "a mapping of keywords to values", 'Use {"lazy": False}, say.'
        ) from error
    for key, value in table.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise InvalidValueError(
                "options", table, "names of constructor keywords", f"Rename {key!r}."
            )
        if not isinstance(value, (bool, int, float, str)) or value != value:
            raise InvalidValueError(
                f"options[{key!r}]", value, "a number, a bool or a string", "Give one of those."
            )
    return tuple(sorted(table.items()))
