"""Fields on states with the batch last: the same functions, and the same derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pynode_jl.backends.jax import columns, field_eval
from pynode_jl.fields import MLP, ConvField1d, ConvField2d, Field, FunctionField, LogDensityField

FIELDS: dict[str, Field] = {
    "dense": MLP(3, width=5),
    "dense in time": MLP(2, width=5, activation="gelu", time_dependent=True),
    "convolution": ConvField1d(2, channels=3),
    "convolution in time": ConvField1d(3, channels=2, time_dependent=True),
    "density": LogDensityField(MLP(2, width=5), "exact"),
    "density in time": LogDensityField(MLP(2, width=5, time_dependent=True), "exact"),
    "density of silu": LogDensityField(MLP(3, width=4, activation="silu"), "exact"),
    "density, estimated": LogDensityField(MLP(2, width=5, activation="softplus"), "hutchinson"),
    "density of a convolution": LogDensityField(ConvField1d(2, channels=3), "exact"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_columns_are_rows(name: str) -> None:
    """Values and gradients to weights and states, in float64, by two ways of writing a field."""
    field = FIELDS[name]
    random = np.random.default_rng(0)
    assert columns.suits_columns(field)
    with jax.enable_x64(True):
        weights = {k: random.normal(size=v) for k, v in field.weight_shapes().items()}
        y = random.normal(size=(4, *field.state_shape))
        seen = random.normal(size=y.shape)

        def along(function: field_eval.FieldEvaluator, transposed: bool) -> object:
            def value(weights: object, y: jax.Array) -> jax.Array:
                states = y.T if transposed else y
                found = function.apply(function.prepare(weights), jnp.float64(0.3), states)  # type: ignore[arg-type]
                return jnp.sum((found.T if transposed else found) * seen)

            return jax.value_and_grad(value, (0, 1))(weights, y)

        rows = along(field_eval.right_hand_side(field), False)
        found = along(columns.right_hand_side(field), True)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(rows), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_what_is_no_small_matrix_stays_in_rows() -> None:
    def slope(weights: object, t: object, y: object) -> object:
        return y

    others = (ConvField1d(4), ConvField2d((1, 8, 8)), FunctionField(slope, (2,)))
    assert not any(columns.suits_columns(field) for field in others)
    assert not columns.suits_columns(LogDensityField(ConvField1d(5), "exact"))
