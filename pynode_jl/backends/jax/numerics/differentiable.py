"""A solve with derivatives in both modes, for code that differentiates through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import zero_from_primal
from jax.tree_util import Partial

from pynode_jl.backends.jax.numerics.linear import linear_map, refuse_reverse
from pynode_jl.backends.jax.numerics.loop import Solved, integrate
from pynode_jl.backends.jax.numerics.reverse import reverse_sweep
from pynode_jl.backends.jax.numerics.rhs import RHS
from pynode_jl.backends.jax.numerics.segment import (
    Control,
    FixedControl,
    SolveCounts,
    Stepper,
)
from pynode_jl.backends.jax.numerics.trajectory import SAVE_NOTHING, CheckpointPolicy
from pynode_jl.solvers import Tableau


class Problem(NamedTuple):
    """What a solve is of.

    Attributes:
        weights: what the right-hand side has derivatives to.
        constants: what it has none to: integers, masks, keys.
        controls: one row for each segment. Steps keep their lengths in a derivative, but for the
            last one before each saved time, which ends there.
        times: ``(t0, *saved)``.
        max_steps: the budget of steps of the whole solve.
        y0: the state at t0.
    """

    weights: Any
    constants: Any
    controls: Control
    times: jax.Array
    max_steps: jax.Array
    y0: jax.Array


def differentiable_solve(
    apply: Callable[..., jax.Array],
    tableau: Tableau,
    policy: CheckpointPolicy,
    *,
    adaptive: bool,
) -> Callable[[Problem], tuple[jax.Array, SolveCounts]]:
    """Return ``problem -> (states at times[1:], counts)``.

    Args:
        apply: ``apply(constants, weights, t, y)`` is the right-hand side.
        tableau: the method.
        policy: what is saved of the steps for the reverse sweep; its capacity is at least
            `max_steps`.
        adaptive: whether the steps adapt.

    Derivatives of a derivative are taken in forward mode (`refuse_reverse`).
    """

    def right_hand_side(constants: Any) -> Callable[..., jax.Array]:
        return Partial(apply, constants)  # type: ignore[no-untyped-call]

    def solved(problem: Problem, policy: CheckpointPolicy) -> Solved:
        rhs = RHS(right_hand_side(problem.constants), problem.weights)
        stepper = Stepper.static(tableau, rhs, with_error=adaptive)
        controls, times = problem.controls, problem.times
        return integrate(
            rhs, stepper, controls, times, problem.y0, problem.max_steps, policy=policy
        )

    @jax.custom_jvp
    def run(problem: Problem) -> tuple[jax.Array, SolveCounts]:
        found = solved(problem, SAVE_NOTHING)
        return found.states, found.counts

    @run.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        (problem,), (along,) = primals, tangents
        found = solved(problem, policy)
        change = linear_map(
            forward,
            backward,
            (problem, found.trajectory, found.ends),
            (along.weights, along.times, along.y0),
            found.states,
        )
        return (found.states, found.counts), (change, _no_change(found.counts))

    def forward(constants: Any, tangents: Any) -> jax.Array:
        problem, _, _ = constants
        weights, times, y0 = tangents
        along = _no_change(problem)._replace(weights=weights, times=times, y0=y0)
        if isinstance(problem.controls, FixedControl):
            along = along._replace(controls=along.controls._replace(dt_last=jnp.diff(times)))
        change: jax.Array = jax.jvp(
            lambda problem: solved(problem, SAVE_NOTHING).states, (problem,), (along,)
        )[1]
        return change

    def backward(constants: Any, cotangent: jax.Array) -> Any:
        problem, trajectory, ends = constants
        gradient = reverse_sweep(
            tableau,
            right_hand_side(problem.constants),
            problem.weights,
            trajectory,
            policy,
            ends,
            cotangent,
            through_stages=tableau.explicit,
        )
        return refuse_reverse((gradient.weights, gradient.times, gradient.y0))

    solve: Callable[[Problem], tuple[jax.Array, SolveCounts]] = run
    return solve


def _no_change(tree: Any) -> Any:
    return zero_from_primal(tree)  # type: ignore[no-untyped-call]
