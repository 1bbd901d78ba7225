"""A solve with a reverse derivative, for code that differentiates through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from pynode_jl.backends.jax.numerics.first_order import refuse_reverse
from pynode_jl.backends.jax.numerics.loop import Solved, integrate
from pynode_jl.backends.jax.numerics.reverse import reverse_sweep
from pynode_jl.backends.jax.numerics.rhs import RHS, Apply
from pynode_jl.backends.jax.numerics.segment import Control, SolveCounts, Stepper
from pynode_jl.backends.jax.numerics.trajectory import SAVE_NOTHING, CheckpointPolicy
from pynode_jl.solvers import Tableau


def differentiable_solve(
    prepare: Callable[[Any], Any],
    apply: Callable[..., jax.Array],
    tableau: Tableau,
    policy: CheckpointPolicy,
    *,
    adaptive: bool,
    wrt_times: bool,
    through_stages: bool = False,
    apply_reverse: Apply | None = None,
    batch_width: int = 0,
    with_constants: bool = False,
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
        with_constants: `weights` is a pair, of which the second part has no derivatives (integers,
            masks, keys); `apply` takes it behind the prepared weights.

    A second derivative is taken in forward mode over this one (`refuse_reverse`).
    """

    def bound(function: Any, constants: Any) -> Apply:
        """Return the right-hand side with its constants."""
        if not with_constants:
            found: Apply = function
            return found
        return lambda prepared, t, y: function(prepared, constants, t, y)

    def forward(
        trained: Any,
        constants: Any,
        controls: Control,
        times: Any,
        max_steps: Any,
        y0: Any,
        policy: CheckpointPolicy,
    ) -> Solved:
        rhs = RHS(bound(apply, constants), prepare(trained))
        stepper = Stepper.static(tableau, rhs, with_error=adaptive)
        return integrate(rhs, stepper, controls, times, y0, max_steps, policy=policy)

    @jax.custom_vjp
    def run(
        trained: Any, constants: Any, controls: Control, times: Any, max_steps: Any, y0: Any
    ) -> tuple[jax.Array, SolveCounts]:
        found = forward(trained, constants, controls, times, max_steps, y0, SAVE_NOTHING)
        return found.states, found.counts

    def run_forward(
        trained: Any, constants: Any, controls: Control, times: Any, max_steps: Any, y0: Any
    ) -> tuple[tuple[jax.Array, SolveCounts], Any]:
        found = forward(trained, constants, controls, times, max_steps, y0, policy)
        return (found.states, found.counts), (trained, constants, found.trajectory, found.ends)

    def run_backward(residuals: Any, cotangents: Any) -> tuple[Any, ...]:
        trained, constants, trajectory, ends = residuals
        to_states, _ = cotangents
        prepared, unprepare = jax.vjp(prepare, trained)
        gradient = reverse_sweep(
            tableau,
            bound(apply_reverse or apply, constants),
            prepared,
            trajectory,
            policy,
            ends,
            to_states,
            wrt_times=wrt_times,
            through_stages=through_stages,
            batch_width=batch_width,
            recompute_apply=bound(apply, constants),
        )
        (to_trained,) = unprepare(gradient.weights)
        to_trained, to_times, to_y0 = refuse_reverse((to_trained, gradient.times, gradient.y0))
        return to_trained, None, None, to_times, None, to_y0

    run.defvjp(run_forward, run_backward)

    def solve(
        weights: Any, controls: Control, times: Any, max_steps: Any, y0: Any
    ) -> tuple[jax.Array, SolveCounts]:
        trained, constants = weights if with_constants else (weights, None)
        found: tuple[jax.Array, SolveCounts] = run(
            trained, constants, controls, times, max_steps, y0
        )
        return found

    return solve
