"""A trained torch model as a `TrainedModel`, to be swapped and certified."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pynode_jl.errors import InvalidValueError
from pynode_jl.frontends.torch._module import NeuralODE
from pynode_jl.frontends.torch._translate import translate
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
    """The classifier head(flatten(y(t1))), y' = field(t, y), y(t0) = input, as `certify` takes it.

    Args:
        field: a `NeuralODE`, or a module that is a function of (t, y) or of y and reads as a
            `VectorField` (`translate`).
        head: the linear read-out of the flattened final state.
        x: some inputs, ``(n, *state_shape)``: their shape and precision are looked at.
        solver: the solver it was trained with; a `NeuralODE` brings its own.
        t_span: ``(t0, t1)``; a `NeuralODE` brings its own.

    Returns:
        The model with copies of its weights: training on does not change them.

    Raises:
        UntranslatableError: a field that is more than a `VectorField` can say.
        InvalidValueError: no solver, or a head that does not fit the state.
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
    translation = translate(field, x)
    if not isinstance(head, nn.Linear) or head.in_features != translation.field.size:
        raise InvalidValueError(
            "head",
            head,
            f"an nn.Linear with {translation.field.size} inputs, the numbers of a state",
            "Flatten the final state before it.",
        )
    model = Model(translation.field, head.out_features, *t_span)
    bias = torch.zeros(head.out_features) if head.bias is None else head.bias
    weights = ModelWeights(
        {name: weight.copy() for name, weight in translation.weights(field).items()},
        *(value.detach().cpu().numpy().copy() for value in (head.weight, bias)),
    )
    return TrainedModel(model, weights.to_dict(), solver)
