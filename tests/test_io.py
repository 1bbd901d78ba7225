"""Files are written whole or not at all, and what keeps them from it is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pynode_jl._io import make_folder, write_bytes, write_text
from pynode_jl.errors import OutputError, PyNODEError


def test_what_is_written_is_what_was_given(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "é\r\nb\n".encode()
    write_bytes(tmp_path / "a.txt", b"")
    assert (tmp_path / "a.txt").read_bytes() == b""
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "run.json"
    write_text(path, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"path = .*run.json.*No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_the_content_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*arguments: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)
    write_text(tmp_path / "a", "x")
    assert calls == ["fsync", "replace"]


def test_a_folder_that_has_gone_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(PyNODEError, match=r"gone.*No such file"):
        write_text(tmp_path / "gone" / "a", "x")
    write_text(tmp_path / "file", "x")
    with pytest.raises(OutputError, match=r"file.*expected a folder"):
        make_folder(tmp_path / "file")
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
