"""Offloading: a whole solve of a translated module in another backend, as one node of the graph.

Arrays cross once in and once out. On the way in they share memory where they are contiguous; on the
way out the states are copied once, behind y0, into the tensor that the user gets.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from pynode_jl.backends import BACKENDS, Backend, Stats, get_backend, has_forked_jax
from pynode_jl.backends.torch import (
    CALLBACKS,
    Method,
    call_with_rhs,
    checked_times,
    is_transformed,
    takes_derivatives_forward,
)
from pynode_jl.errors import InvalidValueError, SolveError, UnknownNameError
from pynode_jl.fields import VectorField
from pynode_jl.frontends.torch._memory import ModuleMemory
from pynode_jl.frontends.torch._methods import dense_method
from pynode_jl.frontends.torch._translate import (
    Translation,
    UntranslatableError,
    reading_of,
    translated,
)
from pynode_jl.solvers import STEP_GUARD, DenseMethod, Solver

_log = logging.getLogger("pynode_jl.torch")

_OPTIONS = {
    "adaptive": {"max_num_steps"},
    "fixed": {"step_size", "interp", "max_num_steps"},
}
# Each shape is compiled for seconds: a program whose shapes keep changing is faster in torch.
_MAX_SHAPES = 8
# A program whose times keep changing has no use for cached plans.
_MAX_PLANS, _MAX_TIMES = 64, 256
_MAX_MODULES, _MAX_ANNOUNCED = 256, 1024
_CALLBACKS = (*CALLBACKS, *(f"{each}_adjoint" for each in CALLBACKS))


class NotOffloadable(Exception):  # noqa: N818  (a reason, not a failure)
    """A solve that has to run in torch; the message says why."""


@dataclass(frozen=True)
class CachedPlan:
    """The reusable part of a plan: all but the parameters and the way to solve in torch."""

    backend: Backend
    translation: Translation
    solver: Solver
    dense: DenseMethod | None
    times: list[float]


@dataclass
class Plan:
    """A solve that a backend can run.

    Attributes:
        cached: what to run.
        parameters: the module's parameters by name.
        solve_eagerly: ``(f, y0, t) -> states``, the same solve in torch, of f(t, y).
        stats: the cost, once it has run.
    """

    cached: CachedPlan
    parameters: Mapping[str, Tensor]
    solve_eagerly: Callable[[Callable[..., Tensor], Tensor, Tensor], Tensor]
    stats: Stats | None = None

    def run(self, y0: Tensor, t: Tensor) -> Tensor:
        """Return the states at all times, ``(times, *y0.shape)``."""
        states: Tensor = _Solve.apply(self, y0, t, *self.parameters.values())  # type: ignore[no-untyped-call]
        return states


class Call(NamedTuple):
    """The arguments of a solve.

    `module` computes dy/dt, of (t, y) if `timed`, and else of y alone.
    """

    backend: str
    module: Any
    timed: bool
    y0: Any
    t: Any
    rtol: Any
    atol: Any
    method: Method
    options: Mapping[str, Any]
    event_fn: Any


def plan_offload(
    call: Call, solve_eagerly: Callable[[Callable[..., Tensor], Tensor, Tensor], Tensor]
) -> Plan | None:
    """Return the plan by which the backend of this name solves this, or None if torch has to.

    Raises:
        UnknownNameError: no backend has that name.
        InvalidValueError: the backend cannot, and it is not "auto"; the message says why.
    """
    name = call.backend
    if name not in ("auto", *BACKENDS):
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))
    if name == "torch":
        return None
    try:
        if call.event_fn is not None:
            raise NotOffloadable("it has an event_fn")
        if not isinstance(call.module, nn.Module):
            raise NotOffloadable("func is no nn.Module, and a Python function cannot be read")
        _check_inputs(call.module, call.y0)
        _check_surroundings()
        cached, parameters = _find_plan(call)
    except (NotOffloadable, UntranslatableError) as reason:
        if name == "auto":
            return None
        if isinstance(reason, UntranslatableError):
            raise
        raise InvalidValueError(
            "backend", name, '"auto" or "torch" for this solve', f"{reason}".capitalize() + "."
        ) from reason
    return Plan(cached, parameters, solve_eagerly)


def run_offloaded(plan: Plan, y0: Tensor, t: Tensor, *, fall_back: bool) -> Tensor | None:
    """Return the plan's states; None where the solve failed and torch may try."""
    try:
        return plan.run(y0, t)
    except SolveError:
        if fall_back:
            return None
        raise


_shapes: ModuleMemory[set[Any]] = ModuleMemory(set, _MAX_MODULES)
_announced: set[tuple[VectorField, str]] = set()


def _find_plan(call: Call) -> tuple[CachedPlan, dict[str, Tensor]]:
    reading, parameters = reading_of(call.module, call.y0, timed=call.timed)
    key = _cache_key(call)
    plan = None if key is None else reading.plans.get(key)
    if plan is None:
        plan = _make_plan(call, translated(call.module, reading), parameters)
        if key is not None:
            if len(reading.plans) >= _MAX_PLANS:
                reading.plans.clear()
            reading.plans[key] = plan
    else:
        _check_fork(plan.backend)
    return plan, parameters


