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
from pynode_jl.analysis._reference import Reference, reference_solve
from pynode_jl.analysis._swap import (
    ADAPTIVE_TEST_SOLVERS,
    COLUMNS,
    FIXED_TEST_SOLVERS,
    REFERENCE,
    STEP_FACTORS,
    TOLERANCE_FACTORS,
    SwapReport,
    swap,
)
from pynode_jl.analysis._verdict import (
    CRITERIA,
    ClassFlips,
    Criterion,
    Flips,
    Rounding,
    Skill,
    Verdict,
)
from pynode_jl.analysis._zoo import OrderRow, measure_orders

__all__ = [
    "ADAPTIVE_TEST_SOLVERS",
    "BLIND_SPOTS",
    "COLUMNS",
    "CRITERIA",
    "FIXED_TEST_SOLVERS",
    "MATRIX_COLUMNS",
    "REFERENCE",
    "STEP_FACTORS",
    "TOLERANCE_FACTORS",
    "Certificate",
    "ClassFlips",
    "Clusters",
    "Criterion",
    "CriticalReport",
    "CrossingReport",
    "Evidence",
    "Fan",
    "Flips",
    "FoldReport",
    "FoldScan",
    "OrderReport",
    "OrderRow",
    "Reference",
    "Rounding",
    "Skill",
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
    "reference_solve",
    "swap",
    "swap_matrix",
]
