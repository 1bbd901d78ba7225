"""Linear maps of tangents with a transpose of their own, and what refuses to be transposed.

A solve is a loop of as many turns as there were steps. JAX differentiates such a loop in forward
mode only; what takes cotangents back through it is our reverse sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pynode_jl.errors import InvalidValueError


def linear_map(
    forward: Callable[[Any, Any], jax.Array],
    transpose: Callable[[Any, jax.Array], Any],
    constants: Any,
    tangents: Any,
    like: jax.Array,
) -> jax.Array:
    """Return ``forward(constants, tangents)``, linear in `tangents`.

    Its derivative in reverse mode is ``transpose(constants, cotangent)``, of the structure of
    `tangents`; it has no second one in reverse mode. `like` has the value's shape and type.
    """
    structure: Any
    inputs_structure: Any
    leaves, structure = jax.tree.flatten(constants)
    inputs, inputs_structure = jax.tree.flatten(tangents)

    def flat_forward(constants: list[Any], inputs: list[Any]) -> jax.Array:
        return forward(structure.unflatten(constants), inputs_structure.unflatten(inputs))

    def flat_transpose(constants: list[Any], cotangent: jax.Array) -> list[Any]:
        return jax.tree.leaves(transpose(structure.unflatten(constants), cotangent))

    value: jax.Array = _linear.bind(
        *leaves,
        *inputs,
        forward=flat_forward,
        transpose=flat_transpose,
        split=len(leaves),
        value=ShapedArray(like.shape, like.dtype),
    )
    return value


def refuse_reverse(tree: Any) -> Any:
    """Return `tree` as it is: arrays that no derivative in reverse mode passes.

    Raises:
        InvalidValueError: when such a derivative is taken.
    """
    return jax.tree.map(_identity.bind, tree)


def _refuse(*_: object) -> NoReturn:
    raise InvalidValueError(
        "a derivative of a derivative of a solve",
        "reverse mode",
        "forward mode: a derivative is a loop over the steps taken, whose number is not known",
        "Use jax.hessian, or jax.jacfwd(jax.grad(f)) in place of jax.grad(jax.grad(f)).",
    )


_identity: Any = Primitive("refuse_reverse")
_identity.def_impl(lambda x: x)
_identity.def_abstract_eval(lambda x: x)
ad.deflinear2(_identity, _refuse)  # type: ignore[no-untyped-call]
batching.defvectorized(_identity)  # type: ignore[no-untyped-call]
mlir.register_lowering(_identity, lambda context, x: [x])


def _value(*args: Any, forward: Any, split: int, **_: object) -> Any:
    return forward(list(args[:split]), list(args[split:]))


def _derivative(primals: Any, tangents: Any, **params: Any) -> Any:
    value = _linear.bind(*primals, **params)
    split = params["split"]
    if all(type(each) is ad.Zero for each in tangents[:split]):
        # Linear in the rest: its own derivative, which has the same transpose.
        inputs = [_instantiated(each) for each in tangents[split:]]
        return value, _linear.bind(*primals[:split], *inputs, **params)
    _, tangent = jax.jvp(
        lambda *args: _value(*args, **params), tuple(primals), tuple(map(_instantiated, tangents))
    )
    return value, refuse_reverse(tangent)


def _instantiated(tangent: Any) -> Any:
    return ad.instantiate_zeros(tangent)  # type: ignore[no-untyped-call]


def _transposed(cotangent: Any, *args: Any, transpose: Any, split: int, **_: object) -> Any:
    found = transpose(list(args[:split]), _instantiated(cotangent))
    asked = map(ad.is_undefined_primal, args[split:])
    # A tangent that is known here is zero: nothing depends on it.
    return [None] * split + [
        x if undefined else None for x, undefined in zip(found, asked, strict=True)
    ]


def _batched(args: Any, axes: Any, *, forward: Any, transpose: Any, split: int, value: Any) -> Any:
    (size,) = {each.shape[axis] for each, axis in zip(args, axes, strict=True) if axis is not None}
    inputs = [
        jnp.broadcast_to(each, (size, *each.shape)) if axis is None else jnp.moveaxis(each, axis, 0)
        for each, axis in zip(args[split:], axes[split:], strict=True)
    ]
    mapped = (list(axes[:split]), 0)
    batch = _linear.bind(
        *args[:split],
        *inputs,
        forward=jax.vmap(forward, mapped),
        transpose=jax.vmap(transpose, mapped),
        split=split,
        value=ShapedArray((size, *value.shape), value.dtype),
    )
    return batch, 0


_linear: Any = Primitive("linear_map")
_linear.def_impl(_value)
_linear.def_abstract_eval(lambda *_, value, **__: value)
ad.primitive_jvps[_linear] = _derivative
ad.primitive_transposes[_linear] = _transposed
batching.primitive_batchers[_linear] = _batched
mlir.register_lowering(_linear, mlir.lower_fun(_value, multiple_results=False))
