"""Reproductions: the claim of each figure, held on its numbers; the files that a command leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pynode_jl.analysis import certify
from pynode_jl.backends import get_backend
from pynode_jl.cli._app import app
from pynode_jl.datasets import _three_minima as three_minima
from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.fields import FunctionField
from pynode_jl.reproduce import REPRODUCTIONS, _fig3, make
from pynode_jl.reproduce._desk import Desk
from pynode_jl.reproduce._spheres import COARSE, SPHERE
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


def test_the_blind_spot_is_shown(tmp_path: Path) -> None:
    numbers = make("blindspot", Desk(tmp_path)).numbers.set_index("h")
    assert numbers["folded"].to_dict() == {1.0: False, 0.4: True, 0.25: False}
    np.testing.assert_allclose(
        numbers["determinant"], (1 - 3 * numbers.index) * (1 - 2 * numbers.index), rtol=1e-5
    )


def test_the_particles_field() -> None:
    """At rest in a minimum; energy is lost by 0.2 v^2 on every path."""
    at_rest = np.stack([three_minima.MINIMA, np.zeros(3)], axis=1)
    np.testing.assert_allclose(three_minima.slope(at_rest), 0, atol=1e-12)
    states = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    force, moved = three_minima.POTENTIAL.deriv()(states[:, 0]), three_minima.slope(states)
    loss = force * moved[:, 0] + states[:, 1] * moved[:, 1]
    np.testing.assert_allclose(loss, -three_minima.DAMPING * states[:, 1] ** 2, rtol=1e-10)


@pytest.mark.slow
def test_coarse_is_folded_and_tied_and_figure_2_shows_it(tmp_path: Path) -> None:
    """Issue 5, seen working: the coarse Sphere-2D run. Figure 2 shows halving its step."""
    desk = Desk(tmp_path, seeds=1)
    plate = make("fig2", desk)
    accuracies = plate.numbers["accuracy"].tolist()
    assert accuracies[0] > 0.95
    assert accuracies[1] < 0.75
    run = SPHERE.run(desk, COARSE)
    found = certify(run.trained, run.dataset, samples=32)
    assert found.verdict.kind == "tied"
    assert found.folds is not None
    assert found.folds.share > 0.3
    page = desk.publish("fig2", plate)[-1]
    assert page.name == "fig2.html"
    # The shelf has the run now: nothing is trained again.
    stamp = (run.folder / "checkpoint.safetensors").stat().st_mtime_ns
    make("fig2", desk)
    assert (run.folder / "checkpoint.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_fig3_leaves_its_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["reproduce", "fig3", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    for suffix in (".png", ".pdf", ".csv", ".json", ".html"):
        assert (tmp_path / f"fig3{suffix}").stat().st_size > 0
    assert json.loads((tmp_path / "fig3.json").read_text())["gamma"] == _fig3.GAMMA
