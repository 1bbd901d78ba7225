"""Runs of Julia's functions for a solver: what goes wrong, and what is waited for."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pynode_jl.backends._results import RetCode
from pynode_jl.backends.julia import _process
from pynode_jl.errors import PyNODEError, SolveError
from pynode_jl.solvers import Solver

_log = logging.getLogger("pynode_jl.julia")

# Julia's return codes: ours, and others by what they come from.
_CODES = {
    **RetCode.__members__,
    "DtNaN": RetCode.Unstable,
    "InitialFailure": RetCode.ConvergenceFailure,
    "InternalLinearSolveFailed": RetCode.ConvergenceFailure,
    "MaxTime": RetCode.MaxIters,
}

# Solvers that have run, and may be compiled; seconds after which a first run is spoken of.
_MET: set[tuple[str, bool]] = set()
_PATIENCE = 5.0


def run(solver: Solver, function: Any, *arguments: Any, call: Any = _process.call) -> Any:
    """Call a Julia function. Whatever goes wrong there, or in a function that it calls, is a solve
    that failed: one solver of a swap, and one row of its table."""
    key = (solver.name, solver.fixed)
    waiting = None if key in _MET else _announced(solver)
    try:
        result = call(function, *arguments)
    except PyNODEError:
        raise
    except _process.julia_error() as error:
        raise SolveError(
            "Failure", f"{solver.label}. Julia says: {_process.first_line(error)}"
        ) from error
    except Exception as error:
        text = f"{solver.label}. The right-hand side raised {type(error).__name__}: {error}"
        raise SolveError("Failure", text) from error
    finally:
        if waiting is not None:
            waiting.cancel()
    _MET.add(key)
    return result


def _announced(solver: Solver) -> threading.Timer:
    """Return a timer that announces, unless cancelled soon, what a first run waits for."""
    waiting = threading.Timer(
        _PATIENCE,
        _log.warning,
        (
            f"{solver.label}: its first run has lasted {_PATIENCE:.0f} s. Julia compiles a solver"
            " when it is first used; to wait for that once, and not in every process:"
            f" pynode-jl julia precompile {solver.name}",
        ),
    )
    waiting.daemon = True
    waiting.start()
    return waiting


def retcode(code: str) -> RetCode:
    """Return our code for one of Julia's."""
    return _CODES.get(str(code), RetCode.ConvergenceFailure)
