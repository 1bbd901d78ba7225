"""docs/julia.md is followed: its code runs, and every solver that it names solves."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from julia_problems import distance, needs_julia, problem

import pynode_jl as pn
from pynode_jl.backends import GRADIENTS

GUIDE = (Path(__file__).parents[3] / "docs" / "julia.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_there_is_code_to_follow() -> None:
    assert sum("Solver(" in block for block in BLOCKS) >= 2


def test_every_gradient_is_told_of() -> None:
    told = re.findall(r'`"(\w+)"`', GUIDE)
    assert set(GRADIENTS) <= set(told)


@needs_julia
@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_code_runs_and_its_solvers_solve(block: str) -> None:
    julia = pn.get_backend("julia")
    field, weights, y0 = problem("mlp")
    exact = julia.solve(field, weights, y0, (0.0, 1.0), pn.Solver("Tsit5", rtol=1e-9, atol=1e-9))
    for solver in _solvers_in(block):
        found = julia.solve(field, weights, y0, (0.0, 1.0), solver)
        assert distance(found.y1, exact.y1) < 1e-3, solver.label


def _solvers_in(block: str) -> list[pn.Solver]:
    """Run the code of a block; the solvers that its statements make."""
    scope: dict[str, Any] = {"pn": pn, "np": np}
    values: list[Any] = []
    for statement in ast.parse(block).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), "julia.md", "eval"), scope))
        else:
            exec(compile(ast.Module([statement], []), "julia.md", "exec"), scope)
    values += scope.values()
    return [value for value in values if isinstance(value, pn.Solver)]
