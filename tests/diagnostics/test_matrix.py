"""Swap matrices: seeds aggregated, damage sorted, alike solvers side by side, one compilation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pynode_jl.backends import Backend, Evaluation
from pynode_jl.backends.jax import JaxBackend
from pynode_jl.cli._app import app
from pynode_jl.datasets import Dataset, concentric_spheres
from pynode_jl.diagnostics import MATRIX_COLUMNS, SwapMatrix, clusters, swap, swap_matrix
from pynode_jl.errors import BackendLacksSolverError, InvalidValueError, RunFolderError
from pynode_jl.fields import MLP, LinearField
from pynode_jl.models import Model
from pynode_jl.proportions import lower_bound, mean_interval, upper_bound
from pynode_jl.reporting import figures
from pynode_jl.reporting.html import Section, report_html
from pynode_jl.reporting.pages import matrix_block
from pynode_jl.runs import Config, Run, find_runs
from pynode_jl.solvers import Solver
from pynode_jl.training import TrainedModel


def model_of(seed: int, solver: Solver) -> tuple[TrainedModel, Dataset]:
    """An untrained model: a matrix asks what changes, not whether answers are right."""
    model = Model(MLP(2, width=8), classes=2)
    weights = {name: 2 * value for name, value in model.init(seed).items()}
    data = concentric_spheres(n_train=8, n_test=60, seed=seed)
    return TrainedModel(model, weights, solver), data


EULER, RK4 = Solver("Euler", dt=0.5), Solver("RK4", dt=0.5)
ADAPTIVE = Solver("BS3", rtol=1e-3, atol=1e-3)


class Counting(JaxBackend):
    """The JAX backend, keeping each evaluation's stats."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Evaluation] = []

    def _evaluate(self, *arguments: Any) -> Evaluation:
        found: Evaluation = super()._evaluate(*arguments)
        self.seen.append(found)
        return found


def test_seeds_are_aggregated_as_single_swaps_say() -> None:
    models = [model_of(seed, EULER) for seed in (0, 1)] + [model_of(2, RK4)]
    matrix = swap_matrix(models, ["Euler", "RK4"], factors=[0.5, 1.0])
    assert tuple(matrix.table.columns) == MATRIX_COLUMNS
    assert matrix.grid().shape == (2, 4)
    singles = [swap(*model, ["Euler", "RK4"], factors=[0.5, 1.0]) for model in models[:2]]
    row = matrix.table[
        (matrix.table["train_solver"] == EULER.label) & (matrix.table["test"] == "RK4 x0.5")
    ].iloc[0]
    accuracies = [
        single.table.query("test_solver == 'RK4' and factor == 0.5")["accuracy"].iloc[0]
        for single in singles
    ]
    assert row["accuracy"] == pytest.approx(np.mean(accuracies))
    assert (row["lowest"], row["highest"]) == (min(accuracies), max(accuracies))
    damages = [single.trained - a for single, a in zip(singles, accuracies, strict=True)]
    assert row["damage"] == pytest.approx(np.mean(damages))
    assert row["seeds"] == 2
    _, low, high = mean_interval(accuracies)
    assert row[["low", "high"]].tolist() == pytest.approx(np.clip([low, high], 0, 1))
    flips = [
        single.table.query("test_solver == 'RK4' and factor == 0.5")["flips"].iloc[0] / 60
        for single in singles
    ]
    mean, low, high = mean_interval(flips)
    assert row[["flips", "flips_low", "flips_high"]].tolist() == pytest.approx(
        np.clip([mean, low, high], 0, 1)
    )
    assert matrix.grid("own").to_numpy().sum() == 2
    assert matrix.trained["seeds"].tolist() == [2, 1]


def test_a_model_that_cannot_be_swapped_does_not_end_the_matrix() -> None:
    good, bad = model_of(0, EULER), model_of(1, Solver("Rodas5P", dt=0.5))  # Julia's
    with pytest.raises(BackendLacksSolverError):
        swap_matrix([good, bad], ["RK4"], factors=[1.0], backend="jax")
    skipped: list[int] = []
    for models in ([good, bad], [bad, good]):
        matrix = swap_matrix(
            models,
            ["RK4"],
            factors=[1.0],
            backend="jax",
            on_skip=lambda number, error: skipped.append(number),
        )
        assert matrix.trained["train_solver"].tolist() == [EULER.label]
    assert skipped == [2, 1]
    with pytest.raises(BackendLacksSolverError):
        swap_matrix([bad], ["RK4"], backend="jax", on_skip=lambda number, error: None)


