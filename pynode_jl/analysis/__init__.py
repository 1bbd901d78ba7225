"""Analysis of trained models: what breaks when the solver changes, and why."""

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

__all__ = [
    "ADAPTIVE_TEST_SOLVERS",
    "COLUMNS",
    "FIXED_TEST_SOLVERS",
    "REFERENCE",
    "STEP_FACTORS",
    "TOLERANCE_FACTORS",
    "SwapReport",
    "Verdict",
    "swap",
]
