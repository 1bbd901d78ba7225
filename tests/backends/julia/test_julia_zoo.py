"""The zoo on the running Julia: each solver's order, against docs/zoo.csv and the catalogue.

`pynode-jl zoo --backend julia --out docs/zoo.csv` wrote the file, which holds the suspects too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from julia_problems import needs_julia

from pynode_jl.backends import get_backend
from pynode_jl.diagnostics import OrderRow, measure_orders
from pynode_jl.solvers import catalogue, info

FILE = Path(__file__).parents[3] / "docs" / "zoo.csv"
# One of each kind of method: explicit, implicit, Rosenbrock, multistep, extrapolation, stabilised.
FEW = ("Tsit5", "TRBDF2", "Rodas5P", "AB3", "AitkenNeville", "ROCK2", "RadauIIA5")
# GlobalDiffEq is no part of OrdinaryDiffEq, and was not installed when the file was written.
UNMEASURED = {row.name for row in catalogue(backend="julia") if row.sublibrary == "GlobalDiffEq"}
PLAIN = [row.name for row in catalogue(backend="julia") if row.plain and row.name not in UNMEASURED]


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    return pd.read_csv(FILE).set_index("name")


def test_every_plain_solver_was_measured(recorded: pd.DataFrame) -> None:
    assert set(recorded.index) == set(PLAIN)


def test_what_is_claimed_is_the_catalogues(recorded: pd.DataFrame) -> None:
    for name in PLAIN:
        claimed = recorded.loc[name, "claimed"]
        assert (None if pd.isna(claimed) else claimed) == info(name).order


@needs_julia
@pytest.mark.parametrize(
    "name",
    [n if n == "Tsit5" else pytest.param(n, marks=pytest.mark.slow) for n in FEW]
    + [pytest.param(n, marks=pytest.mark.zoo) for n in PLAIN if n not in FEW],
)
def test_order(name: str, recorded: pd.DataFrame, record_property: Any) -> None:
    backend = get_backend("julia")
    if name not in backend.solvers():
        pytest.skip(f"{info(name).sublibrary} is not in the Julia environment")
    (row,) = measure_orders(backend, [info(name)])
    if row.suspect:
        seen = row.problem or f"{row.measured:.2f}"
        record_property(f"order {name}", f"{seen} measured, {row.claimed} claimed")
    if row.problem:
        pytest.skip(row.problem)
    # The same steps, or those of one tolerance. QPRK98 is refused in float32.
    assert row.single is not None
    assert row.single < 1e-2 or name == "QPRK98"
    before = recorded.loc[name]
    assert (
        row.suspect
        == OrderRow(name, row.family, row.claimed, _number(before["measured"]), None, 0.0).suspect
    )


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
