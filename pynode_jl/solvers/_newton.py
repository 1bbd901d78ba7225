"""When Newton's iteration for an implicit stage stops, once for every backend.

A stage k solves ``k = f(t, base + dt a k)``. A fixed step has no tolerance to stop at, so the stage
is solved to the precision of its dtype: the iteration stops when its last update changed no
component of the stage's state by more than `NEWTON_ROUNDINGS` roundings (`newton_change`), and
fails after `NEWTON_ITERATIONS` of them.
"""

from __future__ import annotations

from typing import Any

#: The most Newton iterations of a stage.
NEWTON_ITERATIONS = 25
#: A stage is solved where its last update is no more than so many roundings.
NEWTON_ROUNDINGS = 16


def newton_change(xp: Any, update: Any, base: Any, increment: Any) -> Any:
    """Return the largest component of `update` in units of ``1 + |base| + |increment|``.

    The stage's state is ``base + increment``, ``increment = dt a k``, and `update` is what the last
    iteration added to it. It is measured by the terms of that sum, which cancel where dt times the
    Lipschitz constant is large: the state alone is smaller than the rounding of its terms.

    Args:
        xp: the array namespace: ``jax.numpy``, ``numpy`` or ``torch``.
        update, base, increment: arrays of one shape, in the unit of the state.

    Example:
        >>> from pynode_jl.solvers import newton_change
        >>> bool(newton_change(np, np.array([1e-9]), np.array([1.0]), np.array([0.5])) < 1e-6)
        True
    """
    return xp.max(xp.abs(update) / (1.0 + xp.abs(base) + xp.abs(increment)))
