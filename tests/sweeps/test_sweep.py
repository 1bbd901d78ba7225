"""A sweep's axes: which runs they make, what is one run, and what is refused before any work."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pynode_jl.errors import PyNODEError, SweepError
from pynode_jl.runs import Config
from pynode_jl.solvers import Solver
from pynode_jl.sweeps import Sweep, sweep_schema

FILE = """
name = "axes"
base = "base.toml"

[run.data]
n_train = 300

[grid]
train.solver = ["Euler:dt=1/2", "RK4:dt=1/2"]
"train.solver.max_steps" = [50]

[[zip]]
seed = [0, 1, 2]
"train.learning_rate" = [1e-3, 1e-4, 1e-5]

[[points]]
data.name = "spheres"

[[points]]
data.name = "annuli"
model.augment = 1
"""


def test_axes_multiply_and_a_file_says_what_python_does(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[train]\niterations = 70\n")
    (tmp_path / "sweep.toml").write_text(FILE)
    sweep = Sweep.load(tmp_path / "sweep.toml")
    assert len(sweep.runs) == 2 * 3 * 2
    assert sweep.base.train.iterations == 70
    assert {run.config.data.options["n_train"] for run in sweep.runs} == {300}
    last = sweep.runs[-1].config
    assert (last.seed, last.train.learning_rate, last.model.augment) == (2, 1e-5, 1)
    assert last.recipe().solver == Solver("RK4", dt=0.5, max_steps=50)
    mine = Sweep(
        Config().changed({"train.iterations": 70, "data.n_train": 300}),
        grid={
            "train.solver": [Solver("Euler", dt=0.5), "RK4:dt=1/2"],
            "train.solver.max_steps": [50],
        },
        zip=[{"seed": (0, 1, 2), "train.learning_rate": [1e-3, 1e-4, 1e-5]}],
        points=[{"data.name": "spheres"}, {"data": {"name": "annuli"}, "model.augment": 1}],
    )
    assert [run.key for run in mine.runs] == [run.key for run in sweep.runs]
    (tmp_path / "again.toml").write_text(sweep.to_toml())
    assert [r.key for r in Sweep.load(tmp_path / "again.toml").runs] == [r.key for r in mine.runs]


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("train.solver", ["Euler:dt=1/256", {"name": "Euler", "dt": 0.00390625}]),
        ("train.learning_rate", [1, 1.0]),
        ("model.t1", [2, 2.0]),
        ("train.optimizer", ["adam", {"name": "adam"}, "adam:b1=0.9"]),
        ("data.dim", [2, 2.0]),
        ("train.chunk", [10, 50]),
    ],
)
def test_one_setting_spelt_differently_is_one_run(key: str, spellings: list[Any]) -> None:
    """A chunk's length decides nothing that is trained."""
    assert len(Sweep(grid={key: spellings, "seed": [0, 1]}).runs) == 2


def test_a_file_of_data_counts_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.csv", "1,2,3"), ("b.csv", "1,2,3"), ("c.csv", "1,2,4")):
        (tmp_path / name).write_text(text)
    (tmp_path / "sweep.toml").write_text(
        '[run.data]\nname = "csv"\n[grid]\ndata.path = ["a.csv", "b.csv", "c.csv"]\n'
    )
    sweep = Sweep.load(tmp_path / "sweep.toml")
    assert [Path(run.settings["data.path"]).name for run in sweep.runs] == ["a.csv", "c.csv"]


def test_another_swap_is_another_result_of_one_training() -> None:
    runs = Sweep(grid={"swap.solvers": [["RK4"], ["RK4", "Heun"]]}).runs
    assert len({run.key for run in runs}) == 2
    assert len({run.folder for run in runs}) == 1


