"""A model: encode, pad (augment), follow a vector field over an interval, read out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace

from pynode_jl._display import ShortRepr, Viewed, short
from pynode_jl._validation import (
    choice,
    instance,
    mapping,
    real_number,
    rounded,
    whole_number,
)
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import (
    Field,
    LogDensityField,
    Weights,
    checked_field,
    checked_initial,
    checked_shape,
    kaiming_normal,
)
from pynode_jl.seeding import generator
from pynode_jl.tasks import Classification, Density, Task, Trajectory, named_task


@dataclass(frozen=True, repr=False)
class FunctionMap(ShortRepr):
    """An encoder or a read-out of the user's own, written for one framework.

    Attributes:
        function: ``f(weights, x) -> y`` from ``(n, *input_shape)`` to ``(n, *output_shape)``,
            sample by sample, pure, and traceable where it is JAX's.
        input_shape, output_shape: of one sample.
        initial: the weights to start from, as name-to-array.
        backend: whose arrays the function takes: "jax" or "torch".

    Example:
        >>> import jax.numpy as jnp
        >>> def norm(weights, y):
        ...     return weights["scale"] * jnp.linalg.norm(y, axis=1, keepdims=True)
        >>> head = pn.FunctionMap(norm, (2,), (1,), {"scale": np.ones(1)})
        >>> pn.Model(pn.MLP(2), task=pn.Regression(), head=head).weight_shapes()["head.scale"]
        (1,)
    """

    function: Callable[..., Any]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    initial: tuple[tuple[str, Any], ...] = ()
    backend: str = "jax"

    def __post_init__(self) -> None:
        choice("backend", self.backend, ("jax", "torch"))
        if not callable(self.function):
            raise InvalidValueError(
                "function", self.function, "a function of (weights, x)", "Write one: def f(...)."
            )
        for name in ("input_shape", "output_shape"):
            object.__setattr__(self, name, checked_shape(name, getattr(self, name)))
        object.__setattr__(self, "initial", checked_initial(self.initial))

    # Arrays in `initial` compare elementwise: a map is the same when it is the same object.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight array."""
        return {name: np.shape(value) for name, value in self.initial}

    def __call__(self, weights: Mapping[str, Any], x: Any) -> Any:
        """Return the function's value, in the framework of `x`.

        Raises:
            InvalidValueError: it has another shape than `output_shape` says.
        """
        outside = isinstance(x, np.ndarray)
        found = _of_numpy(self, weights, x) if outside else self.function(weights, x)
        if tuple(found.shape) != (x.shape[0], *self.output_shape):
            raise InvalidValueError(
                "function(weights, x).shape",
                tuple(found.shape),
                f"{(x.shape[0], *self.output_shape)}",
                "Correct output_shape, or the function.",
            )
        return np.asarray(found) if outside else found


def _of_numpy(part: FunctionMap, weights: Mapping[str, Any], x: Any) -> Any:
    """Return the value at a NumPy array; of torch's function at tensors of its precision."""
    if part.backend != "torch":
        return part.function(weights, x)
    import torch

    with torch.no_grad():
        inputs = torch.tensor(x)
        tensors = {k: torch.tensor(np.asarray(each)).to(inputs) for k, each in weights.items()}
        return part.function(tensors, inputs).numpy(force=True)


def learned_initial_states(y0: Any, *, backend: str = "jax") -> FunctionMap:
    """Return an encoder whose weights are initial states, one a trajectory, which training learns.

    For trajectories whose first state was measured with noise, or not at all. The model's inputs
    are their numbers, ``np.arange(n)[:, None]``, in training and test set alike: held-out samples
    are observations of the same trajectories at other times (`Trajectory` leaves NaN out). A number
    that is none of a trajectory gives a state of NaN, whose solve fails.

    Args:
        y0: where training starts from, ``(n, *state_shape)``: first observations, or a guess.
        backend: what trains: "jax" or "torch".

    Raises:
        InvalidValueError: no such array, numbers that are not finite, or another backend.

    Example:
        >>> encoder = pn.learned_initial_states(np.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> model = pn.Model(pn.MLP(2), task=pn.Trajectory([0.5, 1.0]), encoder=encoder)
        >>> model.input_shape, model.initial_state([[1.0]], ModelWeights.from_dict(model.init(0)))
        ((1,), array([[0., 1.]], dtype=float32))
    """
    states = rounded("y0", y0, np.float32)
    if states.ndim < 2 or not len(states) or not np.isfinite(states).all():
        raise InvalidValueError(
            "y0", y0, "finite numbers, (n, *state_shape), n >= 1", "Give one state a trajectory."
        )
    count = len(states)

    def look_up(weights: Mapping[str, Any], x: Any) -> Any:
        xp, table = array_namespace(x), weights["initial"]
        known = (x[:, 0] >= 0) & (x[:, 0] < count) & (x[:, 0] == xp.floor(x[:, 0]))
        index = xp.astype(xp.where(known, x[:, 0], xp.zeros_like(x[:, 0])), xp.int32)
        known = xp.reshape(known, (-1, *[1] * (table.ndim - 1)))
        found = xp.take(table, index, axis=0)
        return xp.where(known, found, xp.full_like(found, math.nan))

    return FunctionMap(look_up, (1,), states.shape[1:], (("initial", states),), backend)


