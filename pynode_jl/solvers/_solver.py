"""`Solver`: which method, and by which rule it steps. Plain data; the backends do the work."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from pynode_jl.errors import InvalidValueError, WrongProblemError, WrongSolverError
from pynode_jl.solvers._catalogue import SolverInfo, info

Option = float | int | str | bool

# What Julia's `solve` takes when it is given no tolerance.
DEFAULT_RTOL = 1e-3
DEFAULT_ATOL = 1e-6

# A span that misses n steps by this share of itself is n steps. float32 carries 1/n to 6e-8, and
# a rest shorter than this is rounding, not a step.
_STEP_GUARD = 1e-6

# float32 carries 1/n to 6e-8.
_RECIPROCAL_GUARD = 1e-7


class StepGrid(NamedTuple):
    """A division of ``[t0, t1]`` into `n` steps of `dt`, of which the last one is `dt_last`.

    Both carry the sign of ``t1 - t0``, and ``(n - 1) * dt + dt_last`` is the span. When the step
    divides the span the steps are equal: ``dt == dt_last == (t1 - t0) / n``.
    """

    n: int
    dt: float
    dt_last: float


@dataclass(frozen=True)
class Solver:
    """A solver by its Julia name, with a fixed step or with tolerances.

    ``Solver("Euler", dt=1/16)`` takes steps of `dt`, the last one shortened so that it ends at the
    end of the interval. ``Solver("Tsit5", rtol=1e-3, atol=1e-6)`` adapts its steps; a tolerance
    left out is Julia's default, 1e-3 for `rtol` and 1e-6 for `atol`.

    Attributes:
        name: a name of `catalogue()`.
        dt: the fixed step, positive; None for adaptive steps.
        rtol: relative tolerance; None for fixed steps.
        atol: absolute tolerance; None for fixed steps.
        max_steps: the most steps that one solve may take; None for the backend's own limit.
        options: keyword arguments for the constructor of the Julia algorithm, given as a mapping
            (``{"lazy": False}``) and kept as sorted pairs, so that a Solver can be hashed.
        algorithm: the Julia algorithm itself, made by the user; `julia_solver` sets it. It cannot
            be written to a file.

    Raises:
        UnknownSolverError: no solver has that name.
        InvalidValueError: a step or a tolerance that is not positive and finite, or both at once.
        WrongSolverError: a tolerance for a method without error estimate, a step for a method
            without fixed steps, neither for a method that needs a step.
        WrongProblemError: the method solves another kind of problem than y' = f(t, y).
    """

    name: str
    dt: float | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int | None = None
    options: Mapping[str, Option] | tuple[tuple[str, Option], ...] = ()
    algorithm: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidValueError(
                "name", self.name, "the name of a solver", 'Use Solver("Tsit5"), say.'
            )
        about = info(self.name)
        _check_problem(about)
        dt = _positive("dt", self.dt)
        rtol = _positive("rtol", self.rtol)
        atol = _positive("atol", self.atol)
        if dt is not None:
            _check_fixed(about, dt, rtol, atol)
        else:
            _check_adaptive(about, rtol, atol)
            rtol = DEFAULT_RTOL if rtol is None else rtol
            atol = DEFAULT_ATOL if atol is None else atol
        checked = {
            "dt": dt,
            "rtol": rtol,
            "atol": atol,
            "max_steps": _count("max_steps", self.max_steps),
            "options": _pairs(self.options),
        }
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    def __str__(self) -> str:
        """The text that `parse` reads back; options are not in it."""
        values = {"dt": self.dt, "rtol": self.rtol, "atol": self.atol, "max_steps": self.max_steps}
        given = ",".join(f"{key}={value!r}" for key, value in values.items() if value is not None)
        return f"{self.name}:{given}"

    @property
    def info(self) -> SolverInfo:
        """The row of this solver in the catalogue."""
        return info(self.name)

    @property
    def fixed(self) -> bool:
        """True for fixed steps, False for adaptive ones."""
        return self.dt is not None

    @property
    def label(self) -> str:
        """Short text for legends and logs: ``Euler h=1/16``, ``Tsit5 tol=1e-3``."""
        if self.dt is not None:
            return f"{self.name} h={_step_text(self.dt)}"
        rtol, atol = _tolerances(self)
        if rtol == atol:
            return f"{self.name} tol={_tolerance_text(rtol)}"
        return f"{self.name} rtol={_tolerance_text(rtol)} atol={_tolerance_text(atol)}"

    def scaled(self, factor: float) -> Solver:
        """The same solver with its step, or both its tolerances, times `factor`."""
        checked = _positive("factor", factor)
        if checked is None:
            raise InvalidValueError("factor", factor, "a positive finite number", "Give one.")
        if self.dt is not None:
            return replace(self, dt=self.dt * checked)
        rtol, atol = _tolerances(self)
        return replace(self, rtol=rtol * checked, atol=atol * checked)

    def with_step(self, dt: float) -> Solver:
        """The same method with fixed steps of `dt`."""
        return replace(self, dt=dt, rtol=None, atol=None)

    def with_tolerance(self, rtol: float, atol: float | None = None) -> Solver:
        """The same method with these tolerances; `atol` left out is Julia's default, 1e-6."""
        return replace(self, dt=None, rtol=rtol, atol=atol)

    def grid(self, t0: float, t1: float) -> StepGrid:
        """The fixed steps from `t0` to `t1` (either direction).

        Raises:
            WrongSolverError: the solver adapts its steps.
            InvalidValueError: an empty or infinite interval, or one shorter than a step.
        """
        if self.dt is None:
            raise WrongSolverError(
                "dt",
                None,
                f"a fixed step: {self.name} adapts its steps here",
                "Use with_step first.",
            )
        span = float(t1) - float(t0)
        if not math.isfinite(span) or span == 0.0:
            raise InvalidValueError(
                "(t0, t1)", (t0, t1), "two finite times that differ", "Give another interval."
            )
        ratio = abs(span) / self.dt
        nearest = round(ratio)
        if nearest >= 1 and abs(ratio - nearest) <= _STEP_GUARD * nearest:
            return StepGrid(nearest, span / nearest, span / nearest)
        if ratio < 1.0:
            raise InvalidValueError(
                "dt",
                self.dt,
                f"a step of at most |t1 - t0| = {abs(span):g}",
                f"Use dt={abs(span):g} for a single step.",
            )
        n = math.ceil(ratio)
        dt = math.copysign(self.dt, span)
        return StepGrid(n, dt, span - (n - 1) * dt)

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values for JSON or TOML; what is None or empty is left out.

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
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["options"] = dict(self.options)
        return {key: value for key, value in values.items() if value not in (None, {})}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Solver:
        """The solver that `to_dict` wrote.

        Raises:
            InvalidValueError: a key that `Solver` does not have, or no name.
        """
        known = [field.name for field in fields(Solver) if field.name != "algorithm"]
        unknown = sorted(set(values) - set(known))
        if unknown or "name" not in values:
            raise InvalidValueError(
                "solver",
                dict(values),
                f"a table with name and any of {', '.join(known[1:])}",
                f"Remove {', '.join(unknown)}." if unknown else 'Add name = "Tsit5", say.',
            )
        return Solver(**values)

    @staticmethod
    def parse(text: str) -> Solver:
        """A solver from the command line: ``Euler:dt=1/16``, ``Tsit5:rtol=1e-6,atol=1e-8``.

        The keys are dt, rtol, atol, tol (both tolerances at once) and max_steps; a number may be
        written as a fraction. A bare name takes Julia's default tolerances.

        Raises:
            InvalidValueError: text that does not read as that.
        """
        name, _, rest = text.strip().partition(":")
        values: dict[str, Any] = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, number = (part.strip() for part in item.partition("="))
            if not equals or key not in _PARSED_KEYS or key in values:
                raise InvalidValueError(
                    f"solver {text!r}, part",
                    item,
                    f"each of {', '.join(_PARSED_KEYS)} once, as key=number",
                    f"Write it as {name}:dt=1/16 or {name}:rtol=1e-6,atol=1e-8.",
                )
            values[key] = _parsed_number(text, key, number)
        if "tol" in values:
            if "rtol" in values or "atol" in values:
                raise InvalidValueError(
                    "solver", text, "tol, or rtol and atol", "tol sets both: keep one of the two."
                )
            values["rtol"] = values["atol"] = values.pop("tol")
        return Solver(name.strip(), **values)


