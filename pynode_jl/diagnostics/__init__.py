"""Diagnostics of trained models: what breaks when the solver changes, and why.

Example:
    A field of one weight, y' = -3 y, and the sign of y as the class. Its flow keeps the sign, one
    step of Euler turns it: the model is right because of its solver, and tied to it. The examples
    of this package begin with it.

    >>> import numpy as np
    >>> import pynode_jl as pn
    >>> weights = pn.ModelWeights(
    ...     {"layers.0.weight": np.array([[-3.0]]), "layers.0.bias": np.zeros(1)},
    ...     head_weight=np.array([[-1.0], [1.0]]),
    ...     head_bias=np.zeros(2),
    ... )
    >>> model = pn.Model(pn.LinearField(1), classes=2)
    >>> trained = pn.TrainedModel(model, weights.to_dict(), pn.Solver("Euler", dt=1.0))
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> data = pn.Dataset.from_arrays(x, x[:, 0] < 0, x_test=x, y_test=x[:, 0] < 0)
    >>> print(pn.swap(trained, data, ["RK4"], backend="jax").verdict.text)
    tied to its solver: 100.0% with Euler h=1 as trained. Its ODE changes 200 of 200 answers
    (97.8 to 100.0%, with 95% confidence) and scores 0.0%.
"""

from __future__ import annotations

from pynode_jl.backends.conformance import OrderRow, measure_orders
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
from pynode_jl.diagnostics._reference import REFERENCE, Reference, ReferenceCost, reference_solve
from pynode_jl.diagnostics._sentences import amount_text, interval_text, score_text
from pynode_jl.diagnostics._shifts import Shift
from pynode_jl.diagnostics._skill import Skill
from pynode_jl.diagnostics._step_sweep import by_step, settled_from
from pynode_jl.diagnostics._swap import swap
from pynode_jl.diagnostics._swap_matrix import (
    MATRIX_COLUMNS,
    SHIFT_MATRIX_COLUMNS,
    Clusters,
    SwapMatrix,
    clusters,
    swap_matrix,
)
from pynode_jl.diagnostics._swap_report import SwapReport
from pynode_jl.diagnostics._swap_table import COLUMNS, NOT_RUN, SHIFT_COLUMNS, columns_of
from pynode_jl.diagnostics._test_solvers import (
    ADAPTIVE_TEST_SOLVERS,
    FIXED_TEST_SOLVERS,
    STEP_FACTORS,
    TOLERANCE_FACTORS,
    planned,
)
from pynode_jl.diagnostics._verdict import (
    CRITERIA,
    ClassFlips,
    Criterion,
    Flips,
    Kind,
    Rounding,
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
    "NOT_RUN",
    "REFERENCE",
    "SHIFT_COLUMNS",
    "SHIFT_MATRIX_COLUMNS",
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
    "Shift",
    "Skill",
    "SwapMatrix",
    "SwapReport",
    "Trial",
    "Verdict",
    "amount_text",
    "by_step",
    "certify",
    "check_rule",
    "clusters",
    "columns_of",
    "critical",
    "error_share",
    "fan",
    "flipped_triangles",
    "fold_scan",
    "fold_step",
    "folds",
    "interval_text",
    "measure_orders",
    "order_test",
    "order_violations",
    "planned",
    "reference_solve",
    "score_text",
    "settled_from",
    "swap",
    "swap_matrix",
]