def test_a_longer_run_goes_on_from_shorter_ones_unless_its_beginning_is_another() -> None:
    """A rate that decays to the end decays otherwise in a longer run."""
    runs = Sweep(grid={"train.iterations": [100, 400, 200]}).runs
    by_length = {run.config.train.iterations: run for run in runs}
    assert by_length[400].shorter == (by_length[200].folder, by_length[100].folder)
    assert by_length[100].shorter == ()
    decaying = Config().changed({"train.optimizer": "adam:schedule=cosine"})
    assert not any(r.shorter for r in Sweep(decaying, grid={"train.iterations": [9, 99]}).runs)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gird": {}}, "Did you mean grid"),
        ({"seed": 1}, r"belongs to \[run\]"),
        ({"grid": {"seed": 1}}, "a list"),
        ({"grid": {"seed": []}}, "a value or more"),
        ({"grid": {"seed": "012"}}, "a list"),
        ({"grid": {"swap.margin": [None]}}, "a value"),
        ({"grid": [1]}, "a table"),
        ({"grid": {3: [1]}}, "a name"),
        ({"grid": {"train": {"solvr": [1]}}}, "Did you mean solver"),
        ({"grid": {"trian.solver": [1]}}, "Did you mean train"),
        ({"grid": {"train.solver": ["Eulr:dt=1/2"]}}, "did you mean Euler"),
        ({"grid": {"train.solver.dtt": [1]}}, "dt"),
        ({"grid": {"train.iterations.x": [1]}}, "no keys of its own"),
        ({"grid": {"seed": ["x"]}}, "seed"),
        ({"zip": [{"seed": [1, 2], "train.chunk": [1]}]}, "seed has 2, train.chunk has 1"),
        ({"zip": 3}, "a list of tables"),
        ({"grid": {"seed": [1]}, "points": [{"seed": 2}]}, "one axis"),
        ({"points": [{"data": {"name": "moon"}}]}, "did you mean moons"),
        ({"run": 3}, "a table"),
        ({"run": {"trian": {}}}, "key = 'trian'"),
        ({"grid": {f"train.optimizer.{b}": [0.1] * 1001 for b in ("b1", "b2")}}, "at most"),
    ],
)
def test_what_makes_no_runs_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(PyNODEError, match=said):
        _ = Sweep.from_dict(values).runs


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="readable"):
        Sweep.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[grid")
    with pytest.raises(SweepError, match="readable"):
        Sweep.load(tmp_path / "bad.toml")


def test_a_base_may_be_whole_with_an_axis_alone() -> None:
    """AutoTsit5 only adapts its steps, which the default training solver does not."""
    values = {"run": {"backend": "julia", "swap": {"solvers": ["AutoTsit5"]}}}
    axis = {"grid": {"train.solver": ["Tsit5:tol=1e-3", "DP5:tol=1e-3"]}}
    assert [run.config.swap.solvers for run in Sweep.from_dict(values | axis).runs] == (
        [("AutoTsit5",)] * 2
    )
    with pytest.raises(PyNODEError, match="AutoTsit5"):
        Sweep.from_dict(values | {"grid": {"seed": [0, 1]}})
    with pytest.raises(PyNODEError, match=r"trian"):
        Sweep.from_dict({"run": {"trian.iterations": 3}} | axis)


def test_options_may_be_whole_with_an_axis_alone() -> None:
    """The default data set has no noise."""
    values = {"run": {"data": {"noise": 0.2}}, "grid": {"data.name": ["moons", "circles"]}}
    assert [run.config.data.name for run in Sweep.from_dict(values).runs] == ["moons", "circles"]


# The schema, read by another program than ours: jsonschema

SCHEMA = jsonschema.Draft202012Validator(sweep_schema())
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "sweeps").glob("*.toml"))


def test_the_schema_takes_every_form_of_a_key() -> None:
    jsonschema.Draft202012Validator.check_schema(sweep_schema())
    assert list(SCHEMA.iter_errors(tomllib.loads(FILE))) == []
    one = {"zip": {"seed": [0, 1]}, "points": {"data": {"name": "moons", "noise": 0.1}}}
    assert list(SCHEMA.iter_errors(one)) == []
    assert len(Sweep.from_dict(one).runs) == 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_takes_the_examples(path: Path) -> None:
    assert list(SCHEMA.iter_errors(tomllib.loads(path.read_text()))) == []


@pytest.mark.parametrize(
    "values",
    [
        {"gird": {}},
        {"seed": 1},
        {"run": {"trian": {}}},
        {"run": {"train": {"iterations": "many"}}},
        {"grid": {"seed": 1}},
        {"grid": {"seed": []}},
        {"grid": {"seed": ["x"]}},
        {"grid": {"train": {"solvr": ["Euler"]}}},
        {"grid": {"field": {"kind": ["mpl"]}}},
        {"zip": [{"seed": 1}]},
        {"points": [{"data": {"name": "moon"}}]},
    ],
    ids=str,
)
def test_what_the_schema_refuses_is_refused(values: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors(values))
    with pytest.raises(PyNODEError):
        _ = Sweep.from_dict(values).runs
