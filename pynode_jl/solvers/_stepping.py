"""How a solver steps: with fixed steps, or with steps that it adapts to tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from pynode_jl._validation import real_number

# What Julia's `solve` takes when it is given no tolerance.
DEFAULT_RTOL = 1e-3
DEFAULT_ATOL = 1e-6

# float32 carries 1/n to 6e-8.
_RECIPROCAL_GUARD = 1e-7


@dataclass(frozen=True)
class FixedStep:
    """Steps of `dt`, the last one shortened where `dt` does not divide the interval.

    Attributes:
        dt: the step, positive; it runs in either direction.

    Raises:
        InvalidValueError: a step that is not positive and finite.

    Example:
        >>> from pynode_jl.solvers import FixedStep
        >>> FixedStep(1 / 16).scaled(2).label
        'h=1/8'
    """

    dt: float
    fixed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "dt", positive("dt", self.dt))

    @property
    def size(self) -> float:
        """The number that says how fine it is: the step."""
        return self.dt

    @property
    def label(self) -> str:
        """Short text: ``h=1/16``."""
        return f"h={step_text(self.dt)}"

    def scaled(self, factor: float) -> FixedStep:
        """Return steps of `factor` times the length."""
        return FixedStep(self.dt * positive("factor", factor))


@dataclass(frozen=True)
class Adaptive:
    """Steps that a controller chooses, for an error of ``atol + rtol |y|``.

    Attributes:
        rtol: relative tolerance; Julia's default, 1e-3, where it is left out.
        atol: absolute tolerance; Julia's default, 1e-6, where it is left out.

    Raises:
        InvalidValueError: a tolerance that is not positive and finite.

    Example:
        >>> from pynode_jl.solvers import Adaptive
        >>> Adaptive(1e-4).label
        'rtol=1e-4 atol=1e-6'
    """

    rtol: float = DEFAULT_RTOL
    atol: float = DEFAULT_ATOL
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rtol", positive("rtol", self.rtol))
        object.__setattr__(self, "atol", positive("atol", self.atol))

    @property
    def size(self) -> float:
        """The number that says how fine it is: the relative tolerance."""
        return self.rtol

    @property
    def label(self) -> str:
        """Short text: ``tol=1e-3`` for two equal tolerances, else both."""
        if self.rtol == self.atol:
            return f"tol={_tolerance_text(self.rtol)}"
        return f"rtol={_tolerance_text(self.rtol)} atol={_tolerance_text(self.atol)}"

    def scaled(self, factor: float) -> Adaptive:
        """Return both tolerances times `factor`."""
        checked = positive("factor", factor)
        return Adaptive(self.rtol * checked, self.atol * checked)


#: How a solver steps.
Stepping: TypeAlias = FixedStep | Adaptive


def step_text(dt: float) -> str:
    """Return a step as text: ``1/16`` for a reciprocal, ``0.3`` for another one.

    `dt` is the step.

    Example:
        >>> from pynode_jl.solvers import step_text
        >>> step_text(1 / 16), step_text(0.3)
        ('1/16', '0.3')
    """
    n = round(1.0 / dt) if dt > 1e-300 else 0  # 1 / dt is finite
    reciprocal = n > 1 and abs(n * dt - 1.0) <= _RECIPROCAL_GUARD
    return f"1/{n}" if reciprocal else f"{dt:g}"


def positive(argument: str, value: object) -> float:
    """Return `value` as a float.

    Raises:
        InvalidValueError: it is not a positive finite number.
    """
    return real_number(argument, value, f"Give {argument} as 1e-3 or 1/16, say.", above=0)


def _tolerance_text(tolerance: float) -> str:
    mantissa, _, exponent = f"{tolerance:.3e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
