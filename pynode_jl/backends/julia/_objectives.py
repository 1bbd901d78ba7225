"""What Julia's training minimises, and how it reads states out: handles for a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from pynode_jl.backends.julia import _fields, _process
from pynode_jl.errors import InvalidValueError
from pynode_jl.fields import LogDensityField
from pynode_jl.models import FunctionMap, Model
from pynode_jl.tasks import Classification, Density, Regression, Task, Trajectory


def objective(task: Task, dtype: np.dtype[Any]) -> Any:
    """Return the objective of a task, in a precision.

    Raises:
        InvalidValueError: Julia has none for it.
    """
    # By its own class: one derived from it may have another loss.
    made = _OBJECTIVES.get(type(task))
    if made is None:
        known = ", ".join(each.__name__ for each in _OBJECTIVES)
        raise InvalidValueError(
            "model.task", task, f"{known} where Julia trains", 'Use backend="jax".'
        )
    return made(task, dtype)


def head(model: Model, path: Any) -> Any:
    """Return the read-out of a model, with its buffers, along a path of its states.

    Raises:
        InvalidValueError: the model has a function of the user's own.
    """
    for name, part in (("encoder", model.encoder), ("head", model.head)):
        if isinstance(part, FunctionMap):
            raise InvalidValueError(
                f"model.{name}",
                part,
                "no function of your own where Julia trains",
                'Use backend="jax" to train; Julia evaluates it.',
            )
    module = _process.julia().PyNODE
    if model.head == "linear":
        return module.LinearHead(path, model.outputs)
    flow = isinstance(model.field, LogDensityField)
    # A density is read from the position and the integral behind it.
    return module.StateHead(path, math.prod(model.input_shape) + flow)


def _cross_entropy(task: Any, dtype: np.dtype[Any]) -> Any:
    module = _process.julia().PyNODE
    weights = np.array(task.class_weights or (1.0,) * task.classes, dtype)
    found = module.CrossEntropy(_fields.at(weights))
    return module.OneLogit(found) if task.one_logit else found


def _squared_error(task: Any, dtype: np.dtype[Any]) -> Any:
    return _process.julia().PyNODE.SquaredError()


def _negative_log_density(task: Any, dtype: np.dtype[Any]) -> Any:
    return _process.julia().PyNODE.NegativeLogDensity()


_OBJECTIVES: Mapping[type[Task], Callable[[Any, np.dtype[Any]], Any]] = MappingProxyType(
    {
        Classification: _cross_entropy,
        Regression: _squared_error,
        Trajectory: _squared_error,
        Density: _negative_log_density,
    }
)
