"""Offloading: a whole solve of a translated module in another backend, as one node of the graph.

Arrays cross once in and once out. On the way in they share memory where they are contiguous; on the
way out the states are copied once, behind y0, into the tensor that the user gets.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pynode_jl.backends import BACKENDS, Backend, Stats, get_backend
from pynode_jl.backends.torch import CALLBACKS, Method, checked_times
from pynode_jl.errors import InvalidValueError, SolveError, UnknownNameError
from pynode_jl.fields import VectorField
from pynode_jl.frontends.torch._methods import dense_method
from pynode_jl.frontends.torch._structure import ModuleStructure, module_structure
from pynode_jl.frontends.torch._translate import Translation, UntranslatableError, translate
from pynode_jl.solvers import STEP_GUARD, DenseMethod, Solver

_log = logging.getLogger("pynode_jl.torch")

_OPTIONS = {"step_size", "interp", "max_num_steps"}
# Each shape is compiled for seconds: a program whose shapes keep changing is faster in torch.
_MAX_SHAPES = 8
# A program whose times keep changing has no use for cached plans.
_MAX_PLANS, _MAX_TIMES = 64, 256
_CALLBACKS = (*CALLBACKS, *(f"{each}_adjoint" for each in CALLBACKS))


class NotOffloadable(Exception):  # noqa: N818  (a reason, not a failure)
    """A solve that has to run in torch; the message says why."""


@dataclass(frozen=True)
class CachedPlan:
    """The reusable part of a plan: all but the parameters and the function for eager solves.

    `parts` are the submodules: no other object gets their ids, which the cache's key holds.
    """

    backend: Backend
    translation: Translation
    solver: Solver
    dense: DenseMethod | None
    times: list[float]
    parts: tuple[nn.Module, ...]


@dataclass
class Plan:
    """A solve that a backend can run.

    Attributes:
        cached: what to run.
        parameters: the module's parameters by name.
        solve_eagerly: solves the same problem in torch, for second derivatives.
        stats: the cost, once it has run.
    """

    cached: CachedPlan
    parameters: Mapping[str, Tensor]
    solve_eagerly: Callable[[Tensor, Tensor], Tensor]
    stats: Stats | None = None

    def run(self, y0: Tensor, t: Tensor) -> Tensor:
        """Return the states at all times, ``(times, *y0.shape)``."""
        states: Tensor = _Solve.apply(self, y0, t, *self.parameters.values())  # type: ignore[no-untyped-call]
        return states


def plan_offload(
    name: str,
    func: Any,
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    method: Method,
    options: Mapping[str, Any],
    event_fn: Any,
    solve_eagerly: Callable[[Tensor, Tensor], Tensor],
) -> Plan | None:
    """Return the plan by which the backend `name` solves this, or None if torch has to.

    Raises:
        UnknownNameError: no backend has that name.
        InvalidValueError: the backend cannot, and `name` is not "auto"; the message says why.
    """
    if name not in ("auto", *BACKENDS):
        raise UnknownNameError("backend", name, ("auto", *BACKENDS))
    if name == "torch":
        return None
    structure = module_structure(func) if isinstance(func, nn.Module) else None
    try:
        if event_fn is not None:
            raise NotOffloadable("it has an event_fn")
        if structure is None:
            raise NotOffloadable("func is no nn.Module, and a Python function cannot be read")
        if torch._C._are_functorch_transforms_active():
            raise NotOffloadable("a torch.func transform is active")
        call = _Call(name, structure, y0, t, rtol, atol, method, options)
        cached = _find_plan(func, call)
    except (NotOffloadable, UntranslatableError) as reason:
        if name == "auto":
            return None
        if isinstance(reason, UntranslatableError):
            raise
        raise InvalidValueError(
            "backend", name, '"auto" or "torch" for this solve', f"{reason}".capitalize() + "."
        ) from reason
    return Plan(cached, structure.parameters, solve_eagerly)


def run_offloaded(plan: Plan, y0: Tensor, t: Tensor, *, fall_back: bool) -> Tensor | None:
    """Return the plan's states; None where the solve failed and torch may try."""
    try:
        return plan.run(y0, t)
    except SolveError:
        if fall_back:
            return None
        raise


class _Call(NamedTuple):
    """The arguments of a solve, and the structure of its module."""

    name: str
    structure: ModuleStructure
    y0: Any
    t: Any
    rtol: Any
    atol: Any
    method: Method
    options: Mapping[str, Any]


_plans: weakref.WeakKeyDictionary[nn.Module, dict[Any, CachedPlan]] = weakref.WeakKeyDictionary()
_shapes: weakref.WeakKeyDictionary[nn.Module, set[Any]] = weakref.WeakKeyDictionary()
_announced: set[tuple[VectorField, str]] = set()


def _find_plan(func: nn.Module, call: _Call) -> CachedPlan:
    key = _cache_key(call)
    if key is None:
        return _make_plan(func, call)
    known = _plans.setdefault(func, {})
    plan = known.get(key)
    if plan is None:
        plan = _make_plan(func, call)
        if len(known) >= _MAX_PLANS:
            known.clear()
        known[key] = plan
    return plan


