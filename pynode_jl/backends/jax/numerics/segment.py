"""What the forward loop goes over: controls, a stepper, a segment between save times, its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.jax.numerics.rhs import RHS
from pynode_jl.backends.jax.numerics.rk_step import (
    PaddedTableau,
    StepResult,
    rk_step_padded,
    rk_step_static,
)
from pynode_jl.backends.jax.numerics.trajectory import SavedTrajectory
from pynode_jl.solvers import Controller, ControlMemory, DenseMethod, ErrorRule, Tableau

CODES = tuple(RetCode)
SUCCESS, MAX_ITERS, DT_MIN, UNSTABLE, NEWTON = range(len(CODES))


class FixedControl(NamedTuple):
    """n steps of dt, the last one of dt_last; signed."""

    n: Any
    dt: Any
    dt_last: Any


class AdaptiveControl(NamedTuple):
    """Tolerances and a controller's numbers (`pynode_jl.solvers.Controller`), as data."""

    rtol: Any
    atol: Any
    order: Any
    beta1: Any
    beta2: Any
    gamma: Any
    qmin: Any
    qmax: Any
    qmax_first_step: Any
    qsteady_min: Any
    qsteady_max: Any
    qoldinit: Any

    @classmethod
    def of(cls, controller: Controller, order: int, rtol: float, atol: float) -> AdaptiveControl:
        """Return the traced numbers of an adaptive solve."""
        numbers = (getattr(controller, name) for name in cls._fields[3:])
        return cls(rtol, atol, float(order), *numbers)


Control: TypeAlias = FixedControl | AdaptiveControl


class SolveCounts(NamedTuple):
    """Counts of a solve and its return code, an index into `CODES`."""

    nf: jax.Array
    njac: jax.Array
    naccept: jax.Array
    nreject: jax.Array
    code: jax.Array


class Stepper(NamedTuple):
    """A step of some tableau and what the loop around it must know.

    `step(t, dt, y, k_first)` takes the first stage where it is known already. `explicit_first`: the
    first stage is f(t, y), so that it is. `fsal`: the last stage is the next step's first.
    """

    step: Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], StepResult]
    explicit_first: bool
    fsal: Any
    error_rule: ErrorRule

    @classmethod
    def static(cls, tableau: Tableau, rhs: RHS, *, with_error: bool) -> Stepper:
        """Step by a tableau written out, for gradients."""
        step = partial(rk_step_static, tableau, rhs, with_error=with_error)
        return cls(step, tableau.explicit_first, tableau.fsal, tableau.error_rule)

    @classmethod
    def padded(
        cls,
        tableau: PaddedTableau,
        rhs: RHS,
        *,
        implicit: bool,
        explicit_first: bool,
        fsal: Any,
        error_rule: ErrorRule,
    ) -> Stepper:
        """Step by a tableau that is data."""
        step = partial(rk_step_padded, tableau, rhs, implicit=implicit)
        return cls(step, explicit_first, fsal, error_rule)


class DenseTargets(NamedTuple):
    """Times to interpolate at, the steps going over them, and the method that does."""

    times: jax.Array
    method: DenseMethod


class DenseOutputs(NamedTuple):
    """The states at the target times, the number of steps up to the end of the one that each lies
    in, and how many have been met."""

    states: jax.Array
    ends: jax.Array
    met: jax.Array


class Segment(NamedTuple):
    """An interval from t0 to t1, to be integrated in at most `max_steps` tries.

    `memory` is what the controller remembers; `begin` steps are saved in `trajectory` already.
    """

    t0: jax.Array
    t1: jax.Array
    y0: jax.Array
    memory: ControlMemory
    max_steps: jax.Array
    trajectory: SavedTrajectory
    begin: jax.Array


class SegmentEnd(NamedTuple):
    """Where a segment ended: time and state, what the controller remembers, counts, the saved
    steps, and what was interpolated (None where nothing was to be)."""

    t: jax.Array
    y: jax.Array
    memory: ControlMemory
    counts: SolveCounts
    trajectory: SavedTrajectory
    outputs: DenseOutputs | None = None


def first_of(*cases: tuple[jax.Array, int]) -> jax.Array:
    """Return the code of the first case that holds.

    (`jnp.select` makes a search of it, at every step.)
    """
    code: jax.Array = jnp.int32(SUCCESS)
    for holds, value in reversed(cases):
        code = jnp.where(holds, jnp.int32(value), code)
    return code
