"""Reproductions: the claim of each figure, held on its numbers; the files that a command leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pynode_jl.backends import get_backend
from pynode_jl.cli._app import app
from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.fields import FunctionField
from pynode_jl.reproduce import REPRODUCTIONS, _fig3, make
from pynode_jl.reproduce._desk import Desk
from pynode_jl.solvers import Solver


def test_unknown_names_and_no_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fig9"):
        make("fig9", Desk(tmp_path))
    with pytest.raises(InvalidValueError, match="seeds"):
        Desk(tmp_path, seeds=0)


def test_every_row_is_a_command() -> None:
    text = CliRunner().invoke(app, ["reproduce", "--help"]).output
    assert all(name in text for name in REPRODUCTIONS)


def xor_ends(solver: Solver) -> np.ndarray:
    model, weights = _fig3.xor_model()
    assert isinstance(model.field, FunctionField)
    own = {name.removeprefix("field."): value for name, value in weights.items() if "field" in name}
    return get_backend().solve(model.field, own, _fig3.CORNERS, (0.0, 1.0), solver).y1


def test_xor_is_separable_at_the_coarse_step_only() -> None:
    """PAPER.md, the fan's demonstration."""
    gaps = {
        "coarse": _fig3.widest_gap(xor_ends(Solver("Euler", dt=10**-2.5)))[0],
        "fine": _fig3.widest_gap(xor_ends(Solver("Euler", dt=10**-3.5)))[0],
        "exact": _fig3.widest_gap(xor_ends(Solver("Vern9", rtol=1e-10, atol=1e-10)))[0],
    }
    assert gaps["coarse"] > 0.3
    assert gaps["fine"] < -0.3
    assert gaps["exact"] < -0.3


def test_widest_gap_on_known_points() -> None:
    apart = np.array([[-1.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    gap, normal, offset = _fig3.widest_gap(apart)
    assert gap == pytest.approx(2.0, rel=1e-5)
    # Class 0, the first two corners, lies on the positive side.
    np.testing.assert_array_equal(np.sign(apart @ normal - offset), [1, 1, -1, -1])
    # XOR itself: along the diagonal one class lies in the middle of the other.
    assert _fig3.widest_gap(_fig3.CORNERS)[0] == pytest.approx(-np.sqrt(0.5), rel=1e-3)


@pytest.mark.slow
def test_fig3_leaves_its_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["reproduce", "fig3", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    for suffix in (".png", ".pdf", ".csv", ".json", ".html"):
        assert (tmp_path / f"fig3{suffix}").stat().st_size > 0
    assert json.loads((tmp_path / "fig3.json").read_text())["gamma"] == _fig3.GAMMA