def _cache_key(call: _Call) -> Any:
    """Return all that a plan depends on, or None where that takes many numbers."""
    name, structure, y0, t, rtol, atol, method, options = call
    given = tuple(options.items())
    numbers = [rtol, atol, *(value for _, value in given)]
    plain = all(type(each) in (float, int, str, bool, type(None)) for each in numbers)
    if not (plain and isinstance(y0, Tensor) and isinstance(t, Tensor)):
        return None
    if not t.is_cpu or t.numel() > _MAX_TIMES:
        return None
    kind = (y0.shape, y0.dtype, y0.layout, y0.is_cpu)
    times = (t.shape, t.dtype, t.requires_grad, tuple(t.flatten().tolist()))
    solver = (rtol, atol, method.name, method.tableau, method.kind, given)
    backend = (name, os.environ.get("PYNODE_BACKEND"))
    return backend, structure.frame, structure.settings, kind, times, solver


def _make_plan(func: nn.Module, call: _Call) -> CachedPlan:
    name, structure, y0, t, rtol, atol, method, options = call
    _check_inputs(func, structure, y0)
    times = checked_times(t)
    solver = _solver(method, rtol, atol, options, times)
    translation = translate(func, y0, structure=structure)
    if name == "auto":
        _count_shape(func, (tuple(y0.shape), y0.dtype, len(times), method.name))
    backend = get_backend(_automatic() if name == "auto" else name)
    if backend.name == "torch":
        raise NotOffloadable("PYNODE_BACKEND is torch")
    if not _has_solver(backend, solver):
        raise NotOffloadable(f"the {backend.name} backend has no {solver.name}")
    _announce(func, translation, backend)
    steps = dense_method(method) if backend.capabilities.dense_output else None
    return CachedPlan(backend, translation, solver, steps, times.tolist(), structure.parts)


def _automatic() -> str:
    """Return what "auto" means here: the JAX backend, unless the environment names another.

    `get_backend` prefers Julia where it is installed. Here a program that has changed one import
    must not start Julia, and translated fields are faster in JAX.
    """
    return "auto" if os.environ.get("PYNODE_BACKEND") else "jax"


def _check_inputs(func: nn.Module, structure: ModuleStructure, y0: Any) -> None:
    if not isinstance(y0, Tensor) or y0.dtype not in (torch.float32, torch.float64):
        raise NotOffloadable("y0 is not one tensor of float32 or float64")
    if y0.ndim == 0 or y0.numel() == 0 or y0.layout != torch.strided:
        raise NotOffloadable("y0 is empty, a scalar, or sparse")
    for tensor in (y0, *structure.parameters.values()):
        if not tensor.is_cpu or tensor.dtype != y0.dtype:
            raise NotOffloadable("y0 and the parameters are not on the CPU, or not of one dtype")
    if not structure.parameters:
        raise NotOffloadable("func has no parameters")
    if any(hasattr(func, name) for name in _CALLBACKS):
        raise NotOffloadable("func has callbacks")


def _solver(
    method: Method, rtol: Any, atol: Any, options: Mapping[str, Any], times: Tensor
) -> Solver:
    if method.tableau is None or method.kind not in ("adaptive", "fixed"):
        raise NotOffloadable(f"no backend has {method.name}")
    given = {key: value for key, value in options.items() if value is not None}
    if not set(given) <= _OPTIONS or given.get("interp", "linear") != "linear":
        own = sorted(set(given) - _OPTIONS) or "interp"
        raise NotOffloadable(f"options {own} are torch's alone")
    if len(times) < 2:
        raise NotOffloadable("t has one time")
    limit = given.get("max_num_steps")
    if method.kind == "adaptive":
        if not all(isinstance(each, (int, float)) and each > 0 for each in (rtol, atol)):
            raise NotOffloadable("rtol and atol are not two positive numbers")
        return Solver(method.tableau, rtol=float(rtol), atol=float(atol), max_steps=limit)
    t = times.detach().double()
    gaps = t.diff().abs()
    if "step_size" not in given:
        # One step for each gap.
        return Solver(method.tableau, dt=float(gaps.max()), max_steps=limit)
    step = float(given["step_size"])
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
    known = _shapes.setdefault(module, set())
    if shape in known:
        return
    if len(known) >= _MAX_SHAPES:
        raise NotOffloadable("its shapes keep changing, and each is compiled")
    known.add(shape)


def _announce(module: nn.Module, translation: Translation, backend: Backend) -> None:
    key = (translation.field, backend.name)
    if key in _announced:
        return
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
        initial = y0.detach().numpy()
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
        if torch.is_grad_enabled():
            return None, *_differentiable_gradients(plan, cotangent, (y0, t, *parameters), wanted)
        translation = plan.cached.translation
        at_times = cotangent.contiguous().numpy()
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


def _differentiable_gradients(
    plan: Plan, cotangent: Tensor, inputs: tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Return gradients that have a graph themselves: torch runs the solve again."""
    with torch.enable_grad():
        states = plan.solve_eagerly(inputs[0], inputs[1])
        asked = [each for each, wants in zip(inputs, wanted, strict=True) if wants]
        gradients = iter(
            torch.autograd.grad(states, asked, cotangent, create_graph=True, allow_unused=True)
        )
    return [next(gradients) if wants else None for wants in wanted]
