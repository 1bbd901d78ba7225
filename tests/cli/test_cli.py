"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from pynode_jl.cli import main
from pynode_jl.cli._app import app
from pynode_jl.cli._commands import exit_by_verdict
from pynode_jl.cli._console import frame_table, show
from pynode_jl.cli._progress import _fitting
from pynode_jl.cli._running import _note_remarks, keep_earlier
from pynode_jl.cli._tables import _failures
from pynode_jl.errors import DivergedError, PyNODEError
from pynode_jl.runs import Config, Run
from pynode_jl.solvers import catalogue
from pynode_jl.training import Trained

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


def printed(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run a command; return its standard output and its standard error."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


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
    # Another swap leaves the first one's results where they are.
    first = [*(out / "swaps").iterdir()]
    output, notes = printed("swap", out, "--solver", "RK4", "--factor", 1, "--check", code=5)
    assert "RK4" in output
    assert "report: " in notes
    assert "report: " not in output
    assert len([*(out / "swaps").iterdir()]) == 2
    assert (first[0] / "report.html").stat().st_size > 0
    assert len((first[0] / "swap.csv").read_text().splitlines()) == 4


def test_results_are_json_and_nothing_else_is_printed(config: Path, tmp_path: Path) -> None:
    """With --json and --quiet; an error is still printed."""
    wanted = ("--json", "--quiet")
    out = tmp_path / "run"
    output, notes = printed("train", config, "--out", out, *wanted)
    assert notes == ""
    assert json.loads(output)["iterations"] == 30
    output, notes = printed("swap", out, "--solver", "RK4", "--factor", 1, *wanted)
    assert notes == ""
    found = json.loads(output)["runs"]["run"]
    assert found["verdict"]["kind"] == "untrained"
    assert found["table"][0]["test_solver"] == "RK4"
    output, notes = printed("certify", out, *wanted, "--check", code=5)
    assert json.loads(output)["verdict"]["kind"] == "untrained"
    matrices = ("matrix", out, "--solver", "RK4", "--factor", 1, "--out", tmp_path / "matrix")
    output, notes = printed(*matrices, *wanted, "--check", code=5)
    assert json.loads(output)["trained"][0]["seeds"] == 1
    assert notes == ""


@pytest.mark.slow
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
    rows = json.loads(printed("solvers", "--json")[0])
    assert len(rows) == len(catalogue())
    tsit5 = next(row for row in rows if row["name"] == "Tsit5")
    assert tsit5["order"] == 5
    assert tsit5["backends"] == ["jax", "julia"]
    named = {row["name"] for row in rows if "jax" in row["backends"]}
    assert len(named) >= 30
    fifth = json.loads(printed("solvers", "--json", "--order", 5, "--no-implicit")[0])
    assert {row["order"] for row in fifth} == {5}
    assert not any(row["implicit"] for row in fifth)
    assert "Vern7" in invoke("solvers", "--family", "verner")


def test_a_list_of_solvers_in_a_pipe_has_no_boxes_and_whole_names() -> None:
    """At whatever width; the longest name is in one piece, each row in one line. What needs no
    Julia comes first."""
    output, notes = printed("solvers")
    lines = output.splitlines()
    rows = catalogue()
    names = [
        row.name for there in (True, False) for row in rows if ("jax" in row.backends) == there
    ]
    assert [line.split()[0] for line in lines] == ["name", *names]
    assert all(line == line.rstrip() and line.isascii() for line in lines)
    assert notes.startswith(f"{len(names)} solvers")


def test_a_table_has_a_dash_where_there_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    """As where `critical` finds no step that holds."""
    frame = pd.DataFrame({"fails": [1 / 128, 0.5], "holds": [float("nan"), 0.25], "seed": [0, 1]})
    show(lambda: frame, frame_table("brackets", frame))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-2:]] == [["0.007812", "-", "0"], ["0.5", "0.25", "1"]]


def test_solvers_show_one_and_what_others_call_so() -> None:
    assert "order:      7" in printed("solvers", "show", "Vern7")[0]
    output, _ = printed("solvers", "show", "rk4")
    assert "RK38" in output
    assert "the 3/8 rule" in output
    found = json.loads(printed("solvers", "show", "RK45", "--json")[0])
    assert [row["name"] for row in found["solvers"]] == ["DP5", "DP5Shampine"]
    assert [row["same"] for row in found["elsewhere"]] == [True, False]
    with pytest.raises(PyNODEError, match="xyzzy"):
        invoke("solvers", "show", "xyzzy")


