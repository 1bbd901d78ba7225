"""The JAX backend: `JaxBackend`, the contract of `pynode_jl.backends` on JAX."""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import jax
import numpy as np

from pynode_jl.backends import _arguments
from pynode_jl.backends._base import MAX_STEPS, Backend, InitialValueProblem, TrainingChunk
from pynode_jl.backends._forks import check_fork
from pynode_jl.backends._gradients import GradientMethod, parsed_gradient
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
from pynode_jl.backends._times import segment_grids
from pynode_jl.backends.jax import memory
from pynode_jl.backends.jax.checkpointing import (
    pullback_policy,
    recording_capacity,
    residual_space,
    training_policy,
)
from pynode_jl.backends.jax.controls import (
    PaddedArguments,
    PaddedKind,
    Timeline,
    controls_of,
    schedule_of,
    tableau_of,
)
from pynode_jl.backends.jax.jit import run, used
from pynode_jl.backends.jax.kernels.pointwise import jacobian_kernel, rhs_kernel
from pynode_jl.backends.jax.kernels.pullback import (
    adjoint_kernel,
    forward_kernel,
    reverse_kernel,
)
from pynode_jl.backends.jax.kernels.solve import evaluate_kernel, solve_kernel
from pynode_jl.backends.jax.kernels.train import train_kernel
from pynode_jl.backends.jax.numerics.segment import CODES
from pynode_jl.backends.jax.numerics.trajectory import (
    SAVE_NOTHING,
    CheckpointPolicy,
    rounded_up,
)
from pynode_jl.errors import BackendUnavailableError, InvalidValueError
from pynode_jl.fields import Field
from pynode_jl.models import Model
from pynode_jl.solvers import DenseMethod, Solver, catalogue

# Iterations of one compiled call are padded to these.
_LEAST_ROWS = 64
# Entries of each of a backend's own memories.
_REMEMBERED = 512


