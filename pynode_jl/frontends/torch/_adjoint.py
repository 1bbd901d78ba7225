"""`odeint_adjoint`: gradients by the adjoint ODE, solved backwards, in constant memory.

Chen et al. 2018, "Neural ordinary differential equations", appendix B. The gradient is that of the
continuous problem, with the errors of two solves; `odeint`'s is that of the discrete one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pynode_jl.backends.torch import (
    CALLBACKS,
    Method,
    Problem,
    State,
    first_order_only,
    integrate,
    is_transformed,
    mixed_norm,
    normalise,
    split,
    takes_derivatives_forward,
)
from pynode_jl.errors import InvalidValueError
from pynode_jl.frontends.torch._methods import resolve
from pynode_jl.frontends.torch._odeint import finish, odeint
from pynode_jl.frontends.torch._untraced import untraced
from pynode_jl.solvers import Solver


@untraced
def odeint_adjoint(
    func: Callable[..., Any],
    y0: State,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | Solver | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | Solver | None = None,
    adjoint_options: Mapping[str, Any] | None = None,
    adjoint_params: Iterable[Tensor] | None = None,
) -> Any:
    """Integrate as `odeint` does, with gradients by the adjoint ODE; torchdiffeq's call.

    Args:
        func, y0, t, rtol, atol, method, options, event_fn: as for `odeint`.
        adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options: the same for the solve
            backwards, as the forward ones unless given. Its state is ``(vjp to t, y, adjoint of y,
            one adjoint for each parameter)``; the option `norm` takes that tuple, or is "seminorm",
            which leaves the parameters out of the error.
        adjoint_params: the tensors to differentiate to; the module's parameters unless given.

    Raises:
        InvalidValueError: `func` is no module and `adjoint_params` is not given; or a gradient is
            differentiated again, which those of `odeint` can be.

    Example:
        >>> import torch
        >>> from pynode_jl.torch import odeint_adjoint
        >>> decay = torch.nn.Linear(1, 1, bias=False)
        >>> field = lambda t, y: decay(y)
        >>> y0, t = torch.ones(1, 1), torch.tensor([0.0, 1.0])
        >>> states = odeint_adjoint(field, y0, t, adjoint_params=(decay.weight,), rtol=1e-3)
        >>> states.shape
        torch.Size([2, 1, 1])
    """
    if is_transformed() or takes_derivatives_forward():
        raise InvalidValueError(
            "odeint_adjoint",
            "under torch.func, or in forward mode",
            "torch.autograd in reverse mode",
            "Use odeint there.",
        )
    if adjoint_params is None and not isinstance(func, torch.nn.Module):
        raise InvalidValueError(
            "adjoint_params",
            None,
            "the tensors to differentiate to, where func is no nn.Module",
            "Pass them; () if there are none.",
        )
    if adjoint_method is None:
        adjoint_method = method
    elif adjoint_method != method and options is not None and adjoint_options is None:
        raise InvalidValueError(
            "adjoint_options", None, "given, where adjoint_method and options are", "Pass {}, say."
        )
    back = dict(adjoint_options if adjoint_options is not None else options or {})
    if adjoint_options is None:
        back.pop("norm", None)
    parameters = func.parameters() if adjoint_params is None else adjoint_params  # type: ignore[attr-defined]
    if isinstance(parameters, Tensor):  # its rows would get the gradients
        parameters = (parameters,)
    parameters = tuple(parameters)
    if not all(isinstance(each, Tensor) for each in parameters):
        raise InvalidValueError(
            "adjoint_params", adjoint_params, "tensors", "Pass the tensors that func holds."
        )
    wanted = tuple(each for each in parameters if each.requires_grad)

    chosen, rtol, atol, given = resolve(method, rtol, atol, options)
    problem = normalise(func, y0, t, rtol, atol, given, event_fn)
    back["norm"] = _adjoint_norm(back.get("norm"), problem)
    callbacks = {
        name: getattr(func, f"{name}_adjoint")
        for name in CALLBACKS
        if hasattr(func, f"{name}_adjoint")
    }
    settings = {
        "rtol": rtol if adjoint_rtol is None else adjoint_rtol,
        "atol": atol if adjoint_atol is None else adjoint_atol,
        "method": adjoint_method,
    }
    result = _Adjoint.apply(  # type: ignore[no-untyped-call]
        problem, chosen, settings, back, callbacks, problem.y0, problem.t, *wanted
    )
    return finish(problem, result)


def _adjoint_norm(asked: Any, problem: Problem) -> Callable[[tuple[Tensor, ...]], Any]:
    """Return the norm of the state ``(vjp to t, y, adjoint of y, adjoints of parameters)``."""
    shapes = problem.shapes
    if asked is None or asked == "seminorm":

        def largest(parts: tuple[Tensor, ...]) -> Any:
            to_t, y, adjoint, *parameters = parts
            norms = [to_t.abs(), problem.norm(y), problem.norm(adjoint)]
            if asked is None:
                norms.append(mixed_norm(parameters))
            return max(norms)

        return largest
    norm: Callable[[tuple[Tensor, ...]], Any] = asked
    if shapes is None:
        return norm

    def of_parts(parts: tuple[Tensor, ...]) -> Any:
        to_t, y, adjoint, *parameters = parts
        return norm((to_t, *split(y, shapes), *split(adjoint, shapes), *parameters))

    return of_parts


class _Adjoint(torch.autograd.Function):
    """The forward solve without a graph, and the adjoint solve as its backward."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        method: Method,
        settings: dict[str, Any],
        adjoint_options: dict[str, Any],
        callbacks: dict[str, Callable[..., Any]],
        y0: Tensor,
        t: Tensor,
        *parameters: Tensor,
    ) -> Any:
        """Integrate, and save the states at the output times."""
        ctx.problem, ctx.settings, ctx.adjoint_options = problem, settings, adjoint_options
        ctx.callbacks = callbacks
        with torch.no_grad():
            result = integrate(problem, method)
        if problem.event is None:
            ctx.save_for_backward(y0, t, result, *parameters)
            return result
        time, solution = result
        ends = torch.stack([t[0], time.to(t)])
        ctx.save_for_backward(y0, ends, solution, *parameters)
        return time, solution

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Solve the adjoint from output time to output time, backwards."""
        _, t, states, *parameters = ctx.saved_tensors
        to_states = gradients[-1]
        rhs, wants_t = ctx.problem.rhs, ctx.needs_input_grad[6]

        def slopes(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            _, y, adjoint, *_ = state
            graph = torch.is_grad_enabled()  # an implicit method wants the Jacobian of all this
            with torch.enable_grad():
                time = t.detach().requires_grad_()
                y = y if graph and y.requires_grad else y.detach().requires_grad_()
                value = rhs(time if wants_t else time.detach(), y)
                if value.requires_grad:
                    pulled = torch.autograd.grad(
                        value,
                        (time, y, *parameters),
                        -adjoint,
                        create_graph=graph,
                        allow_unused=True,
                        materialize_grads=True,
                    )
                else:
                    pulled = tuple(torch.zeros_like(each) for each in (time, y, *parameters))
            return pulled[0].to(y.real.dtype), value if graph else value.detach(), *pulled[1:]

        for name, callback in ctx.callbacks.items():
            setattr(slopes, name, callback)
        to_t = torch.zeros_like(t) if wants_t else None
        state = [
            torch.zeros((), dtype=states.real.dtype, device=states.device),
            states[-1],
            to_states[-1],
            *(torch.zeros_like(p) for p in parameters),
        ]
        with torch.no_grad():
            for i in range(len(t) - 1, 0, -1):
                if to_t is not None:
                    moved = (rhs(t[i], states[i]).conj() * to_states[i]).sum().real
                    to_t[i] = moved
                    state[0] = state[0] - moved.to(state[0].dtype)
                ends = odeint(
                    slopes, tuple(state), t[i - 1 : i + 1].flip(0),
                    options=ctx.adjoint_options, **ctx.settings,
                )  # fmt: skip
                state = [each[1] for each in ends]
                # The forward states are known: do not trust the backward ones.
                state[1], state[2] = states[i - 1], state[2] + to_states[i - 1]
        if to_t is not None:
            to_t[0] = state[0]
            if ctx.problem.event is not None:  # the event's time is not an input
                to_t[1:] = 0
        gradients = first_order_only(
            "odeint_adjoint",
            "Use odeint, whose gradients have a graph themselves.",
            [state[2], to_t, *state[3:]],
        )
        return None, None, None, None, None, *gradients
