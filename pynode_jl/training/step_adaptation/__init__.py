"""Step adapters: what sets the training solver's step or tolerance, to keep a model an ODE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pynode_jl.training.step_adaptation._initial_step import initial_step
from pynode_jl.training.step_adaptation._pairs import (
    NEXT_ORDER,
    finer_step,
    finer_tolerance,
    next_order_solver,
)
from pynode_jl.training.step_adaptation._paper import PaperController
from pynode_jl.training.step_adaptation._steady import SteadyController
from pynode_jl.training.step_adaptation._step_adapter import (
    Check,
    ControlState,
    Probe,
    StepAdapter,
    Validation,
)

__all__ = [
    "CONTROLLERS",
    "NEXT_ORDER",
    "Check",
    "ControlState",
    "PaperController",
    "Probe",
    "SteadyController",
    "StepAdapter",
    "Validation",
    "finer_step",
    "finer_tolerance",
    "initial_step",
    "next_order_solver",
]

#: Every step adapter that a configuration can name. A new one is one file and one row here.
CONTROLLERS: Mapping[str, type[SteadyController] | type[PaperController]] = MappingProxyType(
    {"steady": SteadyController, "paper": PaperController}
)