@dataclass(frozen=True, repr=False)
class ModelWeights(ShortRepr):
    """A model's weights as a tree; `to_dict` and `from_dict` convert it from and to a flat mapping.

    The flat names are those of checkpoints, of `Model.init` and of `Trained.weights`: ``encoder.``,
    ``field.`` and ``head.`` in front of each part's own names. The leaves are arrays of any
    framework, or whatever else belongs to each weight, its shape for one.

    Attributes:
        field: by the field's own names.
        head_weight: (outputs, state size); None where the read-out is not linear.
        head_bias: (outputs,); None likewise.
        encoder: by the encoder's own names.
        head: of a read-out of the user's own, by its names.

    Example:
        >>> from pynode_jl.fields import LinearField
        >>> sorted(ModelWeights.from_dict(Model(LinearField(2), classes=2).init(0)).field)
        ['layers.0.bias', 'layers.0.weight']
    """

    field: Mapping[str, Any]
    head_weight: Any = None
    head_bias: Any = None
    encoder: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    head: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, weights: Mapping[str, Any]) -> ModelWeights:
        """Return the tree of a flat mapping.

        Raises:
            InvalidValueError: a name that belongs to no part.
        """
        weights = mapping("weights", weights, "a mapping by name", "Use Model.init(seed), say.")
        parts: dict[str, dict[str, Any]] = {"encoder": {}, "field": {}, "head": {}}
        for name, value in weights.items():
            part, dot, own = name.partition(".")
            if not dot or part not in parts:
                raise InvalidValueError(
                    "weights",
                    sorted(weights),
                    "names that begin with encoder., field. or head.: head.weight, say",
                    "`Model.weight_shapes` lists them.",
                )
            parts[part][own] = value
        head = parts["head"]
        if set(head) == {"weight", "bias"}:
            return cls(parts["field"], head["weight"], head["bias"], parts["encoder"])
        return cls(parts["field"], encoder=parts["encoder"], head=head)

    @property
    def own_head(self) -> Mapping[str, Any]:
        """The read-out's weights by its own names, whether it is linear or not.

        A read-out of the user's own may have a weight and a bias, too.
        """
        if self.head_weight is None:
            return self.head
        return {"weight": self.head_weight, "bias": self.head_bias}

    def to_dict(self) -> dict[str, Any]:
        """Return the flat mapping: encoder, field and head, each in its own order."""
        parts = {"encoder": self.encoder, "field": self.field, "head": self.own_head}
        return {
            f"{part}.{name}": value for part, each in parts.items() for name, value in each.items()
        }


