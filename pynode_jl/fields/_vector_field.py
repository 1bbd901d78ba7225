"""Vector fields as data: the right-hand side f(t, y) of y' = f(t, y), before any framework.

A `VectorField` is a tuple of layers and the shape of one sample's state. It holds no weights:
`init` draws them, the same floats for the same seed whichever backend will run the field, and a
backend builds its own function from the layers. The states that a field acts on are ``(batch,
*state_shape)``, sample by sample: no layer mixes samples, and backends rely on it.

Weights are a flat mapping from names such as ``"layers.0.weight"`` to float32 arrays, in the
layouts that torch uses: `Dense` (out, in), `Conv` (out, in, kernel, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pynode_jl._display import ShortRepr
from pynode_jl._validation import flag, items, text, whole_number
from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.seeding import generator

ActivationName: TypeAlias = Literal["relu", "tanh", "softplus", "sigmoid", "gelu", "elu", "silu"]
ACTIVATIONS: tuple[ActivationName, ...] = (
    "relu",
    "tanh",
    "softplus",
    "sigmoid",
    "gelu",
    "elu",
    "silu",
)
#: The most features, channels or other numbers along one axis: their weights are in the millions.
MOST_LENGTH = 2**20
Weights: TypeAlias = dict[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Dense:
    """``x @ weight.T + bias`` on the last axis, from `inputs` to `outputs` numbers."""

    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, outputs=self.outputs)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(outputs, inputs)."""
        return (self.outputs, self.inputs)


@dataclass(frozen=True)
class Conv:
    """A convolution over `axes` spatial axes, stride 1, zero padding that keeps their lengths.

    From `inputs` to `outputs` channels, with a `kernel` of odd length along each axis.
    """

    inputs: int
    outputs: int
    kernel: int
    axes: Literal[1, 2]

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, outputs=self.outputs, kernel=self.kernel, axes=self.axes)
        if self.axes > 2:
            raise InvalidValueError("axes", self.axes, "1 or 2", "Images have two.")
        if self.kernel % 2 == 0:
            raise InvalidValueError(
                "kernel", self.kernel, "an odd length", "Padding keeps the shape for these only."
            )

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(outputs, inputs, kernel) or (outputs, inputs, kernel, kernel)."""
        return (self.outputs, self.inputs, *[self.kernel] * self.axes)


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity; `name` is one of `ACTIVATIONS`."""

    name: ActivationName

    def __post_init__(self) -> None:
        if text("activation", self.name, 'Use "tanh", say.') not in ACTIVATIONS:
            raise UnknownNameError("activation", self.name, ACTIVATIONS)


Layer: TypeAlias = Dense | Conv | Activation


