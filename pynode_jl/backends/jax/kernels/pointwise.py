"""What needs no loop: the right-hand side, and the Jacobian of one step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.jit import jitted
from pynode_jl.backends.jax.numerics.newton import sample_jacobian
from pynode_jl.backends.jax.numerics.rhs import RHS
from pynode_jl.backends.jax.numerics.rk_step import rk_step_static
from pynode_jl.fields import Field
from pynode_jl.solvers import Tableau


@lru_cache(maxsize=64)
def rhs_kernel(field: Field) -> Callable[..., Any]:
    """Return ``(weights, t, y) -> f(t, y)``, compiled."""
    prepare, apply = field_eval.right_hand_side(field)

    @jitted
    def kernel(weights: Any, t: Any, y: Any) -> Any:
        return apply(prepare(weights), t, y)

    return kernel


@lru_cache(maxsize=256)
def jacobian_kernel(field: Field, table: Tableau) -> Callable[..., Any]:
    """Return ``(weights, t, dt, y) -> Jacobian of the step, (batch, size, size)``, compiled."""
    prepare, apply = field_eval.right_hand_side(field)

    @jitted
    def kernel(weights: Any, t: Any, dt: Any, y: Any) -> Any:
        rhs = RHS(apply, prepare(weights))
        return sample_jacobian(
            lambda y: rk_step_static(table, rhs, t, dt, y, with_error=False).y, y
        )

    return kernel
