"""Tasks: what a model answers, how one answer is scored, and what counts as another answer.

A task is plain data with a few functions of arrays, which are written once for NumPy, JAX and torch
(array-api-compat). Training minimises its loss, diagnostics compare its answers.
"""

from __future__ import annotations

from pynode_jl.tasks._classification import Classification
from pynode_jl.tasks._custom import CustomTask
from pynode_jl.tasks._density import Density, bits_per_dimension
from pynode_jl.tasks._named_task import TASKS, AnyTask, named_task
from pynode_jl.tasks._regression import Regression
from pynode_jl.tasks._task import Task, check_task
from pynode_jl.tasks._trajectory import Trajectory

__all__ = [
    "TASKS",
    "AnyTask",
    "Classification",
    "CustomTask",
    "Density",
    "Regression",
    "Task",
    "Trajectory",
    "bits_per_dimension",
    "check_task",
    "named_task",
]
