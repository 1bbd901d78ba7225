"""`odeint` for JAX functions: jax.experimental.ode's call over every solver of the catalogue.

It is a JAX function itself: `jit`, `grad`, `jvp` and `vmap` go through it. The derivative, in
either mode, is that of the steps taken, exactly, as that of the JAX backend.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from pynode_jl._validation import rounded, whole_number
from pynode_jl.backends import (
    Clock,
    check_fork,
    check_resolved,
    check_weights_resolved,
    raise_unless_success,
)
from pynode_jl.backends.jax.controls import tableau_of
from pynode_jl.backends.jax.numerics.differentiable import Problem, differentiable_solve
from pynode_jl.backends.jax.numerics.segment import CODES, AdaptiveControl, FixedControl
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy
from pynode_jl.errors import InvalidValueError
from pynode_jl.solvers import FixedStep, Solver, Tableau, fixed_grid

# Steps are counted in 32 bits.
_MOST_STEPS = 2**31 - 1


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    rtol: float = 1.4e-8,
    atol: float = 1.4e-8,
    method: str | Tableau | Solver = "DP5",
    max_steps: int = 4096,
) -> Any:
    """Integrate dy/dt = func(y, t, *args) from y(t[0]) = y0.

    Args:
        func: ``(y, t, *args) -> dy/dt``, traceable; y and the value are pytrees like `y0`. It may
            close over arrays; gradients reach them too.
        y0: a pytree of float arrays; the solve runs in their common precision.
        t: ``(times,)``, increasing or decreasing; times that repeat give the same state.
        args: pytrees of arrays: parameters, such as those of flax or haiku. Those of floats have
            gradients; integers, masks, indices and keys are constants.
        rtol, atol: tolerances of an adaptive method.
        method: a name of the catalogue with an error estimate; or a `Solver`, or its text
            (``"Euler:dt=1/16"``), which bring their own step or tolerances.
        max_steps: the most steps that may be taken. A gradient keeps room for as many states.

    Returns:
        The states at all of `t`, `y0` among them: `y0`'s structure with a time axis in front.

    Raises:
        SolveError: the solve failed. Under `jit`, `grad` or `vmap` nothing can be raised: the
            states are NaN then, as they are where traced times are not sorted.
        InvalidValueError, UnknownSolverError, WrongSolverError: an argument that cannot be used.

    Example:
        >>> import jax.numpy as jnp
        >>> from pynode_jl.jax import odeint
        >>> states = odeint(lambda y, t: -y, jnp.ones(1), jnp.array([0.0, 1.0]), rtol=1e-5)
        >>> bool(abs(states[-1, 0] - np.exp(-1)) < 1e-4)
        True
    """
    check_fork()
    solver = _solver(method, rtol, atol)
    table = tableau_of(solver)
    limit = whole_number("max_steps", max_steps, most=_MOST_STEPS)
    limit = min(limit, solver.max_steps or limit)
    flat, unravel = _flattened(y0)
    check_weights_resolved(table, float(np.finfo(flat.dtype).eps))
    origin, times, sorted_times = _timeline(t, flat.dtype)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(y0)]

    def slope(y: jax.Array, time: jax.Array, *args: Any) -> jax.Array:
        # The whole state is one sample: implicit stages see its full Jacobian.
        value = func(unravel(y[0]), origin + time, *args)
        _check_slope(value, shapes)
        return ravel_pytree(value)[0].astype(y.dtype)[None]

    states = flat[None]
    if times.shape[0] > 1:
        args = jax.tree.map(_strong, args)
        # Whatever `func` closes over becomes an argument: what is traced, too.
        hoisted = eqx.filter_closure_convert(slope, flat[None], times[0], *args)
        trained, rest = eqx.partition((hoisted, args), eqx.is_inexact_array)
        constants, static = eqx.partition(rest, eqx.is_array)

        def apply(constants: Any, trained: Any, t: jax.Array, y: jax.Array) -> jax.Array:
            function, args = eqx.combine(trained, constants, static)
            value: jax.Array = function(y, t, *args)
            return value

        run = differentiable_solve(apply, table, CheckpointPolicy(limit), adaptive=not solver.fixed)
        problem = Problem(
            trained, constants, _controls(solver, times), times, jnp.int32(limit), flat[None]
        )
        # Compiled as one function, which goes with what was compiled of it: loops that JAX runs one
        # by one stay in its memory, 2 MB for each call.
        later, counts = jax.jit(run)(problem)
        later = jnp.where((counts.code == 0) & sorted_times, later, jnp.nan)
        if not any(isinstance(each, jax.core.Tracer) for each in (later, counts.code)):
            raise_unless_success(
                solver,
                CODES[int(counts.code)],
                {"y0": np.asarray(flat)},
                lambda: np.asarray(slope(flat[None], times[0], *args)),
            )
        states = jnp.concatenate([states, later[:, 0]])
    return jax.vmap(unravel)(states)


def _solver(method: str | Tableau | Solver, rtol: Any, atol: Any) -> Solver:
    if isinstance(method, Tableau) or (isinstance(method, str) and ":" not in method):
        return Solver(method, rtol=rtol, atol=atol)
    return Solver.of(method)


def _flattened(y0: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return all numbers of a state as one array, and what gives it its structure back."""
    leaves = jax.tree.leaves(y0)
    kinds = [leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype for leaf in leaves]
    if not leaves or any(kind not in (np.float32, np.float64) for kind in kinds):
        raise InvalidValueError(
            "y0",
            y0,
            f"a pytree of float32 or float64, not of {', '.join(sorted(set(map(str, kinds))))}",
            "Convert its leaves: y0.astype(jnp.float32).",
        )
    flat, unravel = ravel_pytree(y0)
    if flat.dtype == np.float32 and any(
        isinstance(leaf, np.ndarray) and leaf.dtype == np.float64 for leaf in leaves
    ):
        warnings.warn(
            "y0 is float64, and JAX makes float32 of it. Set jax_enable_x64 to solve in float64, or"
            " pass y0.astype(np.float32).",
            stacklevel=3,
        )
    if flat.size == 0:
        raise InvalidValueError("y0", y0, "at least one number", "Leave the solve out.")
    return _strong(flat), unravel


