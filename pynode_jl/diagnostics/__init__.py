"""Analysis of trained models: what breaks when the solver changes, and why."""

from __future__ import annotations

from pynode_jl.backends._conformance import OrderRow, measure_orders
from pynode_jl.diagnostics._certificate import DIAGNOSTICS, Certificate, certify
from pynode_jl.diagnostics._critical_step import CriticalReport, Trial, critical
from pynode_jl.diagnostics._crossings import CrossingReport, flipped_triangles, order_violations
from pynode_jl.diagnostics._diagnostic import Context, Diagnostic, Finding, Share
from pynode_jl.diagnostics._error_share import ErrorShare, error_share
from pynode_jl.diagnostics._fan import Fan, fan
from pynode_jl.diagnostics._folds import (
    BLIND_SPOTS,
    FoldReport,
    FoldScan,
    fold_scan,
    fold_step,
    folds,
)
from pynode_jl.diagnostics._order_test import OrderReport, order_test
from pynode_jl.diagnostics._reference import Reference, ReferenceCost, reference_solve
from pynode_jl.diagnostics._step_sweep import by_step, settled_from
from pynode_jl.diagnostics._swap import (
    ADAPTIVE_TEST_SOLVERS,
    COLUMNS,
    FIXED_TEST_SOLVERS,
    REFERENCE,
    STEP_FACTORS,
    TOLERANCE_FACTORS,
    SwapReport,
    swap,
)
from pynode_jl.diagnostics._swap_matrix import (
    MATRIX_COLUMNS,
    Clusters,
    SwapMatrix,
    clusters,
    swap_matrix,
)
from pynode_jl.diagnostics._verdict import (
    CRITERIA,
    ClassFlips,
    Criterion,
    Flips,
    Kind,
    Rounding,
    Skill,
    Verdict,
    check_rule,
)

__all__ = [
    "ADAPTIVE_TEST_SOLVERS",
    "BLIND_SPOTS",
    "COLUMNS",
    "CRITERIA",
    "DIAGNOSTICS",
    "FIXED_TEST_SOLVERS",
    "MATRIX_COLUMNS",
    "REFERENCE",
    "STEP_FACTORS",
    "TOLERANCE_FACTORS",
    "Certificate",
    "ClassFlips",
    "Clusters",
    "Context",
    "Criterion",
    "CriticalReport",
    "CrossingReport",
    "Diagnostic",
    "ErrorShare",
    "Fan",
    "Finding",
    "Flips",
    "FoldReport",
    "FoldScan",
    "Kind",
    "OrderReport",
    "OrderRow",
    "Reference",
    "ReferenceCost",
    "Rounding",
    "Share",
    "Skill",
    "SwapMatrix",
    "SwapReport",
    "Trial",
    "Verdict",
    "by_step",
    "certify",
    "check_rule",
    "clusters",
    "critical",
    "error_share",
    "fan",
    "flipped_triangles",
    "fold_scan",
    "fold_step",
    "folds",
    "measure_orders",
    "order_test",
    "order_violations",
    "reference_solve",
    "settled_from",
    "swap",
    "swap_matrix",
]
