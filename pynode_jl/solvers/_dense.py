"""States inside a step: the cubic and the quartic, and methods that step over output times.

At the share x of a step from y0 to y1, with the slopes f0 and f1 at its ends::

    y(x) = y0 + c1 x + c2 x u + c3 x**2 u + c4 x**2 u**2        u = 1 - x

The cubic (c4 = 0) meets states and slopes at both ends (Hermite); the quartic also meets a state in
the middle of the step (Shampine, *Some practical Runge-Kutta formulas*, Math. Comp. 46, 1986).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode_jl.solvers._controller import Controller
from pynode_jl.solvers._tableau import Tableau

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def interpolant(change: Any, first: Any, last: Any, middle: Any = None) -> Callable[[Any], Any]:
    """Return ``y(x) - y0``, as a function of x, of the cubic or of the quartic.

    Args:
        change: ``y1 - y0``; an array of any library.
        first, last: the step's length times the slopes at its ends.
        middle: the state in the middle of the step, minus y0; None for the cubic.

    Example:
        >>> from pynode_jl.solvers import interpolant
        >>> float(interpolant(1.0, 0.0, 2.0)(0.5))  # x**2 from 0 to 1
        0.25
    """
    coefficients = _coefficients(change, first, last, middle)

    def inside(x: Any) -> Any:
        terms = (c * p for c, p in zip(coefficients, _basis(x), strict=False))
        return reduce(operator.add, terms)

    return inside


def _coefficients(change: Any, first: Any, last: Any, middle: Any = None) -> tuple[Any, ...]:
    cubic = change, first - change, 2 * change - first - last
    return cubic if middle is None else (*cubic, 16 * middle - 8 * change - 2 * (first - last))


def _basis(x: Any) -> tuple[Any, ...]:
    u = 1 - x
    return x, x * u, x * x * u, x * x * u * u


@dataclass(frozen=True, eq=False)
class DenseMethod:
    """An explicit method with a state for every time inside a step, and the control of its steps.

    At the share x of a step from (t, y) of length dt, with k its stages::

        y(x) = y + dt sum_j w_j(x) k_j        w(x) = inside @ [x, x u, x**2 u, x**2 u**2], u = 1 - x

    Attributes:
        tableau: the method; its last stage is f at the end of the step.
        inside: the weights' coefficients in that basis, shape ``(stages, 4)``.
        controller: the rule of the step size.

    Example:
        >>> from pynode_jl.solvers import controller, dense_method, tableau
        >>> method = dense_method(tableau("BS3"), [0.0, 0.0, 0.0], controller("BS3"))
        >>> [weight for weight in method.weights(0.0) if weight is not None]
        [0.0, 0.0, 0.0, 0.0]
    """

    tableau: Tableau
    inside: Array
    controller: Controller

    def weights(self, x: Any) -> list[Any]:
        """w(x), a number or an array for each stage; None for a stage without weight."""
        return self._mixed(*_basis(x))

    def slopes(self, x: Any) -> list[Any]:
        """w'(x), likewise: y' inside a step is their sum with the stages."""
        u = 1 - x
        return self._mixed(x * 0 + 1, u - x, x * (2 * u - x), 2 * x * u * (u - x))

    def _mixed(self, *polynomials: Any) -> list[Any]:
        rows = [
            [float(c) * p for c, p in zip(row, polynomials, strict=True) if c != 0.0]
            for row in self.inside
        ]
        return [reduce(operator.add, terms) if terms else None for terms in rows]


def dense_method(table: Tableau, middle: Sequence[float], controller: Controller) -> DenseMethod:
    """Return the method whose states inside a step are the quartic's.

    Args:
        table: an explicit method with an error estimate. Where its last stage is not f at the end
            of the step, that becomes one.
        middle: weights of the stages in ``(y(1/2) - y) / dt``; those left out are 0.
        controller: the rule of the step size.

    Example:
        >>> from pynode_jl.solvers import controller, dense_method, tableau
        >>> dense_method(tableau("BS3"), [0.0, 0.0, 0.0], controller("BS3")).inside.shape
        (4, 4)
    """
    table = table if table.fsal else _with_last_stage(table)
    first, last = np.eye(table.stages)[[0, -1]]
    half = np.zeros(table.stages)
    half[: len(middle)] = middle[: table.stages]
    inside = np.stack(_coefficients(table.b, first, last, half), axis=1)
    inside.setflags(write=False)
    return DenseMethod(table, inside, controller)


def _with_last_stage(table: Tableau) -> Tableau:
    s = table.stages
    a = np.zeros((s + 1, s + 1))
    a[:s, :s], a[s, :s] = table.a, table.b

    def longer(row: Array | None) -> Array | None:
        return None if row is None else np.append(row, 0.0)

    b, c = np.append(table.b, 0.0), np.append(table.c, 1.0)
    return replace(
        table, c=c, a=a, b=b, b_error=longer(table.b_error), b_error2=longer(table.b_error2)
    )
