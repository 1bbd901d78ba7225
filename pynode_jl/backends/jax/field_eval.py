"""A `VectorField`'s layers as a JAX function.

`right_hand_side` splits the work: what depends on the weights alone (transposes, Toeplitz matrices)
is done once per solve by `prepare`, outside the time loop; `apply` is what each evaluation costs.
Inside, features are the last axis, so that a dense layer and a convolution are both one matrix
product; the state keeps its own layout at the edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pynode_jl.backends import _arguments
from pynode_jl.backends._precision import Precision
from pynode_jl.backends.jax.batching import in_batches
from pynode_jl.backends.jax.winograd import conv3x3, conv3x3_reverse
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import (
    Activation,
    Conv,
    Dense,
    Field,
    FunctionField,
    Layer,
    LogDensityField,
    VectorField,
)

_ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    # The exact form, as torch's and Lux's defaults; jax.nn.gelu's own default is the tanh one.
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "elu": jax.nn.elu,
    "silu": jax.nn.silu,
}


def _by_value(
    function: Callable[[jax.Array], jax.Array], slope: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    """Return an activation whose derivative is a function of its output.

    Reverse mode then saves one array, which the next layer's derivative needs anyway.
    """

    @jax.custom_vjp
    def run(x: jax.Array) -> jax.Array:
        return function(x)

    def forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = function(x)
        return value, value

    def backward(value: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
        return (cotangent * slope(value),)

    run.defvjp(forward, backward)
    return run


# Derivatives as functions of the value.
_SLOPES: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": lambda value: 1 - value * value,
    "sigmoid": lambda value: value * (1 - value),
    "relu": lambda value: (value > 0).astype(value.dtype),
    "softplus": lambda value: -jnp.expm1(-value),
    "elu": lambda value: jnp.where(value > 0, 1.0, value + 1),
}
_REVERSIBLE: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    name: _by_value(_ACTIVATIONS[name], slope) for name, slope in _SLOPES.items()
}


def activate(name: str, x: jax.Array) -> jax.Array:
    """Return an activation's values, with derivatives in reverse mode only."""
    return _REVERSIBLE.get(name, _ACTIVATIONS[name])(x)


def activate_with_slope(name: str, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return an activation's values and derivatives, which have derivatives in reverse mode."""
    if name in _SLOPES:
        value = _REVERSIBLE[name](x)
        return value, _SLOPES[name](value)
    found: tuple[jax.Array, jax.Array] = jax.jvp(_ACTIVATIONS[name], (x,), (jnp.ones_like(x),))
    return found


class FieldEvaluator(NamedTuple):
    """`apply(prepare(weights), t, y)` is f(t, y) for a batch of states."""

    prepare: Callable[[Mapping[str, jax.Array]], Any]
    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]


def right_hand_side(
    field: Field, *, reverse_only: bool = False, precision: Precision = "full"
) -> FieldEvaluator:
    """Return the JAX function of a field.

    `reverse_only` gives up derivatives in forward mode for faster ones in reverse. `precision` is
    what the layers work in; the state that comes in and the slope that goes out keep their own.

    Raises:
        InvalidValueError: a function of the user's in another precision than its own.
    """
    if isinstance(field, LogDensityField):
        return _with_divergence(field, precision)
    if isinstance(field, FunctionField):
        _arguments.check_framework(field, "jax")
        if precision != "full":
            raise InvalidValueError(
                "precision",
                precision,
                '"full" with a FunctionField',
                "A function of yours chooses its own: cast y and the weights in it.",
            )
        return FieldEvaluator(dict, _checked(field))
    first = next(layer for layer in field.layers if not isinstance(layer, Activation))
    axes = first.axes if isinstance(first, Conv) else 0
    # Spatial lengths, known before tracing: they choose how a convolution is written.
    lengths = {0: (), 1: field.state_shape, 2: field.state_shape[1:]}[axes]
    pieces_of = width(field)

    def prepare(weights: Mapping[str, jax.Array]) -> list[dict[str, jax.Array]]:
        return [
            _prepare_layer(layer, weights, f"layers.{i}", lengths)
            for i, layer in enumerate(field.layers)
        ]

    def chain(shared: tuple[list[dict[str, jax.Array]], jax.Array], y: jax.Array) -> jax.Array:
        prepared, t = shared
        h = _features_last(y, axes)
        if field.time_dependent:
            time = jnp.broadcast_to(jnp.asarray(t, h.dtype), (*h.shape[:-1], 1))
            h = jnp.concatenate([h, time], axis=-1)
        for layer, arrays in zip(field.layers, prepared, strict=True):
            if precision != "full" and arrays:
                h, arrays = h.astype(precision), _narrowed(arrays, precision)
            h = _apply_layer(layer, arrays, h, reverse_only)
        return _features_last_inverse(h, axes)

    def apply(prepared: list[dict[str, jax.Array]], t: jax.Array, y: jax.Array) -> jax.Array:
        return in_batches(chain, (prepared, t), y, pieces_of)

    return FieldEvaluator(prepare, apply)


