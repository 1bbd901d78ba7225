"""Sweeps: many runs, planned, executed anywhere, and none of them lost."""

from __future__ import annotations

from pynode_jl.sweeps._dask import DaskExecutor
from pynode_jl.sweeps._definition import PlannedRun, Sweep
from pynode_jl.sweeps._executors import (
    Executor,
    ProcessExecutor,
    SerialExecutor,
    one_thread,
)
from pynode_jl.sweeps._export import export
from pynode_jl.sweeps._job import Job, Outcome
from pynode_jl.sweeps._plan import Plan, plan
from pynode_jl.sweeps._report import write_report
from pynode_jl.sweeps._result_files import Failure
from pynode_jl.sweeps._schedule import Progress, run_sweep
from pynode_jl.sweeps._schema import sweep_schema
from pynode_jl.sweeps._store import SweepStore

__all__ = [
    "DaskExecutor",
    "Executor",
    "Failure",
    "Job",
    "Outcome",
    "Plan",
    "PlannedRun",
    "ProcessExecutor",
    "Progress",
    "SerialExecutor",
    "Sweep",
    "SweepStore",
    "export",
    "one_thread",
    "plan",
    "run_sweep",
    "sweep_schema",
    "write_report",
]