@dataclass(frozen=True, repr=False)
class Model(Viewed):
    """A Neural ODE: outputs = head(y(t)), y' = field(t, y), y(t0) = encoder(input).

    Attributes:
        field: the vector field. Of a `Density` it becomes a `LogDensityField` around the one given.
        classes: number of labels of a classifier: short for ``task=pn.Classification(classes)``.
        t0, t1: the interval; t1 < t0 integrates backwards. Of a `Trajectory` t1 is its last time.
        augment: zeros appended to the input along its first axis (features of a vector, channels of
            an image) before the solve: Augmented Neural ODEs (Dupont et al. 2019). The field's
            state includes them.
        task: what the model answers: a `Task`, its name, or its table.
        head: "linear" reads the flattened state at each of the task's times; "none" takes the state
            itself, without appended zeros; or a function of your own. Default: the task's.
        encoder: a function of your own from inputs to initial states (appended zeros left out).

    Weights are a flat mapping, the form that is stored and passed around, or a tree
    (`ModelWeights`).

    Example:
        >>> model = pn.Model(pn.MLP(3, width=8), classes=2, augment=1)
        >>> model.input_shape
        (2,)
        >>> model.initial_state([[0.5, 1.0]])
        array([[0.5, 1. , 0. ]])
    """

    field: Field
    classes: int = 0
    t0: float = 0.0
    t1: float = 1.0
    augment: int = 0
    task: Task = None  # type: ignore[assignment]
    head: Literal["linear", "none", ""] | FunctionMap = ""
    encoder: FunctionMap | None = None

    def __post_init__(self) -> None:
        checked_field(self.field)
        self._set("task", self._task())
        self._set("classes", getattr(self.task, "classes", 0))
        for name in ("t0", "t1"):
            self._set(name, real_number(name, getattr(self, name), "0 to 1 is usual."))
        self._set("t1", self.task.stops(self.t1)[-1])
        if self.t0 == self.t1:
            raise InvalidValueError("t1", self.t1, "another time than t0", "Give an interval.")
        first = self.task.stops(self.t1)[0]
        if isinstance(self.task, Trajectory) and first <= self.t0:
            raise InvalidValueError(
                "task.times",
                self.task.times,
                f"times after t0 = {self.t0:g}",
                "The state at t0 is the input: leave it out, or move t0.",
            )
        if isinstance(self.task, Density) and not isinstance(self.field, LogDensityField):
            self._set("field", LogDensityField(self.field, self.task.trace))
        elif isinstance(self.field, LogDensityField) and not isinstance(self.task, Density):
            raise InvalidValueError("field", self.field, "a Density's field", "Pass the inner one.")
        self._check_parts()

    def __repr__(self) -> str:
        plain = type(self.task) is Classification and self.task == Classification(self.classes)
        said: dict[str, Any] = {"classes": self.classes} if plain else {"task": self.task}
        said |= {"t0": self.t0, "t1": self.t1} if (self.t0, self.t1) != (0.0, 1.0) else {}
        said |= {"augment": self.augment} if self.augment else {}
        said |= {"head": self.head} if self.head != self.task.default_head else {}
        said |= {"encoder": self.encoder} if self.encoder is not None else {}
        options = ", ".join(f"{name}={short(value)}" for name, value in said.items())
        return f"Model({self.field!r}, {options})"

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _task(self) -> Task:
        given: object = self.task
        if given is None:
            return Classification(self.classes)
        named = named_task(given)  # type: ignore[arg-type]  # refused there
        if named is None:
            return Classification(self.classes)
        task = named
        if self.classes and type(task) is Classification and task == Classification(task.classes):
            return Classification(self.classes)  # for dataclasses.replace(model, classes=3)
        if self.classes and self.classes != getattr(task, "classes", 0):
            raise InvalidValueError(
                "classes", self.classes, f"none beside {task}", "Leave out one of the two."
            )
        return task

    def _check_parts(self) -> None:
        flow = isinstance(self.field, LogDensityField)
        most = 0 if flow else self.field.state_shape[0] - 1
        if whole_number("augment", self.augment, 0) > most:
            raise InvalidValueError(
                "augment",
                self.augment,
                f"0 to {most} for a state {self._inner_shape}",
                "A density keeps its dimensions."
                if flow
                else "The field's state holds the input and the zeros appended to it.",
            )
        if self.head == "":
            self._set("head", self.task.default_head)
        if not isinstance(self.head, FunctionMap):
            choice("head", self.head, ("linear", "none"))
        if flow and (self.head != "none" or self.encoder is not None):
            raise InvalidValueError(
                "head", self.head, '"none", and no encoder, for a Density', "Leave them out."
            )
        if isinstance(self.encoder, FunctionMap):
            self._check_map("encoder.output_shape", self.encoder.output_shape, self._observed)
        elif self.encoder is not None:
            raise InvalidValueError(
                "encoder", self.encoder, "a FunctionMap, or None", "Wrap the function."
            )
        expected = self.task.outputs(self._observed)
        if isinstance(self.head, FunctionMap):
            self._check_map("head.input_shape", self.head.input_shape, self.field.state_shape)
            self._check_map("head.output_shape", self.head.output_shape, expected)
        elif self.head == "none" and not flow and expected != self._observed:
            raise InvalidValueError(
                "head",
                "none",
                f"a state {expected} as the task's answer, not {self._observed}",
                'Use head="linear", or a field of that state.',
            )

    @staticmethod
    def _check_map(argument: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if shape != expected:
            raise InvalidValueError(argument, shape, f"{expected}", "Make the two fit.")

    @property
    def _inner_shape(self) -> tuple[int, ...]:
        inner = self.field.field if isinstance(self.field, LogDensityField) else self.field
        return inner.state_shape

    @property
    def _observed(self) -> tuple[int, ...]:
        """The shape of a state without appended zeros."""
        first, *rest = self._inner_shape
        return (first - self.augment, *rest)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input sample."""
        return self._observed if self.encoder is None else self.encoder.input_shape

    @property
    def outputs(self) -> int:
        """Numbers in one sample's output at one time."""
        return math.prod(self.task.outputs(self._observed))

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """The shape of one sample's outputs as `read_out` gives them."""
        if isinstance(self.task, Classification):
            return (self.task.classes,)
        shape = self.task.outputs(self._observed)
        return (len(self.times) - 1, *shape) if isinstance(self.task, Trajectory) else shape

    @property
    def times(self) -> tuple[float, ...]:
        """t0, and the times of read-outs; the last is t1."""
        return (self.t0, *self.task.stops(self.t1))

    def initial_state(self, x: Any, weights: ModelWeights | None = None) -> Any:
        """Return the states at t0 of inputs: encoded, with `augment` zeros appended to each.

        Args:
            x: ``(n, *input_shape)``, an array of NumPy or JAX (traced, too), or nested numbers.
            weights: for the encoder's part; needed where there is one.

        Returns:
            ``(n, *field.state_shape)``, of the same framework and dtype; `x` itself where nothing
            is appended.
        """
        inputs = x if hasattr(x, "__array_namespace__") else np.asarray(x)
        if self.encoder is not None:
            inputs = self.encoder(_part(weights).encoder, inputs)
        return self.pad(inputs)

    def pad(self, inputs: Any) -> Any:
        """Return encoded inputs with all that a state has besides: appended zeros, and what a
        density integrates along."""
        if isinstance(self.field, LogDensityField):
            return self.field.initial_state(inputs)
        if not self.augment:
            return inputs
        padding = [(0, 0), (0, self.augment), *[(0, 0)] * (inputs.ndim - 2)]
        return inputs.__array_namespace__().pad(inputs, padding)

    #: The former name of `initial_state`.
    augmented = initial_state

    def read_out(self, states: Any, weights: ModelWeights) -> Any:
        """Return the outputs of a solve.

        Args:
            states: at the times after t0, ``(times, n, *field.state_shape)``, of NumPy or JAX.
            weights: the model's, in arrays that multiply with `states`.

        Returns:
            ``(n, *task.outputs(...))``; of a `Trajectory` ``(n, times, ...)``.
        """
        if not isinstance(self.task, Trajectory):
            return self.logits(states[-1], weights)
        count, n = states.shape[:2]
        flat = self.logits(states.reshape(count * n, *states.shape[2:]), weights)
        return flat.reshape(count, n, *flat.shape[1:]).swapaxes(0, 1)

    def logits(self, states: Any, weights: ModelWeights) -> Any:
        """Return the head's output for states at one time: logits, for a classifier.

        Args:
            states: ``(n, *field.state_shape)``, an array of NumPy or JAX.
            weights: their head's part, in arrays that multiply with `states`.

        Returns:
            ``(n, classes)``, or whatever shape the task's outputs have.
        """
        if isinstance(self.task, Density):
            return self.task.read(states, math.prod(self._inner_shape))
        if isinstance(self.head, FunctionMap):
            found = self.head(weights.own_head, states)
        elif self.head == "none":
            found = states[:, : self._observed[0]]
        else:
            found = states.reshape(len(states), -1) @ weights.head_weight.T + weights.head_bias
            found = found.reshape(len(states), *self.task.outputs(self._observed))
        return self.task.logits(found) if isinstance(self.task, Classification) else found

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight array by its flat name."""
        encoder = {} if self.encoder is None else self.encoder.weight_shapes()
        field = self.field.weight_shapes()
        if isinstance(self.head, FunctionMap):
            return ModelWeights(field, encoder=encoder, head=self.head.weight_shapes()).to_dict()
        if self.head == "none":
            return ModelWeights(field, encoder=encoder).to_dict()
        head = (self.outputs, self.field.size)
        return ModelWeights(field, head, (self.outputs,), encoder).to_dict()

    def init(self, seed: int) -> Weights:
        """Return initial weights, float32, from the seed: Kaiming-normal, biases zero.

        Those of functions of your own are their `initial`.
        """
        random = generator(seed, "weights")
        field = self.field.init(random)
        encoder = {} if self.encoder is None else _copies(self.encoder)
        if isinstance(self.head, FunctionMap):
            return ModelWeights(field, encoder=encoder, head=_copies(self.head)).to_dict()
        if self.head == "none":
            return ModelWeights(field, encoder=encoder).to_dict()
        weight = kaiming_normal((self.outputs, self.field.size), random)
        bias = np.zeros(self.outputs, np.float32)
        return ModelWeights(field, weight, bias, encoder).to_dict()


def _part(weights: ModelWeights | None) -> ModelWeights:
    if weights is None:
        raise InvalidValueError(
            "weights", None, "the model's weights: it has an encoder", "ModelWeights.from_dict."
        )
    return weights


def _copies(part: FunctionMap) -> Weights:
    return {name: np.array(value) for name, value in part.initial}


def check_model(model: object) -> None:
    """Refuse what is no `Model`.

    Any other `model` is an InvalidValueError.
    """
    instance("model", model, Model, "a Model", "Make one: pn.Model(pn.MLP(2), classes=2).")
