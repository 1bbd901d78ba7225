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
from pynode_jl.backends._base import MAX_STEPS, Backend, InitialValueProblem
from pynode_jl.backends._forks import check_fork
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
)
from pynode_jl.backends._training import TrainingChunk
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
from pynode_jl.backends.jax.jobs import Job, Joined, groups, padded, padded_rows
from pynode_jl.backends.jax.kernels.pointwise import jacobian_kernel, rhs_kernel
from pynode_jl.backends.jax.kernels.pullback import (
    adjoint_kernel,
    forward_kernel,
    reverse_kernel,
)
from pynode_jl.backends.jax.kernels.solve import evaluate_kernel, solve_kernel
from pynode_jl.backends.jax.kernels.train import train_kernel, train_many_kernel
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
        put = self._given
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
        job = Job.of(chunk)
        self._check_training(job, 1)
        kernel = train_kernel(job.program)
        rows = padded_rows(job.rows)
        with self._precision(job.dtype):
            found, _ = run(
                kernel,
                self._given(job.state),
                self._given(chunk.x),
                self._given(chunk.targets),
                padded(chunk.indices, rows),
                padded(chunk.rates, rows).astype(job.dtype),
                np.int32(job.rows),
                job.controls,
                job.max_steps,
            )
        return job.result(*jax.tree.map(np.asarray, found))

    def _train_many(self, chunks: list[TrainingChunk], exact: bool) -> list[ChunkResult]:
        jobs = [Job.of(chunk) for chunk in chunks]
        results: dict[int, ChunkResult] = {}
        for members in groups(jobs, exact):
            if len(members) == 1:
                (i,) = members
                results[i] = self._train(chunks[i])
            else:
                found = self._train_together([jobs[i] for i in members])
                results.update(zip(members, found, strict=True))
        return [results[i] for i in range(len(chunks))]

    def _train_together(self, jobs: list[Job]) -> list[ChunkResult]:
        first = jobs[0]
        self._check_training(first, len(jobs))
        kernel = train_many_kernel(first.program)
        batch = Joined.of(jobs)
        with self._precision(first.dtype):
            found, _ = run(
                kernel,
                self._given(batch.states),
                self._given(batch.x),
                self._given(batch.targets),
                batch.indices,
                batch.rates.astype(first.dtype),
                batch.rows,
                first.controls,
                first.max_steps,
            )
        found = jax.tree.map(np.asarray, found)
        return [
            job.result(*jax.tree.map(lambda each, i=i: each[i], found))
            for i, job in enumerate(jobs)
        ]

    def _check_training(self, job: Job, runs: int) -> None:
        n, batch = len(job.chunk.x), job.chunk.indices.shape[1]
        cpu = memory.on_cpu(self._device)
        self._check_memory(
            ("batch_size", *job.program[:4], batch, n, runs),
            batch,
            lambda size: runs * job.bytes_needed(size, cpu=cpu),
            "Make the batches smaller, or the field narrower.",
        )

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

    def _given(self, tree: Any) -> Any:
        """Return arrays as a kernel of this device takes them: without a device of its own NumPy's
        as they are, in half the time."""
        return tree if self._device is None else self._put(tree)

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
