"""Runs: a configuration, the training that it decides, and the folder that keeps it."""

from __future__ import annotations

from pynode_jl.runs._adaptation_tables import adaptation_row, checks_table, over_seeds, spread
from pynode_jl.runs._canonical import canonical, plain
from pynode_jl.runs._config import (
    TABLES,
    AdaptConfig,
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    SwapConfig,
    TrainConfig,
)
from pynode_jl.runs._history_table import history_table
from pynode_jl.runs._identity import RunIdentity, training_settings
from pynode_jl.runs._many_runs import explicit_zoo, find_runs, of_one_task, runs_matrix
from pynode_jl.runs._quickstart import quickstart_configs
from pynode_jl.runs._run import Run
from pynode_jl.runs._starter import config_schema, starter_toml
from pynode_jl.runs._task_table import TaskConfig

__all__ = [
    "TABLES",
    "AdaptConfig",
    "Config",
    "DataConfig",
    "FieldConfig",
    "ModelConfig",
    "Run",
    "RunIdentity",
    "SwapConfig",
    "TaskConfig",
    "TrainConfig",
    "adaptation_row",
    "canonical",
    "checks_table",
    "config_schema",
    "explicit_zoo",
    "find_runs",
    "history_table",
    "of_one_task",
    "over_seeds",
    "plain",
    "quickstart_configs",
    "runs_matrix",
    "spread",
    "starter_toml",
    "training_settings",
]
