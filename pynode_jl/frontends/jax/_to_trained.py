"""A trained model of JAX as a `TrainedModel`, to be swapped and certified."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pynode_jl._validation import numbers
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, FunctionField, Weights
from pynode_jl.frontends._examples import answered, refuse_probabilities
from pynode_jl.frontends.jax._module import FieldModule, NeuralODE
from pynode_jl.frontends.jax._parts import as_map, on_batch, opened, over_samples
from pynode_jl.models import FunctionMap, Model, ModelWeights
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import TrainedModel

# Inputs that are looked at.
_SAMPLES = 16


def to_trained(
    field: Any,
    head: Any,
    x: Any,
    *,
    solver: Solver | str | None = None,
    encoder: Any = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
) -> TrainedModel:
    """Return the model head(y(t1)), y' = field(t, y), y(t0) = encoder(input), or the input itself.

    A part is an Equinox module, flax's ``(module, variables)``, or a function; of a batch, or of
    one sample. Modules answer in inference mode. What they hold of arrays are their weights.

    Args:
        field: a `NeuralODE`, or a function of (t, y), of y, or of (t, y, args) as diffrax has it
            (args is None). A `FieldModule` becomes its `VectorField`, any other a `FunctionField`.
        head: the read-out of the final state. An ``equinox.nn.Linear`` of a vector is a linear
            head; any other is a `FunctionMap` of JAX. None: the state itself.
        x: some inputs, ``(n, *input_shape)``.
        solver: the solver it was trained with; a `NeuralODE` brings its own.
        encoder: what makes the initial state of an input.
        task: what the model answers; default a classification, of two classes where the head gives
            one number, its logit.
        t_span: ``(t0, t1)``; a `NeuralODE` brings its own.

    Raises:
        InvalidValueError: no solver; a head that does not fit the state or the task; a part that
            fails, or mixes samples.

    Example:
        >>> import equinox as eqx, jax
        >>> from pynode_jl.jax import to_trained
        >>> field = eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0))  # of one sample
        >>> head = eqx.nn.Linear(2, 3, key=jax.random.key(1))
        >>> found = to_trained(field, head, np.zeros((1, 2)), solver=pn.Solver("Euler", dt=1 / 8))
        >>> found.model.classes, found.weights["field.layers/0/weight"].shape
        (3, (8, 2))
    """
    if isinstance(field, NeuralODE):
        solver = field.solver if solver is None else solver
        t_span = field.t_span
        field = field.field
    if solver is None:
        raise InvalidValueError(
            "solver", None, "the solver that the field was trained with", 'Say "RK4:dt=1/8".'
        )
    encode, y = None, jnp.asarray(numbers("x", x)[:_SAMPLES])
    if encoder is not None:
        part = opened("encoder", encoder)
        encode = as_map("encoder", part, y)
        y = on_batch("encoder", part, y)(part.arrays, y)
    if not jnp.issubdtype(y.dtype, jnp.floating):
        y = y.astype(jnp.float32)
    read, linear, task = _read_out(head, y, task)
    described, field_weights = _described(field, y, t_span[0])
    model = Model(described, t0=t_span[0], t1=t_span[1], task=task, head=read, encoder=encode)
    weights = ModelWeights(field_weights, *linear, _initial(encode), _initial(read))
    return TrainedModel(model, weights.to_dict(), Solver.of(solver))


def _read_out(
    head: Any, y: Any, task: Task | None
) -> tuple[Literal["linear", "none"] | FunctionMap, tuple[Any, Any], Task]:
    if head is None:
        return "none", (None, None), answered(task, tuple(y.shape[1:]))
    if type(head) is eqx.nn.Linear and y.ndim == 2 and head.in_features == y.shape[1]:
        weight = np.array(head.weight)
        bias = np.zeros(len(weight), weight.dtype) if head.bias is None else np.array(head.bias)
        task = answered(task, (len(weight),))
        return "linear", (weight, bias.reshape(len(weight))), task
    part = opened("head", head)
    rows = on_batch("head", part, y)
    task = answered(task, tuple(rows(part.arrays, y).shape[1:]))
    refuse_probabilities("a function", task, lambda scale: np.asarray(rows(part.arrays, scale * y)))
    return as_map("head", part, y, task.outputs(tuple(y.shape[1:]))), (None, None), task


def _described(field: Any, y: Any, t0: float) -> tuple[Field, Weights]:
    if isinstance(field, FieldModule):
        return field.field, {name: np.array(each) for name, each in field.weights.items()}
    part = opened("field", field)

    def slope(arrays: Any, t: Any, y: Any) -> Any:
        inputs = {1: (y,), 3: (t, y, None)}.get(part.arguments, (t, y))
        return part.function(arrays, *inputs)

    time = jnp.asarray(t0, y.dtype)
    whole = over_samples("field", lambda rows: slope(part.arrays, time, rows), y)
    rows = slope if whole else jax.vmap(slope, (None, None, 0))
    made = FunctionField(part.named(rows), tuple(y.shape[1:]), part.initial)
    return made, made.init(0)


def _initial(part: object) -> Weights:
    return {k: v.copy() for k, v in part.initial} if isinstance(part, FunctionMap) else {}
