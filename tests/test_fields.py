"""Fields and models as data: shapes, initial weights, and what does not fit together."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.fields import (
    ACTIVATIONS,
    FIELDS,
    MLP,
    Activation,
    Conv,
    ConvField1d,
    ConvField2d,
    Dense,
    FunctionField,
    LinearField,
    VectorField,
    kaiming_normal,
)
from pynode_jl.models import Model
from pynode_jl.seeding import generator

EXAMPLES = {
    "mlp": MLP(3, width=5, depth=2),
    "mlp, time": MLP(3, width=5, depth=1, time_dependent=True),
    "conv1d": ConvField1d(7, channels=4),
    "conv1d, time": ConvField1d(7, channels=4, time_dependent=True),
    "conv2d": ConvField2d((3, 5, 4), channels=2),
    "conv2d, time": ConvField2d((3, 5, 4), channels=2, time_dependent=True),
    "linear": LinearField(4),
}


@pytest.mark.parametrize("field", EXAMPLES.values(), ids=EXAMPLES)
def test_init_has_the_shapes_it_states(field: VectorField) -> None:
    weights = field.init(0)
    assert {name: value.shape for name, value in weights.items()} == field.weight_shapes()
    assert all(value.dtype == np.float32 for value in weights.values())
    assert field.size == math.prod(field.state_shape)
    for name, value in weights.items():
        assert (not value.any()) == name.endswith("bias")


@pytest.mark.parametrize("field", EXAMPLES.values(), ids=EXAMPLES)
def test_one_seed_one_set_of_weights(field: VectorField) -> None:
    first, again, other = field.init(3), field.init(3), field.init(4)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert name.endswith("bias") or not np.array_equal(first[name], other[name])


def test_weights_are_the_same_in_another_process() -> None:
    code = (
        "from pynode_jl.fields import MLP; print(MLP(2).init(0)['layers.0.weight'].tobytes().hex())"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert printed.stdout.decode().strip() == MLP(2).init(0)["layers.0.weight"].tobytes().hex()


def test_init_draws_from_a_generator_in_order() -> None:
    random = generator(0, "weights")
    first, second = MLP(2).init(random), MLP(2).init(random)
    np.testing.assert_array_equal(first["layers.0.weight"], MLP(2).init(0)["layers.0.weight"])
    assert not np.array_equal(first["layers.0.weight"], second["layers.0.weight"])


@pytest.mark.parametrize("shape", [(400, 50), (200, 10, 5), (100, 5, 3, 3)])
def test_kaiming_normal_has_its_variance(shape: tuple[int, ...]) -> None:
    draws = kaiming_normal(shape, np.random.default_rng(0)).astype(float)
    fan_in = math.prod(shape[1:])
    assert draws.var() == pytest.approx(2 / fan_in, rel=6 * math.sqrt(2 / draws.size))
    assert draws.mean() == pytest.approx(0, abs=6 * math.sqrt(2 / fan_in / draws.size))
    # A normal's kurtosis: a uniform draw of the same variance would have 1.8.
    assert np.mean(draws**4) / draws.var() ** 2 == pytest.approx(3, abs=0.3)


def test_the_papers_sphere_model() -> None:
    model = Model(ConvField1d(2), classes=2)
    assert sum(v.size for v in model.init(0).values()) == 3207
    assert model.weight_shapes() == {
        "field.layers.0.weight": (32, 1, 1),
        "field.layers.0.bias": (32,),
        "field.layers.2.weight": (32, 32, 3),
        "field.layers.2.bias": (32,),
        "field.layers.4.weight": (1, 32, 1),
        "field.layers.4.bias": (1,),
        "head.weight": (2, 2),
        "head.bias": (2,),
    }


def test_fields_are_values() -> None:
    assert MLP(2, width=3) == MLP(2, width=3)
    assert hash(MLP(2, width=3)) == hash(MLP(2, width=3))
    assert MLP(2, width=3) != MLP(2, width=4)
    assert MLP(2) != MLP(2, activation="relu")
    assert MLP(2) != MLP(2, time_dependent=True)


def test_time_enters_the_first_layer_only() -> None:
    plain, timed = (MLP(3, width=5, time_dependent=t).weight_shapes() for t in (False, True))
    assert plain["layers.0.weight"] == (5, 3)
    assert timed["layers.0.weight"] == (5, 4)
    assert {k: v for k, v in plain.items() if k != "layers.0.weight"} == {
        k: v for k, v in timed.items() if k != "layers.0.weight"
    }


@given(dim=st.integers(1, 30), width=st.integers(1, 9), depth=st.integers(1, 4), time=st.booleans())
def test_mlps_fit_together(dim: int, width: int, depth: int, time: bool) -> None:
    field = MLP(dim, width=width, depth=depth, time_dependent=time)
    dense = [layer for layer in field.layers if isinstance(layer, Dense)]
    assert len(dense) == depth + 1
    assert dense[0].inputs == dim + time
    assert dense[-1].outputs == dim
    assert isinstance(field.layers[-1], Dense)


def test_every_kind_can_be_made_by_name() -> None:
    assert set(FIELDS) == {"conv1d", "conv2d", "linear", "mlp"}
    for kind, make in FIELDS.items():
        field = make((3, 4, 4)) if kind == "conv2d" else make(4)
        assert isinstance(field, VectorField)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: MLP(0), "dim"),
        (lambda: MLP(2, width=0), "width"),
        (lambda: MLP(2, depth=0), "depth"),
        (lambda: MLP(2.0), "dim"),  # type: ignore[arg-type]
        (lambda: MLP(True), "dim"),
        (lambda: ConvField1d(3, channels=-1), "channels"),
        (lambda: ConvField2d((3, 4)), "shape"),  # type: ignore[arg-type]
        (lambda: ConvField2d((3, 4, 0)), "state_shape"),
        (lambda: LinearField(0), "dim"),
        (lambda: Conv(1, 1, 2, 1), "kernel"),
        (lambda: VectorField((2,), ()), "layers"),
        (lambda: VectorField((2,), (Activation("relu"),)), "layers"),
        (lambda: VectorField((2, 2), (Dense(2, 2),)), "state_shape"),
        (lambda: VectorField((2,), (Dense(3, 2),)), r"layers\[0\].inputs"),
        (lambda: VectorField((2,), (Dense(2, 4), Dense(3, 2))), r"layers\[1\].inputs"),
        (lambda: VectorField((2,), (Dense(2, 3),)), r"layers\[-1\].outputs"),
        (lambda: VectorField((2,), (Dense(2, 2),), True), r"layers\[0\].inputs"),
        (lambda: VectorField((1,), (Dense(1, 1), Conv(1, 1, 1, 1))), r"layers\[1\]"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Any], argument: str) -> None:
    with pytest.raises(InvalidValueError, match=argument) as caught:
        make()
    assert (caught.value.expected, caught.value.hint) != ("", "")
    # As they were called in version 0.1.
    assert (caught.value.allowed, caught.value.mend) == (caught.value.expected, caught.value.hint)


def test_unknown_activation_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean relu"):
        MLP(2, activation="rellu")  # type: ignore[arg-type]
    assert len(set(ACTIVATIONS)) == len(ACTIVATIONS)


def test_function_field_carries_its_weights() -> None:
    field = FunctionField(lambda w, t, y: w["a"] * y, (3,), initial=(("a", np.full(3, 2.0)),))
    assert field.weight_shapes() == {"a": (3,)}
    drawn = field.init(0)
    drawn["a"][0] = 7.0  # a copy: the field's own stay
    np.testing.assert_array_equal(field.init(1)["a"], [2.0, 2.0, 2.0])
    assert field.size == 3
    assert field == field
    assert field != FunctionField(field.function, (3,), field.initial)
    assert len({field, field}) == 1


# Models -------------------------------------------------------------------------------------------


def test_model_pads_its_input() -> None:
    assert Model(MLP(5), classes=2, augment=3).input_shape == (2,)
    assert Model(ConvField2d((4, 6, 6)), classes=10, augment=1).input_shape == (3, 6, 6)
    assert Model(MLP(2), classes=2).input_shape == (2,)


@pytest.mark.parametrize("field", EXAMPLES.values(), ids=EXAMPLES)
def test_model_init_has_the_shapes_it_states(field: VectorField) -> None:
    model = Model(field, classes=3)
    weights = model.init(1)
    assert {name: value.shape for name, value in weights.items()} == model.weight_shapes()
    assert weights["head.weight"].shape == (3, field.size)
    # The field's own weights for that seed, whatever else the model draws.
    for name, value in field.init(1).items():
        np.testing.assert_array_equal(weights[f"field.{name}"], value)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"t0": 1.0, "t1": 1.0}, "t1 = 1.0: expected another time"),
        ({"t1": math.inf}, "t1 = inf"),
        ({"t0": math.nan}, "t0 = nan"),
        ({"classes": 1}, "classes"),
        ({"augment": -1}, "augment"),
        ({"augment": 2}, "augment"),
    ],
)
def test_impossible_models_are_refused(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidValueError, match=argument):
        Model(MLP(2), **{"classes": 2} | arguments)
