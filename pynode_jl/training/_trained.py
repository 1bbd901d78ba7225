"""A model with its weights and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pynode_jl.backends import RetCode, TrainState
from pynode_jl.fields import Weights
from pynode_jl.models import Model, ModelWeights
from pynode_jl.solvers import Solver
from pynode_jl.training._history import History
from pynode_jl.training._recipe import Recipe
from pynode_jl.training.step_adaptation import ControlState, Validation


@dataclass(frozen=True)
class Trained:
    """A model with its weights and how they came about.

    `retcode` is Success, or why training ended before its last iteration: `state` is then the last
    good one. Under a controller, `control` is where that stands (None before the first iteration),
    and `validation` what it says of the finished model, if it promises anything. If it marks
    weights as best, the last so marked are `kept` until training ends and become the model's there.
    `fingerprint` is that of the data it was trained on (`Dataset.fingerprint`); "" where unknown.
    """

    model: Model
    recipe: Recipe
    state: TrainState
    history: History
    retcode: RetCode = RetCode.Success
    seconds: float = 0.0
    control: ControlState | None = None
    validation: Validation | None = None
    kept: Weights | None = None
    fingerprint: str = ""

    @property
    def finished(self) -> bool:
        """Whether all iterations were done."""
        return self.state.iteration >= self.recipe.iterations

    @property
    def solver(self) -> Solver:
        """The solver in force: the recipe's, the controller's last, or the one validated."""
        if self.validation is not None:
            return self.validation.solver
        return self.recipe.solver if self.control is None else self.control.solver

    @property
    def weights(self) -> Weights:
        """The weights, by name."""
        return self.state.weights

    @property
    def field_weights(self) -> Weights:
        """The field's part of the weights, under the field's own names."""
        return dict(ModelWeights.from_dict(self.weights).field)

    @classmethod
    def of(cls, model: Model, weights: Mapping[str, Any], solver: Solver) -> Trained:
        """A model that was trained elsewhere, with `solver`, to be analysed here."""
        return cls(model, Recipe(solver, iterations=1), TrainState.start(dict(weights)), History())


def start(model: Model, recipe: Recipe) -> Trained:
    """A model before its first iteration, with the initial weights of the recipe's seed."""
    return Trained(model, recipe, TrainState.start(model.init(recipe.seed)), History())
