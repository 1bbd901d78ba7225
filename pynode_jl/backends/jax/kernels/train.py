"""Training: a chunk of iterations, each a solve, a reverse sweep and an update, compiled whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pynode_jl.backends._gradients import GradientMethod
from pynode_jl.backends._optimizers import SGD, Adam, Optimizer, RMSprop
from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import RetCode
from pynode_jl.backends._times import Clock
from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.jit import jitted
from pynode_jl.backends.jax.numerics.differentiable import differentiable_solve
from pynode_jl.backends.jax.numerics.rhs import counted_from
from pynode_jl.backends.jax.numerics.segment import CODES, SolveCounts
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.fields import Field
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import Tableau
from pynode_jl.tasks import Classification, CustomTask, Task


@lru_cache(maxsize=256)
def train_kernel(
    model: Model,
    table: Tableau,
    fixed: bool,
    policy: CheckpointPolicy,
    gradient: GradientMethod,
    optimizer: Optimizer,
    precision: Precision,
) -> Callable[..., Any]:
    """Return ``(state, x, targets, batches, rates, rows, controls, max_steps) -> (state, metrics,
    done, code)``, compiled.

    `state` is weights, moments and the count; of `batches`, and of the learning rates, the first
    `rows` are run (the optimiser's own rate plays no part); the metrics are loss, score and
    evaluations, one of each for each row.
    """
    if gradient == "discrete":
        clock = Clock.of(model.times)
        solve = discrete_solve(model.field, table, policy, fixed, precision, clock.origin)
    else:
        clock = Clock(0.0, (model.t0, model.t1))
        solve = adjoint_solve(model.field, table, policy)

    def loss_of(weights: Any, x: Any, targets: Any, controls: Any, max_steps: Any) -> Any:
        parts = ModelWeights.from_dict(weights)
        times = jnp.array(clock.times, x.dtype)
        states, counts = solve(
            parts.field, controls, times, max_steps, model.initial_state(x, parts)
        )
        loss, score = _objective(model.task, model.read_out(states, parts), targets)
        return loss, (score, counts)

    @jitted
    def kernel(
        state: Any,
        x: Any,
        targets: Any,
        batches: Any,
        rates: Any,
        rows: Any,
        controls: Any,
        max_steps: Any,
    ) -> Any:
        def unfinished(carry: Any) -> Any:
            i, _, _, code = carry
            return (i < rows) & (code == 0)

        def iterate(carry: Any) -> Any:
            i, (weights, mu, nu, count), metrics, _ = carry
            index = batches[i]
            (loss, (score, counts)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
                weights, x[index], targets[index], controls, max_steps
            )
            update, moments = _update(optimizer, gradient, weights, mu, nu, count)
            updated = jax.tree.map(lambda w, u: w - rates[i] * u, weights, update)
            # Where a norm is to be clipped it must not overflow either.
            norm = () if optimizer.clip_norm is None else optax.tree.norm(gradient)
            leaves = jax.tree.leaves((loss, gradient, norm))
            finite = jnp.stack([jnp.isfinite(g).all() for g in leaves])
            unstable = CODES.index(RetCode.Unstable)
            code = jnp.where(counts.code != 0, counts.code, jnp.where(finite.all(), 0, unstable))
            new = (updated, *moments)
            # An iteration that failed leaves the state as it was.
            state = jax.tree.map(
                lambda a, b: jnp.where(code == 0, a, b), new, (weights, mu, nu, count)
            )
            values = (loss, score.astype(loss.dtype), counts.nf)
            metrics = tuple(row.at[i].set(v) for row, v in zip(metrics, values, strict=True))
            return i + (code == 0), state, metrics, code.astype(jnp.int32)

        size = batches.shape[0]
        metrics = (jnp.zeros(size, x.dtype), jnp.zeros(size, x.dtype), jnp.zeros(size, jnp.int32))
        done, state, metrics, code = jax.lax.while_loop(
            unfinished, iterate, (jnp.int32(0), state, metrics, jnp.int32(0))
        )
        return state, metrics, done, code

    return kernel


def _update(
    optimizer: Optimizer, gradient: Any, weights: Any, mu: Any, nu: Any, count: Any
) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return the update that the learning rate scales, and the next moments and count."""
    nothing = optax.EmptyState()
    if optimizer.clip_norm is not None:
        gradient, _ = optax.clip_by_global_norm(optimizer.clip_norm).update(gradient, nothing)
    match optimizer:
        case Adam(b1=b1, b2=b2, eps=eps):
            scale = optax.scale_by_adam(b1, b2, eps)
            update, found = scale.update(gradient, optax.ScaleByAdamState(count, mu, nu))
            mu, nu, count = found.mu, found.nu, found.count
        case SGD(momentum=momentum, nesterov=nesterov):
            update, count = gradient, optax.safe_increment(count)
            if momentum:
                trace = optax.trace(momentum, nesterov)
                update, found = trace.update(gradient, optax.TraceState(mu))
                mu = found.trace
        case RMSprop(decay=decay, eps=eps, momentum=momentum):
            squares = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
            update, found = squares.update(gradient, optax.ScaleByRmsState(nu))
            nu, count = found.nu, optax.safe_increment(count)
            if momentum:
                update, found = optax.trace(momentum).update(update, optax.TraceState(mu))
                mu = found.trace
    if optimizer.weight_decay:
        decay = optax.add_decayed_weights(optimizer.weight_decay)
        update, _ = decay.update(update, nothing, weights)
    return update, (mu, nu, count)


def _objective(task: Task, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return the loss of a batch, and its mean score."""
    if isinstance(task, Classification) and not task.class_weights:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets)
        return losses.mean(), jnp.mean(jnp.argmax(outputs, axis=1) == targets)
    loss = task.loss(outputs, targets)
    # A score of the user's own may know no traced arrays.
    score = loss if isinstance(task, CustomTask) else jnp.mean(task.scores(outputs, targets))
    return loss, score


def discrete_solve(
    field: Field,
    table: Tableau,
    policy: CheckpointPolicy,
    fixed: bool,
    precision: Precision,
    origin: float,
) -> Callable[..., tuple[jax.Array, SolveCounts]]:
    """Return a solve whose derivative is that of its own steps (`differentiable_solve`).

    Its times are counted from `origin`.
    """
    prepare, apply = field_eval.right_hand_side(field, precision=precision)
    reverse = field_eval.right_hand_side(field, reverse_only=True, precision=precision).apply
    return differentiable_solve(
        prepare,
        counted_from(origin, apply),
        table,
        policy,
        adaptive=not fixed,
        wrt_times=False,
        # Newton's Jacobians are taken in forward mode.
        apply_reverse=counted_from(origin, reverse) if table.explicit else None,
        batch_width=field_eval.width(field),
    )


def adjoint_solve(
    field: Field, table: Tableau, policy: CheckpointPolicy
) -> Callable[..., tuple[jax.Array, SolveCounts]]:
    """Return the same with the derivative of the adjoint ODE, by diffrax."""
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
