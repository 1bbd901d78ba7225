"""Tableaus of the zoo as diffrax solvers, for what diffrax does that our loop does not.

That is the backsolve adjoint (Chen et al. 2018): the adjoint ODE solved backwards with the same
solver. It differentiates the continuous problem, not the discrete model, and its gradient is off by
the solver's error; it is here to be compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.backends.jax.numerics.segment import AdaptiveControl, Control, FixedControl
from pynode_jl.errors import WrongSolverError
from pynode_jl.solvers import Tableau, tableau


def diffrax_solver(method: str | Tableau) -> diffrax.AbstractSolver[Any]:
    """Return an explicit tableau, a user's own or that of a name, as a diffrax solver.

    `method` is a name of the catalogue, or a `Tableau`.

    Raises:
        UnknownSolverError: no tableau has that name.
        WrongSolverError: the tableau is implicit.

    Example:
        >>> from pynode_jl.jax import diffrax_solver
        >>> diffrax_solver("Vern7").order(None)
        7
    """
    table = method if isinstance(method, Tableau) else tableau(method)
    if not table.explicit:
        raise WrongSolverError(
            "solver",
            table.name,
            "an explicit Runge-Kutta method where a diffrax adjoint is asked for",
            'Use gradient="discrete", or an explicit solver such as Tsit5.',
        )

    return _made(table)


@cache
def _made(table: Tableau) -> diffrax.AbstractSolver[Any]:
    if table.stages == 1:
        return diffrax.Euler()  # a ButcherTableau holds two stages or more

    class TableauSolver(diffrax.AbstractERK):
        tableau: ClassVar[diffrax.ButcherTableau] = _butcher(table)
        interpolation_cls: ClassVar[Callable[..., Any]] = (
            diffrax.ThirdOrderHermitePolynomialInterpolation.from_k
        )

        def order(self, terms: object) -> int:
            del terms
            return table.order

    TableauSolver.__name__ = TableauSolver.__qualname__ = table.name
    return TableauSolver()


def backsolve(
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array],
    prepare: Callable[[Any], Any],
    table: Tableau,
    weights: Any,
    control: Control,
    t0: jax.Array,
    t1: jax.Array,
    y0: jax.Array,
    max_steps: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y(t1), the steps tried, and whether it got there; differentiable by the adjoint ODE."""

    def rhs(t: Any, y: jax.Array, weights: Any) -> jax.Array:
        return apply(prepare(weights), t, y)

    stepping: diffrax.AbstractStepSizeController[Any, Any]
    if isinstance(control, FixedControl):
        stepping, dt0 = diffrax.ConstantStepSize(), control.dt
    else:
        stepping, dt0 = _julia_controller(control), None
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(rhs),
        diffrax_solver(table),
        t0,
        t1,
        dt0,
        y0,
        weights,
        stepsize_controller=stepping,
        adjoint=diffrax.BacksolveAdjoint(),  # type: ignore[no-untyped-call]
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ys is not None
    reached = solution.result == diffrax.RESULTS.successful
    return solution.ys[-1], jnp.asarray(solution.stats["num_steps"]), reached


def _julia_controller(control: AdaptiveControl) -> diffrax.PIDController:
    # Julia's q = e^beta1 / e_old^beta2; diffrax's exponents are (p + i) / k and p / k.
    return diffrax.PIDController(
        rtol=control.rtol,
        atol=control.atol,
        pcoeff=control.beta2 * control.order,
        icoeff=(control.beta1 - control.beta2) * control.order,
        error_order=control.order,
        safety=control.gamma,
        factormin=control.qmin,
        factormax=control.qmax,
    )


def _butcher(table: Tableau) -> diffrax.ButcherTableau:
    error = np.zeros(table.stages) if table.b_error is None else np.array(table.b_error)
    return diffrax.ButcherTableau(
        c=np.array(table.c[1:]),
        b_sol=np.array(table.b),
        b_error=error,
        a_lower=tuple(np.array(table.a[i, :i]) for i in range(1, table.stages)),
    )
