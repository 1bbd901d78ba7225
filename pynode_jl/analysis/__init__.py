"""Analysis of trained models: what breaks when the solver changes, and why."""

from __future__ import annotations

from pynode_jl.analysis._certificate import Certificate, Evidence, certify
from pynode_jl.analysis._critical import CriticalReport, Trial, critical
from pynode_jl.analysis._crossing import CrossingReport, flipped_triangles, order_violations
from pynode_jl.analysis._fan import Fan, fan
from pynode_jl.analysis._folds import (
    BLIND_SPOTS,
    FoldReport,
    FoldScan,
    fold_scan,
    fold_step,
    folds,
)
from pynode_jl.analysis._matrix import (
    MATRIX_COLUMNS,
    Clusters,
    SwapMatrix,
    clusters,
    swap_matrix,
)
from pynode_jl.analysis._order import OrderReport, order_test
from pynode_jl.analysis._swap import (
    ADAPTIVE_TEST_SOLVERS,
    COLUMNS,
    FIXED_TEST_SOLVERS,
    REFERENCE,
    STEP_FACTORS,
    TOLERANCE_FACTORS,
    Rounding,
    SwapReport,
    Verdict,
    swap,
)
from pynode_jl.analysis._zoo import OrderRow, measure_orders

__all__ = [
    "ADAPTIVE_TEST_SOLVERS",
    "BLIND_SPOTS",
    "COLUMNS",
    "FIXED_TEST_SOLVERS",
    "MATRIX_COLUMNS",
    "REFERENCE",
    "STEP_FACTORS",
    "TOLERANCE_FACTORS",
    "Certificate",
    "Clusters",
    "CriticalReport",
    "CrossingReport",
    "Evidence",
    "Fan",
    "FoldReport",
    "FoldScan",
    "OrderReport",
    "OrderRow",
    "Rounding",
    "SwapMatrix",
    "SwapReport",
    "Trial",
    "Verdict",
    "certify",
    "clusters",
    "critical",
    "fan",
    "flipped_triangles",
    "fold_scan",
    "fold_step",
    "folds",
    "measure_orders",
    "order_test",
    "order_violations",
    "swap",
    "swap_matrix",
]
