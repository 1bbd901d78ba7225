"""`odeint` and its kin: torchdiffeq's calls over the whole catalogue of solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pynode_jl.backends import RetCode, Stats
from pynode_jl.backends.torch import (
    EventGradient,
    Problem,
    State,
    as_function_of_call,
    integrate,
    join,
    normalise,
    split,
)
from pynode_jl.frontends.torch import _offload
from pynode_jl.frontends.torch._methods import resolve
from pynode_jl.frontends.torch._untraced import untraced
from pynode_jl.solvers import Solver


def odeint(
    func: Callable[..., Any],
    y0: State,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | Solver | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
    backend: str = "auto",
) -> Any:
    """Integrate dy/dt = func(t, y) from y(t[0]) = y0; torchdiffeq's `odeint`.

    Args:
        func: ``(t, y) -> dy/dt``, t a scalar tensor, y and the value of `y0`'s shape.
        y0: a tensor of any shape, or a tuple of them.
        t: ``(times,)``, increasing or decreasing.
        rtol, atol: tolerances of an adaptive method; for a tuple `y0` also one for each tensor.
        method: a name of torchdiffeq (its rules of stepping: "dopri5" unless given), a name of the
            catalogue (Julia's rules, steps end at each time: "Vern7"), or a `Solver`.
        options: torchdiffeq's: `step_size`, `grid_constructor`, `perturb`, `interp`; `first_step`,
            `step_t`, `jump_t`, `min_step`, `max_step`, `max_num_steps`, `safety`, `ifactor`,
            `dfactor`, `dtype`, `norm`. With a `step_size` every Julia method takes fixed steps.
        event_fn: ``(t, y) -> value``: integrate until a value crosses zero; ``t[1]`` then gives the
            direction only.
        backend: "jax" or "julia" to run the whole solve there, which takes an `nn.Module` that can
            be read as a `VectorField` (see `translate`); "torch" to run it here, step by step;
            "auto" to take the JAX backend where that is possible (or the one that the environment
            variable ``PYNODE_BACKEND`` names), and log it once. Julia ends a step at each time and
            adapts by its own controller under every name.

    Returns:
        The states, ``(times, *y0.shape)``, or a tuple of such; with `event_fn` the event's time and
        the states at the start and there. Gradients pass to `y0`, `t` and whatever `func` holds:
        those of the discrete solution, the steps that a controller chose held constant.

    Raises:
        InvalidValueError, UnknownNameError: an argument that cannot be used.
        SolveError: the solve failed.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import odeint
        >>> times = torch.tensor([0.0, 1.0])
        >>> odeint(lambda t, y: -y, torch.ones(1), times, method="Vern7")
        tensor([[1.0000],
                [0.3679]])
    """
    function = as_function_of_call(func) if isinstance(func, torch.nn.Module) else func
    states, _ = solve_with_stats(
        function, func, y0, t, rtol, atol, method, options, event_fn=event_fn, backend=backend
    )
    return states


@untraced
def solve_with_stats(
    func: Callable[..., Any],
    module: Any,
    y0: State,
    t: Tensor,
    rtol: Any,
    atol: Any,
    method: str | Solver | None,
    options: Mapping[str, Any] | None = None,
    *,
    event_fn: Callable[..., Any] | None = None,
    backend: str = "auto",
) -> tuple[Any, Stats]:
    """Return the result of `odeint`, and its cost.

    `module` computes the same as `func`; it is read, and solved in a backend, if possible.
    """
    chosen, rtol, atol, given = resolve(method, rtol, atol, options)

    def pose(function: Callable[..., Any], y0: State, t: Tensor) -> Problem:
        return normalise(function, y0, t, rtol, atol, given, event_fn)

    def solve_eagerly(function: Callable[..., Any], y0: State, t: Tensor) -> Any:
        problem = pose(function, y0, t)
        return finish(problem, integrate(problem, chosen))

    call = _offload.Call(
        backend, module, func is module, y0, t, rtol, atol, chosen, given, event_fn
    )
    plan = _offload.plan_offload(call, solve_eagerly)
    if plan is not None:
        assert isinstance(y0, Tensor)
        states = _offload.run_offloaded(plan, y0, t, fall_back=backend == "auto")
        if states is not None and plan.stats is not None:
            return states, plan.stats
    problem = pose(func, y0, t)
    result = finish(problem, integrate(problem, chosen))
    return result, problem.counts.stats(RetCode.Success)


@untraced
def odeint_event(
    func: Callable[..., Any],
    y0: State,
    t0: Tensor,
    *,
    event_fn: Callable[..., Any],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> tuple[Tensor, State]:
    """Integrate until ``event_fn(t, y)`` crosses zero; gradients pass to and through that time.

    Args:
        func, y0, kwargs: as for `odeint`.
        t0: the time to start at, a scalar tensor.
        event_fn: ``(t, y) -> value`` or values; the first to cross zero ends the solve.
        reverse_time: integrate backwards.
        odeint_interface: `odeint` or `odeint_adjoint`.

    Returns:
        The event's time and the states at `t0` and there.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import odeint_event
        >>> fall = lambda t, y: torch.stack([y[1], torch.tensor(-2.0)])
        >>> start = torch.tensor([1.0, 0.0])
        >>> time, _ = odeint_event(fall, start, torch.tensor(0.0), event_fn=lambda t, y: y[0])
        >>> round(time.item(), 3)
        1.0
    """
    start = t0.reshape(-1)
    t = torch.cat([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    time, solution = odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)
    problem = normalise(func, y0, t, 0.0, 0.0, {}, event_fn)
    assert problem.event is not None
    shapes = problem.shapes
    end = solution[-1] if shapes is None else join([part[-1] for part in solution])
    sign = -1.0 if reverse_time else 1.0
    linked, end = EventGradient.apply(  # type: ignore[no-untyped-call]
        problem.rhs, problem.event, sign * time, end
    )
    if shapes is None:
        return sign * linked, torch.cat([solution[:-1], end[None]])
    ends = split(end, shapes)
    return sign * linked, tuple(
        torch.cat([part[:-1], last[None]]) for part, last in zip(solution, ends, strict=True)
    )


def finish(problem: Problem, result: Any) -> Any:
    """Return the result of `integrate` in the user's shapes and direction of time."""
    if problem.event is None:
        return problem.shaped(result)
    time, solution = result
    time = time.to(problem.t)
    return -time if problem.reversed else time, problem.shaped(solution)
