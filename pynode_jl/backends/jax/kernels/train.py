"""Training: a chunk of iterations, each a solve, a reverse sweep and an update, compiled whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pynode_jl.backends._gradients import GradientMethod
from pynode_jl.backends._optimizers import SGD, Adam, Optimizer, RMSprop
from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import RetCode
from pynode_jl.backends.jax.columns import in_columns
from pynode_jl.backends.jax.jit import jitted
from pynode_jl.backends.jax.kernels.gradient import GradientRule, adjoint_rule, discrete_rule
from pynode_jl.backends.jax.numerics.segment import CODES
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.models import Model
from pynode_jl.solvers import Tableau


class Program(NamedTuple):
    """What a training is compiled for."""

    model: Model
    table: Tableau
    fixed: bool
    policy: CheckpointPolicy
    gradient: GradientMethod
    optimizer: Optimizer
    precision: Precision

    def rule(self) -> GradientRule:
        """Return its gradient of a loss."""
        model, table, policy = self.model, self.table, self.policy
        if self.gradient == "discrete":
            return discrete_rule(model, table, policy, self.fixed, self.precision)
        return adjoint_rule(model, table, policy)

    def jitted(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """Return a kernel compiled: a tanh of columns XLA's emitters make eight times as fast, and
        they compile columns as fast as what is without them."""
        emitters = self.gradient == "discrete" and in_columns(self.model.field, self.table)
        return jitted(kernel, emitters=emitters)


@lru_cache(maxsize=256)
def train_kernel(program: Program) -> Callable[..., Any]:
    """Return ``(state, x, targets, batches, rates, rows, controls, max_steps) -> (state, metrics,
    done, code)``, compiled.

    `state` is weights, moments and the count; of `batches`, and of the learning rates, the first
    `rows` are run (the optimiser's own rate plays no part); the metrics are loss, score and
    evaluations, one of each for each row.
    """
    rule = program.rule()
    iterate = _iteration(rule, program.optimizer)

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
            i, _, _, code, _ = carry
            return (i < rows) & (code == 0)

        def step(carry: Any) -> Any:
            i, state, metrics, _, space = carry
            index = batches[i]
            state, space, values, code = iterate(
                state, space, x[index], targets[index], rates[i], controls, max_steps
            )
            metrics = tuple(row.at[i].set(v) for row, v in zip(metrics, values, strict=True))
            return i + (code == 0), state, metrics, code, space

        size, batch = batches.shape
        metrics = (jnp.zeros(size, x.dtype), jnp.zeros(size, x.dtype), jnp.zeros(size, jnp.int32))
        start = (jnp.int32(0), state, metrics, jnp.int32(0), rule.space(batch, x.dtype))
        done, state, metrics, code, _ = jax.lax.while_loop(unfinished, step, start)
        return state, metrics, done, code

    return program.jitted(kernel)


@lru_cache(maxsize=64)
def train_many_kernel(program: Program) -> Callable[..., Any]:
    """Return the same for several trainings at the same fixed steps, ``(states, x, targets,
    batches, rates, rows, controls, max_steps) -> (states, metrics, done, codes)``, compiled.

    All arguments and results but `x`, `targets`, `controls` and `max_steps`, which they share, have
    an axis of the trainings in front. One that has ended, or failed, stays as it is.
    """
    rule = program.rule()
    iterate = jax.vmap(_iteration(rule, program.optimizer), (0, 0, 0, 0, 0, None, None))

    def kernel(
        states: Any,
        x: Any,
        targets: Any,
        batches: Any,
        rates: Any,
        rows: Any,
        controls: Any,
        max_steps: Any,
    ) -> Any:
        def running(i: Any, codes: Any) -> Any:
            return (i < rows) & (codes == 0)

        def unfinished(carry: Any) -> Any:
            i, _, _, _, codes, _ = carry
            return running(i, codes).any()

        def step(carry: Any) -> Any:
            i, states, metrics, done, codes, space = carry
            index, active = batches[:, i], running(i, codes)
            new, space, values, found = iterate(
                states, space, x[index], targets[index], rates[:, i], controls, max_steps
            )
            states = jax.tree.map(
                lambda a, b: jnp.where(active.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, states
            )
            metrics = tuple(row.at[:, i].set(v) for row, v in zip(metrics, values, strict=True))
            done = done + (active & (found == 0))
            return i + 1, states, metrics, done, jnp.where(active, found, codes), space

        runs, size, batch = batches.shape
        shape, none = (runs, size), jnp.zeros(runs, jnp.int32)
        metrics = (
            jnp.zeros(shape, x.dtype),
            jnp.zeros(shape, x.dtype),
            jnp.zeros(shape, jnp.int32),
        )
        space = jax.tree.map(
            lambda each: jnp.zeros((runs, *each.shape), each.dtype), rule.space(batch, x.dtype)
        )
        start = (jnp.int32(0), states, metrics, none, none, space)
        _, states, metrics, done, codes, _ = jax.lax.while_loop(unfinished, step, start)
        return states, metrics, done, codes

    return program.jitted(kernel)


def _iteration(rule: GradientRule, optimizer: Optimizer) -> Callable[..., Any]:
    """Return ``(state, space, x, targets, rate, controls, max_steps) -> (state, space, (loss,
    score, evaluations), code)``: an iteration that fails leaves the state as it was."""

    def iterate(
        state: Any, space: Any, x: Any, targets: Any, rate: Any, controls: Any, max_steps: Any
    ) -> Any:
        weights, mu, nu, count = state
        loss, score, counts, gradient, space = rule.gradient(
            weights, space, x, targets, controls, max_steps
        )
        update, moments = _update(optimizer, gradient, weights, mu, nu, count)
        updated = jax.tree.map(lambda w, u: w - rate * u, weights, update)
        # Where a norm is to be clipped it must not overflow either.
        norm = () if optimizer.clip_norm is None else optax.tree.norm(gradient)
        leaves = jax.tree.leaves((loss, gradient, norm))
        finite = jnp.stack([jnp.isfinite(g).all() for g in leaves])
        unstable = CODES.index(RetCode.Unstable)
        code = jnp.where(counts.code != 0, counts.code, jnp.where(finite.all(), 0, unstable))
        new = (updated, *moments)
        state = jax.tree.map(lambda a, b: jnp.where(code == 0, a, b), new, state)
        values = (loss, score.astype(loss.dtype), counts.nf)
        return state, space, values, code.astype(jnp.int32)

    return iterate


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