def _cache_key(call: Call) -> Any:
    """Return all that a plan depends on beside its reading, or None where that is many numbers."""
    y0, t, method = call.y0, call.t, call.method
    given = tuple(call.options.items())
    numbers = [call.rtol, call.atol, *(value for _, value in given)]
    plain = all(type(each) in (float, int, str, bool, type(None)) for each in numbers)
    if not plain or not isinstance(t, Tensor) or not t.is_cpu or t.numel() > _MAX_TIMES:
        return None
    times = (t.shape, t.dtype, t.requires_grad, tuple(t.flatten().tolist()))
    solver = (call.rtol, call.atol, method.name, method.tableau, method.kind, given)
    backend = (call.backend, os.environ.get("PYNODE_BACKEND"))
    return backend, y0.shape, times, solver


def _make_plan(
    call: Call, translation: Translation, parameters: Mapping[str, Tensor]
) -> CachedPlan:
    name, y0, method = call.backend, call.y0, call.method
    if not parameters:
        raise NotOffloadable("func has no parameters")
    if any(each.dtype != y0.dtype for each in parameters.values()):
        raise NotOffloadable("y0 and the parameters are not of one dtype")
    if any(hasattr(call.module, each) for each in _CALLBACKS):
        raise NotOffloadable("func has callbacks")
    times = checked_times(call.t)
    solver = _solver(method, call.rtol, call.atol, call.options, times)
    if name == "auto":
        _count_shape(call.module, (tuple(y0.shape), y0.dtype, len(times), method.name))
    backend = get_backend(_automatic() if name == "auto" else name)
    if backend.name == "torch":
        raise NotOffloadable("PYNODE_BACKEND is torch")
    _check_fork(backend)
    if not _has_solver(backend, solver):
        raise NotOffloadable(f"the {backend.name} backend has no {solver.name}")
    _announce(call.module, translation, backend)
    steps = dense_method(method) if backend.capabilities.dense_output else None
    return CachedPlan(backend, translation, solver, steps, times.tolist())


def _check_fork(backend: Backend) -> None:
    if backend.name == "jax" and has_forked_jax():
        raise NotOffloadable("this process was forked from one in which JAX ran: it would hang")


def _automatic() -> str:
    """Return what "auto" means here: the JAX backend, unless the environment names another.

    `get_backend` prefers Julia where it is installed. Here a program that has changed one import
    must not start Julia, and translated fields are faster in JAX.
    """
    return "auto" if os.environ.get("PYNODE_BACKEND") else "jax"


def _check_inputs(module: nn.Module, y0: Any) -> None:
    if type(y0) not in (Tensor, nn.Parameter) or y0.dtype not in (torch.float32, torch.float64):
        raise NotOffloadable("y0 is not one plain tensor of float32 or float64")
    if y0.ndim == 0 or y0.numel() == 0 or y0.layout != torch.strided or not y0.is_cpu:
        raise NotOffloadable("y0 is empty, a scalar, sparse, or not on the CPU")


def _check_surroundings() -> None:
    """Refuse where torch is to do more with operations than compute them."""
    if is_transformed():
        raise NotOffloadable("a torch.func transform is active")
    if torch.is_autocast_enabled("cpu"):
        raise NotOffloadable("autocast is on")
    if takes_derivatives_forward():
        raise NotOffloadable("derivatives are taken forward")
    if torch._C._get_tracing_state() is not None:
        raise NotOffloadable("torch.jit traces it")
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        raise NotOffloadable("a mode of torch looks at each operation")


def _solver(
    method: Method, rtol: Any, atol: Any, options: Mapping[str, Any], times: Tensor
) -> Solver:
    if method.tableau is None or method.kind not in ("adaptive", "fixed"):
        raise NotOffloadable(f"no backend has {method.name}")
    given = {key: value for key, value in options.items() if value is not None}
    known = _OPTIONS[method.kind]
    if not set(given) <= known or given.get("interp", "linear") != "linear":
        own = sorted(set(given) - known) or "interp"
        raise NotOffloadable(f"options {own} are torch's alone")
    if len(times) < 2:
        raise NotOffloadable("t has one time")
    limit = given.get("max_num_steps")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise NotOffloadable("max_num_steps is no number of steps")
    if method.kind == "adaptive":
        if not all(type(each) in (int, float) and 0 < each < math.inf for each in (rtol, atol)):
            raise NotOffloadable("rtol and atol are not two positive numbers")
        return Solver(method.tableau, rtol=float(rtol), atol=float(atol), max_steps=limit)
    t = times.detach().double()
    gaps = t.diff().abs()
    if "step_size" not in given:
        # One step for each gap.
        return Solver(method.tableau, dt=float(gaps.max()), max_steps=limit)
    step = given["step_size"]
    if type(step) not in (int, float) or not 0 < step < math.inf:
        raise NotOffloadable("step_size is not a positive number")
    step = float(step)
    if not method.julia:
        # torchdiffeq lays one grid over all times and interpolates between its points.
        if len(t) > 2 and times.requires_grad:
            raise NotOffloadable("gradients to times on the grid are torch's")
        along = (t[1:-1] - t[0]).abs() / step
        if bool(((along - along.round()).abs() > STEP_GUARD * along.round().clamp(min=1)).any()):
            raise NotOffloadable("times lie between the points of the grid, to be interpolated")
    return Solver(method.tableau, dt=min(step, float(gaps.sum())), max_steps=limit)


