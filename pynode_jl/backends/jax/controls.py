"""A `Solver` as the kernels take it: its tableau, and its steps or tolerances as numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl.backends import _arguments
from pynode_jl.backends._times import Clock, segment_grids
from pynode_jl.backends.jax.numerics.rhs import RHS
from pynode_jl.backends.jax.numerics.rk_step import PaddedTableau, padded
from pynode_jl.backends.jax.numerics.segment import AdaptiveControl, Control, FixedControl, Stepper
from pynode_jl.errors import BackendLacksSolverError
from pynode_jl.solvers import DenseMethod, ErrorRule, FixedStep, Solver, Tableau

# Stage counts that tableaus are padded to: few compilations, little idle work.
_PADDED_STAGES = (4, 8, 16, 40)


def tableau_of(solver: Solver) -> Tableau:
    """Return the solver's tableau.

    Raises:
        BackendLacksSolverError: it has none, or no error weights where it is to adapt its steps.
        WrongSolverError: it has options, which are Julia's.
    """
    table = _arguments.checked_tableau(solver, "jax")
    if table.kind == "full":
        raise BackendLacksSolverError(
            "solver",
            solver.name,
            "a tableau whose stages can be solved one by one: explicit, or diagonally implicit",
            'Use backend="torch", or pynode_jl.torch.odeint.',
        )
    return table


class PaddedKind(NamedTuple):
    """What of a tableau a padded kernel is compiled for; the numbers themselves are arguments."""

    stages: int
    implicit: bool
    explicit_first: bool
    error_rule: ErrorRule

    @classmethod
    def of(cls, table: Tableau) -> PaddedKind:
        """Return the kind of a tableau."""
        sizes = (size for size in _PADDED_STAGES if size >= table.stages)
        stages = next(sizes, table.stages)
        return cls(stages, not table.explicit, table.explicit_first, table.error_rule)


class PaddedArguments(NamedTuple):
    """The numbers of a tableau, as a padded kernel takes them."""

    tableau: PaddedTableau
    fsal: np.bool_

    @classmethod
    def of(cls, table: Tableau, *, with_error: bool, dtype: np.dtype[Any]) -> PaddedArguments:
        """Return a tableau's numbers in a precision."""
        stages = PaddedKind.of(table).stages
        return cls(padded(table, stages, with_error=with_error, dtype=dtype), np.bool_(table.fsal))

    def stepper(self, kind: PaddedKind, rhs: RHS) -> Stepper:
        """Return the step of these numbers."""
        return Stepper.padded(
            self.tableau,
            rhs,
            implicit=kind.implicit,
            explicit_first=kind.explicit_first,
            fsal=self.fsal,
            error_rule=kind.error_rule,
        )


def controls_of(
    solver: Solver,
    times: tuple[float, ...],
    dtype: np.dtype[Any],
    dense: DenseMethod | None = None,
) -> Control:
    """Return how the solver steps between each two of `times`, one row for each segment.

    A dense method brings its own rule of the step size.
    """
    real, stepping = dtype.type, solver.stepping
    if isinstance(stepping, FixedStep):
        rows: list[Control] = [
            FixedControl(np.int32(grid.n), real(grid.dt), real(grid.dt_last))
            for grid in segment_grids(solver, times)
        ]
    else:
        rule = solver.controller if dense is None else dense.controller
        row = AdaptiveControl.of(rule, solver.order, stepping.rtol, stepping.atol)
        rows = [AdaptiveControl(*map(real, row))] * (len(times) - 1)
    stacked: Control = jax.tree.map(lambda *each: np.stack(each), *rows)
    return stacked


class Timeline(NamedTuple):
    """A `Clock` as the kernels take it: arrays."""

    origin: Any
    times: Any

    @classmethod
    def of(cls, clock: Clock, dtype: np.dtype[Any]) -> Timeline:
        """Return the times in a precision."""
        return cls(dtype.type(clock.origin), np.array(clock.times, dtype))


class Schedule(NamedTuple):
    """Controls, times and the budget of a solve, on the device; `steps` where they are fixed."""

    controls: Any
    timeline: Timeline
    max_steps: Any
    steps: int


@lru_cache(maxsize=512)
def schedule_of(
    solver: Solver,
    dense: DenseMethod | None,
    times: tuple[float, ...],
    dtype: np.dtype[Any],
    max_steps: int,
) -> Schedule:
    """Return the schedule of a solve; the same one again costs no transfer."""
    clock = Clock.of(times)
    return Schedule(
        jax.tree.map(jnp.asarray, controls_of(solver, clock.times, dtype, dense)),
        jax.tree.map(jnp.asarray, Timeline.of(clock, dtype)),
        jnp.asarray(np.int32(max_steps)),
        sum(grid.n for grid in segment_grids(solver, clock.times)) if solver.fixed else 0,
    )
