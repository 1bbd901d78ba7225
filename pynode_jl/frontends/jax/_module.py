"""`NeuralODE`: an Equinox module whose call is a solve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from pynode_jl._validation import interval, whole_number
from pynode_jl.backends.jax import field_eval
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import VectorField
from pynode_jl.frontends.jax._odeint import odeint
from pynode_jl.solvers import Solver


class FieldModule(eqx.Module):
    """f(t, y) of a `VectorField` for states ``(batch, *state_shape)``.

    Its weights, by name, are the module's arrays; they start as ``field.init(seed)`` draws them.

    Example:
        >>> import jax.numpy as jnp
        >>> from pynode_jl.jax import FieldModule
        >>> FieldModule(pn.MLP(2, width=4))(0.0, jnp.ones((3, 2))).shape
        (3, 2)
    """

    weights: dict[str, jax.Array]
    field: VectorField = eqx.field(static=True)

    def __init__(self, field: VectorField, seed: int = 0) -> None:
        if not isinstance(field, VectorField):
            raise InvalidValueError("field", field, "a VectorField", "Use pn.MLP(2), say.")
        self.field = field
        self.weights = {name: jnp.asarray(value) for name, value in field.init(seed).items()}

    def __call__(self, t: jax.Array, y: jax.Array) -> jax.Array:
        """Return the slope, of y's shape."""
        prepare, apply = field_eval.right_hand_side(self.field)
        return apply(prepare(self.weights), t, y)


class NeuralODE(eqx.Module):
    """y(t0) -> y(t1) along a field, differentiated through the solver's own steps.

    `seed` decides the initial weights of a `VectorField`.

    Attributes:
        field: a function ``(t, y) -> dy/dt`` that is a pytree, an `equinox.Module` say; a
            `VectorField` becomes one.
        solver: the method with its step or tolerances.
        t_span: ``(t0, t1)``.
        max_steps: as for `odeint`.

    Example:
        >>> import jax.numpy as jnp
        >>> from pynode_jl.jax import NeuralODE
        >>> node = NeuralODE(lambda t, y: -y, pn.Solver("Euler", dt=0.5))
        >>> node(jnp.ones((1, 1))).tolist()
        [[0.25]]
    """

    field: Callable[[Any, Any], Any]
    solver: Solver = eqx.field(static=True)
    t_span: tuple[float, float] = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        field: VectorField | Callable[[Any, Any], Any],
        solver: Solver | None = None,
        *,
        t_span: tuple[float, float] = (0.0, 1.0),
        max_steps: int = 4096,
        seed: int = 0,
    ) -> None:
        if not callable(field) and not isinstance(field, VectorField):
            raise InvalidValueError(
                "field", field, "a function of (t, y) or a VectorField", "Use pn.MLP(2), say."
            )
        self.field = FieldModule(field, seed) if isinstance(field, VectorField) else field
        self.solver = Solver("Tsit5") if solver is None else Solver.of(solver)
        self.t_span = interval("t_span", t_span)
        self.max_steps = whole_number("max_steps", max_steps)

    def __call__(self, y0: Any, t: Any = None) -> Any:
        """Return the state at t1, or the states at all times `t`, of which `y0` is the first."""
        times = self.t_span if t is None else t
        arrays, rest = eqx.partition(self.field, eqx.is_inexact_array)

        def slope(y: Any, time: Any, arrays: Any) -> Any:
            return eqx.combine(arrays, rest)(time, y)

        states = odeint(slope, y0, times, arrays, method=self.solver, max_steps=self.max_steps)
        return jax.tree.map(lambda each: each[-1], states) if t is None else states
