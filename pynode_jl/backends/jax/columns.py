"""Small fields on states with the batch last, ``(numbers, batch)``.

On a CPU narrow layers and their gradients take two thirds of the time so: every loop then runs
along the batch. All layers are dense here: a convolution over a state no longer than its kernel is
one small (Toeplitz) matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends._precision import Precision
from pynode_jl.backends.jax import field_eval
from pynode_jl.backends.jax.field_eval import FieldEvaluator
from pynode_jl.fields import Activation, Conv, Dense, Field, LogDensityField, VectorField
from pynode_jl.solvers import Tableau


class Layout(NamedTuple):
    """A field's function in the layout of states that suits it, and the way there (and back)."""

    function: FieldEvaluator
    transpose: Callable[[jax.Array], jax.Array]


def layout_of(field: Field, table: Tableau, precision: Precision = "full") -> Layout:
    """Return the function of a field for a solve that is differentiated in reverse.

    An explicit method's has derivatives in reverse mode only.
    """
    if in_columns(field, table):
        return Layout(right_hand_side(field, precision), lambda y: jnp.swapaxes(y, -1, -2))
    rows = field_eval.right_hand_side(field, reverse_only=table.explicit, precision=precision)
    return Layout(rows, lambda y: y)


def in_columns(field: Field, table: Tableau) -> bool:
    """Whether `layout_of` is columns; implicit stages see samples as rows."""
    return table.explicit and suits_columns(field)


def suits_columns(field: Field) -> bool:
    """Whether `right_hand_side` takes a field."""
    if isinstance(field, LogDensityField):
        return suits_columns(field.field)
    if not isinstance(field, VectorField):
        return False
    convolutions = [layer for layer in field.layers if isinstance(layer, Conv)]
    longest = max((layer.kernel for layer in convolutions), default=field.size)
    return field.size <= longest and all(layer.axes == 1 for layer in convolutions)


def right_hand_side(field: Field, precision: Precision = "full") -> FieldEvaluator:
    """Return the function of a field that `suits_columns`; reverse mode only."""
    if isinstance(field, LogDensityField):
        return _with_divergence(field, precision)
    assert isinstance(field, VectorField)
    chain = _Chain(field, precision)
    return FieldEvaluator(chain.prepare, lambda prepared, t, y: chain(prepared, t, y)[0])


class _Matrix(NamedTuple):
    weight: jax.Array
    bias: jax.Array


class _Chain(NamedTuple):
    """The layers of a field, and how their derivative along directions goes with them."""

    field: VectorField
    precision: Precision

    @property
    def positions(self) -> int:
        """How many positions share a convolution's features; 1 of a dense field."""
        return self.field.size // self.field.features

    def prepare(self, weights: Mapping[str, jax.Array]) -> list[_Matrix | None]:
        """Return each layer's matrix, None of an activation."""
        return [
            None
            if isinstance(layer, Activation)
            else self._matrix(layer, weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"])
            for i, layer in enumerate(self.field.layers)
        ]

    def _matrix(self, layer: Dense | Conv, weight: jax.Array, bias: jax.Array) -> _Matrix:
        if isinstance(layer, Conv):
            taps = jnp.transpose(weight, (2, 1, 0))  # (kernel, in, out)
            weight = field_eval.toeplitz(taps, self.positions).T
            bias = jnp.tile(bias, self.positions)
        return _Matrix(weight, bias[:, None])

    def __call__(
        self,
        prepared: list[_Matrix | None],
        t: jax.Array,
        y: jax.Array,
        along: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return the slope of states ``(numbers, batch)``, and its derivative along directions.

        `along` is ``(numbers, directions, batch)``, or 1 for the batch where all samples share
        them.
        """
        h = y
        if self.field.time_dependent:
            h = self._with_feature(h, jnp.asarray(t, h.dtype))
            along = None if along is None else self._with_feature(along, jnp.zeros((), h.dtype))
        for layer, matrix in zip(self.field.layers, prepared, strict=True):
            if isinstance(layer, Activation):
                if along is None:
                    h = field_eval.activate(layer.name, h)
                else:
                    h, slope = field_eval.activate_with_slope(layer.name, h)
                    along = along * slope[:, None]
            else:
                assert matrix is not None
                h = self._product(matrix.weight, h) + matrix.bias
                if along is not None:
                    flat = self._product(matrix.weight, along.reshape(len(along), -1))
                    along = flat.reshape(-1, *along.shape[1:])
        return h, along

    def _with_feature(self, h: jax.Array, value: jax.Array) -> jax.Array:
        """Return states with one feature more at each position."""
        split = h.reshape(self.positions, -1, *h.shape[1:])
        more = jnp.broadcast_to(value, (self.positions, 1, *h.shape[1:]))
        return jnp.concatenate([split, more], axis=1).reshape(-1, *h.shape[1:])

    def _product(self, weight: jax.Array, h: jax.Array) -> jax.Array:
        if self.precision != "full":
            weight, h = weight.astype(self.precision), h.astype(self.precision)
        return weight @ h


def _with_divergence(field: LogDensityField, precision: Precision) -> FieldEvaluator:
    """Return the function of a field beside the integral of its divergence."""
    assert isinstance(field.field, VectorField)
    chain, d = _Chain(field.field, precision), field.field.size

    def apply(prepared: Any, t: jax.Array, y: jax.Array) -> jax.Array:
        x, noise = y[:d], y[d + 1 :]
        exact = field.trace == "exact"
        directions = jnp.eye(d, dtype=y.dtype)[:, :, None] if exact else noise[:, None]
        slope, along = chain(prepared, t, x, directions)
        assert along is not None
        # The exact trace is the sum of each coordinate's derivative along itself.
        divergence = jnp.sum(along * directions, axis=(0, 1))
        rest = jnp.zeros_like(noise)
        return jnp.concatenate([slope, jnp.broadcast_to(divergence, y[d : d + 1].shape), rest])

    return FieldEvaluator(chain.prepare, apply)
