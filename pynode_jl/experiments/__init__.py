"""Experiments: a configuration, the run that it decides, and the folder that keeps it."""

from pynode_jl.experiments._config import (
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    SwapConfig,
    TrainConfig,
)
from pynode_jl.experiments._run import Run

__all__ = [
    "Config",
    "DataConfig",
    "FieldConfig",
    "ModelConfig",
    "Run",
    "SwapConfig",
    "TrainConfig",
]
