"""The rules of adaptive steps, once for every backend.

Each function is pure and takes its arithmetic as `xp`: ``jax.numpy`` (traced values too),
``numpy``, ``torch`` where it only meets arrays, or `SCALARS` for Python floats. The numbers of the
rules come from a `Controller`, or from anything with the same attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

#: float32 carries 1/n to 6e-8, and a rest shorter than this share is rounding, not a step.
STEP_GUARD = 1e-6

# A step that misses a stop by so many roundings of the time ends there.
_STOP_ROUNDINGS = 100


def _maximum(a: float, b: float) -> float:
    return a if a >= b or a != a else b  # NaN if either is, as in NumPy


def _minimum(a: float, b: float) -> float:
    return a if a <= b or a != a else b


#: What the rules use of an array namespace, for Python floats: twenty times as fast as NumPy's.
SCALARS = SimpleNamespace(
    abs=abs,
    ceil=math.ceil,
    round=round,
    sign=lambda x: math.copysign(1.0, x),
    sqrt=math.sqrt,
    maximum=_maximum,
    minimum=_minimum,
    clip=lambda x, low, high: _minimum(_maximum(x, low), high),
    where=lambda condition, yes, no: yes if condition else no,
)


class ControlMemory(NamedTuple):
    """What a controller remembers: the step to try next, signed (0: none yet), the scaled error of
    the last accepted step, and whether there was one.

    Example:
        >>> from pynode_jl.solvers import ControlMemory
        >>> ControlMemory(dt=0.1, error=1e-4, started=False).dt
        0.1
    """

    dt: Any
    error: Any
    started: Any


class Attempt(NamedTuple):
    """What a controller sees of a step.

    Attributes:
        dt: its length, signed; not the proposed one where a stop has cut it.
        at_stop: whether it ends at a stop (an output time, or the end of the interval).
        error: its scaled error.
        usable: whether the error is finite and Newton has converged.
        accepted: whether the step stands. No unusable step does.

    Example:
        >>> from pynode_jl.solvers import Attempt
        >>> Attempt(dt=0.1, at_stop=False, error=0.5, usable=True, accepted=True).accepted
        True
    """

    dt: Any
    at_stop: Any
    error: Any
    usable: Any
    accepted: Any


def updated_memory(xp: Any, control: Any, memory: ControlMemory, attempt: Attempt) -> ControlMemory:
    """Return the memory after a step: Julia's PI rule, of which the I rule is a case.

    The formulas stand in `Controller`. Two cases are ours. An accepted step that ends at a stop
    leaves the proposed step as it was, or grows it where its error says that it could have been
    longer itself (Julia scales the proposed step by that factor, and rejects the next). After an
    unusable step, where Julia's arithmetic gives NaN, the step shrinks by `qmin`.

    torchdiffeq's rule is the same with `torchdiffeq_controller`, except that it grows a step that
    was cut from its own length: replace ``memory.dt`` by ``attempt.dt`` for it.

    Args:
        xp: an array namespace, or `SCALARS`.
        control: the `Controller`, or its numbers as arrays.
        memory: the memory before the step.
        attempt: what the step was, and its error.

    Example:
        >>> from pynode_jl import solvers
        >>> memory = solvers.ControlMemory(dt=0.1, error=1e-4, started=False)
        >>> exact = solvers.Attempt(dt=0.1, at_stop=False, error=1e-9, usable=True, accepted=True)
        >>> rule = solvers.controller("Tsit5")
        >>> solvers.updated_memory(solvers.SCALARS, rule, memory, exact).dt > 0.1
        True
    """
    error = attempt.error
    tiny = np.finfo(getattr(error, "dtype", np.float64)).tiny
    q11 = xp.maximum(error, tiny) ** control.beta1
    qmax = xp.where(memory.started, control.qmax, control.qmax_first_step)
    q = q11 / memory.error**control.beta2 / control.gamma
    q = xp.where(error == 0, 1 / qmax, xp.clip(q, 1 / qmax, 1 / control.qmin))
    steady = (control.qsteady_min <= q) & (q <= control.qsteady_max)
    q = xp.where(steady, 1.0, q)
    dt, proposed = attempt.dt, memory.dt
    rest = xp.where(attempt.at_stop, proposed, proposed / q)
    grown = xp.where(xp.abs(dt / q) > xp.abs(proposed), dt / q, rest)
    shrunk = dt / xp.minimum(1 / control.qmin, q11 / control.gamma)
    shrunk = xp.where(attempt.usable, shrunk, dt * control.qmin)
    return ControlMemory(
        xp.where(attempt.accepted, grown, shrunk),
        xp.where(attempt.accepted, xp.maximum(error, control.qoldinit), memory.error),
        memory.started | attempt.accepted,
    )


def reaches_stop(xp: Any, t: Any, dt: Any, stop: Any, eps: float) -> Any:
    """Return whether a step from t ends at `stop`, or misses it by rounding only (Julia's tstops).

    `eps` is the machine epsilon of the times; 0 asks for a step that is long enough exactly. What
    is taken for rounding is never longer than the step: a step far from zero is not stretched again
    and again to a stop that it cannot reach.

    `xp` is an array namespace, or `SCALARS`; `dt` is the length of the step.

    Example:
        >>> from pynode_jl.solvers import SCALARS, reaches_stop
        >>> reaches_stop(SCALARS, 0.9, 0.1, 1.0, eps=2e-16)
        True
    """
    size = xp.abs(dt)
    slack = xp.minimum(_STOP_ROUNDINGS * eps * xp.maximum(xp.abs(t), xp.abs(stop)), size)
    return size + slack >= xp.abs(stop - t)


def lost_step(xp: Any, t: Any, span: Any, eps: float) -> Any:
    """Return the length at which a step from t is lost in the rounding of the time.

    At t = 0 no step is lost: stiff components may ask for short ones. The limit there, `eps` of
    that at the end of the span, ends a solve whose steps are all rejected.

    `xp` is an array namespace, or `SCALARS`.

    Example:
        >>> from pynode_jl.solvers import SCALARS, lost_step
        >>> lost_step(SCALARS, 1.0, 1.0, 2**-52) == 2**-50
        True
    """
    return 4 * eps * xp.maximum(xp.abs(t), eps * xp.abs(span))


def fixed_grid(xp: Any, dt: Any, span: Any) -> tuple[Any, Any, Any]:
    """Return how steps of `dt` divide a span: their number, the step and the last step, signed.

    A span that misses n steps by `STEP_GUARD` of itself is n equal steps. Else the last one is
    shortened. A step longer than the span is the span.

    `xp` is an array namespace, or `SCALARS`.

    Example:
        >>> from pynode_jl.solvers import SCALARS, fixed_grid
        >>> n, step, last = fixed_grid(SCALARS, 0.4, 1.0)
        >>> n, step, round(last, 12)
        (3, 0.4, 0.2)
    """
    ratio = xp.abs(span) / dt
    nearest = xp.maximum(xp.round(ratio), 1.0)
    divides = (xp.abs(ratio - nearest) <= STEP_GUARD * nearest) | (ratio < 1.0)
    n = xp.where(divides, nearest, xp.ceil(ratio))
    step = xp.where(divides, span / nearest, xp.sign(span) * dt)
    return n, step, xp.where(divides, step, span - (n - 1) * step)


def error_scale(xp: Any, rtol: Any, atol: Any, *states: Any) -> Any:
    """Return each component's tolerance, ``atol + rtol max |state|`` over one or two states.

    `xp` is an array namespace, NumPy or JAX's, or `SCALARS`.

    Example:
        >>> from pynode_jl.solvers import error_scale
        >>> error_scale(np, 1e-3, 1e-6, np.array([1.0, -2.0]))
        array([0.001001, 0.002001])
    """
    sizes = [xp.abs(state) for state in states]
    return atol + rtol * (sizes[0] if len(sizes) == 1 else xp.maximum(*sizes))


def rms(xp: Any, x: Any) -> Any:
    """Return the root mean square over all components, the norm of Julia's controllers.

    `xp` is an array namespace, `x` an array of any shape.

    Example:
        >>> from pynode_jl.solvers import rms
        >>> float(rms(np, np.array([3.0, 4.0, 0.0, 0.0])))
        2.5
    """
    return xp.sqrt(xp.mean(x * x))


def scaled_error(
    xp: Any,
    rule: str,
    errors: Sequence[Any],
    norm: Callable[[Any], Any],
) -> Any:
    """Return the error that the controller sees, in units of the tolerance.

    Args:
        xp: the arithmetic of the norms.
        rule: how two norms make one error; see `Tableau.error_rule`.
        errors: the error estimates; under ``"single"`` only the first is used.
        norm: the norm of an estimate over its `error_scale`.

    Example:
        >>> from pynode_jl.solvers import rms, scaled_error
        >>> float(scaled_error(np, "single", [np.array([0.5, 0.5])], lambda e: rms(np, e)))
        0.5
    """
    first = norm(errors[0])
    if rule == "single":
        return first
    second = norm(errors[1])
    if rule == "max":
        return xp.maximum(first, second)
    total = first * first + 0.01 * (second * second)
    # Not `total > 0`, which would take the NaN of a failed step for an error of 0.
    zero = total == 0
    return xp.where(zero, 0.0, first * first / xp.sqrt(xp.where(zero, 1.0, total)))


def initial_step(
    xp: Any,
    state: Any,
    slope: Any,
    slope_change: Callable[[Any], Any],
    *,
    order: Any,
    smallest: Any,
    longest: Any,
) -> Any:
    """Return the size of a first step (Hairer, Norsett, Wanner, *Solving ODEs I*, II.4).

    As Julia runs it, with the order where Hairer has the order + 1. It divides by norms that may be
    0: silence NumPy's warnings around it.

    Args:
        xp: the arithmetic of the norms; not `SCALARS`.
        state, slope: norms of y0 and of f(t0, y0), in units of the tolerance.
        slope_change: the norm of ``f(t0 + h, y0 + h f(t0, y0)) - f(t0, y0)``, as a function of h.
        order: order of the method.
        smallest, longest: bounds of the step; the interval may be the longest, or infinity.

    Example:
        >>> from pynode_jl.solvers import initial_step
        >>> float(initial_step(np, 1.0, 1.0, lambda h: h, order=5, smallest=0.0, longest=1.0))
        0.398...
    """
    small = xp.maximum(smallest, 1e-6)
    guess = xp.where((state < 1e-5) | (slope < 1e-5), small, 0.01 * state / slope)
    guess = xp.minimum(guess, longest)
    bend = slope_change(guess) / guess
    steepest = xp.maximum(slope, bend)
    ordered = 10 ** (-(2 + xp.log10(xp.where(steepest > 0, steepest, 1.0))) / order)
    refined = xp.where(steepest <= 1e-15, xp.maximum(1e-6, 1e-3 * guess), ordered)
    dt = xp.clip(xp.minimum(100 * guess, refined), smallest, longest)
    return xp.where(xp.isfinite(dt), dt, small)
