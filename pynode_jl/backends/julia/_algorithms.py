"""A `Solver` as Julia has it: its algorithm, its tableau, its steps."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from pynode_jl.backends._base import MAX_STEPS
from pynode_jl.backends._results import Array
from pynode_jl.backends._times import Clock, segment_grids
from pynode_jl.backends.julia import _fields, _names, _process
from pynode_jl.errors import (
    BackendLacksSolverError,
    BackendUnavailableError,
    InvalidValueError,
    WrongSolverError,
)
from pynode_jl.fields import Field
from pynode_jl.solvers import FixedStep, Solver, Tableau

# Julia is given the end of every fixed step: some 50 bytes each, on both sides.
_MOST_ENDS = 2**24


@lru_cache(maxsize=512)
def _made(name: str, library: str, options: tuple[tuple[str, Any], ...]) -> Any:
    return _process.julia().PyNODE.algorithm(name, library, **dict(options))


def julia_solver(
    algorithm: Any,
    *,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int | None = None,
) -> Solver:
    """Return a `Solver` of a Julia algorithm that the user has made, through juliacall or diffeqpy.

    Args:
        algorithm: an object made by a constructor of a `sublibrary`; its type's name is the
            solver's.
        dt, rtol, atol, max_steps: as for `Solver`.

    Raises:
        UnknownSolverError: no solver of the catalogue has that type's name.
    """
    name = str(_process.julia().PyNODE.solver_name(algorithm))
    return Solver(name, dt, rtol, atol, max_steps, algorithm=algorithm)


def sublibrary(name: str) -> Any:
    """Return the module of a Julia package, loaded, to make solvers of your own with.

    Args:
        name: a package that the environment names, or one that the solvers depend on::

            sdirk, adtypes = sublibrary("OrdinaryDiffEqSDIRK"), sublibrary("ADTypes")
            julia_solver(sdirk.KenCarp4(autodiff=adtypes.AutoFiniteDiff()), dt=1 / 8)

    Raises:
        BackendUnavailableError: the Julia environment lacks it, or it does not load.
    """
    try:
        return _process.julia().PyNODE.sublibrary(name)
    except _process.julia_error() as error:
        text = _process.first_line(error).removeprefix("ArgumentError: ")
        raise BackendUnavailableError(f"backend = 'julia': {text}") from error


def julia_algorithm(solver: Solver, device: str = "cpu") -> Any:
    """Return Julia's object of a solver that is to run on a device.

    Raises:
        BackendLacksSolverError: the environment has no such solver, or the device cannot run it.
        WrongSolverError: it does not take tolerances, or these options.
    """
    return _named(solver, device) if solver.algorithm is None else solver.algorithm


@lru_cache(maxsize=512)
def _named(solver: Solver, device: str) -> Any:
    """Return the object of a solver by name; each call of the backend asks for it."""
    library, reason = solver.info.sublibrary, _names.why_not(solver.info, device)
    if library is None or reason is not None:
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a solver that the Julia environment can solve with (`backend.solvers()`)",
            reason or "",
        )
    if not solver.fixed and solver.name in _names.FIXED_STEPS_ONLY:
        raise WrongSolverError(
            "solver",
            solver.label,
            f"{solver.name} with fixed steps: {_names.FIXED_STEPS_ONLY[solver.name]}",
            "Give dt, or take Tsit5 with tolerances.",
        )
    assert isinstance(solver.options, tuple)
    try:
        return _made(solver.name, library, solver.options)
    except _process.julia_error() as error:
        raise WrongSolverError(
            "solver",
            f"{solver.name}{dict(solver.options) or ''}",
            f"a solver that {library} makes with these options",
            f"Julia says: {_process.first_line(error)}",
        ) from error


def tableau_of(solver: Solver, field: Field) -> Tableau:
    """Return the coefficients of a solver whose steps over a field are differentiated.

    Raises:
        WrongSolverError: it has none, or options that may change its steps, or OrdinaryDiffEq has
            others: what it solves is then not what would be differentiated.
    """
    table = solver.info.tableau
    if table is None or solver.options:
        raise WrongSolverError(
            "solver",
            solver.name,
            'a Runge-Kutta method with a tableau, without options, where gradient="discrete"',
            'Take Euler, Tsit5 or KenCarp4, say, or gradient="GaussAdjoint".',
        )
    reason = _names.OTHER_STEPS.get(solver.name)
    if solver.name in _names.OTHER_ABSCISSAE and getattr(field, "time_dependent", False):
        reason = reason or "f depends on t, and OrdinaryDiffEq's abscissae are not the tableau's"
    if reason:
        raise WrongSolverError(
            "solver",
            solver.name,
            'a method that OrdinaryDiffEq steps by its tableau where gradient="discrete"',
            f'{solver.name}: {reason}. Take KenCarp4 or Tsit5, say, or backend="jax".',
        )
    return table


@cache
def julia_tableau(table: Tableau) -> Any:
    """Return a tableau as PyNODE's."""
    # `at` sees memory that lives for this call only; Julia's constructor copies.
    rows, b, c = (np.ascontiguousarray(each) for each in (table.a, table.b, table.c))
    return _process.julia().PyNODE.Tableau(*map(_fields.at, (rows, b, c)))


def julia_steps(solver: Solver, clock: Clock, save_steps: bool) -> Any:
    """Return how a solver steps over a clock's times, in Julia's hands: it copies them."""
    budget = solver.max_steps or MAX_STEPS
    t0, *stops = clock.times
    ends, longest = _step_ends(solver, t0, stops, budget)
    stepping = solver.stepping
    tolerances = (0.0, 0.0) if isinstance(stepping, FixedStep) else (stepping.rtol, stepping.atol)
    times = np.array(stops)
    return _process.julia().PyNODE.Steps(
        _fields.at(times),
        _fields.at(ends),
        longest,
        *tolerances,
        budget,
        save_steps,
        clock.origin,
    )


def _step_ends(solver: Solver, t0: float, stops: list[float], budget: int) -> tuple[Array, float]:
    """Return the ends of all fixed steps, and the longest step, signed; none where steps adapt.

    They end one step beyond a budget that is too small: that step is refused, by "MaxIters".

    Raises:
        InvalidValueError: the steps, which the budget allows, are more than Julia lays out.
    """
    if not solver.fixed:
        return np.zeros(0), 0.0
    times, left = (t0, *stops), budget + 1
    grids = segment_grids(solver, times)
    if min(left, sum(grid.n for grid in grids)) > _MOST_ENDS:
        least = abs(times[-1] - t0) / _MOST_ENDS
        raise InvalidValueError(
            "dt",
            solver.dt,
            f"a step of at least |t1 - t0| / {_MOST_ENDS} = {least:.3g} on the julia backend",
            'Take a longer step, or backend="jax".',
        )
    ends, longest = [], 0.0
    for (start, stop), grid in zip(pairwise(times), grids, strict=True):
        inner = np.arange(1, min(grid.n - 1, left) + 1)
        ends.append(np.append(start + grid.dt * inner, stop)[:left])
        longest = max(longest, grid.dt, key=abs)
        left -= len(ends[-1])
        if not left:
            break
    return np.concatenate(ends), longest
