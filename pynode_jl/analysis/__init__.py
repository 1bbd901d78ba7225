"""Analysis of trained models: what breaks when the solver changes, and why."""

from __future__ import annotations

from pynode_jl.analysis._fan import Fan, fan
from pynode_jl.analysis._folds import FoldReport, flipped_triangles, fold_step, folds
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
    SwapReport,
    Verdict,
    swap,
)
from pynode_jl.analysis._zoo import OrderRow, measure_orders

__all__ = [
    "ADAPTIVE_TEST_SOLVERS",
    "COLUMNS",
    "FIXED_TEST_SOLVERS",
    "MATRIX_COLUMNS",
    "REFERENCE",
    "STEP_FACTORS",
    "TOLERANCE_FACTORS",
    "Clusters",
    "Fan",
    "FoldReport",
    "OrderReport",
    "OrderRow",
    "SwapMatrix",
    "SwapReport",
    "Verdict",
    "clusters",
    "fan",
    "flipped_triangles",
    "fold_step",
    "folds",
    "measure_orders",
    "order_test",
    "swap",
    "swap_matrix",
]
