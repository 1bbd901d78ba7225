"""A run's folder: its configuration, who may write to it, and what may change in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynode_jl._io import is_draft, make_folder, read_sealed, write_sealed
from pynode_jl._io import locked as file_locked
from pynode_jl.errors import ConfigError, InputError, RunFolderError
from pynode_jl.runs._checkpoint import iterations_done
from pynode_jl.runs._config import Config

CONFIG, CHECKPOINT, ENVIRONMENT = "config.toml", "checkpoint.safetensors", "environment.json"

_LOCK = ".lock"
_HEAD = "pynode_jl run"
# What every version has written.
_TABLES = ("seed", "data", "field", "model", "train")
# How long a creator waits for another one, who has a few lines to write.
_CREATION = 10.0
#: Settings that change nothing that was trained: where the data are (their fingerprint is
#: compared), how often state is kept, and what is asked of the model afterwards.
_FREE = (
    "data.path",
    "data.test_path",
    "data.folder",
    "data.download",
    "data.verify",
    "train.chunk",
)


def is_free(key: str) -> bool:
    """Whether a setting, by its dotted key, changes nothing that was trained."""
    return key in _FREE or key.startswith("swap.")


def ensure_run(folder: Path, config: Config) -> Config:
    """Make the run of `config` in `folder`, or take the run that is there.

    A folder in which nothing was trained takes any configuration. One with a trained run takes
    what changes nothing of it (`is_free`), and more iterations.

    Returns:
        The configuration of the folder from now on.

    Raises:
        RunFolderError: the folder holds another configuration's run, or something else, or another
            process is at work in it.
        OutputError: it cannot be written.
    """
    check_folder(folder)
    if has_file(folder) and not _changes(folder, config):
        return config
    make_folder(folder)
    with locked(folder, _CREATION, "a folder in which no other process is at work"):
        check_folder(folder)
        if not has_file(folder):
            _check_empty(folder)
        elif _is_trained(folder):
            _check_changes(folder, config)
        write_config(folder, config)
    return config


def confirm_run(folder: Path, config: Config) -> None:
    """See, under the lock, that the folder still is the run of `config`, which may train in it now.

    Another process may have made it another one's since.

    Raises:
        RunFolderError: it holds another configuration's run.
    """
    changes = _changes(folder, config) if has_file(folder) else {CONFIG: (None, None)}
    if all(map(is_free, changes)):
        return
    if _is_trained(folder):
        _check_changes(folder, config)
    write_config(folder, config)


def write_config(folder: Path, config: Config) -> None:
    """Write config.toml, its checksum in the first line.

    Raises:
        OutputError: it cannot be written.
    """
    write_sealed(folder / CONFIG, _HEAD, config.to_toml())


def read_config(folder: Path) -> Config:
    """Read a run's config.toml; one of version 0.1 has no checksum.

    Raises:
        RunFolderError: there is none, or it is damaged.
        PyNODEError: it is no configuration.
    """
    check_folder(folder)
    file = folder / CONFIG
    try:
        values = tomllib.loads(read_sealed(file, _HEAD))
    except (InputError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _damaged(file, "a run's configuration, readable TOML", f"{error}") from error
    missing = [name for name in _TABLES if name not in values]
    if missing:
        raise _damaged(file, "a whole configuration", f"It lacks {', '.join(missing)}.")
    return Config.from_dict(values)


def has_file(folder: Path, name: str = CONFIG) -> bool:
    """Whether the folder has a file; a run has a config.toml.

    Raises:
        RunFolderError: the system does not let us see.
    """
    try:
        return (folder / name).exists()
    except OSError as error:
        raise _unseen(folder, error) from error


def check_folder(folder: Path) -> None:
    """Refuse a path that is something else than a folder; one that is not there passes.

    Raises:
        RunFolderError: it is, or the system does not let us see.
    """
    try:
        other = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise _unseen(folder, error) from error
    if other:
        raise RunFolderError("folder", str(folder), "a folder", "Take another name.")


@contextmanager
def locked(folder: Path, timeout: float, expected: str) -> Iterator[None]:
    """Hold the folder's lock. What killed writers have left in it is removed.

    Raises:
        InUseError: another process holds it; `expected` says what should be.
        OutputError: the folder cannot be written.
    """
    with file_locked(folder / _LOCK, timeout, expected):
        _remove_drafts(folder)
        yield


def _remove_drafts(folder: Path) -> None:
    try:
        for file in folder.iterdir():
            if is_draft(file):
                file.unlink(missing_ok=True)
    except OSError:
        pass  # who writes next says what is wrong


def _check_empty(folder: Path) -> None:
    try:
        others = [file.name for file in folder.iterdir() if file.name != _LOCK]
    except OSError as error:
        raise _unseen(folder, error) from error
    if others:
        raise RunFolderError(
            "folder",
            str(folder),
            "an empty or new folder, or a run's",
            f"It has {', '.join(sorted(others)[:3])}: take another folder.",
        )


def _is_trained(folder: Path) -> bool:
    """Whether anything was trained in the folder: before that there is nothing to lose."""
    return has_file(folder, CHECKPOINT) or has_file(folder, ENVIRONMENT)


def _changes(folder: Path, config: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which `config` and the folder's differ, by name: there, here."""
    try:
        stored = read_config(folder)
    except (RunFolderError, ConfigError):
        if _is_trained(folder):
            raise
        return {CONFIG: (None, None)}
    # Version 0.1 kept a relative path as it was, from the working folder.
    return stored.with_paths_from(Path.cwd()).differences(config)


def _check_changes(folder: Path, config: Config) -> None:
    changes = _changes(folder, config)
    bound = config.recipe().bound_to_iterations
    refused = [key for key in changes if not is_free(key) and (key != "train.iterations" or bound)]
    if refused:
        said = "; ".join(
            f"{key} is {changes[key][0]!r} there, {changes[key][1]!r} here" for key in refused
        )
        raise RunFolderError(
            "folder",
            str(folder),
            "an empty folder, or the run of this same configuration",
            f"It holds a run of another configuration: {said}. Take another folder, or delete it.",
        )
    if "train.iterations" in changes and has_file(folder, CHECKPOINT):
        done = iterations_done(folder / CHECKPOINT)
        if config.train.iterations < done:
            raise RunFolderError(
                "train.iterations",
                config.train.iterations,
                f"{done} or more, which the run in {folder} has done",
                "Raise it, or take another folder.",
            )


def _damaged(file: Path, expected: str, hint: str) -> RunFolderError:
    return RunFolderError("config.toml", str(file), expected, hint)


def _unseen(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError("folder", str(folder), "a folder that can be read", f"{error}.")