def _with_divergence(field: LogDensityField, precision: Precision) -> FieldEvaluator:
    """Return the function of a field beside the integral of its divergence."""
    inner, d, shape = field.field, field.field.size, field.field.state_shape
    # The divergence is a derivative in forward mode.
    prepare, evaluate = right_hand_side(inner, precision=precision)

    def apply(prepared: Any, t: jax.Array, y: jax.Array) -> jax.Array:
        def flat(x: jax.Array) -> jax.Array:
            return evaluate(prepared, t, x.reshape(-1, *shape)).reshape(x.shape)

        x, noise = y[:, :d], y[:, d + 1 :]
        if field.trace == "hutchinson":
            slope, along = jax.jvp(flat, (x,), (noise,))
            return jnp.concatenate(
                [slope, jnp.sum(noise * along, axis=1, keepdims=True), jnp.zeros_like(noise)], 1
            )
        slope, push = jax.linearize(flat, x)

        def partial(axis: jax.Array) -> jax.Array:
            """One coordinate's derivative along itself, (n,)."""
            along: jax.Array = push(jnp.broadcast_to(axis, x.shape))
            return along @ axis

        divergence = jax.vmap(partial)(jnp.eye(d, dtype=x.dtype)).sum(axis=0)
        return jnp.concatenate([slope, divergence[:, None]], axis=1)

    return FieldEvaluator(prepare, apply)


def width(field: Field) -> int:
    """Return the width for `in_batches`: `widest` for images, 0 for other, small states."""
    images = isinstance(field, VectorField) and len(field.state_shape) == 3
    return widest(field) if images else 0


def widest(field: Field) -> int:
    """Numbers that one sample has in the widest layer; of a user's function, in its state."""
    if isinstance(field, LogDensityField):
        return widest(field.field) * (1 + (field.field.size if field.trace == "exact" else 1))
    if isinstance(field, FunctionField):
        return field.size
    weighted = [layer for layer in field.layers if not isinstance(layer, Activation)]
    features = max(max(layer.inputs, layer.outputs) for layer in weighted)
    return field.size // field.features * features


def _checked(field: FunctionField) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """Return the user's function, its result held to the shape and dtype of y while tracing."""

    def apply(weights: Any, t: jax.Array, y: jax.Array) -> jax.Array:
        slope = jnp.asarray(field.function(weights, t, y))
        if slope.shape != y.shape:
            raise InvalidValueError(
                "function",
                field.function,
                f"one that returns y's shape, here {y.shape}; it returned {slope.shape}",
                "Keep the batch axis in front.",
            )
        return slope.astype(y.dtype)

    return apply


def _features_last(y: jax.Array, axes: int) -> jax.Array:
    if axes == 1:
        return y[:, :, None]
    return jnp.moveaxis(y, 1, -1) if axes == 2 else y


def _features_last_inverse(h: jax.Array, axes: int) -> jax.Array:
    if axes == 1:
        return h[:, :, 0]
    return jnp.moveaxis(h, -1, 1) if axes == 2 else h


def _prepare_layer(
    layer: Layer, weights: Mapping[str, jax.Array], name: str, lengths: tuple[int, ...]
) -> dict[str, jax.Array]:
    if isinstance(layer, Activation):
        return {}
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if isinstance(layer, Dense):
        return {"matrix": weight.T, "bias": bias}
    if layer.kernel == 1:
        return {"matrix": weight.reshape(layer.outputs, layer.inputs).T, "bias": bias}
    if layer.axes == 2:
        return {"kernel": jnp.transpose(weight, (2, 3, 1, 0)), "bias": bias}
    taps = jnp.transpose(weight, (2, 1, 0))  # (kernel, in, out)
    (length,) = lengths
    if length <= layer.kernel:
        # On a state this short most taps meet padding: one small dense (Toeplitz) matrix over all
        # positions does fewer multiplications than a window per position.
        return {"toeplitz": toeplitz(taps, length), "bias": jnp.tile(bias, length)}
    return {"windows": taps.reshape(-1, layer.outputs), "bias": bias}


