"""The accepted steps that a solve saves, and the policy by which it does."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends.jax.numerics.rk_step import StepResult


class CheckpointPolicy(NamedTuple):
    """How many steps there is capacity for, and which of their states are saved.

    Every `stride`-th state is a checkpoint. A reverse sweep then holds ``capacity / stride +
    stride`` states and recomputes ``stride - 1`` of each `stride` steps: 1 is the fastest,
    ``sqrt(capacity)`` the smallest. `save_residuals`: the stages' values and residuals are saved
    too, so that no stage is recomputed; with stride 1 only.
    """

    capacity: int
    stride: int = 1
    save_residuals: bool = False

    @property
    def held_states(self) -> int:
        """States that are held at the same time."""
        return -(-self.capacity // self.stride) + (self.stride if self.stride > 1 else 0)


#: For solves without a gradient.
SAVE_NOTHING = CheckpointPolicy(0)


def rounded_up(n: int) -> int:
    """Return the next power of two: capacities of few sizes are few compilations."""
    return 1 << (n - 1).bit_length()


class SavedTrajectory(NamedTuple):
    """Where each accepted step began and how long it was; the states are those of the policy.

    `residuals`, where they are saved, has each stage's value and residuals, ``(capacity + 1,
    stages, ...)``: an FSAL step's last stage is the next step's first.
    """

    t: jax.Array
    dt: jax.Array
    y: jax.Array
    residuals: Any = None

    @classmethod
    def empty(
        cls, policy: CheckpointPolicy, y0: jax.Array, residuals: Any = None
    ) -> SavedTrajectory:
        """Return a trajectory with that capacity, and nothing in it."""
        # One place more, where states that are not checkpoints go.
        states = -(-policy.capacity // policy.stride) + (policy.stride > 1)
        return cls(
            jnp.zeros(policy.capacity, y0.dtype),
            jnp.zeros(policy.capacity, y0.dtype),
            jnp.zeros((states, *y0.shape), y0.dtype),
            residuals,
        )

    def write(
        self,
        policy: CheckpointPolicy,
        i: jax.Array,
        t: jax.Array,
        dt: jax.Array,
        y: jax.Array,
        step: StepResult,
    ) -> SavedTrajectory:
        """Save step i, which begins at (t, y); steps beyond the capacity are dropped."""
        if policy.capacity == 0:
            return self
        saved = self
        if self.residuals is not None:
            # The first stage of an FSAL step is another's last: it was known, without residuals.
            known = len(step.stages) - len(step.residuals)
            stages = zip(step.stages[known:], step.residuals, strict=True)
            for stage, evaluated in enumerate(stages, known):
                saved = saved.write_stage(evaluated, i, stage)
        place = i
        if policy.stride > 1:
            place = jnp.where(i % policy.stride == 0, i // policy.stride, self.y.shape[0] - 1)
        return saved._replace(
            t=self.t.at[i].set(t), dt=self.dt.at[i].set(dt), y=self.y.at[place].set(y)
        )

    def write_stage(
        self, evaluated: tuple[jax.Array, list[jax.Array]], i: Any, stage: int
    ) -> SavedTrajectory:
        """Save a stage of step i; those past the last of the solution are the next step's."""
        size = self.residuals[0].shape[1]
        place = (i + stage // size, stage % size)
        saved = jax.tree.map(lambda rows, x: rows.at[place].set(x), self.residuals, evaluated)
        return self._replace(residuals=saved)

    def stage(self, i: jax.Array, stage: int) -> Any:
        """Return the value and the residuals of a stage of step i."""
        return jax.tree.map(lambda rows: rows[i, stage], self.residuals)
