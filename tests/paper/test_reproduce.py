"""Reproductions: the claim of each figure, held on its numbers; the files that a command leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pynode_jl.backends import get_backend
from pynode_jl.cli._app import app
from pynode_jl.datasets import particle
from pynode_jl.diagnostics import certify
from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.fields import FunctionField
from pynode_jl.paper import (
    REPRODUCTIONS,
    FigureResult,
    ReproductionContext,
    _figure3,
    _figure4,
    make,
)
from pynode_jl.paper._sphere_experiments import COARSE, SPHERE
from pynode_jl.proportions import mean_interval
from pynode_jl.reporting import figures
from pynode_jl.runs import RunIdentity
from pynode_jl.solvers import Solver
from pynode_jl.sweeps import Sweep


def test_unknown_names_and_no_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fig9"):
        make("fig9", ReproductionContext(tmp_path))
    with pytest.raises(InvalidValueError, match="seeds"):
        ReproductionContext(tmp_path, seeds=0)


def test_every_row_is_a_command() -> None:
    text = CliRunner().invoke(app, ["reproduce", "--help"]).output
    assert all(name in text for name in REPRODUCTIONS)


def test_the_sweep_of_figure_4_has_its_runs(tmp_path: Path) -> None:
    """And so `reproduce fig4 --full --seeds 5` in the sweep's folder trains nothing."""
    context = ReproductionContext(tmp_path, seeds=5, full=True)
    needed = {
        RunIdentity.of(SPHERE._config(context, f"{panel.solver}:{setting}", seed)).training
        for panel in _figure4._SPHERE_PANELS.values()
        for setting in (*panel.short, *panel.more)
        for seed in range(context.seeds)
    }
    examples = Path(__file__).parents[2] / "examples" / "sweeps"
    assert needed == {run.folder for run in Sweep.load(examples / "figure4.toml").runs}


def xor_ends(solver: Solver) -> np.ndarray:
    model, weights = _figure3.xor_model()
    assert isinstance(model.field, FunctionField)
    return get_backend().solve(model.field, weights.field, _figure3.CORNERS, (0.0, 1.0), solver).y1


def test_xor_is_separable_at_the_coarse_step_only() -> None:
    """The demonstration of the fan, the gaps as its search found them."""
    solvers = {
        0.644: Solver("Euler", dt=10**-2.5),
        -0.127: Solver("Euler", dt=10**-3),
        -0.417: Solver("Euler", dt=10**-3.5),
        -0.361: Solver("Vern9", rtol=1e-10, atol=1e-10),
    }
    for gap, solver in solvers.items():
        assert _figure3.widest_gap(xor_ends(solver))[0] == pytest.approx(gap, abs=2e-3), (
            solver.label
        )


@pytest.mark.parametrize(
    ("corner", "t1", "turns"), [((1.0, 1.0), 1.0, 5), ((1.0, 0.0), 1.0, 5), ((0.0, 1.0), 2.0, 4)]
)
def test_xor_flow_grows_and_quickens(corner: tuple[float, float], t1: float, turns: int) -> None:
    """The paper's text: growing ellipsoids with ever increasing rotational speed.

    The corner (0, 1) winds slowly: it is followed for twice as long.
    """
    model, weights = _figure3.xor_model()
    times = np.linspace(0.0, t1, 4001)
    exact = Solver("Vern9", rtol=1e-10, atol=1e-10)
    begin = np.array([corner])
    found = get_backend().solve(
        model.field, weights.field, begin, (0.0, t1), exact, save_at=list(times[1:])
    )
    sizes, speeds = _figure3.growth_and_speed(times, np.concatenate([begin, found.y[:, 0]]))
    assert len(sizes) >= turns
    assert (sizes[1:] > 1.1 * sizes[:-1]).all()
    assert (speeds[1:] > 1.03 * speeds[:-1]).all()


