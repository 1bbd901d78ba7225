"""The gradient of a batch's loss: by the solver's own steps, or by the adjoint ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import RetCode
from pynode_jl.backends._times import Clock
from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.columns import layout_of
from pynode_jl.backends.jax.numerics.loop import integrate
from pynode_jl.backends.jax.numerics.reverse import reverse_sweep
from pynode_jl.backends.jax.numerics.rhs import RHS, counted_from
from pynode_jl.backends.jax.numerics.segment import CODES, SolveCounts, Stepper
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy, SavedTrajectory
from pynode_jl.fields import Field
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import Tableau
from pynode_jl.tasks import Classification, CustomTask, Task


class LossGradient(NamedTuple):
    """The loss of a batch, its mean score, the counts of its solve, the gradient by flat name, and
    the space that the next one takes over."""

    loss: jax.Array
    score: jax.Array
    counts: SolveCounts
    weights: dict[str, jax.Array]
    space: Any


class GradientRule(NamedTuple):
    """`space(batch, dtype)` is what `gradient` needs beside its arguments ``(weights, space, x,
    targets, controls, max_steps)``: it takes it over and gives it back."""

    space: Callable[[int, Any], Any]
    gradient: Callable[..., LossGradient]


def discrete_rule(
    model: Model, table: Tableau, policy: CheckpointPolicy, fixed: bool, precision: Precision
) -> GradientRule:
    """Return the gradient through the solver's own steps."""
    field, clock = model.field, Clock.of(model.times)
    (prepare, evaluate), transpose = layout_of(field, table, precision)
    apply = counted_from(clock.origin, evaluate)
    width = field_eval.width(field)

    def space(batch: int, dtype: Any) -> SavedTrajectory:
        y0 = transpose(jnp.zeros((batch, *field.state_shape), dtype))
        return SavedTrajectory.empty(policy, y0)

    def gradient(
        weights: Any, space: SavedTrajectory, x: Any, targets: Any, controls: Any, max_steps: Any
    ) -> LossGradient:
        def start(weights: Any) -> Any:
            parts = ModelWeights.from_dict(weights)
            return prepare(parts.field), transpose(model.initial_state(x, parts))

        def objective(weights: Any, states: Any) -> Any:
            parts = ModelWeights.from_dict(weights)
            return _objective(model.task, model.read_out(transpose(states), parts), targets)

        (prepared, y0), to_start = jax.vjp(start, weights)
        rhs = RHS(apply, prepared)
        solved = integrate(
            rhs,
            Stepper.static(table, rhs, with_error=not fixed),
            controls,
            jnp.array(clock.times, x.dtype),
            y0,
            max_steps,
            policy=policy,
            trajectory=space,
            past_failures=True,
        )
        loss, to_end, score = jax.vjp(objective, weights, solved.states, has_aux=True)
        to_weights, cotangents = to_end(jnp.ones_like(loss))
        swept = reverse_sweep(
            table,
            apply,
            prepared,
            solved.trajectory,
            policy,
            solved.ends,
            cotangents,
            wrt_times=False,
            through_stages=table.explicit and not width,
            batch_width=width,
        )
        (to_field,) = to_start((swept.weights, swept.y0))
        total = jax.tree.map(jnp.add, to_weights, to_field)
        return LossGradient(loss, score, solved.counts, total, solved.trajectory)

    return GradientRule(space, gradient)


def adjoint_rule(model: Model, table: Tableau, policy: CheckpointPolicy) -> GradientRule:
    """Return the gradient by the adjoint ODE."""
    solve = adjoint_solve(model.field, table, policy)

    def loss_of(weights: Any, x: Any, targets: Any, controls: Any, max_steps: Any) -> Any:
        parts = ModelWeights.from_dict(weights)
        times = jnp.array((model.t0, model.t1), x.dtype)
        y0 = model.initial_state(x, parts)
        states, counts = solve(parts.field, controls, times, max_steps, y0)
        loss, score = _objective(model.task, model.read_out(states, parts), targets)
        return loss, (score, counts)

    def gradient(weights: Any, space: None, *arguments: Any) -> LossGradient:
        differentiated = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (score, counts)), found = differentiated(weights, *arguments)
        return LossGradient(loss, score, counts, found, space)

    return GradientRule(lambda batch, dtype: None, gradient)


def _objective(task: Task, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return the loss of a batch, and its mean score."""
    if isinstance(task, Classification) and not task.class_weights:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return losses.mean(), jnp.mean(jnp.argmax(outputs, axis=1) == targets)
    loss = task.loss(outputs, targets)
    # A score of the user's own may know no traced arrays.
    score = loss if isinstance(task, CustomTask) else jnp.mean(task.scores(outputs, targets))
    return loss, score


def adjoint_solve(
    field: Field, table: Tableau, policy: CheckpointPolicy
) -> Callable[..., tuple[jax.Array, SolveCounts]]:
    """Return ``(weights, controls, times, max_steps, y0) -> (states, counts)``, a solve with the
    derivative of the adjoint ODE, by diffrax."""
    # diffrax takes over a second to import, and is of use here only.
    from pynode_jl.backends.jax import diffrax_adapter

    prepare, apply = field_eval.right_hand_side(field)

    def solve(weights: Any, controls: Any, times: Any, max_steps: Any, y0: Any) -> Any:
        del max_steps  # diffrax compiles its limit in: the capacity
        control = jax.tree.map(lambda row: row[0], controls)
        y, steps, reached = diffrax_adapter.backsolve(
            apply, prepare, table, weights, control, times[0], times[1], y0, policy.capacity
        )
        zero = jnp.int32(0)
        # diffrax counts steps, not evaluations; FSAL saves one in all steps but the first.
        nf = steps * (table.stages - table.fsal) + int(table.fsal)
        code = jnp.where(reached, zero, CODES.index(RetCode.MaxIters))
        return y[None], SolveCounts(nf, zero, steps, zero, code)

    return solve
