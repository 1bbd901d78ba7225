"""`odeint` for JAX functions: jax.experimental.ode's call over every solver of the catalogue.

It is a JAX function itself: `jit`, `grad` and `vmap` go through it. The derivative is that of the
steps taken, exactly, as the JAX backend's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from pynode_jl.backends.jax.controls import tableau_of
from pynode_jl.backends.jax.numerics.differentiable import differentiable_solve
from pynode_jl.backends.jax.numerics.segment import CODES, AdaptiveControl, FixedControl
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.errors import InvalidValueError, SolveError
from pynode_jl.solvers import FixedStep, Solver, fixed_grid


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    rtol: float = 1.4e-8,
    atol: float = 1.4e-8,
    method: str | Solver = "DP5",
    max_steps: int = 4096,
) -> Any:
    """Integrate dy/dt = func(y, t, *args) from y(t[0]) = y0.

    Args:
        func: ``(y, t, *args) -> dy/dt``, traceable; y and the value are pytrees like `y0`. It may
            close over arrays; gradients reach them too.
        y0: a pytree of float arrays; the solve runs in their common precision.
        t: ``(times,)``, increasing or decreasing.
        args: pytrees of arrays: parameters, such as those of flax or haiku.
        rtol, atol: tolerances of an adaptive method.
        method: a name of the catalogue with an error estimate, or a `Solver` (which brings its own
            step or tolerances).
        max_steps: the most steps that may be taken. A gradient keeps room for as many states.

    Returns:
        The states at all of `t`, `y0` among them: `y0`'s structure with a time axis in front.

    Raises:
        SolveError: the solve failed. Under `jit`, `grad` or `vmap` nothing can be raised: the
            states are NaN then.
        InvalidValueError, UnknownSolverError, WrongSolverError: an argument that cannot be used.

    Example:
        >>> import jax.numpy as jnp
        >>> from pynode_jl.jax import odeint
        >>> states = odeint(lambda y, t: -y, jnp.ones(1), jnp.array([0.0, 1.0]), rtol=1e-5)
        >>> bool(abs(states[-1, 0] - np.exp(-1)) < 1e-4)
        True
    """
    solver = method if isinstance(method, Solver) else Solver(method, rtol=rtol, atol=atol)
    table = tableau_of(solver)
    flat, unravel = ravel_pytree(y0)
    if not jnp.issubdtype(flat.dtype, jnp.floating) or flat.size == 0:
        raise InvalidValueError("y0", y0, "a pytree of floats, not empty", "Convert it.")
    times = jnp.asarray(t, flat.dtype)
    if times.ndim != 1 or times.shape[0] < 1:
        raise InvalidValueError("t", t, "one-dimensional, one time or more", "Use [0.0, 1.0], say.")

    def slope(y: jax.Array, time: jax.Array, *args: Any) -> jax.Array:
        # The whole state is one sample: implicit stages see its full Jacobian.
        value = func(unravel(y[0]), time, *args)
        return ravel_pytree(value)[0].astype(y.dtype)[None]

    hoisted, extra = jax.closure_convert(slope, flat[None], times[0], *args)
    states = flat[None]
    if times.shape[0] > 1:
        limit = min(max_steps, solver.max_steps or max_steps)

        def apply(weights: Any, t: jax.Array, y: jax.Array) -> jax.Array:
            args, extra = weights
            value: jax.Array = hoisted(y, t, *args, *extra)
            return value

        run = differentiable_solve(
            lambda weights: weights,
            apply,
            table,
            CheckpointPolicy(limit),
            adaptive=not solver.fixed,
            wrt_times=True,
            through_stages=table.explicit,
        )
        weights = (args, tuple(extra))
        later, counts = run(weights, _controls(solver, times), times, jnp.int32(limit), flat[None])
        later = jnp.where(counts.code == 0, later, jnp.nan)
        if not isinstance(counts.code, jax.core.Tracer) and int(counts.code) != 0:
            reason = CODES[int(counts.code)]
            raise SolveError(reason, f"{solver.label}. {reason.meaning}")
        states = jnp.concatenate([states, later[:, 0]])
    return jax.vmap(unravel)(states)


def _controls(solver: Solver, times: jax.Array) -> Any:
    """Return a row for each segment."""
    stepping = solver.stepping
    if isinstance(stepping, FixedStep):
        # A step longer than the way to the next time is that way.
        n, dt, last = fixed_grid(jnp, stepping.dt, times[1:] - times[:-1])
        return FixedControl(n.astype(jnp.int32), dt, last)
    numbers = AdaptiveControl.of(solver.controller, solver.order, stepping.rtol, stepping.atol)
    return jax.tree.map(lambda each: jnp.full(times.shape[0] - 1, each, times.dtype), numbers)