def test_rows_are_labelled_as_told_or_by_configuration() -> None:
    models = [model_of(0, EULER), model_of(1, EULER)]
    found = swap_matrix(models, ["RK4"], factors=[1.0], labels=["a", "b"]).trained
    assert found["train_solver"].tolist() == ["a", "b"]
    with pytest.raises(InvalidValueError, match="labels"):
        swap_matrix(models, ["RK4"], labels=["a"])


def test_one_seed_has_the_exact_intervals_of_its_samples() -> None:
    model = model_of(2, RK4)
    matrix = swap_matrix([model], ["Euler"], factors=[0.5], confidence=0.9)
    single = swap(*model, ["Euler"], factors=[0.5], confidence=0.9).table.iloc[0]
    row = matrix.table.iloc[0]
    assert row["flips"] == single["flips"] / 60
    assert row[["flips_low", "flips_high"]].tolist() == single[["flips_low", "flips_high"]].tolist()
    right = round(60 * single["accuracy"])
    assert row[["low", "high"]].tolist() == pytest.approx(
        [float(lower_bound(right, 60, 0.025)), float(upper_bound(right, 60, 0.025))]
    )
    assert row["nf"] == single["nf"]
    trained = matrix.trained.iloc[0]
    assert trained["as trained, low"] < trained["as trained"] < trained["as trained, high"]


def test_a_block_has_a_cell_for_each_pair_whatever_is_shown() -> None:
    matrix = swap_matrix([model_of(0, EULER), model_of(1, ADAPTIVE)], ["Euler", "RK4", "BS3"])
    block = matrix_block(matrix, figures.Measure(), 0.5)
    grid = matrix.grid()
    assert (len(block.rows), len(block.columns)) == grid.T.shape
    assert list(block.orders) == ["likeness", "name", "damage", "order of the method"]
    for down, across in block.orders.values():
        assert sorted(down) == list(range(len(block.rows)))
        assert sorted(across) == list(range(len(block.columns)))
    i, j = block.rows.index("RK4 x1"), list(block.columns).index(EULER.label)
    pair = matrix.table.query("test == 'RK4 x1' and train_solver == @EULER.label").iloc[0]
    assert block.layers[0].values[i][j] == f"{100 * pair['accuracy']:.0f}"
    told = {name: texts[i][j] for name, texts in block.details.items()}
    ends = f"{pair['accuracy']:.1%} ({pair['low']:.1%} to {pair['high']:.1%})"
    assert told["accuracy"] == ends
    assert told["damage"] == f"{100 * pair['damage']:+.1f} points"
    assert told["evaluations"] == str(int(pair["nf"]))
    # The tolerance's row has no cell under Euler.
    other = list(block.columns).index(ADAPTIVE.label)
    assert block.layers[0].values[i][other] == ""
    assert block.layers[0].levels[i][other] == -1


def test_dozens_by_dozens_stay_a_table_that_can_be_read() -> None:
    """Forty columns are turned into rows; the page holds each cell once, and its headings."""
    rows, columns = range(24), range(40)
    table = pd.DataFrame(
        {
            "train_solver": [f"Euler h=1/{i + 1}" for i in rows for _ in columns],
            "test": [f"RK4 x{j}" for _ in rows for j in columns],
            "accuracy": 0.9,
            "low": 0.8,
            "high": 0.95,
            "damage": 0.01,
            "flips": 0.02,
            "flips_low": 0.01,
            "flips_high": 0.03,
            "state_error": 1e-3,
            "nf": 8.0,
            "finer": True,
            "order": 4,
            "seeds": 3,
            "failed": [3 * (i == j) for i in rows for j in columns],
            "own": False,
        }
    )
    summary = pd.DataFrame({"train_solver": [f"Euler h=1/{i + 1}" for i in rows]})
    block = matrix_block(SwapMatrix(table, summary, 1.0), figures.Measure(), 0.5)
    assert (len(block.rows), len(block.columns)) == (40, 24)
    page = report_html(title="Matrix", sections=[Section("Matrix", [block])])
    assert page.count('<th scope="row">') == 40
    assert page.count('<th scope="col">') == 24
    assert page.count("<td class=") == 40 * 24
    assert page.count(' failed"') == 24
    assert len(page) < 400_000


