"""The torch backend: `TorchBackend`, the contract of `pynode_jl.backends` on eager torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pynode_jl.backends import _arguments
from pynode_jl.backends._base import MAX_STEPS, Backend, InitialValueProblem
from pynode_jl.backends._gradients import GradientMethod
from pynode_jl.backends._precision import Precision
from pynode_jl.backends._results import (
    Array,
    ChunkResult,
    Evaluation,
    Gradients,
    RetCode,
    Solution,
    Stats,
    TrainState,
)
from pynode_jl.backends._times import Clock
from pynode_jl.backends._training import TrainingChunk
from pynode_jl.backends.torch._adaptive import Adaptive
from pynode_jl.backends.torch._fields import RightHandSide, call_with_rhs, check_samples_apart
from pynode_jl.backends.torch._fixed import Fixed
from pynode_jl.backends.torch._method import julia_method
from pynode_jl.backends.torch._problem import Problem, rms_norm
from pynode_jl.backends.torch._rk_step import rk_step, value_and_jacobian
from pynode_jl.backends.torch._updates import updates
from pynode_jl.errors import BackendUnavailableError, InvalidValueError, SolveError
from pynode_jl.fields import Field, FunctionField, LogDensityField
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import DenseMethod, Solver, catalogue
from pynode_jl.tasks import Classification, CustomTask

# Rows of a Jacobian that are made at once, and numbers of states in them, at the most.
_ROWS, _NUMBERS_AT_ONCE = 32, 2_000_000


class TorchBackend(Backend):
    """Solves, trains and evaluates in torch, step by step: any torch module or function.

    It integrates by the JAX backend's rules, to the same numbers. Each operation is dispatched on
    its own, which small fields pay for: a translated field is many times faster in JAX.

    Args:
        device: "cpu", "gpu", or None for the device of a module's parameters, and else torch's
            default.

    Raises:
        BackendUnavailableError: torch sees no such device.
    """

    name = "torch"
    jacobian_numbers = 4e6

    def __init__(self, device: str | None = None) -> None:
        self._device = _device(device)
        self._checked: WeakSet[FunctionField] = WeakSet()

    def devices(self) -> tuple[str, ...]:
        """Return the kinds of devices that torch sees."""
        return ("cpu", "gpu") if torch.cuda.is_available() else ("cpu",)

    def solvers(self) -> tuple[str, ...]:
        """Return the solvers of the catalogue that have a tableau."""
        return tuple(row.name for row in catalogue() if row.tableau is not None)

    def _check_solver(self, solver: Solver, dense: DenseMethod | None) -> None:
        _arguments.checked_tableau(solver, self.name)

    def _solve(self, problem: InitialValueProblem, save_steps: bool) -> Solution:
        with torch.no_grad():
            end = self._integrate(*self._tensors(problem), problem.solver, record=save_steps)
        if not save_steps:
            return Solution(end.times, _array(end.states), end.stats)
        states = [*end.steps.states, end.states[-1]]
        times = [*end.steps.times, end.times[-1]]
        return Solution(np.array(times), _array(torch.stack(states)), end.stats)

    def _pullback(
        self,
        problem: InitialValueProblem,
        gradient: GradientMethod,
        dense: DenseMethod | None,
        keep: bool,
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        field, weights, y0, times = self._tensors(problem)
        inputs = [*weights.values(), y0, times]
        for tensor in inputs:
            tensor.requires_grad_(keep)
        with torch.set_grad_enabled(keep):
            end = self._integrate(field, weights, y0, times, problem.solver)

        def pull(cotangents: Array) -> Gradients:
            with _full_precision():
                *to_weights, to_y0, to_times = torch.autograd.grad(
                    end.states,
                    inputs,
                    torch.tensor(cotangents).to(end.states),
                    retain_graph=True,
                    materialize_grads=True,
                )
            by_name = dict(zip(weights, map(_array, to_weights), strict=True))
            return Gradients(by_name, _array(to_y0), _array(to_times.to(to_y0)))

        return Solution(end.times, _array(end.states), end.stats), pull

    def _rhs(self, field: Field, weights: dict[str, Array], t: float, y: Array) -> Array:
        states = self._tensor(field, y)
        time = torch.tensor(t, dtype=states.dtype, device=states.device)
        with torch.no_grad(), _full_precision():
            slope = call_with_rhs(
                field, self._on_device(weights, states), states, lambda f: f(time, states)
            )
        return _array(slope)

    def _train(self, chunk: TrainingChunk) -> ChunkResult:
        model, state = chunk.model, chunk.state
        x = self._tensor(model.field, chunk.x)
        labels = isinstance(model.task, Classification)
        targets = torch.tensor(
            chunk.targets, dtype=torch.int64 if labels else None, device=x.device
        )
        indices = torch.tensor(chunk.indices, dtype=torch.int64, device=x.device)
        weights, mu, nu = (self._on_device(each, x) for each in (state.weights, state.mu, state.nu))
        update = updates(chunk.optimizer, weights, mu, nu, state.iteration)
        rows: list[tuple[float, float, int]] = []
        code = RetCode.Success
        for index, rate in zip(indices, chunk.rates.tolist(), strict=True):
            loss, accuracy, end = self._loss(chunk, weights, x[index], targets[index])
            code = end.stats.retcode
            if code != RetCode.Success:
                break
            with _full_precision():
                gradients = torch.autograd.grad(
                    loss, list(weights.values()), materialize_grads=True
                )
            if not torch.isfinite(loss) or not update(gradients, rate):
                code = RetCode.Unstable
                break
            rows.append((float(loss.detach()), float(accuracy), end.stats.nf))
        loss_row, accuracy_row, nf_row = zip(*rows, strict=True) if rows else ((), (), ())
        arrays = [{k: _array(each) for k, each in tree.items()} for tree in (weights, mu, nu)]
        return ChunkResult(
            TrainState(arrays[0], arrays[1], arrays[2], state.iteration + len(rows)),
            np.array(loss_row, chunk.x.dtype),
            np.array(accuracy_row, chunk.x.dtype),
            np.array(nf_row, np.int32),
            0.0,
            code,
        )

    def _loss(
        self, chunk: TrainingChunk, weights: dict[str, Tensor], x: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, _End]:
        """Return a batch's loss, its mean score, and the solve."""
        model, task, tree = chunk.model, chunk.model.task, ModelWeights.from_dict(weights)
        with _full_precision():
            y0 = _initial_state(model, tree, x)
            end = self._integrate(model.field, tree.field, y0, _times(model), chunk.solver)
            outputs: Tensor = model.read_out(end.states, tree)
            if isinstance(task, Classification) and not task.class_weights:
                loss = functional.cross_entropy(outputs, targets)
            else:
                loss = task.loss(outputs, targets)
            own = isinstance(task, CustomTask)
            score = loss if own else task.scores(outputs, targets).double().mean()
        return loss, score.detach(), end

    def _evaluate(
        self,
        model: Model,
        weights: dict[str, Array],
        x: Array,
        solver: Solver,
        precision: Precision,
    ) -> Evaluation:
        inputs = self._tensor(model.field, x)
        tree = ModelWeights.from_dict(self._on_device(weights, inputs))
        with torch.no_grad(), _full_precision():
            y0 = _initial_state(model, tree, inputs)
            end = self._integrate(model.field, tree.field, y0, _times(model), solver)
            states = end.states
            if short := len(model.times) - 1 - len(states):
                # The solve failed: what it reached stands for all later times.
                states = torch.cat([states, states[-1:].expand(short, *states.shape[1:])])
            outputs = model.read_out(states, tree)
        return Evaluation.of(_array(outputs), _array(states), end.stats)

    def _step_jacobian(self, problem: InitialValueProblem, dt: float) -> Array:
        field, weights, y0, _ = self._tensors(problem)
        table, t = _arguments.checked_tableau(problem.solver, self.name), problem.t0

        def jacobian(f: RightHandSide) -> Tensor:
            def rhs(t: Tensor, y: Tensor, side: int) -> Tensor:
                return f(t, y)

            def advance(y: Tensor) -> Tensor:
                return rk_step(table, rhs, t, dt, t + dt, y, samples=len(y), with_error=False).y

            at_once = min(_ROWS, max(1, _NUMBERS_AT_ONCE // y0.numel()))
            return value_and_jacobian(advance, y0, len(y0), at_once=at_once)[1]

        with torch.no_grad(), _full_precision():
            return _array(call_with_rhs(field, weights, y0, jacobian))

    def _integrate(
        self,
        field: Field,
        weights: Mapping[str, Tensor],
        y0: Tensor,
        times: Tensor,
        solver: Solver,
        *,
        record: bool = False,
    ) -> _End:
        """Integrate over `times`; derivatives pass to `weights`, `y0` and `times`."""

        def work(f: RightHandSide) -> _End:
            if isinstance(field, FunctionField) and field not in self._checked and len(y0) > 1:
                start = times[0].to(y0)
                check_samples_apart("function", field.function, lambda y: f(start, y), y0)
                self._checked.add(field)
            return _solve_with(f, y0, times, solver, record)

        with _full_precision():
            return call_with_rhs(field, weights, y0, work)

    def _tensors(
        self, problem: InitialValueProblem
    ) -> tuple[Field, dict[str, Tensor], Tensor, Tensor]:
        """Return the field, and weights, initial state and times as tensors."""
        y0 = self._tensor(problem.field, problem.y0)
        times = torch.tensor([problem.t0, *problem.stops], dtype=torch.float64)
        return problem.field, self._on_device(problem.weights, y0), y0, times

    def _tensor(self, field: Field, array: Array) -> Tensor:
        """Return a copy of an array, on the device where the field is evaluated."""
        device = self._device
        if device is None and isinstance(field, FunctionField):
            function: Any = field.function
            if isinstance(function, nn.Module):
                device = next((each.device for each in function.parameters()), None)
        return torch.tensor(array, device=device)

    def _on_device(self, arrays: Mapping[str, Array], like: Tensor) -> dict[str, Tensor]:
        return {name: torch.tensor(each, device=like.device) for name, each in arrays.items()}


@dataclass
class _Steps:
    """Where the steps began."""

    times: list[float]
    states: list[Tensor]


class _End(NamedTuple):
    """A solve: the save times that it reached (where it failed, that time last) and the states."""

    times: Array
    states: Tensor
    stats: Stats
    steps: _Steps


def _solve_with(f: RightHandSide, y0: Tensor, times: Tensor, solver: Solver, record: bool) -> _End:
    sign, origin = -1.0 if times[-1] < times[0] else 1.0, Clock.of(times.tolist()).origin

    def rhs(t: Tensor, y: Tensor, side: int) -> Tensor:
        time = t if sign > 0 else -t
        slope = f((origin + time if origin else time).to(y.dtype), y)
        return slope if sign > 0 else -slope

    steps = _Steps([], [])

    def record_step(t: Tensor, y: Tensor, dt: Tensor) -> None:
        steps.times.append(origin + sign * float(t))
        steps.states.append(y)

    options: dict[str, Any] = {"max_num_steps": solver.max_steps or MAX_STEPS}
    if solver.fixed:
        options["step_size"] = solver.dt
    callback = "callback_step" if solver.fixed else "callback_accept_step"
    problem = Problem(
        rhs,
        y0,
        sign * (times - origin),
        solver.rtol,
        solver.atol,
        rms_norm,
        options,
        callbacks={callback: record_step} if record else {},
        samples=len(y0),
        strict=True,
    )
    method = julia_method(solver.info, adaptive=not solver.fixed)
    loop = Fixed(problem, method) if solver.fixed else Adaptive(problem, method)
    code = RetCode.Success
    try:
        loop.solution()
    except SolveError as error:
        code = RetCode(error.retcode)
    states = loop.states[1:]
    reached = times.detach().numpy()[1 : len(states) + 1]
    if code != RetCode.Success:
        states, reached = [*states, loop.y], np.append(reached, origin + sign * loop.t)
    return _End(reached, torch.stack(states), problem.counts.stats(code), steps)


def _times(model: Model) -> Tensor:
    return torch.tensor(model.times, dtype=torch.float64)


def _initial_state(model: Model, weights: ModelWeights, x: Tensor) -> Tensor:
    """Return `Model.initial_state` of tensors."""
    if model.encoder is not None:
        x = model.encoder(weights.encoder, x)
    padded = model.pad(np.zeros(tuple(x.shape), np.float32))
    if isinstance(model.field, LogDensityField):
        x = x.reshape(len(x), -1)
    constants = torch.tensor(padded[:, x.shape[1] :], dtype=x.dtype, device=x.device)
    return torch.cat([x, constants], dim=1) if constants.numel() else x


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 in float32: torch's TF32 rounds products to 10 bits.

    A swap would take that for the solver's error.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _device(kind: str | None) -> torch.device | None:
    if kind is None:
        return None
    if kind not in ("cpu", "gpu"):
        raise InvalidValueError("device", kind, '"cpu" or "gpu"', "Leave it out for the default.")
    if kind == "gpu" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            "device = 'gpu': torch sees no such device here. Install a torch build for it, or leave"
            " device out."
        )
    return torch.device("cuda" if kind == "gpu" else "cpu")
