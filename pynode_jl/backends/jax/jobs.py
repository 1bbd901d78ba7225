"""Chunks of training as the kernels take them, and which of them run together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from pynode_jl.backends._base import MAX_STEPS
from pynode_jl.backends._gradients import parsed_gradient
from pynode_jl.backends._results import Array, ChunkResult, TrainState
from pynode_jl.backends._times import segment_grids
from pynode_jl.backends._training import TrainingChunk
from pynode_jl.backends.jax import field_eval, memory
from pynode_jl.backends.jax.checkpointing import training_policy
from pynode_jl.backends.jax.controls import controls_of, tableau_of
from pynode_jl.backends.jax.kernels.train import Program
from pynode_jl.backends.jax.numerics.segment import CODES
from pynode_jl.backends.jax.numerics.trajectory import CheckpointPolicy

# Iterations of one compiled call are padded to these.
_LEAST_ROWS = 64
# Trainings run together: in parts of powers of two, few sizes being few compilations. More than
# these leave the caches of a core (16 of Sphere 2D took a quarter longer each than 8).
_MOST_TOGETHER = 8


@dataclass(frozen=True)
class Job:
    """A chunk of training, with the program that it needs and the numbers of its solves."""

    chunk: TrainingChunk
    program: Program
    controls: Any
    max_steps: np.int32

    @classmethod
    def of(cls, chunk: TrainingChunk) -> Job:
        """Return the job of a chunk."""
        solver, dtype, batch = chunk.solver, chunk.x.dtype, chunk.indices.shape[1]
        policy = _policy(chunk, batch)
        program = Program(
            chunk.model,
            tableau_of(solver),
            solver.fixed,
            policy,
            parsed_gradient(chunk.gradient, "jax").method,
            chunk.optimizer.at_rate(1.0),
            chunk.precision,
        )
        most = np.int32(min(policy.capacity, solver.max_steps or MAX_STEPS))
        return cls(chunk, program, controls_of(solver, chunk.model.times, dtype), most)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of its states."""
        return self.chunk.x.dtype

    @property
    def rows(self) -> int:
        """How many iterations it has."""
        return len(self.chunk.indices)

    @property
    def state(self) -> Any:
        """Where it begins, as the kernels take it."""
        state = self.chunk.state
        return state.weights, state.mu, state.nu, np.int32(state.iteration)

    def bytes_needed(self, batch: int, *, cpu: bool) -> int:
        """Bytes that it would take with batches of that size."""
        model, table, *_ = self.program
        return memory.training_bytes(
            model,
            batch,
            len(self.chunk.x),
            table,
            _policy(self.chunk, batch),
            self.dtype.itemsize,
            cpu=cpu,
        )

    def key(self) -> Hashable:
        """Return what it must share with those that it runs together with."""
        chunk = self.chunk
        steps = tuple(np.asarray(each).tobytes() for each in self.controls)
        shapes = (chunk.indices.shape[1], chunk.x.shape[1:], chunk.targets.shape[1:])
        dtypes = (chunk.x.dtype, chunk.targets.dtype)
        return self.program, steps, int(self.max_steps), shapes, dtypes

    def result(self, state: Any, metrics: Any, done: Any, code: Any) -> ChunkResult:
        """Return what a kernel has found as the result of the chunk."""
        weights, mu, nu, iteration = state
        loss, score, nf = (row[: int(done)] for row in metrics)
        reached = TrainState(weights, mu, nu, int(iteration))
        return ChunkResult(reached, loss, score, nf, 0.0, CODES[int(code)])


def padded_rows(rows: int) -> int:
    """Return a number of iterations that few programs are compiled for."""
    return max(_LEAST_ROWS, 1 << (rows - 1).bit_length())


def padded(array: Array, rows: int) -> Array:
    """Return an array with zeros up to that many rows."""
    return np.pad(array, [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1))


def groups(jobs: list[Job], exact: bool) -> list[list[int]]:
    """Return which of the jobs run together, by number.

    Vectorised loops run at the same fixed steps. Where the steps adapt, and where a state is an
    image, one training fills a processor by itself; where results are to be exact they run one by
    one too.
    """
    found: dict[Hashable, list[int]] = {}
    for i, job in enumerate(jobs):
        program = job.program
        alone = (
            exact
            or not program.fixed
            or program.gradient != "discrete"
            or field_eval.width(program.model.field) > 0
        )
        found.setdefault(i if alone else job.key(), []).append(i)
    return [part for members in found.values() for part in _parts(members)]


def _parts(members: list[int]) -> list[list[int]]:
    """Split a group into parts of powers of two, the largest first."""
    parts = []
    while members:
        size = min(_MOST_TOGETHER, 1 << (len(members).bit_length() - 1))
        parts.append(members[:size])
        members = members[size:]
    return parts


@dataclass(frozen=True)
class Joined:
    """Several jobs of one program as its vectorised form takes them.

    The data of all are one set of samples; those that jobs share are in it once.
    """

    states: Any
    x: Array
    targets: Array
    indices: Array
    rates: Array
    rows: Array

    @classmethod
    def of(cls, jobs: list[Job]) -> Joined:
        """Return jobs joined."""
        size = padded_rows(max(job.rows for job in jobs))
        begins: dict[Hashable, int] = {}
        x, targets, indices, n = [], [], [], 0
        for job in jobs:
            chunk = job.chunk
            data = (_identity(chunk.x), _identity(chunk.targets))
            if data not in begins:
                begins[data] = n
                x.append(chunk.x)
                targets.append(chunk.targets)
                n += len(chunk.x)
            indices.append(padded(chunk.indices, size) + np.int32(begins[data]))
        return cls(
            jax.tree.map(lambda *each: np.stack(each), *(job.state for job in jobs)),
            x[0] if len(x) == 1 else np.concatenate(x),
            targets[0] if len(x) == 1 else np.concatenate(targets),
            np.stack(indices),
            np.stack([padded(job.chunk.rates, size) for job in jobs]),
            np.array([job.rows for job in jobs], np.int32),
        )


def _identity(array: Array) -> Hashable:
    return array.__array_interface__["data"][0], array.shape, array.strides


def _policy(chunk: TrainingChunk, batch: int) -> CheckpointPolicy:
    """Return what is saved of the steps with batches of that size."""
    solver, model = chunk.solver, chunk.model
    grids = segment_grids(solver, model.times) if solver.fixed else []
    steps = min(sum(grid.n for grid in grids), solver.max_steps or MAX_STEPS)
    return training_policy(solver, steps, batch * model.field.size * chunk.x.dtype.itemsize)