def _strong(leaf: Any) -> Any:
    """Return an array whose type is its own: a weak one changes where it meets another."""
    if eqx.is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return jnp.asarray(leaf, leaf.dtype)
    return leaf


def _timeline(t: Any, dtype: Any) -> tuple[float, jax.Array, Any]:
    """Return the origin, the times counted from it, and whether they are sorted.

    Times that are traced are counted from 0.
    """
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(t))
    given: Any = jnp.asarray(t, dtype) if traced else rounded("t", t, np.float64)
    if given.ndim != 1 or given.shape[0] < 1:
        raise InvalidValueError("t", t, "one-dimensional, one time or more", "Use [0.0, 1.0], say.")
    if traced:
        changes = jnp.diff(given)
        return 0.0, given, jnp.all(changes >= 0) | jnp.all(changes <= 0)
    times = np.asarray(given)
    gaps = np.diff(times)
    if not np.isfinite(times).all() or not ((gaps >= 0).all() or (gaps <= 0).all()):
        raise InvalidValueError(
            "t", t, "finite times that increase, or decrease", "Sort them: jnp.sort(t)."
        )
    if times[0] == times[-1]:
        return 0.0, jnp.asarray(times, dtype), True
    check_resolved((float(times[0]), float(times[-1])), np.dtype(dtype))
    clock = Clock.of(times.tolist())
    return clock.origin, jnp.asarray(clock.times, dtype), True


def _check_slope(value: Any, shapes: list[tuple[int, ...]]) -> None:
    leaves = jax.tree.leaves(value)
    found = [jnp.shape(leaf) for leaf in leaves]
    if found != shapes:
        raise InvalidValueError(
            "func(y, t)",
            found if len(found) > 1 else found[0] if found else None,
            f"the shape of y, {shapes if len(shapes) > 1 else shapes[0]}",
            "Return one slope for each number of the state.",
        )
    if any(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating) for leaf in leaves):
        raise InvalidValueError(
            "func(y, t)", "complex", "real numbers", "Solve for real and imaginary parts."
        )


def _controls(solver: Solver, times: jax.Array) -> Any:
    """Return a row for each segment."""
    stepping = solver.stepping
    if isinstance(stepping, FixedStep):
        # A step longer than the way to the next time is that way.
        spans = times[1:] - times[:-1]
        n, dt, last = jax.lax.stop_gradient(fixed_grid(jnp, stepping.dt, spans))
        # In a derivative the last step before each time takes its shift.
        last = last + (spans - jax.lax.stop_gradient(spans))
        return FixedControl(n.astype(jnp.int32), dt, last)
    numbers = AdaptiveControl.of(solver.controller, solver.order, stepping.rtol, stepping.atol)
    return jax.tree.map(lambda each: jnp.full(times.shape[0] - 1, each, times.dtype), numbers)
