"""Figures on synthetic tables: what they say, that they repeat, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting import figures
from pynode_jl.reporting.figures import _style

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)


def swap_table(solvers=6, h=0.5, factors=FACTORS, given=True, failed=()):
    """A table as `analysis.swap` makes it, trained with the first solver at step h."""
    rows = []
    for i in range(solvers):
        name = "Euler" if i == 0 else f"Solver{i}"
        for factor in factors:
            code = dict(failed).get((name, factor), "Success")
            rows.append(
                {
                    "train_solver": f"Euler h={h}",
                    "test_solver": name,
                    "order": 1 + i // 4,
                    "factor": factor,
                    "label": f"{name} h={h * factor}",
                    "step": h * factor,
                    "fixed": True,
                    "accuracy": 0.986 if i == 0 and factor == 1 else 0.5 + 0.001 * i,
                    "finer": not (i == 0 and factor > 1),
                    "retcode": code,
                }
            )
    if given:
        last = {"test_solver": "Tsit5", "order": 5, "factor": np.nan, "step": 1e-3, "fixed": False}
        rows.append(rows[0] | last | {"label": "Tsit5 tol=1e-3", "accuracy": 0.123})
    return pd.DataFrame(rows)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def gids(figure):
    return [artist.get_gid() for artist in figure.findobj() if artist.get_gid()]


def history(n=200, **more):
    return {"loss": np.linspace(1, 0.01, n), "accuracy": np.linspace(0.5, 1, n)} | more


def trajectory_panel(n=5, **changes):
    steps = np.random.default_rng(0).normal(size=(3, n, 2))
    parts = {"title": "Euler h=1/2", "steps": steps, "labels": np.arange(n) % 2}
    return figures.TrajectoryPanel(**parts | {"flow": steps} | changes)


def decision_panel(**changes):
    grid = np.linspace(-1, 1, 9)
    parts = {
        "title": "RK4 h=1/4",
        "x": grid,
        "y": grid[:7],
        "classes": (grid[:7, None] + grid[None] > 0).astype(int),
        "points": np.zeros((4, 2)),
        "labels": [0, 1, 0, 1],
        "predictions": [0, 1, 1, 1],
    }
    return figures.DecisionPanel(**parts | changes)


def by_count():
    return pd.DataFrame(
        {"steps": [1, 2, 8] * 2, "solver": "Euler", "accuracy": [0.5, 0.9, 0.6, 0.4, 0.8, 0.5]}
    )


def by_setting():
    own = [False, True, False]
    return pd.DataFrame(
        {
            "setting": [1.0, 0.5, 0.25],
            "own": own,
            "accuracy": [0.5, 0.9, np.nan],
            "flips": [0.5, 0.0, np.nan],
            "flips_low": [0.4, 0.0, np.nan],
            "flips_high": [0.6, 0.02, np.nan],
        }
    )


def corners():
    return np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


BUILDERS = {
    "heatmap": lambda: figures.swap_heatmap(
        {"a": swap_table(), "b": swap_table(h=0.1)}, chance=0.5
    ),
    "factor": lambda: figures.accuracy_against_step({"a": swap_table(2)}, chance=0.5),
    "step": lambda: figures.accuracy_against_step({"a": swap_table(2)}, x="step"),
    "trajectories": lambda: figures.trajectories([trajectory_panel()]),
    "decision": lambda: figures.decision_regions([decision_panel()]),
    "history": lambda: figures.training_history({"a": history()}),
    "count": lambda: figures.accuracy_against_count(
        {"a": by_count(), "b": by_count()}, trained_with={"a": 2, "b": 8}, chance=0.5
    ),
    "fan": lambda: figures.windermere_fan(
        [figures.FanPanel("a", np.eye(2), [np.eye(2), -np.eye(2)])],
        [
            figures.EndsPanel("apart", corners(), [0, 0, 1, 1], (1.0, 0.2, 0.5)),
            figures.EndsPanel("not", corners(), [0, 1, 1, 0], None),
        ],
    ),
    "phase": lambda: figures.phase_portrait(
        [
            figures.PhasePanel(
                "a",
                np.linspace(0, 1, 9),
                np.linspace(0, 2, 7),
                np.ones((7, 9, 2)),
                np.arange(63).reshape(7, 9) // 32,
                [[0.5, 1.0]],
                [np.eye(2)],
            )
        ]
    ),
    "evidence": lambda: figures.evidence(
        by_setting(),
        fixed=True,
        ode=0.5,
        margin=0.03,
        settled=0.25,
        folds=([1.0, 0.5], [0.5, np.nan]),
        order=figures.OrderPanel([1.0, 0.5, 0.25], [0.1, 0.05, np.inf], 1, 1e-3),
        margins=figures.MarginPanel([1.0, 2.0], [0.1, -0.3]),
    ),
    "curve": lambda: figures.curve_fit(
        [figures.CurvePanel("a", [0.0, 1.0], [0.0, 1.0], [9.0, np.nan], [0.5], [0.4])]
    ),
    "matrix": lambda: figures.swap_matrix_heatmap(
        pd.DataFrame(np.eye(3)), row_tree=[], column_tree=[], chance=0.5
    ),
}


def test_evidence_draws_no_failed_solves_and_names_what_it_draws():
    figure = BUILDERS["evidence"]()
    said = texts(figure)
    for label in ("settled from", "flips against the ODE", "margin, 3 %", "reference's own error"):
        assert label in said
    assert "critical" not in said
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert np.isnan(lines["flips against the ODE"].get_ydata()[-1])
    assert np.isfinite(figure.axes[1].get_lines()[0].get_ydata()).all()
    with pytest.raises(InvalidValueError, match="flips_low"):
        figures.evidence(by_setting().drop(columns="flips_low"), fixed=True, ode=0.5, margin=0.03)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_bytes_repeat_and_settings_of_the_caller_are_left_alone(build, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = build()
    said = figures.described(figure)
    assert any(character.isdigit() for character in said.alt)  # not what it is: what is seen in it
    if said.chart is not None:
        json.loads(said.chart.to_json(said.alt), parse_constant=pytest.fail)
    png, pdf = figures.save(figure, tmp_path / "new" / "h=0.5")
    assert (png.name, pdf.name) == ("h=0.5.png", "h=0.5.pdf")
    again_png, again_pdf = figures.save(build(), tmp_path / "again")
    assert png.read_bytes() == again_png.read_bytes()
    assert pdf.read_bytes() == again_pdf.read_bytes()
    assert b"Software" not in png.read_bytes()
    assert b"CreationDate" not in pdf.read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_failed_solves_stand_below_all_scores_and_orders_have_colours_apart():
    orders = (1, 2, 3, 4, 5, 6, 7, 8)
    table = pd.concat(
        [
            swap_table(2, given=False).assign(
                test_solver=f"Solver{order}{twin}", order=order, train_solver="another"
            )
            for order in orders
            for twin in "ab"
        ]
    )
    table.loc[table["factor"] == 2.0, "retcode"] = "Unstable"
    figure = figures.accuracy_against_step({"a": table}, chance=0.5)
    (ax,) = figure.axes
    bottom = ax.get_ylim()[0]
    assert bottom < -0.05
    assert min(ax.get_yticks()) == 0.0
    failed = next(line for line in ax.lines if line.get_gid() == "failed")
    on_axis = ax.transAxes.inverted().transform(
        failed.get_transform().transform(failed.get_xydata())
    )
    assert (on_axis[:, 1] < -bottom / (ax.get_ylim()[1] - bottom)).all()
    lines = {line.get_label(): line.get_color() for line in ax.lines}
    colours = [lines[f"order {order}"] for order in orders if f"order {order}" in lines]
    assert len(colours) >= 7
    assert len(set(colours)) == len(colours)
    said = figures.described(figure)
    assert f"{(table['retcode'] != 'Success').sum()} of {len(table)} solves failed" in said.alt
    drawn = said.chart.data
    assert drawn.loc[drawn["failed"], "score"].isna().all()


def test_colours_reach_below_chance():
    table = swap_table().assign(accuracy=0.3)
    figure = figures.swap_heatmap({"a": table}, chance=0.5)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylim() == (0.3, 1.0)


def test_panels_of_other_ranges_say_so():
    small, large = trajectory_panel(), trajectory_panel()
    large = figures.TrajectoryPanel("far", 10 * np.asarray(large.steps), large.labels)
    differ = figures.trajectories([small, large], scale="linear")
    assert any("axes differ" in text for text in texts(differ))
    assert not any("axes differ" in text for text in texts(figures.trajectories([small, small])))


def fan_figure():
    path = np.array([[0.0, 0.0], [1.0, 90.0], [2.0, -40.0]])
    square = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])
    ends = [
        figures.EndsPanel(f"Euler, $h=10^{{-{k}.5}}$: not separable", square, [0, 0, 1, 1], None)
        for k in (2, 3, 4)
    ]
    fan = figures.FanPanel("a corner, Euler, $h=10^{-2.5}$", path, [path[1:], path[2:]])
    return figures.windermere_fan([fan], ends)


def test_ranges_are_compared_up_as_well_as_across():
    (note,) = [text for text in texts(fan_figure()) if "axes differ" in text]
    assert note == "The panels' axes differ: they span 1.6 to 150 up."


def test_titles_of_square_panels_are_not_cut():
    """A panel of a fixed shape is laid out twice: only then is it known what its title needs."""
    figure = fan_figure()
    canvas = FigureCanvasAgg(figure)
    figure.draw(canvas.get_renderer())
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            assert text.get_window_extent(canvas.get_renderer()).y1 <= figure.bbox.height


def test_lines_of_a_model_under_several_solvers_are_told_apart():
    steps = [1, 2, 4]
    table = pd.concat(
        pd.DataFrame({"steps": steps, "solver": name, "accuracy": [0.5, 0.9, 0.9]})
        for name in ("Euler", "RK4")
    )
    figure = figures.accuracy_against_count({"a": table, "b": table}, trained_with={"a": 2})
    colours = figures.described(figure).chart.encoded()["layer"][0]["encoding"]["color"]
    assert colours["sort"] == ["a, Euler", "a, RK4", "b, Euler", "b, RK4"]


def test_ticks_of_steps_are_short_enough_to_stand_beside_each_other():
    factors = (0.5, 0.75, 1.0, 1.5)
    figure = figures.accuracy_against_step({"a": swap_table(h=1 / 64, factors=factors)}, x="step")
    axis = figures.described(figure).chart.spec["layer"][0]["encoding"]["x"]["axis"]
    assert "1/128" in axis["labelExpr"]
    assert "0.01171875" not in axis["labelExpr"]


def test_a_long_matrix_is_turned_and_its_labels_stay_apart():
    grid = pd.DataFrame(np.ones((2, 60)), columns=[f"solver {j}" for j in range(60)])
    figure = figures.swap_matrix_heatmap(grid, row_tree=[], column_tree=[])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(grid.columns)
    assert figure.get_figwidth() < 6
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("training solver", "test solver")


def test_a_figure_drawn_twice_is_the_same():
    figure = BUILDERS["heatmap"]()  # colour bar and legend outside: the hardest to lay out
    assert figures.png_bytes(figure) == figures.png_bytes(figure)


def test_style_does_not_follow_the_callers_settings():
    plain = figures.png_bytes(BUILDERS["history"]())
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.grid": False}):
        assert figures.png_bytes(BUILDERS["history"]()) == plain


def test_pyplot_is_not_imported():
    code = "import sys, pynode_jl.reporting.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_heatmap_shows_numbers_codes_frame_and_order():
    table = swap_table(failed={("Solver1", 2.0): "DtLessThanMin", ("Solver2", 2.0): "MaxIters"})
    figure = figures.swap_heatmap({"trained with Euler": table}, chance=0.5)
    shown = texts(figure)
    assert "trained with Euler" in shown
    assert shown.count("98.6") == 1
    assert "12.3" in shown
    assert "DtLess\nThanMin" in shown
    assert "MaxIters" in shown
    assert "as\ngiven" in shown
    assert "50 %\nchance" in shown
    assert gids(figure).count("training:Euler h=0.5") == 2  # a dark frame on a white one
    assert {"failed:Solver1 h=1.0", "failed:Solver2 h=1.0"} <= set(gids(figure))
    names = [label.get_text().split()[0] for label in figure.axes[0].get_yticklabels()]
    assert names == ["Euler", "Solver1", "Solver2", "Solver3", "Solver4", "Solver5", "Tsit5"]
    italic = [t for t in figure.axes[0].texts if t.get_style() == "italic"]
    assert len(italic) == 2  # Euler at 1.5 and 2


def test_heatmap_colours_go_from_chance_or_below_to_all_right():
    figure = figures.swap_heatmap({"a": swap_table(2, given=False)}, chance=0.5)
    low, high = figure.axes[0].patches[0], figure.axes[0].patches[2]
    assert sum(to_rgb(low.get_facecolor())) < 0.6 < sum(to_rgb(high.get_facecolor()))


@pytest.mark.parametrize("solvers", [1, 40])
def test_heatmap_of_any_height(solvers):
    figure = figures.swap_heatmap({"a": swap_table(solvers), "b": swap_table(1)})
    assert len(figure.axes[0].get_yticklabels()) == solvers + 1
    assert figure.get_figheight() > 0.2 * solvers
    figures.png_bytes(figure, dpi=40)


def test_heatmap_of_one_row_and_of_none():
    one = figures.swap_heatmap({"a": swap_table().iloc[-1:]})
    assert "solver of training" not in [t.get_text() for t in one.legends for t in t.get_texts()]
    assert [label.get_text() for label in one.axes[0].get_xticklabels()] == ["as\ngiven"]
    none = figures.swap_heatmap({"a": swap_table().iloc[:0]})
    assert "no test solves" in texts(none)
    figures.png_bytes(none, dpi=40)


def test_heatmap_of_failed_solves_only():
    failed = {("Euler", factor): "Unstable" for factor in FACTORS}
    table = swap_table(1, given=False, failed=failed).assign(accuracy=np.nan)
    figure = figures.swap_heatmap({"a": table}, chance=0.5)
    assert texts(figure).count("Unstable") == len(FACTORS)
    figures.png_bytes(figure, dpi=40)


def test_heatmap_tells_settings_of_one_method_apart_and_refuses_repeats():
    table = swap_table(1)
    again = table.iloc[-1:].assign(label="Tsit5 tol=1e-6")
    figure = figures.swap_heatmap({"a": pd.concat([table, again])})
    names = {label.get_text().rsplit(maxsplit=1)[0] for label in figure.axes[0].get_yticklabels()}
    assert names == {"Euler", "Tsit5 tol=1e-3", "Tsit5 tol=1e-6"}
    with pytest.raises(InvalidValueError, match=r"tables\['a'\].*one row for each"):
        figures.swap_heatmap({"a": pd.concat([table, table])})


def test_heatmap_joins_factors_that_differ_by_rounding():
    table = swap_table(2, factors=(0.1,), given=False)
    table.loc[1, "factor"] = 0.1 * (1 + 1e-9)
    figure = figures.swap_heatmap({"a": table})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.1"]


def test_solvers_of_unknown_order_come_last():
    table = swap_table(12, given=False).astype({"order": float})
    table.loc[table["test_solver"] == "Solver1", "order"] = np.nan
    figure = figures.swap_heatmap({"a": table})
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert (names[0], names[-1]) == ("Euler   1", "Solver1   ?")
    shown = texts(figures.accuracy_against_step({"a": table}))
    assert {"order 1", "order unknown"} <= set(shown)


@pytest.mark.parametrize("panels", [1, 2, 5])
def test_every_panel_has_its_title(panels):
    tables = {f"run {i}": swap_table(2) for i in range(panels)}
    for build in (figures.swap_heatmap, figures.accuracy_against_step):
        assert set(tables) <= set(texts(build(tables)))


def test_accuracy_lines_marks_and_what_is_left_out():
    table = swap_table(2, failed={("Solver1", 2.0): "Unstable"})
    figure = figures.accuracy_against_step({"a": table}, chance=0.5)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert {"Euler", "Solver1"} <= set(lines)
    assert "Tsit5" not in lines  # has no factor
    assert np.isnan(lines["Solver1"].get_ydata()[-1])
    marks = {line.get_gid(): line for line in figure.axes[0].get_lines() if line.get_gid()}
    assert marks["training"].get_xydata().tolist() == [[1.0, 0.986]]
    assert marks["failed"].get_xydata().tolist() == [[2.0, 0.03]]  # of the axes: below 0 %
    assert {"solver of training", "solve failed", "chance"} <= set(texts(figure))


def test_accuracy_over_steps_is_one_panel_of_comparable_rows():
    tables = {"a": swap_table(2, h=0.5), "b": swap_table(2, h=0.125)}
    figure = figures.accuracy_against_step(tables, x="step")
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    steps = [x for line in ax.get_lines() if line.get_label() == "Euler" for x in line.get_xdata()]
    assert sorted(set(steps)) == sorted({h * f for h in (0.5, 0.125) for f in FACTORS})
    assert "Tsit5" not in texts(figure)  # its step is a tolerance
    figures.png_bytes(figure, dpi=40)


def test_accuracy_of_many_solvers_is_shown_by_order():
    figure = figures.accuracy_against_step({"a": swap_table(40)})
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == ["Euler", "order 1", "order 2"]
    line = next(x for x in figure.axes[0].get_lines() if x.get_label() == "order 1")
    np.testing.assert_allclose(line.get_ydata(), 0.502)  # median of solvers 1, 2, 3


def test_accuracy_of_tolerances_and_of_nothing():
    table = swap_table(2, given=False).assign(fixed=False, step=lambda t: t["step"] * 1e-3)
    figure = figures.accuracy_against_step({"a": table}, x="step")
    assert figure.axes[0].get_xlabel() == "tolerance of the test solver"
    for x in ("factor", "step"):
        empty = figures.accuracy_against_step({"a": table.iloc[:0]}, x=x, chance=0.5)
        assert "no test solves" in texts(empty)
        figures.png_bytes(empty, dpi=40)


@pytest.mark.parametrize("build", [figures.swap_heatmap, figures.accuracy_against_step])
def test_tables_that_cannot_be_drawn(build):
    with pytest.raises(InvalidValueError, match="Missing: accuracy, retcode"):
        build({"a": swap_table().drop(columns=["accuracy", "retcode"])})
    with pytest.raises(InvalidValueError, match=r"tables = \{\}"):
        build({})
    with pytest.raises(InvalidValueError, match="chance = 50"):
        build({"a": swap_table()}, chance=50)


def test_unknown_x_is_refused():
    with pytest.raises(InvalidValueError, match="x = 'h'"):
        figures.accuracy_against_step({"a": swap_table()}, x="h")


def test_trajectories_draw_each_sample_and_stop_where_states_end():
    steps = np.random.default_rng(0).normal(size=(4, 6, 2))
    steps[2:, 1] = np.nan
    panel = trajectory_panel(6, steps=steps, flow=None)
    figure = figures.trajectories([panel, trajectory_panel(title="Euler h=1/16")])
    assert {"Euler h=1/2", "Euler h=1/16", "class 0", "class 1", "flow of the ODE"} <= set(
        texts(figure)
    )
    paths = [path for c in figure.axes[0].collections for path in c.get_paths()]
    assert sorted(len(path.vertices) for path in paths) == [2, 4, 4, 4, 4, 4]
    figures.png_bytes(figure, dpi=40)
    assert "flow of the ODE" not in texts(figures.trajectories([panel]))


def test_trajectories_keep_the_steps_in_view():
    steps = np.random.default_rng(0).normal(size=(3, 5, 2))
    flow = steps * [[[1.0]], [[1e3]], [[1e6]]]
    (ax,) = figures.trajectories([trajectory_panel(steps=steps, flow=flow)]).axes
    assert ax.get_xscale() == "linear"
    assert max(map(abs, ax.get_xlim())) < 30
    (ax,) = figures.trajectories([trajectory_panel(steps=flow)]).axes
    assert ax.get_xlabel() == "$y_1$, asinh scale"
    assert ax.get_xlim()[0] < flow[..., 0].min()
    assert ax.get_ylim()[1] > flow[..., 1].max()
    assert 0 in ax.get_xticks()
    figure = figures.trajectories([trajectory_panel(steps=flow)], scale="linear")
    assert figure.axes[0].get_xscale() == "linear"
    with pytest.raises(InvalidValueError, match="scale = 'log'"):
        figures.trajectories([trajectory_panel()], scale="log")


@pytest.mark.parametrize("steps", [np.zeros((3, 5, 2)), np.full((3, 5, 2), np.nan)])
def test_trajectories_without_extent(steps):
    figures.png_bytes(figures.trajectories([trajectory_panel(steps=steps)]), dpi=40)
    figures.png_bytes(figures.trajectories([trajectory_panel(steps=steps)], scale="asinh"), dpi=40)


def test_decision_regions_mark_wrong_points_and_missing_answers():
    classes = decision_panel().classes.copy()
    classes[0] = -1
    figure = figures.decision_regions([decision_panel(classes=classes)])
    assert {"RK4 h=1/4", "wrongly classified", "no finite answer", "class 0"} <= set(texts(figure))
    rims = [
        len(line.get_xdata())
        for line in figure.axes[0].get_lines()
        if line.get_markeredgecolor() == "black"
    ]
    assert sum(rims) == 1
    bare = figures.decision_regions([decision_panel(points=None, labels=None, predictions=None)])
    assert "wrongly classified" not in texts(bare)
    figures.png_bytes(figures.decision_regions([decision_panel(classes=0 * classes)]), dpi=40)


@pytest.mark.parametrize(
    ("build", "panel", "message"),
    [
        (figures.trajectories, lambda: trajectory_panel(labels=[0]), r"panels\[0\].labels.shape"),
        (figures.trajectories, lambda: trajectory_panel(flow=np.zeros((3, 2, 2))), "flow.shape"),
        (figures.trajectories, lambda: trajectory_panel(steps=np.zeros((3, 5, 3))), "steps.shape"),
        (figures.decision_regions, lambda: decision_panel(x=[0.0]), "classes.shape"),
        (figures.decision_regions, lambda: decision_panel(labels=None), r"\.labels = None"),
    ],
)
def test_panels_that_cannot_be_drawn(build, panel, message):
    with pytest.raises(InvalidValueError, match=message):
        build([panel()])
    with pytest.raises(InvalidValueError, match="at least one panel"):
        build([])


def test_history_draws_what_varies():
    plain = figures.training_history({"a": history(nf=np.full(200, 2))})
    assert [ax.get_ylabel() for ax in plain.axes] == ["loss", "batch accuracy"]
    step = np.repeat([0.5, 0.25, 0.125, 0.0625], 50)
    adapted = pd.DataFrame(history(nf=1 / step, step=step))
    both = figures.training_history({"a": history(nf=np.full(200, 2)), "b": adapted})
    assert len(both.axes) == 4
    assert [text.get_text() for text in both.legends[0].get_texts()] == ["a", "b"]
    figures.png_bytes(both, dpi=40)


def test_history_is_smoothed_over_the_window_and_takes_gaps():
    loss = np.ones(100)
    loss[50], loss[99] = 11.0, np.inf
    figure = figures.training_history({"a": history(100, loss=loss)}, window=5)
    line = next(x for x in figure.axes[0].get_lines() if x.get_label() == "a")
    assert line.get_ydata()[50] == pytest.approx(3.0)
    assert line.get_xdata()[0] == 1
    counted = figures.training_history({"a": history(3, iteration=[7, 8, 9])})
    assert counted.axes[0].get_lines()[0].get_xdata().tolist() == [7, 8, 9]
    figures.png_bytes(figures.training_history({"a": history(0)}), dpi=40)


def test_histories_that_cannot_be_drawn():
    with pytest.raises(InvalidValueError, match=r"histories\['a'\].*Missing: accuracy"):
        figures.training_history({"a": {"loss": [1.0]}})
    with pytest.raises(InvalidValueError, match="window = 0"):
        figures.training_history({"a": history()}, window=0)


def test_texts_of_numbers():
    assert [_style.percent(x) for x in (0, 0.0496, 0.986, 1)] == ["0", "5.0", "98.6", "100"]
    assert [_style.step_text(x) for x in (1 / 16, 0.3, 1, 2)] == ["1/16", "0.3", "1", "2"]


def test_colours_of_classes_differ_in_grey():
    grey = [np.dot(to_rgb(_style.class_colour(k)), (0.299, 0.587, 0.114)) for k in (0, 1)]
    assert abs(grey[0] - grey[1]) > 0.2
    assert isinstance(BUILDERS["trajectories"](), Figure)


def test_names_are_drawn_as_they_are_and_formulas_as_formulas() -> None:
    """Warnings are errors: no glyph is missing, and no name is read as a formula."""
    name, formula = "cost_$5_to_$6_ \u8bad\u7ec3", "$y_1$"

    @_style.styled
    def build() -> Figure:
        figure = _style.new_figure(3, 2)
        ax = figure.subplots()
        ax.plot([1, 10], [1, 10], label=name)
        ax.set_xscale("log")
        ax.set_title(name)
        ax.set_xlabel(formula)
        ax.legend()
        return figure

    figure = build()
    assert figures.png_bytes(figure)
    assert figure.axes[0].get_title(loc="left") == "cost_$5_to_$6_ U+8BADU+7EC3"
    assert figure.axes[0].xaxis.label.get_parse_math()
    assert figures.drawable("Größe é 1/16") == "Größe é 1/16"