@dataclass(frozen=True, repr=False)
class VectorField:
    """The right-hand side of an ODE as a chain of layers.

    Attributes:
        state_shape: the shape of one sample's state: ``(d,)`` or ``(channels, height, width)``.
        layers: applied in turn. A chain that starts with a one-dimensional `Conv` reads a ``(d,)``
            state as one channel with d positions.
        time_dependent: t enters the first layer as one more input feature (or constant channel).

    Make one with `MLP`, `ConvField1d`, `ConvField2d` or `LinearField`.

    Example:
        >>> field = pn.MLP(2, width=8)
        >>> type(field).__name__, field.size
        ('VectorField', 2)
    """

    state_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    time_dependent: bool = False

    def __post_init__(self) -> None:
        expected = "Dense, Conv and Activation layers"
        layers = tuple(items("layers", self.layers, expected, "Use pn.MLP(2), say."))
        for layer in layers:
            if not isinstance(layer, (Dense, Conv, Activation)):
                raise InvalidValueError("layers", layer, expected, "Use pn.MLP(2), say.")
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "state_shape", checked_shape("state_shape", self.state_shape))
        flag("time_dependent", self.time_dependent)
        weighted = [layer for layer in layers if not isinstance(layer, Activation)]
        if not weighted:
            raise InvalidValueError(
                "layers", self.layers, "at least one Dense or Conv", "Add a layer with weights."
            )
        first = weighted[0]
        axes = first.axes if isinstance(first, Conv) else 0
        expected_rank = {0: 1, 1: 1, 2: 3}[axes]
        if len(self.state_shape) != expected_rank or min(self.state_shape, default=0) < 1:
            raise InvalidValueError(
                "state_shape",
                self.state_shape,
                f"{expected_rank} positive length(s) for a field that starts with {first}",
                "Give the shape of one sample, without the batch axis.",
            )
        features = self.features
        width = features + self.time_dependent
        for i, layer in enumerate(weighted):
            if layer.inputs != width:
                raise InvalidValueError(
                    f"layers[{i}].inputs",
                    layer.inputs,
                    f"{width}, the width of what comes in",
                    "Make consecutive layers fit (a time-dependent field's first layer takes one"
                    " input more).",
                )
            if (layer.axes if isinstance(layer, Conv) else 0) != axes:
                raise InvalidValueError(
                    f"layers[{i}]", layer, f"layers over {axes} axes", "Do not mix kinds of layers."
                )
            width = layer.outputs
        if width != features:
            raise InvalidValueError(
                "layers[-1].outputs",
                width,
                f"{features}, since y' has the shape of y",
                "End with a layer of that many outputs.",
            )

    def __repr__(self) -> str:
        return f"VectorField({self.state_shape}: {self.text})"

    @property
    def text(self) -> str:
        """The layers in words: "Dense 2-64, tanh, Dense 64-2"."""
        also = "t, " if self.time_dependent else ""
        return also + ", ".join(map(_layer_text, self.layers))

    @property
    def features(self) -> int:
        """Width of the axis that the layers act on: features of a vector, channels of an image."""
        first = next(layer for layer in self.layers if not isinstance(layer, Activation))
        return 1 if isinstance(first, Conv) and first.axes == 1 else self.state_shape[0]

    @property
    def size(self) -> int:
        """Numbers in one sample's state."""
        return math.prod(self.state_shape)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight array."""
        return dict(self._weight_shapes)

    @cached_property
    def _weight_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Activation):
                shapes[f"layers.{i}.weight"] = layer.weight_shape
                shapes[f"layers.{i}.bias"] = (layer.outputs,)
        return shapes

    def init(self, seed: int | np.random.Generator) -> Weights:
        """Draw Kaiming-normal weights by `seed`; zero biases, float32 (Ott et al. 2021)."""
        random = seed if isinstance(seed, np.random.Generator) else generator(seed, "weights")
        return {
            name: kaiming_normal(shape, random) if name.endswith("weight") else np.zeros(shape, "f")
            for name, shape in self.weight_shapes().items()
        }


@dataclass(frozen=True, repr=False)
class FunctionField(ShortRepr):
    """A user's own right-hand side, written for one backend.

    Attributes:
        function: ``f(weights, t, y) -> dy`` with `y` of shape ``(batch, *state_shape)``, written in
            the backend's framework (``jax.numpy`` for the JAX backend, where it must be traceable),
            pure, and sample by sample. For torch it may be a module, a function of (t, y) or of y,
            whose parameters are the weights; or, without `initial`, any ``f(t, y)``.
        state_shape: the shape of one sample's state.
        initial: the weights to start from, as name-to-array; `init` returns them for every seed. A
            module's are copies of its parameters.
        backend: the backend whose framework `function` is written in.

    Example:
        >>> import numpy as np, pynode_jl as pn
        >>> decay = pn.FunctionField(lambda weights, t, y: -y, (1,))
        >>> solver = pn.Solver("Euler", dt=1 / 2)
        >>> pn.get_backend("jax").solve(decay, {}, np.ones((1, 1)), (0.0, 1.0), solver).y1.item()
        0.25
    """

    function: Callable[..., Any]
    state_shape: tuple[int, ...]
    initial: tuple[tuple[str, Any], ...] = ()
    backend: str = "jax"

    def __post_init__(self) -> None:
        text("backend", self.backend, 'Use "jax", say.')
        if not callable(self.function) and self.backend in ("jax", "torch"):
            raise InvalidValueError(
                "function", self.function, "a function of (weights, t, y)", "Write one: def f(...)."
            )
        object.__setattr__(self, "state_shape", checked_shape("state_shape", self.state_shape))
        object.__setattr__(self, "initial", checked_initial(self.initial))
        if self.backend == "torch" and hasattr(self.function, "named_parameters"):
            parameters = self.function.named_parameters()
            copies = tuple((name, each.detach().cpu().numpy().copy()) for name, each in parameters)
            object.__setattr__(self, "initial", self.initial or copies)

    # Arrays in `initial` compare elementwise; a field is the same when it is the same object.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def size(self) -> int:
        """Numbers in one sample's state."""
        return math.prod(self.state_shape)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight array."""
        return {name: np.shape(value) for name, value in self.initial}

    def init(self, seed: int | np.random.Generator) -> Weights:
        """Return the weights in `initial`; `seed` is not used."""
        del seed
        return {name: np.array(value) for name, value in self.initial}


@dataclass(frozen=True)
class LogDensityField:
    """A field beside the integral of its divergence: the right-hand side of a normalising flow.

    A state is flat: the inner field's state of d numbers, the integral of the divergence, and,
    where that is estimated, d numbers of noise that stay as they are: (d + 1,) or (2 d + 1,).

    Attributes:
        field: the inner field; its weights are this one's.
        trace: "exact", or "hutchinson" for noise^T J noise (`Density`).

    Example:
        >>> from pynode_jl.fields import LogDensityField
        >>> LogDensityField(pn.MLP(2)).state_shape
        (3,)
    """

    field: VectorField | FunctionField
    trace: Literal["exact", "hutchinson"] = "exact"

    def __post_init__(self) -> None:
        if not isinstance(self.field, (VectorField, FunctionField)):
            raise InvalidValueError(
                "field", self.field, "a VectorField or a FunctionField", "Use pn.MLP(2), say."
            )

    @property
    def state_shape(self) -> tuple[int, ...]:
        """(d + 1,), or (2 d + 1,) with noise."""
        return (self.size,)

    @property
    def size(self) -> int:
        """Numbers in one sample's state."""
        return self.field.size * (1 if self.trace == "exact" else 2) + 1

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight array: the inner field's."""
        return self.field.weight_shapes()

    def init(self, seed: int | np.random.Generator) -> Weights:
        """Return the inner field's initial weights, drawn by `seed`."""
        return self.field.init(seed)

    def initial_state(self, x: Any) -> Any:
        """Return the states at t0 of samples `x`, ``(n, *inner state_shape)``, flat.

        The noise of a row is the same in every solve of as many samples: answers of two solvers
        differ by the solvers alone.
        """
        xp = x.__array_namespace__()
        n, d = x.shape[0], self.field.size
        parts = [x.reshape(n, d), xp.zeros((n, 1), dtype=x.dtype)]
        if self.trace == "hutchinson":
            noise = 2 * generator(0, "trace", n).integers(0, 2, (n, d)) - 1
            parts.append(xp.asarray(noise, dtype=x.dtype))
        return xp.concat(parts, axis=1)