def commands() -> list[tuple[str, ...]]:
    """Every command and group, by its words."""
    found: list[tuple[str, ...]] = []

    def visit(group: Any, words: tuple[str, ...]) -> None:
        found.append(words)
        for name, each in getattr(group, "commands", {}).items():
            visit(each, (*words, name))

    visit(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_80_columns_and_has_examples_that_are_read(words: tuple[str, ...]) -> None:
    """Each example is parsed by the command that it is of."""
    output, _ = printed(*words, "-h")
    head, _, examples = output.partition("Example")
    assert all(len(line) <= 80 for line in head.splitlines())
    assert "..." not in head.partition("Commands:")[2]
    if len(words) == 0 or (words[0] in ("julia", "reproduce", "sweep") and len(words) == 1):
        return
    lines = re.findall(r"^ +pynode-jl (.*)$", examples, re.MULTILINE)
    assert lines
    for line in lines:
        given = shlex.split(re.split(r" [>|]| && ", line)[0])
        assert tuple(given[: len(words)]) == words or words == ("solvers",)
        command, rest = typer.main.get_command(app), given
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        command.make_context(line, list(rest)).close()


def test_the_main_job_comes_first() -> None:
    assert [words[0] for words in commands() if words][:4] == [
        "quickstart",
        "init",
        "train",
        "swap",
    ]


def test_version() -> None:
    output, _ = printed("--version")
    assert output.startswith(f"pynode-jl {version('pynode-jl')}, jax ")


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        (["valid", "valid"], 0),
        (["valid", "undecided"], 4),
        (["undecided", "failed", "valid"], 5),
        (["untrained", "tied"], 3),
        ([], 0),
    ],
)
def test_exit_status_is_of_the_worst_verdict(kinds: list[str], code: int) -> None:
    with pytest.raises(typer.Exit) if code else nullcontext() as end:
        exit_by_verdict(kinds)
    assert end is None or end.value.exit_code == code


def test_init_writes_a_file_that_trains(tmp_path: Path) -> None:
    path = tmp_path / "made" / "moons.toml"
    assert invoke("init", path, "--data", "moons").startswith(str(path))
    assert Config.from_toml(path).data.name == "moons"
    with pytest.raises(PyNODEError, match="not there yet"):
        invoke("init", path)
    table = tmp_path / "plums.csv"
    table.write_text("length,width,kind\n1.5,2.5,plum\n")
    invoke("init", tmp_path / "plums.toml", "--data", table)
    data = Config.from_toml(tmp_path / "plums.toml").data
    options = {"path": str(table), "target": "kind", "normalize": "standard"}
    assert (data.name, data.options) == ("csv", options)
    with pytest.raises(PyNODEError, match=r"a file that ends in \.csv"):
        invoke("init", tmp_path / "other.toml", "--data", "plums.xlsx")
    with pytest.raises(PyNODEError, match="No such file"):
        invoke("init", tmp_path / "other.toml", "--data", "nowhere.csv")
    schema = json.loads(printed("init", "--schema")[0])
    assert not re.search('"As in |as in from', json.dumps(schema))
    assert schema["properties"]["swap"]["properties"]["factors"]["type"] == "array"


def test_earlier_results_are_kept(tmp_path: Path) -> None:
    table, page = tmp_path / "matrix.csv", tmp_path / "matrix.html"
    for text in ("a", "a", "b", "c"):
        keep_earlier(table, text, "matrix.*")
        table.write_text(text)
        page.write_text(f"page of {text}")
    earlier = tmp_path / "earlier"
    assert (earlier / "1" / "matrix.html").read_text() == "page of a"
    assert (earlier / "2" / "matrix.csv").read_text() == "b"
    assert page.read_text() == "page of c"


def test_doctor_finds_the_jax_backend() -> None:
    text = invoke("doctor")
    assert "ok backend jax" in text
    assert "!!" not in text


def test_doctor_calls_what_is_not_there_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong either: the status is 0."""
    monkeypatch.setattr("pynode_jl.cli._doctor._OPTIONAL", {"no-such-package": "for nothing"})
    assert re.search("^-- no-such-package +not installed, optional", invoke("doctor"), re.MULTILINE)


def test_a_swap_says_why_solves_failed() -> None:
    """Each reason once, with the first of its solves: a table has room for "failed" alone."""
    reason = "It did not converge."
    labels = [f"KenCarp4 h=1/{n}" for n in (2, 4, 8, 16)]
    rows = pd.DataFrame(
        {"label": [*labels, "RK4 h=1/2"], "retcode": ["ConvergenceFailure"] * 4 + ["Success"]}
    ).assign(reason=[reason] * 4 + [""])
    assert [*_failures(rows)] == [f"{', '.join(labels[:3])} and 1 more: {reason}"]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(50, "Euler-\u2026/32-s10"), (80, "Euler-h=1/32-s10"), (200, "Euler-h=1/32-s10")],
)
def test_a_bar_cuts_a_name_in_its_middle_and_only_where_it_must(columns: int, shown: str) -> None:
    """Runs of a search differ in their ends."""
    assert _fitting("Euler-h=1/32-s10", Console(width=columns)) == shown


def test_what_is_to_be_known_of_data_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`critical` and `adapt` train many runs on the same data."""
    for name, remarks in (("a", "labels 0 = no"), ("b", "labels 0 = no"), ("c", "0 = yes")):
        _note_remarks(name, remarks)
    assert capsys.readouterr().err.splitlines() == ["a: labels 0 = no", "c: 0 = yes"]


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