def _has_solver(backend: Backend, solver: Solver) -> bool:
    if solver.own_tableau is not None:
        return backend.name in solver.info.backends
    return solver.name in _solvers(backend)


@lru_cache
def _solvers(backend: Backend) -> frozenset[str]:
    return frozenset(backend.solvers())


def _count_shape(module: nn.Module, shape: Any) -> None:
    known = _shapes.of(module)
    if shape in known:
        return
    if len(known) >= _MAX_SHAPES:
        raise NotOffloadable("its shapes keep changing, and each is compiled")
    known.add(shape)


def _announce(module: nn.Module, translation: Translation, backend: Backend) -> None:
    key = (translation.field, backend.name)
    if key in _announced:
        return
    if len(_announced) >= _MAX_ANNOUNCED:
        _announced.clear()
    _announced.add(key)
    layers = ", ".join(map(str, translation.field.layers))
    # A warning, since those are shown without any logging set-up, and no program stops at one.
    _log.warning(
        "%s is solved whole in the %s backend, read as: %s. backend='torch' runs it in torch.",
        type(module).__name__, backend.name, layers,
    )  # fmt: skip


class _Solve(torch.autograd.Function):
    """Forward: one solve. Backward: the exact reverse derivative of its steps."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, y0: Tensor, t: Tensor, *parameters: Tensor) -> Tensor:
        """Return the states at all times."""
        cached = plan.cached
        translation, (start, *stops) = cached.translation, cached.times
        initial = y0.numpy(force=True)
        arguments: tuple[Any, ...] = (
            translation.field,
            translation.read(plan.parameters),
            initial.reshape(-1, *translation.field.state_shape),
            (start, stops[-1]),
            cached.solver,
        )
        wanted = any(ctx.needs_input_grad)
        if wanted or cached.dense is not None:
            solution, ctx.pullback = cached.backend.pullback(
                *arguments, save_at=stops, dense=cached.dense, keep=wanted
            )
        else:
            solution = cached.backend.solve(*arguments, save_at=stops)
        ctx.plan, plan.stats = plan, solution.stats
        ctx.save_for_backward(y0, t, *parameters)
        # NumPy's operations on arrays as small as these take a fifth of the time of torch's.
        result = np.empty((len(cached.times), *initial.shape), initial.dtype)
        result[0] = initial
        result[1:] = solution.y.reshape(-1, *initial.shape)
        return torch.from_numpy(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients w.r.t. y0, t and the parameters."""
        (cotangent,) = gradients
        y0, t, *parameters = ctx.saved_tensors
        plan, wanted = ctx.plan, ctx.needs_input_grad[1:]
        # One gradient that stands for many (`is_grads_batched`, `vectorize`) is torch's too.
        if torch.is_grad_enabled() or is_legacy_batchedtensor(cotangent):
            return None, *_torchs_gradients(plan, cotangent, (y0, t, *parameters), wanted)
        translation = plan.cached.translation
        at_times = cotangent.contiguous().numpy(force=True)
        result = ctx.pullback(
            at_times[1:].reshape(len(at_times) - 1, -1, *translation.field.state_shape)
        )
        to_y0 = torch.from_numpy(at_times[0] + result.y0.reshape(y0.shape)) if wanted[0] else None
        to_t = torch.from_numpy(result.times).to(t.dtype) if wanted[1] else None
        by_name = translation.gradients(result.weights)
        to_parameters = [
            torch.from_numpy(by_name[name]) if name in by_name and wants else None
            for name, wants in zip(plan.parameters, wanted[2:], strict=True)
        ]
        return None, to_y0, to_t, *to_parameters


def _torchs_gradients(
    plan: Plan, cotangent: Tensor, inputs: tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Return gradients that torch can differentiate, or map: it runs the solve again.

    It runs what was read, with the parameters of that time: the module itself may have others by
    now, or be another.
    """
    y0, t, *parameters = inputs
    translation = plan.cached.translation
    weights = translation.tensors(dict(zip(plan.parameters, parameters, strict=True)))

    def solve(f: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        def function(t: Tensor, y: Tensor) -> Tensor:
            return f(t, y.reshape(-1, *translation.field.state_shape)).reshape(y.shape)

        return plan.solve_eagerly(function, y0, t)

    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        states = call_with_rhs(translation.field, weights, y0, solve)
    asked = [each for each, wants in zip(inputs, wanted, strict=True) if wants]
    gradients = iter(
        torch.autograd.grad(states, asked, cotangent, create_graph=graph, allow_unused=True)
    )
    return [next(gradients) if wants else None for wants in wanted]
