"""Density: how likely each sample is, by a continuous normalising flow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pynode_jl._validation import choice
from pynode_jl.errors import DataError
from pynode_jl.tasks._task import Array, Task, namespace

_HALF_LOG = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Density(Task):
    """Answer with the log-density of each sample, in nats, by maximum likelihood.

    The flow takes a sample x at t0 to z at t1, and log p(x) = log N(z; 0, I) + the integral of the
    field's divergence along the way (Chen et al. 2018). Data have no targets: ``y=None``.

    Attributes:
        trace: "exact" for the divergence, which costs a derivative of the field for each number of
            a state; "hutchinson" for an unbiased estimate by one random vector of signs a sample
            (Grathwohl et al. 2019), the same at every step and under every solver.

    Example:
        >>> task = pn.Density()
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> flow = pn.Model(pn.MLP(2), task=task)
        >>> flow.input_shape, pn.Dataset.from_arrays(x, None, task=task).n_test
        ((2,), 20)
    """

    kind = "density"
    metric = "nats per dimension"
    signed = True
    unit = "nats per dimension"
    default_margin = 0.05

    trace: Literal["exact", "hutchinson"] = "exact"

    def __post_init__(self) -> None:
        choice("trace", self.trace, ("exact", "hutchinson"))

    @property
    def default_head(self) -> Literal["linear", "none"]:
        """None: the state itself is the answer."""
        return "none"

    def outputs(self, observed: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``(2,)``: the log-density, in nats, and the number of dimensions."""
        return (2,)

    def checked_targets(self, argument: str, y: Any, n: int) -> Array:
        """Return an empty array: there are no targets.

        Raises:
            DataError: there are some.
        """
        if y is not None and np.size(y):
            raise DataError(
                argument, np.shape(y), "None: a density has no targets", "Leave it out."
            )
        nothing = np.zeros((n, 0), np.float32)
        nothing.flags.writeable = False
        return nothing

    def read(self, states: Any, dimensions: int) -> Any:
        """Return the outputs of final states ``(n, dimensions + 1 or more)``: position z, then the
        integral of the divergence."""
        xp = namespace(states)
        z, gained = states[:, :dimensions], states[:, dimensions]
        density = gained - 0.5 * xp.sum(z * z, axis=1) - _HALF_LOG * dimensions
        return xp.stack([density, xp.full_like(density, dimensions)], axis=1)

    def losses(self, outputs: Any, targets: Any) -> Any:
        """Return negative log-densities, in nats per dimension."""
        return -outputs[:, 0] / outputs[:, 1]

    scores = losses

    def chance_scores(self, x: Array, targets: Array) -> Array | None:
        """Return the scores of the base density itself, a standard normal."""
        flat = x.reshape(len(x), -1).astype(np.float64)
        return np.asarray(np.mean(0.5 * flat**2, axis=1) + _HALF_LOG)

    def changes(self, own: Array, other: Array, targets: Array) -> Array:
        """Return absolute changes, in nats per dimension."""
        with np.errstate(over="ignore", invalid="ignore"):
            difference = own[:, 0].astype(np.float64) - other[:, 0]
        return np.asarray(np.abs(difference) / own[:, 1])


def bits_per_dimension(nats: float, *, levels: int = 1) -> float:
    """Return bits per dimension from nats per dimension.

    Args:
        nats: a negative log-density per dimension.
        levels: how many levels of grey one unit of the data holds: 256 for images scaled to 0 to 1,
            1 for data as they are.

    Example:
        >>> from pynode_jl.tasks import bits_per_dimension
        >>> bits_per_dimension(math.log(2))
        1.0
    """
    return nats / math.log(2) + math.log2(levels)
