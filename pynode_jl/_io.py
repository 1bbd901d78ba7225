"""All files of the package: written whole or not at all, and checked where they are read back.

A reader finds the old content or the new, no half of it. What is read back later carries its
SHA-256, so that a damaged file is told from a good one.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from pynode_jl.errors import InputError, InUseError, InvalidValueError, OutputError

_SEAL = "sha256"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of a file that is to come so much is written: limits and quotas show, and it takes no time.
_TRIED = 2**20
# The longest mark first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def user_path(argument: str, path: object) -> Path:
    """Return a path that a user has given, ``~`` expanded.

    Raises:
        InvalidValueError: no path, or one that no system can have.
    """
    if isinstance(path, str | os.PathLike):
        text = os.fspath(path)
        if isinstance(text, str) and text and "\0" not in text:
            try:
                return Path(text).expanduser()
            except RuntimeError:  # ~somebody, whom the system does not know
                return Path(text)
    raise InvalidValueError(argument, path, "a path", "Pass a string or a Path.")


def cache_folder() -> Path:
    """Return the folder of what can be made or downloaded again: the system's, and in it ours."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "pynode_jl"


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
    draft = _draft(path)
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


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` and, under "sha256", the checksum of the file's name and of them.

    Raises:
        OutputError: as for `write_bytes`.
    """
    sealed = {**values, _SEAL: _sum(path.name, values)}
    write_text(path, json.dumps(sealed, indent=1, allow_nan=False))


def json_values(value: Any) -> Any:
    """Return nested plain values, JSON's: NumPy numbers unwrapped, what is not finite None."""
    if isinstance(value, Mapping):
        return {str(key): json_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(each) for each in value]
    if isinstance(value, np.ndarray):
        return json_values(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def set_aside(folder: Path, *patterns: str) -> Path | None:
    """Move results that another call is about to replace to a folder of their own, "earlier/N".

    Args:
        folder: where they are.
        patterns: of their names: "matrix.*".

    Returns:
        The folder that they are in now; None where there were none.

    Raises:
        OutputError: they cannot be moved.
    """
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    if not files:
        return None
    number = 1
    while (folder / "earlier" / str(number)).exists():
        number += 1
    place = make_folder(folder / "earlier" / str(number))
    try:
        for file in files:
            file.replace(place / file.name)
    except OSError as error:
        raise _unwritable(place, "a folder that earlier results can be moved to", error) from error
    return place


def read_json(path: Path) -> dict[str, Any]:
    """Return the values that `write_json` wrote. A file without a checksum is taken as it is.

    Raises:
        InputError: no such file, or a damaged one.
    """
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("path", str(path), "a JSON file", f"It is damaged: {error}.") from error
    if not isinstance(values, dict):
        raise InputError("path", str(path), "a JSON object", "It is damaged, or another file.")
    if _SEAL in values and values.pop(_SEAL) != _sum(path.name, values):
        raise InputError(
            "path", str(path), "content that fits its checksum", "It is damaged, or was changed."
        )
    return values


def named_floats(values: Any) -> Any:
    """Return nested values with the names of numbers that are not finite, which JSON lacks."""
    if isinstance(values, Mapping):
        return {key: named_floats(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [named_floats(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def floats_of_names(values: Any) -> Any:
    """Return what `named_floats` was given."""
    if isinstance(values, dict):
        return {key: floats_of_names(value) for key, value in values.items()}
    if isinstance(values, list):
        return [floats_of_names(value) for value in values]
    return float(values) if values in ("inf", "-inf", "nan") else values


def write_sealed(path: Path, head: str, content: str) -> None:
    """Write a text under a first line: a comment that has `head` and the text's checksum.

    Raises:
        OutputError: as for `write_bytes`.
    """
    write_text(path, f"{_sealed_line(head)}{digest(content.encode())}\n{content}")


def read_sealed(path: Path, head: str) -> str:
    """Return the text that `write_sealed` wrote. One without that first line is taken as it is.

    Raises:
        InputError: no such file, or a damaged one.
    """
    content = read_text(path)
    first, _, rest = content.partition("\n")
    if not first.startswith(_sealed_line(head)):
        return content
    if first != f"{_sealed_line(head)}{digest(rest.encode())}":
        raise InputError(
            "path",
            str(path),
            "lines that fit the checksum in the first",
            "It is damaged, or was changed by hand: to keep your change, remove the first line.",
        )
    return rest


@contextmanager
def locked(file: Path, timeout: float, expected: str) -> Iterator[None]:
    """Hold a lock, which ends with the process, however it ends.

    Args:
        file: the lock's own; its folder is there. It stays.
        timeout: how long another holder is waited for, in seconds.
        expected: what should be, said of the folder.

    Raises:
        InUseError: another one holds it.
        OutputError: the folder cannot be written.
    """
    folder = str(file.parent)
    lock = FileLock(file, timeout=timeout)
    try:
        lock.acquire()
    except Timeout as error:
        raise InUseError(
            "folder", folder, expected, "Wait for the other process, or take another folder."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise OutputError("folder", folder, "a folder that can be written", f"{error}.") from error
    try:
        yield
    finally:
        lock.release()


def is_full(error: BaseException | None) -> bool:
    """Whether a file could not be written for want of room, by disk, quota or limit."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__
    return False


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        InputError: none is there, or it cannot be read.
    """
    try:
        check_regular(path)
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError("path", str(path), "a readable file", f"{error}.") from error


def read_text(path: Path) -> str:
    """Return a text: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one.

    Raises:
        InputError: no such file, or none of these.
    """
    content = read_bytes(path)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        # As a text file is read: one line end for all.
        return content.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            "path", str(path), "text in UTF-8", f"Save it in that encoding. {error}."
        ) from error


def check_regular(path: Path) -> None:
    """Refuse what is no file on a disk: a folder, or a pipe or device, which may have no end.

    Raises:
        OSError: it is not there, or is none.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        text = "It is a directory, a pipe or a device, and no regular file"
        raise OSError(errno.EINVAL, text, str(path))


def digest(*parts: bytes | memoryview) -> str:
    """Return the SHA-256, in hex, of all parts in their order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def is_draft(path: Path) -> bool:
    """Whether a file is what a killed `write_bytes` has left."""
    return path.name.startswith(".") and path.name.endswith(".part")


def check_room(folder: Path, size: int) -> None:
    """See that `folder` has room for `size` bytes and can be written, before the work.

    Raises:
        OutputError: they cannot be written.
    """
    draft = _draft(folder / "room")
    try:
        try:
            if shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            with draft.open("wb") as file:
                file.write(bytes(min(size, _TRIED)))
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(
            folder, f"a folder with room for {size:,} bytes that can be written", error
        ) from error


def _sealed_line(head: str) -> str:
    return f"# {head}; SHA-256 of the lines below: "


def _draft(path: Path) -> Path:
    # The process in the name: two that write one file do not write one draft.
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _sum(name: str, values: Mapping[str, Any]) -> str:
    # The name too: a file is no other file's, though it is whole.
    return digest(name.encode(), json.dumps(values, sort_keys=True).encode())


def _unwritable(path: Path, expected: str, error: OSError) -> OutputError:
    return OutputError("path", str(path), expected, f"{error}.")
