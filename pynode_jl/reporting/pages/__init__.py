"""Pages: of runs, of a certificate, of a swap matrix; their common layout and their panels."""

from __future__ import annotations

from pynode_jl.reporting.pages._certificate_page import evidence_drawing, write_certificate
from pynode_jl.reporting.pages._layout import Drawing, table, write_page
from pynode_jl.reporting.pages._matrix_page import matrix_block, write_matrix_report
from pynode_jl.reporting.pages._panels import (
    decision_panel,
    grid_around,
    in_the_plane,
    trajectory_panel,
)
from pynode_jl.reporting.pages._run_page import write_run_report
from pynode_jl.reporting.pages._task_drawings import Shown, task_drawings

__all__ = [
    "Drawing",
    "Shown",
    "decision_panel",
    "evidence_drawing",
    "grid_around",
    "in_the_plane",
    "matrix_block",
    "table",
    "task_drawings",
    "trajectory_panel",
    "write_certificate",
    "write_matrix_report",
    "write_page",
    "write_run_report",
]
