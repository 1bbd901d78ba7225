"""What a training depends on besides its data, so that none is resumed as another one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from pynode_jl.backends import Optimizer
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import Field, FunctionField, LogDensityField
from pynode_jl.models import Model
from pynode_jl.tasks import Classification
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._trained import Trained


def training_facts(model: Model, recipe: Recipe) -> dict[str, Any]:
    """Return what decides a training's numbers besides its data, by name.

    The number of iterations is left out: more of them go on from fewer; and so is the length of a
    chunk, which decides nothing. But a step adapter's phases are shares of all iterations, and so
    is a learning rate that decays.

    Returns:
        Plain values for JSON; a function, adapter or algorithm of the user's own as it is.

    Example:
        >>> from pynode_jl.training import training_facts
        >>> training_facts(model, pn.Recipe(pn.Solver("Euler", dt=0.5)))["recipe.solver"]
        {'name': 'Euler', 'dt': 0.5}
    """
    field, solver, adapter = model.field, recipe.solver, recipe.controller
    facts = {
        "model.field": _described_field(field),
        **{f"model.{name}": getattr(model, name) for name in ("classes", "t0", "t1", "augment")},
        "recipe.solver": solver.to_dict() if solver.algorithm is None else solver,
        "recipe.optimizer": _described_optimizer(recipe.optimizer),
        **{
            f"recipe.{name}": getattr(recipe, name)
            for name in ("batch_size", "seed", "gradient", "precision")
        },
        "recipe.controller": _described(adapter),
    }
    if not isinstance(model.task, Classification) or model.task != Classification(model.classes):
        facts["model.task"] = model.task.to_dict()
    if model.head != model.task.default_head:
        facts["model.head"] = model.head
    if model.encoder is not None:
        facts["model.encoder"] = model.encoder
    if recipe.bound_to_iterations:
        facts["recipe.iterations"] = recipe.iterations
    return facts


def _described_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    facts = optimizer.to_dict()
    if facts["name"] == "adam":  # the only one when the first checkpoints were written
        del facts["name"]
    return facts


def _described_field(field: Field) -> dict[str, Any]:
    if isinstance(field, LogDensityField):
        return _described_field(field.field) | {"divergence": field.trace}
    if isinstance(field, FunctionField):
        return {"function": field.function, "state_shape": list(field.state_shape)}
    return {
        "state_shape": list(field.state_shape),
        "layers": [_described(layer) for layer in field.layers],
        "time_dependent": field.time_dependent,
    }


def check_resumable(trained: Trained, model: Model, recipe: Recipe) -> None:
    """Refuse to go on with another model, or by another recipe but for more iterations.

    Raises:
        InvalidValueError: what differs, or fewer iterations than are done.
    """
    mine, theirs = training_facts(model, recipe), training_facts(trained.model, trained.recipe)
    for name in (*mine, *theirs):
        if mine.get(name) != theirs.get(name):
            raise InvalidValueError(
                name,
                mine.get(name),
                f"{theirs.get(name)}, as `resume` was trained with",
                "Pass resume=trained.trained_model to start a training of its own from these"
                " weights.",
            )
    if recipe.iterations < trained.state.iteration:
        raise InvalidValueError(
            "recipe.iterations",
            recipe.iterations,
            f"{trained.state.iteration} or more, which `resume` has done",
            "Raise it.",
        )


def _described(value: Any) -> Any:
    """Return one of the package's frozen dataclasses as a table; what is none, as it is."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {"kind": type(value).__name__} | {
        item.name: getattr(value, item.name) for item in fields(value)
    }
