"""Figures of tasks whose answers are numbers: what they say, and on which scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import Measure
from pynode_jl.reporting.pages import table

RMSE = Measure("RMSE", "of their error", higher_is_better=False, shifts=True)
NATS = Measure("nats per dimension", "nats per dimension", False, shifts=True, signed=True)


def swaps(scores: tuple[float, ...] = (0.01, 0.2, 30.0), code: str = "Success") -> pd.DataFrame:
    names = ("Euler", "Midpoint", "RK4")
    return pd.DataFrame(
        {
            "train_solver": "Euler h=1/2",
            "test_solver": names,
            "order": (1, 2, 4),
            "factor": 1.0,
            "label": [f"{name} h=1/2" for name in names],
            "step": 0.5,
            "fixed": True,
            "score": scores,
            "finer": True,
            "retcode": ["Success", "Success", code],
        }
    )


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_measure_writes_scores_and_changes_in_its_unit() -> None:
    assert [RMSE.score_text(v) for v in (0.01234, 2e4, 1e-5, 0.0)] == ["0.0123", "2e4", "1e-5", "0"]
    assert [RMSE.change_text(v) for v in (0.1, 12.0)] == [
        "10 % of their error",
        "1,200 % of their error",
    ]
    assert NATS.change_text(0.05) == "0.05 nats per dimension"
    assert Measure().score_text(0.986) == "98.6"


def test_better_scores_are_lighter_and_all_beyond_chance_alike() -> None:
    for measure, best, worst in ((RMSE, 0.01, 0.9), (Measure(), 0.98, 0.1), (NATS, -1.0, 2.0)):
        scale = measure.colours([best, worst], {RMSE: 0.9, NATS: 2.0}.get(measure, 0.1))
        light, dark = (sum(scale.to_rgba(np.array(each))[:3]) for each in (best, worst))
        assert light > dark
    scale = RMSE.colours([0.01, 1e30, np.nan], 0.9)
    assert scale.to_rgba(np.array(0.9)) == scale.to_rgba(np.array(1e30))
    # Errors over two decades: a step from 0.01 to 0.1 shows as much as one to 0.9.
    assert scale.norm(0.095) == pytest.approx(0.5, abs=0.01)


def test_the_heat_map_has_scores_their_name_and_that_of_chance() -> None:
    shown = texts(figures.swap_heatmap({"a": swaps()}, chance=0.5, measure=RMSE))
    assert {"0.01", "0.2", "30", "test RMSE", "0.5\nchance"} <= set(shown)
    assert "?" in texts(figures.swap_heatmap({"a": swaps((0.1, 0.2, np.nan))}, measure=RMSE))
    with pytest.raises(InvalidValueError, match="Missing: score"):
        figures.swap_heatmap({"a": swaps().drop(columns="score")}, measure=RMSE)


@pytest.mark.parametrize("chance", [0.5, np.nan])
@pytest.mark.parametrize("scores", [(0.1, 0.1, 0.1), (np.nan,) * 3, (np.inf, 0.1, 1e-30)])
def test_scores_of_any_size_are_drawn(chance: float, scores: tuple[float, ...]) -> None:
    for figure in (
        figures.swap_heatmap({"a": swaps(scores)}, chance=chance, measure=RMSE),
        figures.accuracy_against_step({"a": swaps(scores)}, chance=chance, measure=NATS),
    ):
        assert len(figures.png_bytes(figure, dpi=30)) > 1000


def test_errors_over_steps_are_logarithmic_and_failures_on_the_side_of_the_worst() -> None:
    table = swaps(code="Unstable")
    figure = figures.accuracy_against_step({"a": table}, chance=0.5, measure=RMSE)
    ax = figure.axes[0]
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "test RMSE")
    failed = next(line for line in ax.lines if line.get_gid() == "failed")
    assert list(failed.get_ydata()) == [0.97]  # of the axes
    signed = figures.accuracy_against_step({"a": swaps((-1.0, 0.5, 2.0))}, measure=NATS)
    assert signed.axes[0].get_yscale() == "linear"


def test_shifts_have_a_logarithmic_axis_that_holds_zero_and_infinity() -> None:
    rows = pd.DataFrame(
        {
            "label": ["its ODE", "RK4", "none"],
            "share": [0.02, np.inf, 0.0],
            "low": [0.0, 0.5, 0.0],
            "high": [0.05, np.inf, 0.0],
        }
    )
    figure = figures.flip_intervals({"a": rows}, margin=0.1, measure=RMSE)
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    left, right = ax.get_xlim()
    drawn = np.concatenate([np.asarray(line.get_xdata(), float) for line in ax.lines])
    assert left > 0
    assert ((drawn >= left) & (drawn <= right)).all()
    assert "margin, 10 % of their error" in texts(figure)


def by_step() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "setting": [0.5, 0.25, 0.125],
            "own": [False, True, False],
            "score": [np.nan, 0.01, 0.1],
            "shift": [np.nan, 9.0, 0.5],
            "shift_low": [np.nan, 8.0, 0.4],
            "shift_high": [np.nan, 10.0, 0.6],
        }
    )


def test_evidence_is_the_error_by_step_with_a_star_where_it_was_trained_and_the_shift() -> None:
    figure = figures.evidence(by_step(), fixed=True, ode=0.11, margin=0.1, measure=RMSE, chance=1.0)
    errors, shifts = figure.axes
    assert (errors.get_xscale(), errors.get_yscale(), shifts.get_yscale()) == ("log",) * 3
    star = next(line for line in errors.lines if line.get_marker() == "*")
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([0.25], [0.01])
    assert any(set(line.get_ydata()) == {0.11} for line in errors.lines)  # the ODE's level
    assert "margin, 10 % of their error" in texts(figure)
    with pytest.raises(InvalidValueError, match="Missing: shift"):
        figures.evidence(
            by_step().drop(columns="shift"), fixed=True, ode=0.1, margin=0.1, measure=RMSE
        )


def test_losses_below_zero_are_seen_and_scores_that_are_losses_are_drawn_once() -> None:
    loss = np.linspace(1.0, -2.0, 50)
    figure = figures.training_history({"a": {"loss": loss, "score": loss}}, measure=NATS)
    (ax,) = figure.axes
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < -2.0
    errors = {"loss": np.geomspace(1, 1e-4, 50), "score": np.geomspace(1, 1e-2, 50)}
    figure = figures.training_history({"a": errors}, measure=RMSE)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "batch RMSE"]


def test_changes_have_their_unit_once_in_a_heading_or_in_their_cells() -> None:
    assert NATS.heading("shift") == "shift, nats per dimension"
    assert RMSE.heading("shift") == "shift"
    frame = pd.DataFrame({"label": ["Euler"], "score": [0.25], "shift": [0.5], "damage": [-0.0]})
    columns = {name: name for name in frame}
    shown = table(frame, columns, measure=NATS)
    assert [cell.text for cell in shown.heading] == [
        "label", "nats per dimension", "shift, nats per dimension", "damage, nats per dimension",
    ]  # fmt: skip
    assert [cell.text for cell in shown.rows[0]] == ["Euler", "0.25", "0.5", "0"]
    assert table(frame, columns, measure=RMSE).rows[0][2].text == "50.0%"


def test_evidence_names_its_measure_and_draws_the_order_beside_the_distances() -> None:
    order = figures.OrderPanel([0.5, 0.25], [1e-1, 1e-4], order=4, floor=1e-6)
    figure = figures.evidence(by_step(), fixed=True, ode=0.1, margin=0.1, order=order, measure=RMSE)
    said = figures.described(figure)
    assert said.alt.startswith("RMSE by step")
    title, chart = said.chart.charts[2]
    assert title == "distance from the ODE"
    assert chart.data.groupby("line")["distance"].min().to_dict() == pytest.approx(
        {"final states": 1e-4, "order 4": 1e-1 / 2**4}
    )
    assert "1e-6" in chart.spec["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]


def test_panels_of_intervals_have_one_axis() -> None:
    tables = {
        name: pd.DataFrame(
            {"label": ["its ODE"], "share": [high / 2], "low": [0.0], "high": [high]}
        )
        for name, high in (("coarse", 2.0), ("fine", 1e-4))
    }
    figure = figures.flip_intervals(tables, margin=0.1, measure=RMSE)
    charts = [chart for _, chart in figures.described(figure).chart.charts]
    scales = [chart.spec["layer"][0]["encoding"]["x"]["scale"] for chart in charts]
    assert [scale["domain"] for scale in scales] == [[0.0, 2.1], [0.0, 2.1]]


def fit(**changes: Any) -> figures.FitPanel:
    times, grid = np.array([0.5, 1.0]), np.linspace(0.1, 1, 5)
    parts: dict[str, Any] = {
        "title": "Euler h=1/2",
        "times": times,
        "observed": np.array([[[1.0, 2.0], [np.nan, 3.0]]]),
        "answers": np.ones((1, 2, 2)),
        "flow_times": grid,
        "flow": np.full((1, 5, 2), 1e9),
    }
    return figures.FitPanel(**parts | changes)


def test_a_fit_keeps_to_the_data_where_the_flow_leaves_them() -> None:
    figure = figures.trajectory_fit(fit())
    assert len(figure.axes) == 3  # two components, and their plane
    assert figure.axes[0].get_ylim()[1] < 10
    assert {"observed", "flow of the ODE", "Euler h=1/2"} <= set(texts(figure))
    assert len(figures.trajectory_fit(fit(flow=np.full((1, 5, 2), np.nan))).axes) == 3
    with pytest.raises(InvalidValueError, match=r"panel\.flow\.shape"):
        figures.trajectory_fit(fit(flow=np.ones((1, 4, 2))))


def test_maps_share_their_colours_and_leave_out_what_is_no_number() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 5.0]])
    panel = figures.MapPanel("RK4", [0, 1], [0, 1], values, [[0.5, 0.5]], [3.0])
    figure = figures.value_maps([panel, panel], name="log-density, nats", limits=(0.0, 4.0))
    assert "log-density, nats" in texts(figure)
    meshes = [ax.collections[0] for ax in figure.axes[:2]]
    assert {mesh.get_clim() for mesh in meshes} == {(0.0, 4.0)}
    with pytest.raises(InvalidValueError, match="at least one panel"):
        figures.value_maps([], name="")


def test_paths_without_classes_have_no_legend_of_classes() -> None:
    states = np.random.default_rng(0).normal(size=(3, 4, 2))
    shown = texts(figures.trajectories([figures.TrajectoryPanel("a", states, None, states)]))
    assert not any(each.startswith("class") for each in shown)
