"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pynode_jl.cli import main
from pynode_jl.cli._app import app
from pynode_jl.errors import DivergedError, PyNODEError
from pynode_jl.solvers import catalogue

CONFIG = """
[data]
n_train = 200
n_test = 40
[field]
channels = 4
[train]
solver = "Euler:dt=1/2"
iterations = 30
batch_size = 50
learning_rate = 0.01
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sphere.toml"
    path.write_text(CONFIG)
    return path


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_train_then_swap(config: Path, tmp_path: Path) -> None:
    """In a folder whose name is no formula, no markup, and has glyphs that no font here has:
    warnings are errors."""
    name = "$5_$6_ [b]{x}训练"
    out = tmp_path / "[" / "red]" / name  # a path with [/red] in it
    assert f"{name}: Euler h=1/2" in invoke("train", config, "--out", out)
    assert (out / "metrics.csv").exists()
    solvers = ("--solver", "RK4", "--solver", "Tsit5:tol=1e-3", "--solver", "Rodas5P")
    text = invoke("swap", out, *solvers, "--factor", "0.5")
    assert f"{name}: " in text.replace("\n", " ")
    assert "not run" in text
    assert "RK4" in text
    assert "Tsit5 tol=1e-3" in text
    assert "x0.5" in text
    for name in ("swap.csv", "verdict.json", "report.html", "swap.png", "swap.pdf", "regions.png"):
        assert (out / name).stat().st_size > 0
    again = invoke("train", config, "--out", out)
    assert "30/30" in again


def test_swap_takes_its_rule_from_the_command_line(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    invoke("train", config, "--out", out)
    rule = ("--margin", 0.2, "--confidence", 0.9, "--criterion", "ten-points")
    invoke("swap", out, "--solver", "RK4", "--factor", 1, *rule)
    verdict = json.loads((out / "verdict.json").read_text())["verdict"]
    assert verdict["confidence"] == 0.9
    assert verdict["criterion"] == "ten-points"
    invoke("swap", out, "--solver", "RK4", "--factor", 1, "--margin", 0.2)
    assert json.loads((out / "verdict.json").read_text())["verdict"]["margin"] == 0.2
    # The folder's own rule stays as it is.
    assert "margin" not in (out / "config.toml").read_text()
    with pytest.raises(PyNODEError, match="criterion"):
        invoke("swap", out, "--criterion", "points")


def test_settings_on_the_command_line(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    invoke(
        *("train", config, "--out", out, "--set", "train.solver=Midpoint:dt=1/4"),
        *("--set", "train.iterations=10", "--set", "data.dim=3"),
    )
    stored = (out / "config.toml").read_text()
    assert 'solver = "Midpoint:dt=1/4"' in stored
    assert "iterations = 10" in stored
    assert "dim = 3" in stored


def test_diverged_training_says_so(config: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="last good state"):
        invoke("train", config, "--out", tmp_path / "run", "--set", "train.learning_rate=1e30")


def test_solvers_lists_and_filters() -> None:
    rows = json.loads(invoke("solvers", "--json"))
    assert len(rows) == len(catalogue())
    tsit5 = next(row for row in rows if row["name"] == "Tsit5")
    assert tsit5["order"] == 5
    assert tsit5["backends"] == ["jax", "julia"]
    named = {row["name"] for row in rows if "jax" in row["backends"]}
    assert len(named) >= 30
    fifth = json.loads(invoke("solvers", "--json", "--order", 5, "--no-implicit"))
    assert {row["order"] for row in fifth} == {5}
    assert not any(row["implicit"] for row in fifth)
    assert "Vern7" in invoke("solvers", "--family", "verner")


def test_doctor_finds_the_jax_backend() -> None:
    text = invoke("doctor")
    assert "ok backend jax" in text
    assert "!!" not in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["solvers", "--backend", "matlab"], "matlab"),
        (["swap", "nowhere"], "nowhere"),
        (["train", "nowhere.toml", "--out", "x"], "nowhere.toml"),
        (["solvers", "--family", "nonsense"], "nonsense"),
    ],
)
def test_refusals_are_the_packages_errors(arguments: list[str], text: str) -> None:
    with pytest.raises(PyNODEError, match=text):
        invoke(*arguments)


def test_installed_command_prints_errors_without_a_traceback(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("pynode-jl")
    result = subprocess.run(
        [command, "swap", tmp_path / "none"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "RunFolderError" in result.stderr
    assert "Traceback" not in result.stderr
    assert subprocess.run([command, "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.long
def test_quickstart_shows_the_papers_effect(tmp_path: Path) -> None:
    """Coarse collapses below 75 % under finer solvers, fine holds within 3 points."""
    text = invoke("quickstart", "--out", tmp_path / "quickstart")
    verdicts = {
        name: json.loads((tmp_path / "quickstart" / name / "verdict.json").read_text())
        for name in ("coarse", "fine")
    }
    assert all(verdict["trained"] > 0.95 for verdict in verdicts.values())
    assert verdicts["coarse"]["verdict"]["kind"] == "tied"
    assert verdicts["coarse"]["ode"] < 0.75
    assert verdicts["fine"]["verdict"]["kind"] == "valid"
    assert verdicts["fine"]["verdict"]["drop"] <= 0.03
    assert "tied to its solver" in " ".join(text.split())
    assert (tmp_path / "quickstart" / "report.html").exists()
    assert (tmp_path / "quickstart" / "swap.png").exists()


_INTERRUPTED = """
[train]
solver = "Euler:dt=1/64"
iterations = 1000000
"""


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(_INTERRUPTED)
    # A shell in the background has its children ignore Ctrl-C.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        *(sys.executable, "-c", f"{listening}; from pynode_jl.cli import main; main()", "train"),
        *(str(tmp_path / "long.toml"), "--out", str(tmp_path / "run")),
    ]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is under way
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "run the same command again to resume" in said
    assert "Traceback" not in said


def test_an_interrupt_that_a_library_makes_an_exit_of_is_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Typer turns KeyboardInterrupt into an exit, each version in its own way."""

    def app() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            try:
                raise RuntimeError("an exit of the library's") from error
            except RuntimeError:
                sys.exit(1)

    ends: list[int] = []
    monkeypatch.setattr("pynode_jl.cli._app.app", app)
    monkeypatch.setattr("os._exit", ends.append)
    main()
    assert ends == [130]
    assert "resume from the last checkpoint" in capfd.readouterr().err


def test_folders_on_the_command_line_take_the_home_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    invoke("train", "~/sphere.toml", "--out=~/run", "--set", "train.iterations=2")
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "~").exists()
