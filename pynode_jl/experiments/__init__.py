"""Experiments: a configuration, the run that it decides, and the folder that keeps it."""

from __future__ import annotations

from pynode_jl.experiments._adaptation import adaptation_row, checks_table, over_seeds, spread
from pynode_jl.experiments._certificate import write_certificate
from pynode_jl.experiments._config import (
    AdaptConfig,
    Config,
    DataConfig,
    FieldConfig,
    ModelConfig,
    SwapConfig,
    TrainConfig,
)
from pynode_jl.experiments._matrix import (
    explicit_zoo,
    find_runs,
    runs_matrix,
    write_matrix_report,
)
from pynode_jl.experiments._panels import decision_panel, in_the_plane, trajectory_panel
from pynode_jl.experiments._quickstart import quickstart_configs
from pynode_jl.experiments._report import write_run_report
from pynode_jl.experiments._run import Run

__all__ = [
    "AdaptConfig",
    "Config",
    "DataConfig",
    "FieldConfig",
    "ModelConfig",
    "Run",
    "SwapConfig",
    "TrainConfig",
    "adaptation_row",
    "checks_table",
    "decision_panel",
    "explicit_zoo",
    "find_runs",
    "in_the_plane",
    "over_seeds",
    "quickstart_configs",
    "runs_matrix",
    "spread",
    "trajectory_panel",
    "write_certificate",
    "write_matrix_report",
    "write_run_report",
]
