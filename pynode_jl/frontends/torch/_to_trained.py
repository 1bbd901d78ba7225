"""A trained torch model as a `TrainedModel`, to be swapped and certified."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, FunctionField, Weights
from pynode_jl.frontends.torch._module import NeuralODE
from pynode_jl.frontends.torch._translate import UntranslatableError, translate
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel


def to_trained(
    field: nn.Module,
    head: nn.Linear,
    x: Tensor,
    *,
    solver: Solver | None = None,
    t_span: tuple[float, float] = (0.0, 1.0),
) -> TrainedModel:
    """Return the classifier head(flatten(y(t1))), y' = field(t, y), y(t0) = input.

    Args:
        field: a `NeuralODE`, or any module that is a function of (t, y) or of y. One that reads as
            a `VectorField` (`translate`) can be solved by every backend; any other becomes a
            `FunctionField`, which the torch backend solves.
        head: the linear read-out of the flattened final state.
        x: some inputs, ``(n, *state_shape)``: their shape and precision are looked at.
        solver: the solver it was trained with; a `NeuralODE` brings its own.
        t_span: ``(t0, t1)``; a `NeuralODE` brings its own.

    Returns:
        The model with copies of its weights, as `swap` and `certify` take it: training on does not
        change them.

    Raises:
        InvalidValueError: no solver, or a head that does not fit the state.

    Example:
        >>> import torch, pynode_jl as pn
        >>> from pynode_jl.torch import to_trained
        >>> field, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
        >>> to_trained(field, head, torch.zeros(1, 2), solver=pn.Solver("Euler", dt=1 / 8)).model
        ... # doctest: +ELLIPSIS
        Model(field=VectorField(state_shape=(2,), ...
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
    described, field_weights = _describe(field, x)
    if not isinstance(head, nn.Linear) or head.in_features != described.size:
        raise InvalidValueError(
            "head",
            head,
            f"an nn.Linear with {described.size} inputs, the numbers of a state",
            "Flatten the final state before it.",
        )
    bias = torch.zeros(head.out_features) if head.bias is None else head.bias
    linear = [each.detach().cpu().numpy().copy() for each in (head.weight, bias)]
    weights = ModelWeights(field_weights, linear[0], linear[1])
    return TrainedModel(Model(described, head.out_features, *t_span), weights.to_dict(), solver)


def _describe(field: nn.Module, x: Tensor) -> tuple[Field, Weights]:
    """Return a module as data where it can be read, else as it is, and copies of its weights."""
    try:
        translation = translate(field, x)
    except UntranslatableError:
        own = FunctionField(copy.deepcopy(field), tuple(x.shape[1:]), backend="torch")
        return own, own.init(0)
    weights = {name: weight.copy() for name, weight in translation.weights(field).items()}
    return translation.field, weights
