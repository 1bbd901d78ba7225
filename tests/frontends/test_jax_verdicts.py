"""Models of JAX as they are, certified: Equinox modules, flax variables, functions."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pynode_jl as pn
from pynode_jl.errors import PyNODEError
from pynode_jl.fields import VectorField
from pynode_jl.jax import FieldModule, NeuralODE, swap, to_trained

EULER = pn.Solver("Euler", dt=1 / 2)


class Field(eqx.Module):
    """Of one sample, in diffrax's call: norm, time joined, a skip connection."""

    norm: eqx.nn.LayerNorm
    net: eqx.nn.MLP
    drop: eqx.nn.Dropout

    def __init__(self) -> None:
        self.norm = eqx.nn.LayerNorm(2)
        self.net = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        joined = jnp.concatenate([self.norm(y), jnp.asarray(t, y.dtype)[None]])
        return self.drop(self.net(joined)) - y


class Applied:
    """What flax's modules are to their caller: `apply`, and a signature without the variables."""

    def __call__(self, t: Any, y: Any) -> Any:
        raise AssertionError("called without variables")

    def apply(self, variables: Any, t: Any, y: Any) -> Any:
        kernel = variables["params"]["Dense_0"]["kernel"]
        return jnp.tanh(y @ kernel) * jnp.cos(t)


def examples() -> tuple[Any, Any]:
    x = np.random.default_rng(0).normal(size=(60, 2)).astype("f")
    return x, (x[:, 0] > 0).astype(int)


def test_an_equinox_model_answers_as_it_does() -> None:
    """Encoder, field and head of one sample each, in inference mode: two steps by hand."""
    x, y = examples()
    field, encoder = Field(), eqx.nn.Linear(2, 2, key=jax.random.key(1))
    head = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(2))
    report = swap(field, head, x, y, solver=EULER, encoder=encoder, tests=["Euler"], factors=[1])
    own = eqx.nn.inference_mode(field)
    states = jax.vmap(encoder)(x)
    for t in (0.0, 0.5):
        states = states + 0.5 * jax.vmap(own, (None, 0, None))(t, states, None)
    logits = np.asarray(jax.vmap(head)(states))
    assert report.trained == pytest.approx(np.mean((logits[:, 0] > 0) == y))


def test_variables_beside_a_module_are_weights() -> None:
    x, _ = examples()
    variables = {"params": {"Dense_0": {"kernel": jnp.eye(2)}}}
    head = eqx.nn.Linear(2, 2, key=jax.random.key(0))
    trained = to_trained((Applied(), variables), head, x, solver=EULER)
    assert trained.model.head == "linear"
    np.testing.assert_array_equal(trained.weights["field.params/Dense_0/kernel"], np.eye(2))
    found = pn.get_backend("jax").evaluate(trained.model, trained.weights, x, EULER)
    states = jnp.asarray(x)
    for t in (0.0, 0.5):
        states = states + 0.5 * jnp.tanh(states) * jnp.cos(t)
    np.testing.assert_allclose(found.states, states, rtol=1e-5, atol=1e-6)


def test_a_field_of_this_package_is_plain_data() -> None:
    node = NeuralODE(pn.MLP(2, width=4), EULER, t_span=(0.0, 2.0))
    assert isinstance(node.field, FieldModule)
    trained = to_trained(node, None, examples()[0])
    assert isinstance(trained.model.field, VectorField)
    assert (trained.model.t1, trained.model.classes, trained.solver) == (2.0, 2, EULER)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field": lambda t, y: y - y.mean(), "head": lambda y: y / jnp.sum(y[:, :1])}, "mixes"),
        ({"field": lambda t, y: y[:1] @ jnp.eye(3)}, "field"),
        ({"field": 3}, "Equinox"),
        ({"head": lambda y: jax.nn.sigmoid(y[:1])}, "sigmoid"),
        ({"solver": None}, "solver"),
        ({"y": None}, "batches"),
    ],
)
def test_what_cannot_be_certified_is_refused(change: dict[str, Any], message: str) -> None:
    x, y = examples()
    right = {"field": lambda t, y: -y, "head": lambda y: y, "x": x, "y": y, "solver": EULER}
    with pytest.raises(PyNODEError, match=message):
        swap(**(right | change))
