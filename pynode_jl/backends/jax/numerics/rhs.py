"""f(t, y) with its weights in hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

#: ``(prepared, t, y) -> dy``: a right-hand side with its weights prepared.
Apply: TypeAlias = Callable[[Any, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class RHS:
    """f(t, y) with its weights in hand, so that they can be held constant.

    `save_residuals`: whether an evaluation also returns what its reverse derivative needs.
    """

    apply: Apply
    prepared: Any
    save_residuals: bool = False

    def __call__(self, t: jax.Array, y: jax.Array) -> jax.Array:
        """Return f(t, y)."""
        return self.apply(self.prepared, t, y)

    def evaluate(self, t: jax.Array, y: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Return the value and the VJP residuals (excluding the weights); empty if `save_residuals`
        is false."""
        if not self.save_residuals:
            return self(t, y), []
        value, vjp = jax.vjp(self.apply, self.prepared, t, y)
        return value, [each for each in jax.tree.leaves(vjp) if not self._has(each)]

    def vjp(
        self, t: jax.Array, y: jax.Array, residuals: list[jax.Array]
    ) -> Callable[[jax.Array], tuple[Any, jax.Array, jax.Array]]:
        """Return an evaluation's VJP from its residuals; of `t` and `y` only the shapes count."""
        _, vjp = jax.vjp(self.apply, self.prepared, t, y)  # for its structure; it is never run
        leaves, structure = jax.tree.flatten(vjp)
        rest = iter(residuals)
        own = [each if self._has(each) else next(rest) for each in leaves]
        restored: Callable[..., Any] = jax.tree.unflatten(structure, own)
        return restored

    def _has(self, array: Any) -> bool:
        return any(array is each for each in jax.tree.leaves(self.prepared))

    def constant(self) -> RHS:
        """Return the same function, through whose weights no derivative passes."""
        return RHS(self.apply, jax.lax.stop_gradient(self.prepared))


def counted_from(origin: Any, apply: Apply) -> Apply:
    """Return a right-hand side that takes times counted from `origin` (`Clock`)."""
    if isinstance(origin, float) and origin == 0.0:
        return apply

    def shifted(prepared: Any, t: jax.Array, y: jax.Array) -> jax.Array:
        return apply(prepared, origin + t, y)

    return shifted


class StepCounts(NamedTuple):
    """Evaluations of the right-hand side and of its Jacobian, and whether Newton converged."""

    nf: jax.Array
    njac: jax.Array
    converged: jax.Array

    def plus(self, new: StepCounts) -> StepCounts:
        """Return the counts of both."""
        return StepCounts(self.nf + new.nf, self.njac + new.njac, self.converged & new.converged)


def rounding(x: jax.Array) -> float:
    """Machine epsilon of an array's dtype."""
    return float(np.finfo(x.dtype).eps)
