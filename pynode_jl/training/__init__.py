"""Training: a recipe, the loop that follows it, and the model that it makes."""

from __future__ import annotations

from pynode_jl.training._batches import (
    batch_indices,
    check_channels,
    check_fit,
    check_same_data,
)
from pynode_jl.training._history import History
from pynode_jl.training._many import train_many
from pynode_jl.training._predicting import Predicting
from pynode_jl.training._recipe import Recipe
from pynode_jl.training._resume import training_facts
from pynode_jl.training._stored import arrays_digest
from pynode_jl.training._trained import (
    Trained,
    TrainedLike,
    TrainedModel,
    as_trained_model,
    start,
)
from pynode_jl.training._trainer import train

__all__ = [
    "History",
    "Predicting",
    "Recipe",
    "Trained",
    "TrainedLike",
    "TrainedModel",
    "arrays_digest",
    "as_trained_model",
    "batch_indices",
    "check_channels",
    "check_fit",
    "check_same_data",
    "start",
    "train",
    "train_many",
    "training_facts",
]
