"""Shared by several commands: settings from the command line, training with a progress bar."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pynode_jl._io import check_room, make_folder, user_path
from pynode_jl.errors import ConfigError, DivergedError

if TYPE_CHECKING:
    from pynode_jl.runs import Run


def train_with_bar(console: Console, run: Run, name: str) -> None:
    """Train a run to its end, from its last checkpoint.

    Raises:
        DivergedError: it ended before its last iteration.
    """
    from pynode_jl.backends import RetCode
    from pynode_jl.cli._progress import training_bar

    adapt = run.config.adapt.controller
    how = "" if adapt == "none" else f", adapted by {adapt}"
    solver = run.config.recipe().solver.label
    console.print(f"{name}: {solver}{how}, backend {run.backend.name}")
    if run.dataset.remarks:
        console.print(f"{name}: {run.dataset.remarks}", markup=False, soft_wrap=True)
    with training_bar(console, name) as show:
        trained = run.train(show)
    if trained.retcode != RetCode.Success:
        raise DivergedError(
            f"training ended at iteration {trained.state.iteration} of"
            f" {trained.recipe.iterations}: {trained.retcode.meaning} The last good state is in"
            f" {run.folder}; a smaller train.learning_rate or step may get further."
        )


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
