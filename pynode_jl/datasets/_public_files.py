"""Public files of known content: in a folder, or downloaded from the first mirror that works.

A file is used only if its SHA-256 is the published one. Existing files are never overwritten.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pynode_jl._io import cache_folder, check_regular, user_path
from pynode_jl.errors import DataError, MissingDependencyError

#: Environment variable that names the folder of downloaded files; the system's cache folder unless
#: it is set.
FOLDER_VARIABLE = "PYNODE_JL_DATA"


@dataclass(frozen=True)
class PublicFile:
    """A file, its SHA-256 in hex, and the addresses that have it, best first."""

    name: str
    sha256: str
    addresses: tuple[str, ...]


def data_folder(folder: str | os.PathLike[str] | None) -> Path:
    """`folder`, or by default that of `FOLDER_VARIABLE`, or the system's cache folder."""
    if folder is not None:
        return user_path("folder", folder)
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE]).expanduser()
    return cache_folder()


def public_file(file: PublicFile, folder: Path, *, download: bool, verify: bool) -> Path:
    """Return the path of `file` in `folder`; download it if it is not there.

    Args:
        file: what is wanted.
        folder: where to look and to put it.
        download: whether it may be downloaded.
        verify: whether an existing file must have the published content.

    Raises:
        DataError: no such file and no download, or a file with other content.
        MissingDependencyError: a download is needed and pooch is not installed.
    """
    path = folder / file.name
    try:
        there = path.exists()
        if there:
            check_regular(path)
            if verify:
                _check(path, file)
    except OSError as cause:
        raise DataError("file", str(path), "a readable file", f"{cause}.") from cause
    if there:
        return path
    if not download:
        raise DataError(
            "folder",
            str(folder),
            f"one that holds {file.name}, since nothing may be downloaded",
            f"Put it there: {' or '.join(file.addresses)}.",
        )
    return _downloaded(file, folder)


def _check(path: Path, file: PublicFile) -> None:
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != file.sha256:
        raise DataError(
            "file",
            str(path),
            f"the published {file.name}, SHA-256 {file.sha256}",
            f"Its SHA-256 is {found}: it is damaged or cut short ({path.stat().st_size} bytes), or"
            " another file. Delete it to have it downloaded, or say verify=False if it is your own"
            " data in this format.",
        )


def _downloaded(file: PublicFile, folder: Path) -> Path:
    try:
        import pooch  # here, not above: only a download needs it
    except ImportError as cause:
        raise MissingDependencyError(
            "pooch",
            f"downloading {file.name}",
            f"Use `pip install 'pynode-jl[images]'`, or put the file into {folder} yourself.",
        ) from cause
    failures = []
    for address in file.addresses:
        try:
            # Into a temporary file first: a killed download leaves nothing behind.
            return Path(
                pooch.retrieve(address, f"sha256:{file.sha256}", fname=file.name, path=folder)
            )
        except Exception as cause:  # pooch, requests and the disk each have their own classes
            failures.append(f"{address}: {type(cause).__name__}: {cause}")
    raise DataError(
        "file",
        file.name,
        "one that can be downloaded",
        f"Put it into {folder} yourself. " + " | ".join(failures),
    )
