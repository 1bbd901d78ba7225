"""The arithmetic that a model is trained in: full, float64, or mixed.

Mixed is for training alone. bfloat16 rounds at 4e-3, more than the solver errors that a verdict
tells apart, so that checks, swaps and certificates evaluate in full precision whatever a model was
trained in; `swap` says what the difference does to the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from pynode_jl._validation import text
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
from pynode_jl.backends._registry import BACKENDS, having
from pynode_jl.backends._results import Array
from pynode_jl.errors import InvalidValueError, UnknownNameError, WrongSolverError
from pynode_jl.solvers import Solver, Tableau

#: A name of `PRECISIONS`.
Precision: TypeAlias = str


#: What is computed in each. float16 is not among them: its range asks for a scaled loss.
PRECISIONS: Mapping[str, str] = {
    "full": "everything, in the precision of the data",
    "float64": "everything, in float64, whatever the precision of the data",
    "bfloat16": "the field's layers; states, steps, weights, head and Adam are in full",
}


# How much of a slope times the step its rounding may be, for a state to mean anything.
_ROUNDING = 1e-3


def check_weights_resolved(table: Tableau | None, eps: float) -> None:
    """Refuse a method whose weights are so large that rounding decides the states.

    Args:
        table: its tableau; None for a method without one, of which nothing is said.
        eps: the machine epsilon of the states.

    Raises:
        WrongSolverError: it is such a one, as QPRK98 is in float32.

    Example:
        >>> import numpy as np
        >>> from pynode_jl.backends import check_weights_resolved
        >>> from pynode_jl.solvers import tableau
        >>> check_weights_resolved(tableau("QPRK98"), np.finfo("f4").eps)
        Traceback (most recent call last):
        pynode_jl.errors.WrongSolverError: solver = 'QPRK98': expected ...
    """
    if table is not None and table.weight_sum * eps > _ROUNDING:
        raise WrongSolverError(
            "solver",
            table.name,
            f"a method that the states' precision resolves: this one's weights add up to"
            f" {table.weight_sum:.1e}, and their rounding decides the states",
            "Solve in float64, or by Vern9, say.",
        )


def checked_precision(
    precision: Precision,
    solver: Solver,
    gradient: GradientMethod = "discrete",
    *,
    backend: str | None = None,
) -> Precision:
    """`precision` if a model can be trained so.

    `gradient` is a name of `GRADIENTS`.

    Raises:
        UnknownNameError: no precision of that name.
        WrongSolverError: bfloat16 with tolerances or with an implicit solver.
        InvalidValueError: bfloat16 with an adjoint, or a precision that `backend` lacks.

    Example:
        >>> from pynode_jl.backends import checked_precision
        >>> checked_precision("bfloat16", pn.Solver("Euler", dt=0.5))
        'bfloat16'
    """
    solver = Solver.of(solver)
    parsed_gradient(gradient)
    if text("precision", precision, 'Use "full".') not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if not is_mixed(precision):
        return precision
    if backend is not None and precision not in BACKENDS[backend].capabilities.precisions:
        raise InvalidValueError(
            "precision",
            precision,
            f'"full" on the {backend} backend, whose fields are written for float32 and float64',
            f'Or use backend="{having("precisions", precision)[0]}".',
        )
    hint = 'Or train with precision = "full".'
    if not solver.fixed:
        raise WrongSolverError(
            "solver",
            solver.label,
            f"a fixed step with precision = {precision!r}: an error estimate would take the"
            " field's rounding for the solver's error",
            hint,
        )
    if solver.info.implicit:
        raise WrongSolverError(
            "solver",
            solver.label,
            f"an explicit method with precision = {precision!r}: Newton's iteration for a stage"
            " does not converge to the states' precision",
            hint,
        )
    if gradient != "discrete":
        raise InvalidValueError(
            "gradient", gradient, f'"discrete" with precision = {precision!r}', hint
        )
    return precision


def is_mixed(precision: Precision) -> bool:
    """Return whether a field is evaluated in another precision than states and weights have.

    Example:
        >>> from pynode_jl.backends import is_mixed
        >>> is_mixed("bfloat16"), is_mixed("float64")
        (True, False)
    """
    return precision not in ("full", "float64")


def in_precision(x: Array, precision: Precision) -> Array:
    """Return inputs as a training in a precision takes them: as they are, or in float64.

    `x` are inputs, ``(n, *input_shape)``.

    Example:
        >>> from pynode_jl.backends import in_precision
        >>> in_precision(np.ones(1, np.float32), "float64").dtype
        dtype('float64')
    """
    return np.asarray(x, np.float64) if precision == "float64" else x