def test_what_ends_a_training_keeps_its_state(config: Path, tmp_path: Path) -> None:
    run = Run.create(Config.from_toml(config).changed({"train.chunk": 5}), tmp_path / "run")

    def stop(trained: Trained) -> None:
        if trained.state.iteration == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(stop)
    assert Run.open(tmp_path / "run").trained.state.iteration == 10


@pytest.mark.parametrize(
    ("sent", "times", "trained"),
    [(signal.SIGINT, 2, True), (signal.SIGTERM, 1, True), (signal.SIGTERM, 1, False)],
)
def test_a_signal_keeps_state_and_says_how_to_go_on(
    sent: signal.Signals, times: int, trained: bool, tmp_path: Path
) -> None:
    """Once it asks for an end, twice it ends; `tests/cli/interrupts.py` does it at every moment."""
    (tmp_path / "long.toml").write_text(_INTERRUPTED)
    kept = tmp_path / "run" / "checkpoint.safetensors"
    # A shell in the background has its children ignore Ctrl-C.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        *(sys.executable, "-c", f"{listening}; from pynode_jl.cli import main; main()", "train"),
        *(str(tmp_path / "long.toml"), "--out", str(tmp_path / "run")),
    ]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()  # it is under way
            while trained and not kept.exists() and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(sent)
            first = process.stderr.readline() + process.stderr.readline()
            if times == 2:
                process.send_signal(sent)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    said = first + said
    assert process.returncode == 128 + sent
    assert "Stopped." in said
    assert "Traceback" not in said
    assert ("Run the same command again to resume" in said) == kept.exists()
    if trained:
        assert "once state is kept" in first
        assert Run.open(tmp_path / "run").trained.state.iteration > 0


_SWEEP = """
[run.data]
n_train = 200
n_test = 40
[run.field]
channels = 4
[grid]
seed = [0, 1]
"""


# Not here: a fork of a process with JAX's threads is warned of.
_IN_A_TERMINAL = """
import os, pty, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, "-m", "pynode_jl", *sys.argv[1:]])))
"""


def _processes_with(mark: bytes) -> list[Path]:
    """Return the processes whose environment has it."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended
            if mark in environ.read_bytes():
                found.append(environ)
    return found


def test_ctrl_c_in_a_terminal_is_said_once(tmp_path: Path) -> None:
    """A terminal sends it to workers, too, and that while they still import what they need."""
    (tmp_path / "sweep.toml").write_text(_SWEEP)
    mark = f"MARK_OF_THIS_TEST={tmp_path}"
    wanted = ("sweep", "run", "sweep.toml", "--out", "s", "--workers", "2")
    with subprocess.Popen(
        [sys.executable, "-c", _IN_A_TERMINAL, *wanted],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | dict([mark.split("=")]),
    ) as process:
        assert process.stdout is not None
        said = b""
        while b" runs" not in said and (more := os.read(process.stdout.fileno(), 4096)):
            said += more  # until there is a bar: the workers are being started
        time.sleep(0.3)
        assert process.stdin is not None
        process.stdin.write(b"\x03")
        process.stdin.flush()
        said += process.stdout.read()
    assert process.returncode == 130
    assert b"Stopped. Run the same command again" in said
    assert b"Traceback" not in said
    assert b"leaked" not in said
    end = time.monotonic() + 30
    while left := _processes_with(mark.encode()):
        assert time.monotonic() < end, left
        time.sleep(0.05)


@pytest.mark.parametrize("command", ["swap", "certify"])
def test_a_refusal_stands_alone_and_says_what_mends_it(
    command: str, config: Path, tmp_path: Path
) -> None:
    """No bar is shown before it: none has moved."""
    Run.create(Config.from_toml(config), tmp_path / "run")
    result = CliRunner().invoke(app, [command, str(tmp_path / "run")])
    assert isinstance(result.exception, PyNODEError)
    assert "stands at iteration 0 of 30. `pynode-jl train` goes on" in str(result.exception)
    assert result.output == ""


def test_an_interrupt_that_a_library_makes_an_exit_of_is_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Typer turns KeyboardInterrupt into an exit, each version in its own way."""

    def app(**_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            try:
                raise RuntimeError("an exit of the library's") from error
            except RuntimeError:
                sys.exit(1)

    ends: list[int] = []
    monkeypatch.setattr("pynode_jl.cli.listen", lambda: None)  # the tests' own signals stay
    monkeypatch.setattr("pynode_jl.cli._app.app", app)
    monkeypatch.setattr("os._exit", ends.append)
    main()
    assert ends == [130]
    assert "Stopped." in capfd.readouterr().err


def test_folders_on_the_command_line_take_the_home_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    invoke("train", "~/sphere.toml", "--out=~/run", "--set", "train.iterations=2")
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "~").exists()