Field: TypeAlias = VectorField | FunctionField | LogDensityField


def _layer_text(layer: Layer) -> str:
    if isinstance(layer, Activation):
        return layer.name
    name = "Dense" if isinstance(layer, Dense) else f"Conv{layer.axes}d({layer.kernel})"
    return f"{name} {layer.inputs}-{layer.outputs}"


def checked_field(field: object) -> Field:
    """Return a field as it is, if it is one."""
    if not isinstance(field, (VectorField, FunctionField, LogDensityField)):
        raise InvalidValueError(
            "field",
            field,
            "a VectorField or a FunctionField",
            "Use pn.MLP(2), say, or wrap a function: pn.FunctionField(f, state_shape).",
        )
    return field


def kaiming_normal(
    shape: tuple[int, ...], random: np.random.Generator
) -> npt.NDArray[np.floating[Any]]:
    """Return draws of `random`, variance 2 / fan-in, float32, for a `shape` (out, in, ...)."""
    deviation = math.sqrt(2.0 / math.prod(shape[1:]))
    return (random.standard_normal(shape) * deviation).astype(np.float32)


def check_sizes(**values: int) -> None:
    """Refuse lengths that no layer has."""
    for name, value in values.items():
        whole_number(name, value, most=MOST_LENGTH)


def checked_shape(argument: str, shape: object) -> tuple[Any, ...]:
    """Return the shape of a sample as ints; an InvalidValueError names `argument`."""
    hint = "Give the shape of one sample, without the batch axis."
    lengths = items(argument, shape, "a tuple of positive lengths", hint)
    if not lengths:
        raise InvalidValueError(argument, shape, "at least one length", hint)
    return tuple(whole_number(argument, each, most=MOST_LENGTH, hint=hint) for each in lengths)


def checked_initial(initial: object) -> tuple[tuple[str, Any], ...]:
    """Return `initial` weights as pairs; an InvalidValueError if a name stands twice, say."""
    expected, hint = "pairs of a name and an array", 'Use (("rate", np.ones(2)),), say.'
    if isinstance(initial, Mapping):
        initial = tuple(initial.items())
    pairs = [
        tuple(items("initial", pair, expected, hint))
        for pair in items("initial", initial, expected, hint)
    ]
    names = {pair[0] for pair in pairs if len(pair) == 2 and isinstance(pair[0], str)}
    if len(names) < len(pairs):
        raise InvalidValueError("initial", initial, f"{expected}, all names different", hint)
    return tuple((name, value) for name, value in pairs)