class JaxBackend(Backend):
    """Solves, trains and evaluates with JAX on this process's CPU or GPU.

    Args:
        device: "cpu", "gpu", or None for JAX's default.

    Raises:
        BackendUnavailableError: JAX sees no such device.
    """

    name = "jax"

    def __init__(self, device: str | None = None) -> None:
        self._device = _device(device)
        self._fits: OrderedDict[Any, bool] = OrderedDict()
        # Steps that a pullback took, by field and method: the capacity to begin with next time.
        self._steps_taken: OrderedDict[Any, int] = OrderedDict()
        # The last pullback's space for residuals, for the next one to take over.
        self._spare_space: dict[Any, Any] = {}

    def devices(self) -> tuple[str, ...]:
        """Return the kinds of devices that JAX sees, its default first."""
        default = jax.default_backend()
        return tuple(dict.fromkeys((default, "cpu")))

    def solvers(self) -> tuple[str, ...]:
        """Return the solvers of the catalogue that have a tableau."""
        return tuple(row.name for row in catalogue(backend="jax"))

    def _check_solver(self, solver: Solver, dense: DenseMethod | None) -> None:
        if dense is None:
            tableau_of(solver)

    def _solve(self, problem: InitialValueProblem, save_steps: bool) -> Solution:
        solver, initial, clock = problem.solver, problem.y0, problem.clock
        table, dtype = tableau_of(solver), initial.dtype
        timeline = Timeline.of(clock, dtype)
        steps = sum(grid.n for grid in problem.grids()) if save_steps and solver.fixed else 0
        steps = min(steps, problem.max_steps)
        policy = CheckpointPolicy(recording_capacity(solver, steps)) if save_steps else SAVE_NOTHING
        kind = PaddedKind.of(table)
        with self._precision(dtype):
            arguments = (
                self._put(problem.weights),
                PaddedArguments.of(table, with_error=not solver.fixed, dtype=dtype),
                controls_of(solver, clock.times, dtype),
                timeline,
                self._put(initial),
                np.int32(problem.max_steps),
            )
            found, compiled = run(solve_kernel(problem.field, kind, policy), *arguments)
            if save_steps and int(found[2].naccept) > policy.capacity:
                # Only now is it known how many steps there are to return.
                policy = CheckpointPolicy(rounded_up(int(found[2].naccept)))
                found, _ = run(solve_kernel(problem.field, kind, policy), *arguments)
        reached, states, counts, trajectory = jax.tree.map(np.asarray, found)
        stats = _stats(counts, compiled)
        if save_steps:
            n = stats.naccept
            reached = np.append(trajectory.t[:n], reached[-1:])
            states = np.concatenate([trajectory.y[:n], states[-1:]])
        elif stats.retcode != RetCode.Success:
            # After the time where a solve failed there is nothing to return.
            ended = 1 + int(np.argmax(np.append(reached != timeline.times[1:], True)))
            reached, states = reached[:ended], states[:ended]
        if clock.origin:
            reached = (clock.origin + reached.astype(np.float64)).astype(dtype)
        return Solution(reached, states, stats)

    def _pullback(
        self,
        problem: InitialValueProblem,
        gradient: GradientMethod,
        dense: DenseMethod | None,
        keep: bool,
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        if gradient != "discrete":
            return self._adjoint(problem)
        field, solver, initial, stops = problem.field, problem.solver, problem.y0, problem.stops
        dtype, batch, shapes = initial.dtype, len(initial), field.weight_shapes()
        table = tableau_of(solver) if dense is None else dense.tableau
        # Without a device of its own a kernel takes NumPy arrays as they are, in half the time.
        put = self._put if self._device is not None else lambda tree: tree
        key = (field, dense or table)

        def integrate(policy: CheckpointPolicy) -> Any:
            space = self._spare_space.pop((key, batch, dtype, policy), None)
            if space is None:
                space = put(residual_space(field, table, policy, batch, dtype))
            kernel = forward_kernel(field, table, dense, solver.fixed, policy)
            return run(
                kernel, weights, schedule.controls, schedule.timeline, put(initial),
                schedule.max_steps, space,
            )  # fmt: skip

        def policy_for(steps: int) -> CheckpointPolicy:
            return pullback_policy(field, table, solver.fixed, steps, batch, dtype)

        with self._precision(dtype):
            weights = put(problem.weights)
            schedule = schedule_of(solver, dense, (problem.t0, *stops), dtype, problem.max_steps)
            expected = min(schedule.steps or self._steps_taken.get(key, 0), problem.max_steps)
            policy = policy_for(expected) if keep else SAVE_NOTHING
            (states, counts, steps), compiled = integrate(policy)
            stats = _stats(np.asarray(counts).tolist(), compiled)
            if keep and stats.naccept > policy.capacity:
                # Only now is it known how many steps there are to save.
                _remember(self._steps_taken, key, stats.naccept)
                policy = policy_for(stats.naccept)
                (states, _, steps), _ = integrate(policy)
        solution = Solution(np.array(stops), np.asarray(states), stats)

        def pull(cotangents: Array) -> Gradients:
            with self._precision(dtype):
                back = used(reverse_kernel(field, table, dense, policy))
                flat = np.asarray(back(weights, schedule.timeline, steps, put(cotangents)))
            times = flat.size - len(stops) - 1  # where the times' begin
            to_y0 = flat[times - initial.size : times].reshape(initial.shape)
            to_weights = _arguments.unflattened(flat, shapes)
            return Gradients(to_weights, to_y0.copy(), flat[times:].copy())

        if policy.save_residuals:
            space = steps[0].residuals
            weakref.finalize(pull, self._spare, (key, batch, dtype, policy), space)
        return solution, pull

    def _spare(self, key: Any, space: Any) -> None:
        self._spare_space = {key: space}

    def _adjoint(
        self, problem: InitialValueProblem
    ) -> tuple[Solution, Callable[[Array], Gradients]]:
        """Return the pullback by the adjoint ODE, solved forwards and backwards when called."""
        field, solver, initial = problem.field, problem.solver, problem.y0
        times, dtype, table = (problem.t0, problem.t1), initial.dtype, tableau_of(solver)
        steps = min(problem.grids()[0].n, problem.max_steps) if solver.fixed else 0
        kernel = adjoint_kernel(field, table, training_policy(solver, steps, initial.nbytes))
        with self._precision(dtype):
            arguments = (
                self._put(problem.weights),
                controls_of(solver, times, dtype),
                np.array(times, dtype),
                self._put(initial),
            )
            nothing = self._put(np.zeros_like(initial))
            (_, y1, counts), compiled = run(kernel, *arguments, nothing)

        def pull(cotangents: Array) -> Gradients:
            with self._precision(dtype):
                (to_weights, to_y0, to_times), _, _ = kernel(*arguments, cotangents[0])
            to_weights = {name: np.asarray(each) for name, each in to_weights.items()}
            return Gradients(to_weights, np.asarray(to_y0), np.asarray(to_times))

        stats = _stats(counts, compiled)
        return Solution(np.array(times[1:]), np.asarray(y1)[None], stats), pull

    def _rhs(self, field: Field, weights: dict[str, Array], t: float, y: Array) -> Array:
        with self._precision(y.dtype):
            arguments = self._put(weights), y.dtype.type(t), self._put(y)
            return np.asarray(run(rhs_kernel(field), *arguments)[0])

    def _train(self, chunk: TrainingChunk) -> ChunkResult:
        model, solver, state, x = chunk.model, chunk.solver, chunk.state, chunk.x
        table, dtype, (rows, batch) = tableau_of(solver), x.dtype, chunk.indices.shape
        most = solver.max_steps or MAX_STEPS
        grids = segment_grids(solver, model.times) if solver.fixed else []
        steps = min(sum(grid.n for grid in grids), most)

        def policy_for(batch: int) -> CheckpointPolicy:
            return training_policy(solver, steps, batch * model.field.size * dtype.itemsize)

        policy = policy_for(batch)
        cpu = memory.on_cpu(self._device)
        self._check_memory(
            ("batch_size", model, batch, len(x), table, policy),
            batch,
            lambda n: memory.training_bytes(
                model, n, len(x), table, policy_for(n), dtype.itemsize, cpu=cpu
            ),
            "Make the batches smaller, or the field narrower.",
        )
        method = parsed_gradient(chunk.gradient, self.name).method
        kernel = train_kernel(
            model,
            table,
            solver.fixed,
            policy,
            method,
            chunk.optimizer.at_rate(1.0),
            chunk.precision,
        )
        padded_rows = max(_LEAST_ROWS, 1 << (rows - 1).bit_length())
        rates = np.pad(chunk.rates, (0, padded_rows - rows)).astype(dtype)
        with self._precision(dtype):
            (state_out, metrics, done, code), _ = run(
                kernel,
                (*map(self._put, (state.weights, state.mu, state.nu)), np.int32(state.iteration)),
                self._put(x),
                self._put(chunk.targets),
                np.pad(chunk.indices, ((0, padded_rows - rows), (0, 0))),
                rates,
                np.int32(rows),
                controls_of(solver, model.times, dtype),
                np.int32(min(policy.capacity, most)),
            )
        weights, mu, nu, iteration = jax.tree.map(np.asarray, state_out)
        loss, accuracy, nf = (np.asarray(row)[: int(done)] for row in metrics)
        state = TrainState(weights, mu, nu, int(iteration))
        return ChunkResult(state, loss, accuracy, nf, 0.0, CODES[int(code)])

    def _evaluate(
        self,
        model: Model,
        weights: dict[str, Array],
        x: Array,
        solver: Solver,
        precision: Precision,
    ) -> Evaluation:
        table, dtype = tableau_of(solver), x.dtype
        kind, cpu = PaddedKind.of(table), memory.on_cpu(self._device)
        self._check_memory(
            ("len(x)", model, len(x), kind, dtype.name),
            len(x),
            lambda n: memory.evaluation_bytes(
                model, n, table, kind.stages, dtype.itemsize, cpu=cpu
            ),
            "Evaluate fewer samples at a time.",
        )
        with self._precision(dtype):
            (outputs, states, counts), compiled = run(
                evaluate_kernel(model, kind, precision),
                self._put(weights),
                PaddedArguments.of(table, with_error=not solver.fixed, dtype=dtype),
                controls_of(solver, model.times, dtype),
                self._put(x),
                np.int32(solver.max_steps or MAX_STEPS),
            )
        found = np.asarray(outputs), np.asarray(states), _stats(counts, compiled)
        return Evaluation.of(*found)

    def _step_jacobian(self, problem: InitialValueProblem, dt: float) -> Array:
        y, table = problem.y0, tableau_of(problem.solver)
        real = y.dtype.type
        with self._precision(y.dtype):
            kernel = jacobian_kernel(problem.field, table)
            arguments = self._put(problem.weights), real(problem.t0), real(dt), self._put(y)
            jacobian, _ = run(kernel, *arguments)
        return np.asarray(jacobian)

    def _check_memory(
        self, key: tuple[Any, ...], batch: int, needed: Callable[[int], int], hint: str
    ) -> None:
        """Once for each `key`: what a run holds already is no reason to stop it halfway."""
        if key not in self._fits:
            memory.check_batch(key[0], batch, needed, self._device, hint)
            _remember(self._fits, key, True)

    def _put(self, tree: Any) -> Any:
        """Transfer arrays. Under `_precision` only: outside of it JAX halves float64."""
        return jax.device_put(tree, self._device)

    @contextlib.contextmanager
    def _precision(self, dtype: np.dtype[Any]) -> Iterator[None]:
        """float64 for this call only: JAX's global switch is the user's.

        And float32 that is float32: by JAX's default products of it round to 10 bits on an A100 or
        H100 (TF32), which a swap would take for the solver's error.
        """
        check_fork()
        with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
            yield


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _stats(counts: Iterable[Any], compiled: float) -> Stats:
    """Return the counts of a solve, and the seconds that it was compiled for."""
    nf, njac, naccept, nreject, code = (int(value) for value in counts)
    return Stats(nf, njac, naccept, nreject, CODES[code], 0.0, compiled > 0, compiled)


@cache
def _device(kind: str | None) -> Any:
    if kind is None:
        return None
    if kind not in ("cpu", "gpu"):
        raise InvalidValueError("device", kind, '"cpu" or "gpu"', "Leave it out for JAX's default.")
    try:
        return jax.devices(kind)[0]
    except RuntimeError as error:
        raise BackendUnavailableError(
            f"device = {kind!r}: JAX sees no such device here. Install a JAX build for it"
            " (`pip install 'jax[cuda12]'`), or leave device out."
        ) from error
