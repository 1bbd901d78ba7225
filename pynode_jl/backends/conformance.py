"""The order of convergence of every solver, measured on this machine.

The problem is non-autonomous, nonlinear and coupled (after Hairer, Norsett & Wanner, *Solving ODEs*
I, II): a wrong abscissa, which autonomous problems cannot see, costs order here::

    y1' = 2 t y1 y2
    y2' = -2 t (1 + t) log(y1) y3       y1 = exp(sin(t^2 + p)), y2 = cos(t^2 + p), y3 = 1 / (1 + t)
    y3' = -y3^2

It is solved from several phases p at once, so that an error that happens to change its sign at one
of them does not pass for a higher order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pynode_jl.backends import Backend, as_backend
from pynode_jl.errors import PyNODEError, WrongSolverError
from pynode_jl.fields import FunctionField
from pynode_jl.solvers import Solver, SolverInfo, info

T0, T1 = 0.3, 1.5
PHASES = np.linspace(0, 2 * np.pi, 6, endpoint=False)
#: Numbers of steps by order: fine enough to be asymptotic, coarse enough to stand above rounding.
STEPS: dict[int, tuple[int, ...]] = {
    1: (96, 128, 192, 256, 384),
    2: (64, 96, 128, 192, 256),
    3: (48, 64, 96, 128, 192),
    4: (24, 32, 48, 64, 96),
    5: (16, 24, 32, 48, 64),
    6: (12, 16, 20, 24, 32, 40),
    7: (10, 12, 14, 16, 20, 24),
    8: (5, 6, 7, 8, 10, 12, 14, 16, 20),
    9: (5, 6, 7, 8, 10, 12),
    10: (5, 6, 7, 8, 10, 12),
    12: (4, 5, 6, 7, 8),
    14: (3, 4, 5, 6, 7),
}
ROUNDING, COARSE = 1e-11, 2e-2
#: A measured order this far below the claimed one makes a suspect.
SLACK = 0.3
# The problem in Julia, states (3, batch); log of what a coarse step made negative is NaN, no error.
_JULIA = """
function (dy, y, p, t)
    for j in axes(y, 2)
        a, b, c = y[1, j], y[2, j], y[3, j]
        log_a = a > 0 ? log(a) : oftype(a, NaN)
        dy[1, j] = 2t * a * b
        dy[2, j] = -2t * (1 + t) * log_a * c
        dy[3, j] = -c^2
    end
end
"""


@dataclass(frozen=True)
class OrderRow:
    """What a solver showed, in one row of a table.

    Attributes:
        name, family: the solver.
        claimed: the catalogue's order; None where it varies.
        measured: slope of log error over log step; for a method without fixed steps, digits gained
            per digit of tolerance. None where nothing could be measured.
        single: error of a float32 solve against the float64 one of the same steps or tolerances,
            root mean square; infinite where it fails or is refused, None where float64 could not be
            measured.
        seconds: what the solves took, compilation included.
        problem: why nothing could be measured; empty otherwise.

    Example:
        >>> from pynode_jl.diagnostics import OrderRow
        >>> OrderRow("RK4", "classical", claimed=4, measured=2.1, single=1e-7, seconds=0.1).suspect
        True
    """

    name: str
    family: str
    claimed: int | None
    measured: float | None
    single: float | None
    seconds: float
    problem: str = ""

    @property
    def suspect(self) -> bool:
        """A measured order below what was claimed."""
        if self.measured is None:
            return False
        if not info(self.name).fixed_step:
            return self.measured < 0.3
        return self.measured < (1 if self.claimed is None else self.claimed) - SLACK


def measure_orders(backend: Backend | str, rows: Sequence[SolverInfo | str]) -> Iterator[OrderRow]:
    """Measure the order of each solver on `backend`, one after the other, float64.

    Args:
        backend: a backend, or its name.
        rows: rows of the catalogue, or names.

    Raises:
        UnknownNameError: no backend, or no solver, has that name.

    Example:
        >>> from pynode_jl.diagnostics import measure_orders
        >>> (row,) = measure_orders(pn.get_backend("jax"), pn.catalogue(backend="jax", order=1)[:1])
        >>> row.claimed, round(row.measured)
        (1, 1)
    """
    backend = as_backend(backend)
    field = problem_field(backend.name)
    for row in [info(each) if isinstance(each, str) else each for each in rows]:
        begun = time.perf_counter()
        measured, single, problem = None, None, ""
        try:
            measured = (
                _fixed_order(backend, field, row)
                if row.fixed_step
                else _adaptive_order(backend, field, row)
            )
            single = _single(backend, field, row)
        except (PyNODEError, ArithmeticError) as error:
            problem = " ".join(str(error).split())
        yield OrderRow(
            row.name, row.family, row.order, measured, single, time.perf_counter() - begun, problem
        )


def exact(t: float) -> npt.NDArray[np.float64]:
    """Return the problem's solution, (phases, 3)."""
    y1, y2 = np.exp(np.sin(t * t + PHASES)), np.cos(t * t + PHASES)
    return np.stack([y1, y2, np.full_like(y1, 1 / (1 + t))], axis=1)


