"""Shared by several commands: settings from the command line, training with a progress bar."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pynode_jl._io import check_room, make_folder, set_aside, user_path
from pynode_jl.cli._console import note, stderr
from pynode_jl.errors import ConfigError, DivergedError

if TYPE_CHECKING:
    from pynode_jl.runs import Run
    from pynode_jl.training import Trained


def expanded(path: Path | None) -> Path | None:
    """Return a path from the command line, ``~`` expanded: shells do not in ``--out=~/runs``."""
    return None if path is None else user_path("path", path)


def writable(folder: Path) -> Path:
    """Make a folder for results and return it: that it cannot be written is found before the work.

    Raises:
        OutputError: it cannot.
    """
    check_room(make_folder(folder), 2**20)
    return folder


def keep_earlier(table: Path, text: str, *patterns: str) -> None:
    """Move earlier results away from where new ones come, unless they are the same.

    Args:
        table: the file that tells.
        text: what it will have.
        patterns: the names of all files that will be written anew.
    """
    if not table.exists() or table.read_bytes() == text.encode():
        return
    place = set_aside(table.parent, *patterns)
    if place is not None:
        note(f"earlier results are kept in {place}")


def solver_names_from(incomplete: str) -> list[str]:
    """Return the solvers whose names begin so, for the shell's completion."""
    from pynode_jl.solvers import solver_names

    return [name for name in solver_names() if name.casefold().startswith(incomplete.casefold())]


def train_with_bar(run: Run, name: str) -> Trained:
    """Train a run to its end, from its last checkpoint, and return its end.

    Raises:
        DivergedError: it ended before its last iteration.
    """
    from pynode_jl.backends import RetCode
    from pynode_jl.cli._progress import training_bar

    adapt = run.config.adapt.controller
    how = "" if adapt == "none" else f", adapted by {adapt}"
    solver = run.config.recipe().solver.label
    note(f"{name}: {solver}{how}, backend {run.backend.name}")
    _note_remarks(name, run.dataset.remarks)
    with training_bar(stderr, name) as show:
        trained = run.train(show)
    if trained.retcode != RetCode.Success:
        raise DivergedError(
            f"training ended at iteration {trained.state.iteration} of"
            f" {trained.recipe.iterations}: {trained.retcode.meaning} The last good state is in"
            f" {run.folder}; a smaller train.learning_rate or step may get further."
        )
    return trained


def _note_remarks(name: str, remarks: str) -> None:
    """Say what is to be known of a run's data, unless it was said of the run before."""
    if remarks and remarks != _Said.remarks:
        note(f"{name}: {remarks}")
    _Said.remarks = remarks


class _Said:
    """What was said last."""

    remarks = ""


#: Arguments that several commands take.
Folder = Annotated[
    Path, typer.Argument(callback=expanded, help="The run's folder.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help='Change a key of the configuration: "train.iterations=100". Repeatable.'
    ),
]
SolverOption = Annotated[
    list[str] | None,
    typer.Option(
        autocompletion=solver_names_from,
        help="A test solver: a name, or with settings of its own, Tsit5:rtol=1e-6. Repeatable.",
    ),
]


def settings(texts: list[str]) -> dict[str, Any]:
    """Read ``key=value`` texts; a value is TOML, or text where it is no TOML."""
    made: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("--set", text, "key=value", "Write train.iterations=100, say.")
        try:
            made[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            made[key] = value
    return made