_PARSED_KEYS = ("dt", "rtol", "atol", "tol", "max_steps")


def _parsed_number(text: str, key: str, number: str) -> float | int:
    numerator, slash, denominator = number.partition("/")
    try:
        if key == "max_steps":
            return int(number)
        return float(numerator) / float(denominator) if slash else float(number)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidValueError(
            f"solver {text!r}, {key}",
            number,
            "an integer" if key == "max_steps" else "a number such as 0.1, 1e-6 or 1/16",
            "Mend the number.",
        ) from error


def _check_problem(about: SolverInfo) -> None:
    if not about.plain:
        raise WrongProblemError(
            "name",
            about.name,
            "a solver of a plain ODEProblem y' = f(t, y)",
            f"{about.name} needs a {about.problem}; `pynode-jl solvers` lists those that do not.",
        )


def _check_fixed(about: SolverInfo, dt: float, rtol: float | None, atol: float | None) -> None:
    if rtol is not None or atol is not None:
        raise InvalidValueError(
            "dt",
            dt,
            "a fixed step or tolerances, not both",
            "Leave out rtol and atol for fixed steps, or dt for adaptive ones.",
        )
    if not about.fixed_step:
        raise WrongSolverError(
            "dt",
            dt,
            f"no fixed step: {about.name} always chooses its steps",
            f'Use Solver("{about.name}", rtol=1e-3, atol=1e-6).',
        )


