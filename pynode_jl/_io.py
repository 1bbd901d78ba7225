"""Files written whole or not at all: a reader finds the old content or the new, no half of it."""

from __future__ import annotations

import os
from pathlib import Path

from pynode_jl.errors import OutputError


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it, unless it is there; return it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, "a folder that can be made", error) from error
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: first a draft beside it, onto the disk, then moved into its place.

    Raises:
        OutputError: the disk is full, the folder has gone, ...: what was there before still is.
    """
    # The process in the name: two that write one file do not write one draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                # Without it a power failure may leave the new name with no content.
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, "a file that can be written", error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8 with its line ends as they are, as `write_bytes` does.

    Raises:
        OutputError: as for `write_bytes`.
    """
    write_bytes(path, text.encode())


def _unwritable(path: Path, expected: str, error: OSError) -> OutputError:
    return OutputError("path", str(path), expected, f"{error}.")