def right_hand_side(namespace: Any) -> Callable[[Any, Any, Any], Any]:
    """Return the problem as a function on the arrays of `namespace`: numpy, jax.numpy."""

    def rhs(_: Any, t: Any, y: Any) -> Any:
        y1, y2, y3 = y[:, 0], y[:, 1], y[:, 2]
        first, second = 2 * t * y1 * y2, -2 * t * (1 + t) * namespace.log(y1) * y3
        return namespace.stack([first, second, -(y3**2)], 1)

    return rhs


def problem_field(backend: str) -> FunctionField:
    """Return the problem as a field of a backend."""
    if backend == "julia":
        from pynode_jl.backends.julia import JuliaSource

        return FunctionField(JuliaSource(_JULIA), (3,), backend="julia")
    import jax.numpy as jnp

    return FunctionField(right_hand_side(jnp), (3,))


def slope(steps: Sequence[float], errors: Sequence[float]) -> float:
    """Slope of log error over log step, where errors are neither coarse nor rounding.

    Raises:
        ArithmeticError: fewer than three such errors.
    """
    usable = [(n, e) for n, e in zip(steps, errors, strict=True) if ROUNDING < e < COARSE]
    if len(usable) < 3:
        raise ArithmeticError(f"too few errors between rounding and coarse: {errors}")
    n, e = np.log(np.array(usable)).T
    return float(-np.polyfit(n, e, 1)[0])


def error_at_the_end(backend: Backend, field: FunctionField, solver: Solver) -> float:
    """Root mean square error at T1; infinite where the solve fails."""
    solution = backend.solve(field, {}, exact(T0), (T0, T1), solver, throw=False)
    error = float(np.sqrt(np.mean((solution.y1 - exact(T1)) ** 2)))
    return error if solution.stats.retcode == "Success" and np.isfinite(error) else np.inf


def _single(backend: Backend, field: FunctionField, row: SolverInfo) -> float:
    """How far float32 is from float64 at the end of one solve."""
    tolerance = 1e-4
    solver = (
        Solver(row.name, dt=(T1 - T0) / 64)
        if row.fixed_step
        else Solver(row.name, rtol=tolerance, atol=tolerance)
    )
    ends = []
    for dtype in (np.float32, np.float64):
        try:
            start = exact(T0).astype(dtype)
            solution = backend.solve(field, {}, start, (T0, T1), solver, throw=False)
        except WrongSolverError:  # float64 has just had it
            return np.inf
        if solution.stats.retcode != "Success" or solution.y.dtype != dtype:
            return np.inf
        ends.append(solution.y1)
    return float(np.sqrt(np.mean((ends[0] - ends[1]) ** 2)))


def _fixed_order(backend: Backend, field: FunctionField, row: SolverInfo) -> float:
    order = 2 if row.order is None else row.order  # a variable order starts low
    steps = STEPS[max(each for each in STEPS if each <= max(order, 1))]
    # Large error constants need finer steps to get below COARSE, an order that the catalogue does
    # not know coarser ones to stay above ROUNDING.
    seen: list[float] = []
    for factor in (1, 2, 4, 1 / 4):
        counts = sorted({max(1, round(factor * n)) for n in steps})
        seen = [
            error_at_the_end(backend, field, Solver(row.name, dt=(T1 - T0) / n)) for n in counts
        ]
        if sum(ROUNDING < error < COARSE for error in seen) >= 3:
            return slope(counts, seen)
    raise ArithmeticError(f"too few errors between rounding and coarse: {seen}")


def _adaptive_order(backend: Backend, field: FunctionField, row: SolverInfo) -> float:
    tolerances = (1e-4, 1e-6, 1e-8)
    errors = [
        error_at_the_end(backend, field, Solver(row.name, rtol=tol, atol=tol)) for tol in tolerances
    ]
    return slope([1 / tol for tol in tolerances], errors)