def _check_adaptive(about: SolverInfo, rtol: float | None, atol: float | None) -> None:
    if about.adaptive:
        return
    mend = f'Use Solver("{about.name}", dt=1/16), say.'
    if rtol is None and atol is None:
        raise WrongSolverError(
            "dt", None, f"a positive step: {about.name} has no error estimate", mend
        )
    argument, value = ("atol", atol) if rtol is None else ("rtol", rtol)
    raise WrongSolverError(
        argument, value, f"no tolerance: {about.name} has no error estimate", mend
    )


def _positive(argument: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        number = float(value)
        if math.isfinite(number) and number > 0.0:
            return number
    raise InvalidValueError(
        argument, value, "a positive finite number", f"Give {argument} as 1e-3 or 1/16, say."
    )


def _count(argument: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, bool) and isinstance(value, numbers.Integral) and int(value) >= 1:
        return int(value)
    raise InvalidValueError(argument, value, "an integer of 1 or more", f"Or leave {argument} out.")


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
        if not isinstance(value, (bool, int, float, str)):
            raise InvalidValueError(
                f"options[{key!r}]", value, "a number, a bool or a string", "Give one of those."
            )
    return tuple(sorted(table.items()))


def _tolerances(solver: Solver) -> tuple[float, float]:
    if solver.rtol is None or solver.atol is None:  # only a fixed-step solver has none
        raise WrongSolverError("rtol", None, "tolerances", "Use with_tolerance first.")
    return solver.rtol, solver.atol


def _step_text(dt: float) -> str:
    n = round(1.0 / dt)
    if n > 1 and abs(n * dt - 1.0) <= _RECIPROCAL_GUARD:
        return f"1/{n}"
    return f"{dt:g}"


def _tolerance_text(tolerance: float) -> str:
    mantissa, _, exponent = f"{tolerance:.3e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