def test_growth_and_speed_of_a_known_spiral() -> None:
    """r = e^t, turned by (4 t + t^2) clockwise: half turn k ends at t = -2 + sqrt(4 + k pi)."""
    t = np.linspace(0, 3, 6001)
    angle = -(4 * t + t**2)
    path = np.exp(t)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    sizes, speeds = _figure3.growth_and_speed(t, path)
    ends = -2 + np.sqrt(4 + np.pi * np.arange(len(sizes) + 1))
    assert len(sizes) == 6
    np.testing.assert_allclose(sizes, np.exp(ends[1:]), rtol=2e-3)
    np.testing.assert_allclose(speeds, np.pi / np.diff(ends), rtol=1e-3)


def test_widest_gap_on_known_points() -> None:
    apart = np.array([[-1.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    gap, normal, offset = _figure3.widest_gap(apart)
    assert gap == pytest.approx(2.0, rel=1e-5)
    # Class 0, the first two corners, lies on the positive side.
    np.testing.assert_array_equal(np.sign(apart @ normal - offset), [1, 1, -1, -1])
    # XOR itself: along the diagonal one class lies in the middle of the other.
    assert _figure3.widest_gap(_figure3.CORNERS)[0] == pytest.approx(-np.sqrt(0.5), rel=1e-3)


def test_the_blind_spot_is_shown(tmp_path: Path) -> None:
    numbers = make("blindspot", ReproductionContext(tmp_path)).numbers.set_index("h")
    assert numbers["folded"].to_dict() == {1.0: False, 0.4: True, 0.25: False}
    np.testing.assert_allclose(
        numbers["determinant"], (1 - 3 * numbers.index) * (1 - 2 * numbers.index), rtol=1e-5
    )


def test_the_particles_field() -> None:
    """At rest in a minimum; energy is lost by 0.2 v^2 on every path."""
    at_rest = np.stack([particle.MINIMA, np.zeros(3)], axis=1)
    np.testing.assert_allclose(particle.particle_field(at_rest), 0, atol=1e-12)
    states = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    force, moved = particle.POTENTIAL.deriv()(states[:, 0]), particle.particle_field(states)
    loss = force * moved[:, 0] + states[:, 1] * moved[:, 1]
    np.testing.assert_allclose(loss, -particle.DAMPING * states[:, 1] ** 2, rtol=1e-10)


@pytest.mark.slow
def test_coarse_is_folded_and_tied_and_figure_2_shows_it(tmp_path: Path) -> None:
    """The coarse Sphere-2D run: its diagnostics, and Figure 2, where halving its step shows."""
    context = ReproductionContext(tmp_path, seeds=1)
    result = make("fig2", context)
    accuracies = result.numbers["accuracy"].tolist()
    assert accuracies[0] > 0.95
    assert accuracies[1] < 0.75
    run = SPHERE.run(context, COARSE)
    found = certify(run.trained, run.dataset, samples=32)
    assert found.verdict.kind == "tied"
    folds = found.finding("folds")
    assert folds is not None
    assert folds.outcome == "contradicts"
    report, _ = folds.report
    assert report.share > 0.3
    page = context.publish("fig2", result)[-1]
    assert page.name == "fig2.html"
    # The run cache has the run now: nothing is trained again.
    stamp = (run.folder / "checkpoint.safetensors").stat().st_mtime_ns
    make("fig2", context)
    assert (run.folder / "checkpoint.safetensors").stat().st_mtime_ns == stamp


def test_a_page_has_words_for_its_pictures_and_tables_for_its_records(tmp_path: Path) -> None:
    table = pd.DataFrame({"steps": [1, 2], "solver": "Euler", "accuracy": [0.5, 1.0]})
    figure = figures.accuracy_against_count({"a model": table}, trained_with={"a model": 2})
    context = ReproductionContext(tmp_path)
    facts = {"seeds": 2, "search": [{"seed": 0, "solver": "Euler h=1/2"}], "rule": {"margin": 0.03}}
    result = FigureResult("Figure 9", "Seen.", None, table, facts=facts, more={"a": figure})
    *_, page = context.publish("fig9", result)
    text = page.read_text(encoding="utf-8")
    assert "<figcaption>Figure 9 (a)</figcaption>" in text
    assert "<summary>search (1 row)</summary>" in text
    assert "<dd>margin: 0.03</dd>" in text
    assert "{&#39;" not in text
    assert 'alt="Lines of test accuracy by steps. a model: 100.0% as trained' in text
    *_, bare = context.publish("bare", FigureResult("Bare", "Seen.", None, table))
    assert "What decides it" not in bare.read_text(encoding="utf-8")


def seed_table(accuracy: float, failed: bool = False) -> pd.DataFrame:
    """A swap table of one seed: Euler at three steps, the middle one that of training."""
    factors = [0.5, 1.0, 2.0]
    return pd.DataFrame(
        {
            "train_solver": "Euler h=1/4",
            "test_solver": "Euler",
            "order": 1,
            "factor": factors,
            "label": ["Euler h=1/8", "Euler h=1/4", "Euler h=1/2"],
            "step": [factor / 4 for factor in factors],
            "fixed": True,
            "accuracy": [accuracy, 0.99, accuracy - 0.1],
            "retcode": ["Success", "Success", "Unstable" if failed else "Success"],
            "finer": [True, True, False],
        }
    )


def test_figure_4_has_intervals_over_seeds_and_none_for_one() -> None:
    seeds = [0.90, 0.94, 0.98]
    table = _figure4._mean([seed_table(seeds[0], failed=True), *map(seed_table, seeds[1:])])
    mean, low, high = mean_interval(seeds)
    assert table.loc[0, ["accuracy", "low", "high"]].tolist() == pytest.approx(
        [mean, low, min(high, 1.0)]
    )
    assert high > 1.0  # Student's is cut off at what is possible
    assert table.loc[1, ["low", "high"]].tolist() == pytest.approx([0.99, 0.99])
    assert table["failed"].tolist() == [0, 0, 1]
    assert table["retcode"].tolist() == ["Success", "Success", "Unstable"]

    figure = figures.accuracy_against_step({"a": table}, x="step")
    (band,) = [each for each in figure.axes[0].collections if each.get_gid() == "interval"]
    drawn = band.get_paths()[0].vertices
    # The failed solve has no part in it.
    assert set(drawn[:, 0]) == {0.125, 0.25}
    assert (drawn[:, 1].min(), drawn[:, 1].max()) == pytest.approx((low, 1.0))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "95 % interval" in legend

    one = _figure4._mean([seed_table(0.9)])
    assert one[["low", "high"]].isna().all(axis=None)
    alone = figures.accuracy_against_step({"a": one}, x="step")
    assert not [each for each in alone.axes[0].collections if each.get_gid() == "interval"]
    assert "95 % interval" not in [text.get_text() for text in alone.legends[0].get_texts()]


def test_one_point_has_a_bar() -> None:
    table = _figure4._mean([seed_table(0.9)[:1], seed_table(0.94)[:1]])
    figure = figures.accuracy_against_step({"a": table}, x="step")
    (bar,) = [each for each in figure.axes[0].collections if each.get_gid() == "interval"]
    _, low, high = mean_interval([0.9, 0.94])
    ends = bar.get_segments()[0]
    np.testing.assert_allclose(ends, [[0.125, low], [0.125, min(high, 1.0)]])


@pytest.mark.slow
def test_fig3_leaves_its_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["reproduce", "fig3", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    for suffix in (".png", ".pdf", ".csv", ".json", ".html"):
        assert (tmp_path / f"fig3{suffix}").stat().st_size > 0
    assert json.loads((tmp_path / "fig3.json").read_text())["gamma"] == _figure3.GAMMA
