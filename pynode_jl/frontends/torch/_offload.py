"""A whole solve of a translated module in a backend, as one node of torch's graph.

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

from pynode_jl.backends import Backend, Stats, get_backend
from pynode_jl.backends.torch._problem import CALLBACKS, checked_times
from pynode_jl.errors import InvalidValueError, SolveError, UnknownNameError
from pynode_jl.fields import VectorField
from pynode_jl.frontends.torch._methods import Method, dense
from pynode_jl.frontends.torch._structure import Survey, surveyed
from pynode_jl.frontends.torch._translate import Translation, UntranslatableError, translate
from pynode_jl.solvers import STEP_GUARD, DenseMethod, Solver

BACKENDS = ("auto", "torch", "jax", "julia")
_log = logging.getLogger("pynode_jl.torch")

_OPTIONS = {"step_size", "interp", "max_num_steps"}
# Another shape is another compilation, of seconds. A program whose shapes keep changing is better
# off in torch.
_MOST_SHAPES = 8
# A program whose times keep changing has no use for their recipes.
_MOST_RECIPES, _MOST_TIMES = 64, 256
_CALLBACKS = (*CALLBACKS, *(f"{each}_adjoint" for each in CALLBACKS))


class NotHereError(Exception):
    """A solve that has to run in torch; the message says why."""


@dataclass(frozen=True)
class _Recipe:
    """What planning finds; the next call that is like this one finds it again at once."""

    backend: Backend
    translation: Translation
    solver: Solver
    dense: DenseMethod | None
    times: list[float]
    parts: tuple[nn.Module, ...]  # of the module, so that the ids in the recipe's key stay theirs


@dataclass
class Plan:
    """A solve that a backend can run, and what came of it.

    `eagerly` solves the same problem in torch; it serves second derivatives.
    """

    recipe: _Recipe
    parameters: Mapping[str, Tensor]
    eagerly: Callable[[Tensor, Tensor], Tensor]
    stats: Stats | None = None

    def run(self, y0: Tensor, t: Tensor) -> Tensor:
        """The states at all times, ``(times, *y0.shape)``."""
        states: Tensor = _Solve.apply(self, y0, t, *self.parameters.values())  # type: ignore[no-untyped-call]
        return states


def planned(
    name: str,
    func: Any,
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    method: Method,
    options: Mapping[str, Any],
    event_fn: Any,
    eagerly: Callable[[Tensor, Tensor], Tensor],
) -> Plan | None:
    """How the backend called `name` solves this, or None if torch has to.

    Raises:
        UnknownNameError: no backend has that name.
        InvalidValueError: a backend was asked for by name and cannot; the message says why.
    """
    if name not in BACKENDS:
        raise UnknownNameError("backend", name, BACKENDS)
    if name == "torch":
        return None
    survey = surveyed(func) if isinstance(func, nn.Module) else None
    try:
        if event_fn is not None:
            raise NotHereError("it has an event_fn")
        if survey is None:
            raise NotHereError("func is no nn.Module, and a Python function cannot be read")
        if torch._C._are_functorch_transforms_active():
            raise NotHereError("a torch.func transform is at work")
        call = _Call(name, survey, y0, t, rtol, atol, method, options)
        key = _key(call)
        known = _recipes.setdefault(func, {})
        recipe = known.get(key) if key is not None else None
        if recipe is None:
            recipe = _recipe(func, call)
            if len(known) >= _MOST_RECIPES:
                known.clear()
            if key is not None:
                known[key] = recipe
    except (NotHereError, UntranslatableError) as reason:
        if name == "auto":
            return None
        if isinstance(reason, UntranslatableError):
            raise
        raise InvalidValueError(
            "backend", name, '"auto" or "torch" for this solve', f"{reason}".capitalize() + "."
        ) from reason
    return Plan(recipe, survey.parameters, eagerly)


class _Call(NamedTuple):
    """What is asked for, as it was given, and the module taken apart."""

    name: str
    survey: Survey
    y0: Any
    t: Any
    rtol: Any
    atol: Any
    method: Method
    options: Mapping[str, Any]


def _key(call: _Call) -> Any:
    """All that a recipe rests on, where that can be said in few numbers."""
    name, survey, y0, t, rtol, atol, method, options = call
    given = tuple(options.items())
    numbers = [rtol, atol, *(value for _, value in given)]
    plain = all(type(each) in (float, int, str, bool, type(None)) for each in numbers)
    if not (plain and isinstance(y0, Tensor) and isinstance(t, Tensor)):
        return None
    if not t.is_cpu or t.numel() > _MOST_TIMES:
        return None
    kind = (y0.shape, y0.dtype, y0.layout, y0.is_cpu)
    times = (t.shape, t.dtype, t.requires_grad, tuple(t.flatten().tolist()))
    solver = (rtol, atol, method.name, method.tableau, method.kind, given)
    asked = (name, os.environ.get("PYNODE_BACKEND"))
    return asked, survey.frame, survey.settings, kind, times, solver


def _recipe(func: nn.Module, call: _Call) -> _Recipe:
    name, survey, y0, t, rtol, atol, method, options = call
    _check_inputs(func, survey, y0)
    times = checked_times(t)
    solver = _solver(method, rtol, atol, options, times)
    translation = translate(func, y0, survey=survey)
    if name == "auto":
        _count_shape(func, (tuple(y0.shape), y0.dtype, len(times), method.name))
    backend = get_backend(_automatic() if name == "auto" else name)
    if not _has(backend, solver):
        raise NotHereError(f"the {backend.name} backend has no {solver.name}")
    _announce(func, translation, backend)
    steps = dense(method) if backend.capabilities.dense_output else None
    return _Recipe(backend, translation, solver, steps, times.tolist(), survey.parts)


def _automatic() -> str:
    """What "auto" means here: the embedded backend, unless the environment names one.

    Not Julia where there is one, as `get_backend` has it: a torch program that has changed one
    import is not to start a Julia, and on a field that can be read the embedded solve is the faster
    one. Who wants Julia's steps says so.
    """
    return "auto" if os.environ.get("PYNODE_BACKEND") else "jax"


def _check_inputs(func: nn.Module, survey: Survey, y0: Any) -> None:
    if not isinstance(y0, Tensor) or y0.dtype not in (torch.float32, torch.float64):
        raise NotHereError("y0 is not one tensor of float32 or float64")
    if y0.ndim == 0 or y0.numel() == 0 or y0.layout != torch.strided:
        raise NotHereError("y0 is empty, a scalar, or sparse")
    for tensor in (y0, *survey.parameters.values()):
        if not tensor.is_cpu or tensor.dtype != y0.dtype:
            raise NotHereError("y0 and the parameters are not on the CPU, or not of one dtype")
    if not survey.parameters:
        raise NotHereError("func has no parameters")
    if any(hasattr(func, name) for name in _CALLBACKS):
        raise NotHereError("func has callbacks")


def _solver(
    method: Method, rtol: Any, atol: Any, options: Mapping[str, Any], times: Tensor
) -> Solver:
    if method.tableau is None or method.kind not in ("adaptive", "fixed"):
        raise NotHereError(f"no backend has {method.name}")
    given = {key: value for key, value in options.items() if value is not None}
    if not set(given) <= _OPTIONS or given.get("interp", "linear") != "linear":
        raise NotHereError(f"options {sorted(set(given) - _OPTIONS) or 'interp'} are torch's alone")
    if len(times) < 2:
        raise NotHereError("t has one time")
    limit = given.get("max_num_steps")
    if method.kind == "adaptive":
        if not all(isinstance(each, (int, float)) and each > 0 for each in (rtol, atol)):
            raise NotHereError("rtol and atol are not two positive numbers")
        return Solver(method.tableau, rtol=float(rtol), atol=float(atol), max_steps=limit)
    t = times.detach().double()
    gaps = t.diff().abs()
    if "step_size" not in given:
        return Solver(
            method.tableau, dt=float(gaps.max()), max_steps=limit
        )  # one step for each gap
    step = float(given["step_size"])
    if not method.julia:
        # torchdiffeq lays one grid over all times and interpolates between its points.
        if len(t) > 2 and times.requires_grad:
            raise NotHereError("gradients to times on the grid are torch's")
        along = (t[1:-1] - t[0]).abs() / step
        if bool(((along - along.round()).abs() > STEP_GUARD * along.round().clamp(min=1)).any()):
            raise NotHereError("times lie between the points of the grid, to be interpolated")
    return Solver(method.tableau, dt=min(step, float(gaps.sum())), max_steps=limit)


def _has(backend: Backend, solver: Solver) -> bool:
    if solver.own_tableau is not None:
        return backend.name in solver.info.backends
    return solver.name in _solvers(backend)


@lru_cache
def _solvers(backend: Backend) -> frozenset[str]:
    return frozenset(backend.solvers())


_recipes: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Recipe]] = weakref.WeakKeyDictionary()
_shapes: weakref.WeakKeyDictionary[nn.Module, set[Any]] = weakref.WeakKeyDictionary()
_announced: set[tuple[VectorField, str]] = set()


def _count_shape(module: nn.Module, shape: Any) -> None:
    known = _shapes.setdefault(module, set())
    if shape in known:
        return
    if len(known) >= _MOST_SHAPES:
        raise NotHereError("its shapes keep changing, and each is compiled")
    known.add(shape)


def _announce(module: nn.Module, translation: Translation, backend: Backend) -> None:
    key = (translation.field, backend.name)
    if key in _announced:
        return
    _announced.add(key)
    layers = ", ".join(map(str, translation.field.layers))
    # A warning, for that is what is seen without any set-up, and no program stops at one.
    _log.warning(
        "%s is solved whole in the %s backend, read as: %s. backend='torch' runs it in torch.",
        type(module).__name__, backend.name, layers,
    )  # fmt: skip


class _Solve(torch.autograd.Function):
    """Forward: one solve. Backward: the exact reverse derivative of its steps."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, y0: Tensor, t: Tensor, *parameters: Tensor) -> Tensor:
        """The states at all times."""
        recipe = plan.recipe
        translation, (start, *stops) = recipe.translation, recipe.times
        initial = y0.detach().numpy()
        arguments: tuple[Any, ...] = (
            translation.field,
            translation.read(plan.parameters),
            initial.reshape(-1, *translation.field.state_shape),
            (start, stops[-1]),
            recipe.solver,
        )
        wanted = any(ctx.needs_input_grad)
        if wanted or recipe.dense is not None:
            solution, ctx.pull = recipe.backend.pullback(
                *arguments, save_at=stops, dense=recipe.dense, keep=wanted
            )
        else:
            solution = recipe.backend.solve(*arguments, save_at=stops)
        ctx.plan, plan.stats = plan, solution.stats
        ctx.save_for_backward(y0, t, *parameters)
        # NumPy's operations on arrays as small as these take a fifth of the time of torch's.
        result = np.empty((len(recipe.times), *initial.shape), initial.dtype)
        result[0] = initial
        result[1:] = solution.y.reshape(-1, *initial.shape)
        return torch.from_numpy(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Gradients to y0, t and the parameters."""
        (to_states,) = gradients
        y0, t, *parameters = ctx.saved_tensors
        plan, wanted = ctx.plan, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_twice_differentiable(plan, to_states, (y0, t, *parameters), wanted)
        translation = plan.recipe.translation
        shape = translation.field.state_shape
        at_times = to_states.contiguous().numpy()
        pulled = ctx.pull(at_times[1:].reshape(len(at_times) - 1, -1, *shape))
        to_y0 = torch.from_numpy(at_times[0] + pulled.y0.reshape(y0.shape)) if wanted[0] else None
        to_t = torch.from_numpy(pulled.times).to(t.dtype) if wanted[1] else None
        by_name = translation.gradients(pulled.weights)
        to_parameters = [
            torch.from_numpy(by_name[name]) if name in by_name and wants else None
            for name, wants in zip(plan.parameters, wanted[2:], strict=True)
        ]
        return None, to_y0, to_t, *to_parameters


def _twice_differentiable(
    plan: Plan, to_states: Tensor, inputs: tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradient as torch makes it, with a graph: the solve is run again, there."""
    with torch.enable_grad():
        states = plan.eagerly(inputs[0], inputs[1])
        asked = [each for each, wants in zip(inputs, wanted, strict=True) if wants]
        found = iter(
            torch.autograd.grad(states, asked, to_states, create_graph=True, allow_unused=True)
        )
    return [next(found) if wants else None for wants in wanted]


def attempted(plan: Plan, y0: Tensor, t: Tensor, *, fall_back: bool) -> Tensor | None:
    """The plan's states; None where the solve failed and torch may try."""
    try:
        return plan.run(y0, t)
    except SolveError:
        if fall_back:
            return None
        raise