def sign_model(rate: float, head: float) -> tuple[TrainedModel, Dataset]:
    """y' = -rate y under one Euler step over [0, 1], answers by the sign times `head`."""
    x = np.linspace(-1.0, 1.0, 400, dtype=np.float32)[:, None]
    data = Dataset.from_arrays(x, x[:, 0] > 0, x_test=x, y_test=x[:, 0] > 0)
    weights = {
        "field.layers.0.weight": np.array([[-rate]], np.float32),
        "field.layers.0.bias": np.zeros(1, np.float32),
        "head.weight": head * np.array([[-1.0], [1.0]], np.float32),
        "head.bias": np.array([0.5, 0.0] if head == 0 else [0.0, 0.0], np.float32),
    }
    return TrainedModel(Model(LinearField(1), classes=2), weights, Solver("Euler", dt=1.0)), data


def test_verdicts_are_counted_by_every_kind_that_occurs() -> None:
    """One step with h rate = 3 turns signs, which the ODE does not; 0.5 does not."""
    broken, data = sign_model(0.5, 1.0)
    broken = TrainedModel(
        broken.model, broken.weights | {"head.bias": np.full(2, np.nan, np.float32)}, broken.solver
    )
    models = [sign_model(0.5, 1.0), sign_model(0.4, 1.0), sign_model(3.0, -1.0)]
    models += [sign_model(0.5, 0.0), (broken, data)]
    trained = swap_matrix(models, ["RK4"], factors=[1.0]).trained
    row = trained.iloc[0]
    assert row["seeds"] == 5
    found = {kind: row[kind] for kind in ("valid", "tied", "untrained", "non-finite")}
    assert found == {"valid": 2, "tied": 1, "untrained": 1, "non-finite": 1}
    assert not {"undecided", "overfitted", "failed"} & set(trained.columns)
    assert row["as trained, low"] < row["as trained"] < row["as trained, high"]


def test_the_table_is_sorted_by_damage_finer_first() -> None:
    table = swap_matrix([model_of(s, EULER) for s in range(3)]).table
    assert table["finer"].is_monotonic_decreasing
    for _, part in table.groupby("finer"):
        assert part["damage"].is_monotonic_decreasing


def test_cells_that_cannot_be_are_empty() -> None:
    matrix = swap_matrix([model_of(0, EULER), model_of(1, ADAPTIVE)], ["Euler", "RK4", "BS3"])
    row = matrix.grid().loc[ADAPTIVE.label]
    # Neither has error weights: they take no tolerance on this backend.
    assert row.filter(regex="Euler|RK4").isna().all()
    assert row.filter(like="BS3").notna().any()
    with pytest.raises(InvalidValueError, match="models"):
        swap_matrix([])


def test_one_compilation_serves_all_explicit_solvers() -> None:
    backend = Counting()
    # A width of its own: no other test has compiled this model.
    model = Model(MLP(2, width=9), classes=2)
    names = ["Euler", "Midpoint", "Heun", "Ralston", "BS3", "RK4", "SSPRK33", "RK38"]
    data = concentric_spheres(n_train=8, n_test=52, seed=0)
    models = [(TrainedModel(model, model.init(0), Solver(n, dt=0.5)), data) for n in names]
    assert isinstance(backend, Backend)
    swap_matrix(models, names, factors=[1.0], backend=backend)
    compiled = [found for found in backend.seen if found.stats.compiled]
    assert len(backend.seen) >= len(names) ** 2
    assert len(compiled) <= 2  # the reference solve's, and one for all of four stages or fewer


def test_clusters_put_the_alike_side_by_side() -> None:
    random = np.random.default_rng(0)
    kinds = np.array([0, 1, 0, 1, 0, 1])
    values = np.where(kinds[:, None] == 0, 0.5, 0.99) + random.normal(0, 0.01, (6, 4))
    grid = pd.DataFrame(values, index=list("abcdef"))
    grid.iloc[0, 0] = np.nan
    found = clusters(grid)
    ordered = kinds[list(found.row_order)]
    assert np.abs(np.diff(ordered)).sum() == 1
    assert sorted(found.column_order) == [0, 1, 2, 3]
    single = clusters(grid.iloc[:1])
    assert single.row_order == (0,)
    assert single.rows.shape == (0, 4)


