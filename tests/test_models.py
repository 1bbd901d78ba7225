"""A model's weights, flat and as a tree; its augmentation and head on arrays of two frameworks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import MLP, ConvField2d, LinearField
from pynode_jl.models import Model, ModelWeights

IMAGES = Model(ConvField2d((3, 2, 2), channels=4), classes=5, augment=2)
RANDOM = np.random.default_rng(0)


def test_the_flat_names_are_those_of_stored_checkpoints() -> None:
    model = Model(LinearField(2), classes=3)
    shapes = {
        "field.layers.0.weight": (2, 2),
        "field.layers.0.bias": (2,),
        "head.weight": (3, 2),
        "head.bias": (3,),
    }
    assert model.weight_shapes() == shapes
    assert {name: value.shape for name, value in model.init(0).items()} == shapes


def test_tree_and_flat_form_hold_the_same_arrays() -> None:
    flat = Model(MLP(2), classes=2).init(0)
    tree = ModelWeights.from_dict(flat)
    assert list(tree.field) == [
        f"layers.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")
    ]
    again = tree.to_dict()
    assert list(again) == list(flat)
    assert all(again[name] is flat[name] for name in flat)


def test_weights_without_a_head_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"weights = .*layers.0.weight.*head.weight"):
        ModelWeights.from_dict(LinearField(2).init(0))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_augmentation_appends_zeros_in_the_arrays_own_framework(array: Any) -> None:
    x = RANDOM.normal(size=(4, 1, 2, 2)).astype(np.float32)
    found = IMAGES.initial_state(array(x))
    assert type(found) is type(array(x))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found[:, :1], x)
    assert found.shape == (4, 3, 2, 2)
    assert not np.any(found[:, 1:])


def test_nothing_is_copied_where_nothing_is_appended() -> None:
    x = np.ones((4, 2))
    model = Model(LinearField(2), classes=2)
    assert model.initial_state(x) is x
    np.testing.assert_array_equal(model.initial_state([[1.0, 2.0]]), [[1.0, 2.0]])


def test_logits_are_the_heads_product_traced_too() -> None:
    y = RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32)
    tree = ModelWeights.from_dict(IMAGES.init(0) | {"head.bias": np.arange(5, dtype=np.float32)})
    expected = np.einsum("nchw,kchw->nk", y, tree.head_weight.reshape(5, 3, 2, 2)) + np.arange(5)
    np.testing.assert_allclose(IMAGES.logits(y, tree), expected, rtol=1e-5, atol=1e-5)
    traced = jax.jit(lambda y: IMAGES.logits(y, tree))(y)
    np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-5)