def toeplitz(taps: jax.Array, length: int) -> jax.Array:
    """Return a convolution over `length` positions as one matrix, ``(length * inputs, length *
    outputs)``, from its ``(kernel, inputs, outputs)`` taps."""
    kernel, inputs, outputs = taps.shape
    half = kernel // 2
    zero = jnp.zeros((inputs, outputs), taps.dtype)
    blocks = [
        [taps[i - j + half] if abs(i - j) <= half else zero for j in range(length)]
        for i in range(length)
    ]
    return jnp.block(blocks)


def _narrowed(arrays: dict[str, jax.Array], precision: Precision) -> dict[str, jax.Array]:
    """Return a layer's arrays for products in `precision`; the bias is added to them in full.

    At each evaluation, not once in `prepare`: what is summed up, the gradients to weights over
    steps and pieces and those to biases over a batch, is summed in full. In bfloat16 a sum of a
    hundred numbers loses the small ones (seen: 40 % off for a bias).
    """
    return {
        name: array if name == "bias" else array.astype(precision) for name, array in arrays.items()
    }


def _apply_layer(
    layer: Layer, arrays: dict[str, jax.Array], h: jax.Array, reverse_only: bool
) -> jax.Array:
    if isinstance(layer, Activation):
        return _ACTIVATIONS[layer.name](h)
    bias = arrays["bias"]
    if "toeplitz" in arrays:
        batch, length, inputs = h.shape
        out = h.reshape(batch, length * inputs) @ arrays["toeplitz"] + bias
        return out.reshape(batch, length, -1)
    if "windows" in arrays:
        assert isinstance(layer, Conv)
        half, length = layer.kernel // 2, h.shape[1]
        padded = jnp.pad(h, ((0, 0), (half, half), (0, 0)))
        shifted = [padded[:, i : i + length] for i in range(layer.kernel)]
        return jnp.concatenate(shifted, axis=-1) @ arrays["windows"] + bias
    if "kernel" in arrays:
        assert isinstance(layer, Conv)
        winograd = conv3x3_reverse if reverse_only else conv3x3
        by_products = winograd if layer.kernel == 3 else _conv_by_taps
        # On a CPU the gradients of XLA's convolution are a hundred times slower than its values. A
        # GPU has units for bfloat16 that cuDNN uses best; in full precision Winograd's products
        # are 1.3 times faster there too, closer to exact, and the same at each run.
        narrow = h.dtype == jnp.bfloat16
        on_others = by_products if layer.kernel == 3 and not narrow else _conv_by_library
        convolved: jax.Array = jax.lax.platform_dependent(
            h,
            arrays["kernel"],
            cpu=_summed_in_float32(by_products) if narrow else by_products,
            default=on_others,
        )
        return convolved + bias
    if layer.inputs == 1:
        return h * arrays["matrix"][0] + bias  # an outer product: a matrix product would be slower
    return h @ arrays["matrix"] + bias


def _summed_in_float32(conv: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`conv` for bfloat16 as a GPU's has it: products exact, sums in float32, results rounded."""

    def run(h: jax.Array, kernel: jax.Array) -> jax.Array:
        wide = jnp.float32
        return conv(h.astype(wide), kernel.astype(wide)).astype(h.dtype)

    return run


def _conv_by_taps(h: jax.Array, kernel: jax.Array) -> jax.Array:
    size, (height, width) = kernel.shape[0], h.shape[1:3]
    half = size // 2
    padded = jnp.pad(h, ((0, 0), (half, half), (half, half), (0, 0)))
    out = jnp.zeros((*h.shape[:3], kernel.shape[-1]), h.dtype)
    for i in range(size):
        for j in range(size):
            out = out + padded[:, i : i + height, j : j + width] @ kernel[i, j]
    return out


def _conv_by_library(h: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        h, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