def test_heatmap_orders_frames_and_hatches() -> None:
    grid = pd.DataFrame(
        [[0.9, 0.5, np.nan], [0.5, 0.9, 0.8], [0.91, 0.5, 0.6]],
        index=["A h=1", "B h=1", "C h=1"],
        columns=["A", "B", "C"],
    )
    own = pd.DataFrame(np.eye(3), index=grid.index, columns=grid.columns)
    failed = own * 0
    failed.loc["C h=1", "A"] = 1
    trees = clusters(grid)
    figure = figures.swap_matrix_heatmap(
        grid, row_tree=trees.rows, column_tree=trees.columns, own=own, failed=failed, chance=0.5
    )
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [grid.index[i] for i in trees.row_order]
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sum(patch.get_gid() == "training" for patch in patches) == 6  # dark on white
    assert sum(bool(patch.get_hatch()) for patch in patches) == 1
    with pytest.raises(InvalidValueError, match="grid"):
        figures.swap_matrix_heatmap(grid.iloc[:0], row_tree=[], column_tree=[])


CONFIG = """
[data]
n_train = 100
n_test = 40
[field]
channels = 4
[train]
solver = "Euler:dt=1/2"
iterations = 5
batch_size = 50
"""


def test_matrix_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "sphere.toml").write_text(CONFIG)

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    for seed in (0, 1):
        out = tmp_path / "runs" / f"s{seed}"
        invoke("train", tmp_path / "sphere.toml", "--out", out, "--set", f"seed={seed}")
    text = invoke(
        *("matrix", tmp_path / "runs", "--out", tmp_path / "matrix"),
        *("--solver", "Euler", "--solver", "RK4", "--factor", 1, "--factor", 0.5),
    )
    assert "evaluations: 8, runs: 2" in text
    for name in ("matrix.csv", "matrix.html", "matrix.png", "matrix.pdf"):
        assert (tmp_path / "matrix" / name).stat().st_size > 0
    assert "untrained" in text
    with pytest.raises(RunFolderError, match="nothing"):
        invoke("matrix", tmp_path / "nothing", "--out", tmp_path / "other")
    with pytest.raises(InvalidValueError, match="criterion"):
        invoke("matrix", tmp_path / "runs", "--out", tmp_path / "other", "--criterion", "points")


def test_runs_that_cannot_take_part_are_named_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "sphere.toml").write_text(CONFIG)
    config = Config.from_toml(tmp_path / "sphere.toml")
    runs = tmp_path / "runs"
    Run.create(config, runs / "good").train()
    Run.create(config, runs / "fresh")
    Run.create(config.changed({"train.learning_rate": 1e30}), runs / "wild").train()
    damaged = Run.create(config, runs / "damaged")
    (damaged.folder / "checkpoint.safetensors").write_bytes(b"torn")
    for name, content in (("broken", b"seed = = 3"), ("binary", b"\xff\xfe\x00")):
        (runs / name).mkdir()
        (runs / name / "config.toml").write_bytes(content)
    stranger = Run.create(config, runs / "newer")  # facts that this version does not know
    facts = {"format": "pynode_jl checkpoint 2"}
    weights = {f"weights/{k}": v for k, v in stranger.trained.weights.items()}
    save_file(weights, stranger.folder / "checkpoint.safetensors", {"facts": json.dumps(facts)})

    arguments = ["matrix", runs, tmp_path / "absent", "--out", tmp_path / "out"]
    arguments += ["--solver", "RK4", "--factor", 1]
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "evaluations: 1, runs: 1" in result.stderr
    reasons = {
        "fresh": "stands at iteration 0 of 5",
        "wild": "training failed at iteration",
        "damaged": "whole checkpoint",
        "broken": "readable TOML",
        "binary": "readable TOML",
        "newer": "facts of",
    }
    lines = result.stderr.splitlines()
    for name, reason in reasons.items():
        assert any(f"{runs / name}: " in line and reason in line for line in lines), name
    assert any("absent: no run" in line for line in lines)
    page = (tmp_path / "out" / "matrix.html").read_text(encoding="utf-8")
    assert all(f">{runs / name}</th>" in page for name in reasons)  # each with its reason
    assert "skipped" not in result.stdout
    skipped: list[str] = []
    assert len(find_runs([runs], lambda folder, reason: skipped.append(folder.name))) == 1
    assert sorted(skipped) == sorted(reasons)
