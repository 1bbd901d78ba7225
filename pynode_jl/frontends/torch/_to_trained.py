"""A trained torch model as a `TrainedModel`, to be swapped and certified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pynode_jl.backends import get_backend
from pynode_jl.errors import InvalidValueError, PyNODEError
from pynode_jl.fields import Field, FunctionField, Weights
from pynode_jl.frontends._examples import answered, refuse_probabilities
from pynode_jl.frontends.torch._copies import (
    Part,
    answering,
    as_inputs,
    as_map,
    called,
    random_state_kept,
)
from pynode_jl.frontends.torch._module import NeuralODE
from pynode_jl.frontends.torch._translate import UntranslatableError, translate
from pynode_jl.models import FunctionMap, Model, ModelWeights
from pynode_jl.solvers import Solver
from pynode_jl.tasks import Task
from pynode_jl.training import TrainedModel

# Inputs that are looked at.
_SAMPLES = 16


def to_trained(
    field: Part,
    head: Part | None,
    x: Any,
    *,
    solver: Solver | str | None = None,
    encoder: Part | None = None,
    task: Task | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
) -> TrainedModel:
    """Return the model head(y(t1)), y' = field(t, y), y(t0) = encoder(input), or the input itself.

    A part is a module, ``(module, state_dict)``, or a function of tensors. Modules are copied and
    answer in eval mode: the ones that are given stay as they are.

    Args:
        field: a `NeuralODE`, or a function of (t, y) or of y. One that reads as a `VectorField`
            (`translate`) can be solved by every backend, if the head is linear; any other becomes a
            `FunctionField`, which the torch backend solves.
        head: the read-out of the final state. An nn.Linear of the flattened state, after Flatten or
            not, is a linear head; any other is a `FunctionMap` of torch. None: the state itself.
        x: some inputs, ``(n, *input_shape)``: their shape and precision are looked at.
        solver: the solver it was trained with; a `NeuralODE` brings its own.
        encoder: what makes the initial state of an input.
        task: what the model answers; default a classification, of two classes where the head gives
            one number, its logit.
        t_span: ``(t0, t1)``; a `NeuralODE` brings its own.

    Returns:
        The model with copies of its weights, as `swap` and `certify` take it: training on does not
        change them.

    Raises:
        InvalidValueError: no solver; a head that does not fit the state or the task; a part that
            fails, mixes samples, draws random numbers, or does not run in float64.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import to_trained
        >>> field, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
        >>> to_trained(field, head, torch.zeros(1, 2), solver=pn.Solver("Euler", dt=1 / 8)).model
        ... # doctest: +ELLIPSIS
        Model(VectorField((2,): Dense 2-2), classes=3)
    """
    if isinstance(field, NeuralODE):
        solver = field.solver if solver is None else solver
        t_span = field.t_span
        field = field.field
    if solver is None:
        raise InvalidValueError(
            "solver",
            None,
            "the solver that the field was trained with",
            'Say Solver("RK4", dt=1/8).',
        )
    with random_state_kept(), torch.no_grad():
        encode, states = None, x[:_SAMPLES]
        if encoder is not None:
            part = answering("encoder", encoder)
            inputs = as_inputs("x", states, part)
            encode = as_map("encoder", part, inputs)
            states = called("encoder", part, inputs)
        own = answering("field", field)
        y = as_inputs("x", states, own)
        if y.ndim < 2 or not y.is_floating_point():
            y = y.float().reshape(len(y), -1)
        read = _read_out(head, y, task)
        described, field_weights = _described(own, y, encode is not None or read.own)
        _check_double(described, field_weights, y, t_span)
    model = Model(
        described, t0=t_span[0], t1=t_span[1], task=read.task, head=read.head, encoder=encode
    )
    weights = ModelWeights(
        field_weights, *read.linear, _initial(encode), _initial(read.head)
    ).to_dict()
    return TrainedModel(model, weights, Solver.of(solver))


class _ReadOut(NamedTuple):
    """A head as a model has it, the linear one's weight and bias, and what the model answers."""

    head: Literal["linear", "none"] | FunctionMap
    linear: tuple[Any, Any]
    task: Task

    @property
    def own(self) -> bool:
        return isinstance(self.head, FunctionMap)


def _read_out(head: Part | None, y: Tensor, task: Task | None) -> _ReadOut:
    if head is None:
        return _ReadOut("none", (None, None), answered(task, tuple(y.shape[1:])))
    part = answering("head", head)
    flat = _linear_part(part)
    if flat is part and flat.in_features != y[0].numel():
        raise InvalidValueError(
            "head",
            part,
            f"an nn.Linear with {y[0].numel()} inputs, the numbers of a state",
            "Flatten the final state before it, or pass the pooling before it as well.",
        )
    states = as_inputs("x", y, part)
    values = called("head", part, states.flatten(1) if flat is part else states)
    task = answered(task, tuple(values.shape[1:]))
    if flat is not None and flat.in_features == y[0].numel():
        expected = nn.functional.linear(states.flatten(1), flat.weight, flat.bias)
        if expected.shape == values.shape and torch.allclose(values, expected, rtol=1e-4):
            bias = torch.zeros(flat.out_features) if flat.bias is None else flat.bias
            numbers = tuple(each.detach().cpu().numpy().copy() for each in (flat.weight, bias))
            return _ReadOut("linear", (numbers[0], numbers[1]), task)
    made = as_map("head", part, states, task.outputs(tuple(y.shape[1:])))
    by_name = {name: torch.as_tensor(each).to(states) for name, each in made.initial}
    refuse_probabilities(
        type(part).__name__, task, lambda scale: made(by_name, scale * states).cpu().numpy()
    )
    return _ReadOut(made, (None, None), task)


def _linear_part(part: Any) -> nn.Linear | None:
    """Return the one layer of a chain that is not there to flatten, if it is an nn.Linear."""
    layers = list(_leaves(part))
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def _leaves(part: Any) -> Iterator[Any]:
    if type(part) is nn.Sequential:
        for each in part:
            yield from _leaves(each)
    elif not isinstance(part, (nn.Flatten, nn.Identity, nn.Dropout)):
        yield part


def _described(field: Any, y: Tensor, in_torch: bool) -> tuple[Field, Weights]:
    """Return a field as data where it can be read, else as it is, and copies of its weights."""
    if isinstance(field, nn.Module) and not in_torch:
        try:
            translation = translate(field, y)
        except UntranslatableError:
            pass
        else:
            weights = {k: weight.copy() for k, weight in translation.weights(field).items()}
            return translation.field, weights
    own = FunctionField(field, tuple(y.shape[1:]), backend="torch")
    return own, own.init(0)


def _check_double(field: Field, weights: Weights, y: Tensor, t_span: tuple[float, float]) -> None:
    """Refuse a field of torch that does not run in float64, as the reference solve does."""
    if not isinstance(field, FunctionField):
        return
    try:
        get_backend("torch").rhs(field, weights, t_span[0], y[:2].double().cpu().numpy())
    except PyNODEError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise InvalidValueError(
            "field",
            type(field.function).__name__,
            f"a function of (t, y), or of y, for states {tuple(y.shape[1:])} in float64",
            "The reference solve needs it: make its constants buffers, or of y's dtype."
            f" {type(error).__name__}: {error}.",
        ) from error


def _initial(part: object) -> Weights:
    if not isinstance(part, FunctionMap):
        return {}
    return {name: value.copy() for name, value in part.initial}
