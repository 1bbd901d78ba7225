"""A solve with a reverse derivative, for code that differentiates through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from pynode_jl.backends.jax.numerics.loop import Solved, integrate
from pynode_jl.backends.jax.numerics.reverse import reverse_sweep
from pynode_jl.backends.jax.numerics.rhs import RHS, Apply
from pynode_jl.backends.jax.numerics.segment import Control, SolveCounts, Stepper
from pynode_jl.backends.jax.numerics.trajectory import SAVE_NOTHING, CheckpointPolicy
from pynode_jl.solvers import Tableau


def differentiable_solve(
    prepare: Callable[[Any], Any],
    apply: Apply,
    tableau: Tableau,
    policy: CheckpointPolicy,
    *,
    adaptive: bool,
    wrt_times: bool,
    through_stages: bool = False,
    apply_reverse: Apply | None = None,
    batch_width: int = 0,
) -> Callable[..., tuple[jax.Array, SolveCounts]]:
    """Return ``(weights, controls, times, max_steps, y0) -> (states at times[1:], counts)``.

    Args:
        prepare, apply: ``apply(prepare(weights), t, y)`` is the right-hand side.
        tableau: the method.
        policy: what is saved of the steps for the reverse sweep; its capacity is at least
            `max_steps`.
        adaptive: whether the steps adapt.
        wrt_times: whether the derivative to `times` is wanted; to `controls` there is none.
        through_stages, batch_width: as for `reverse_sweep`.
        apply_reverse: `apply` with derivatives in reverse mode only, for the sweep.
    """

    def forward(
        weights: Any, controls: Control, times: Any, max_steps: Any, y0: Any, policy: Any
    ) -> Solved:
        rhs = RHS(apply, prepare(weights))
        stepper = Stepper.static(tableau, rhs, with_error=adaptive)
        return integrate(rhs, stepper, controls, times, y0, max_steps, policy=policy)

    @jax.custom_vjp
    def run(
        weights: Any, controls: Control, times: Any, max_steps: Any, y0: Any
    ) -> tuple[jax.Array, SolveCounts]:
        found = forward(weights, controls, times, max_steps, y0, SAVE_NOTHING)
        return found.states, found.counts

    def run_forward(
        weights: Any, controls: Control, times: Any, max_steps: Any, y0: Any
    ) -> tuple[tuple[jax.Array, SolveCounts], Any]:
        found = forward(weights, controls, times, max_steps, y0, policy)
        return (found.states, found.counts), (weights, found.trajectory, found.ends)

    def run_backward(residuals: Any, cotangents: Any) -> tuple[Any, ...]:
        weights, trajectory, ends = residuals
        to_states, _ = cotangents
        prepared, unprepare = jax.vjp(prepare, weights)
        gradient = reverse_sweep(
            tableau,
            apply_reverse or apply,
            prepared,
            trajectory,
            policy,
            ends,
            to_states,
            wrt_times=wrt_times,
            through_stages=through_stages,
            batch_width=batch_width,
            recompute_apply=apply,
        )
        (to_weights,) = unprepare(gradient.weights)
        return to_weights, None, gradient.times, None, gradient.y0

    run.defvjp(run_forward, run_backward)
    return run
