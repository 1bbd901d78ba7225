"""Controllers of the training solver's step or tolerance: what keeps a model an ODE in training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pynode_jl.training.step_adaptation._base import (
    Check,
    Controller,
    ControlState,
    Probe,
    Validation,
)
from pynode_jl.training.step_adaptation._initial_step import initial_step
from pynode_jl.training.step_adaptation._pairs import (
    NEXT_ORDER,
    finer_step,
    finer_tolerance,
    next_order_solver,
)
from pynode_jl.training.step_adaptation._paper import PaperController
from pynode_jl.training.step_adaptation._steady import SteadyController

__all__ = [
    "CONTROLLERS",
    "NEXT_ORDER",
    "Check",
    "ControlState",
    "Controller",
    "PaperController",
    "Probe",
    "SteadyController",
    "Validation",
    "finer_step",
    "finer_tolerance",
    "initial_step",
    "next_order_solver",
]

#: Every controller that a configuration can name. A new one is one file and one row here.
CONTROLLERS: Mapping[str, type[SteadyController] | type[PaperController]] = MappingProxyType(
    {"steady": SteadyController, "paper": PaperController}
)
