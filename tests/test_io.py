"""Files are written whole or not at all, and what keeps them from it is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pynode_jl._io import (
    check_room,
    make_folder,
    read_json,
    read_text,
    user_path,
    write_bytes,
    write_json,
    write_text,
)
from pynode_jl.errors import InputError, InvalidValueError, OutputError, PyNODEError


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


def test_json_is_read_back_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    path, values = tmp_path / "a.json", {"é": [1, 0.1, None, "\n"], "b": {"c": True}}
    write_json(path, values)
    assert read_json(path) == values
    whole = path.read_bytes()
    (tmp_path / "b.json").write_bytes(whole)
    with pytest.raises(InputError, match="checksum"):  # a whole file, but not this one
        read_json(tmp_path / "b.json")
    for place in range(len(whole)):
        for bit in range(8):
            torn = bytearray(whole)
            torn[place] ^= 1 << bit
            path.write_bytes(torn)
            try:
                found = read_json(path)
            except InputError:
                continue
            # A name that is no checksum's any more, or white space.
            assert {key: found[key] for key in values} == values
    write_text(path, '{"a": 1}')  # as version 0.1 wrote
    assert read_json(path) == {"a": 1}
    for text in ("", "[1]", "{", "[" * 100_000, "3", "\x00"):
        write_text(path, text)
        with pytest.raises(InputError, match=r"a\.json"):
            read_json(path)


def test_texts_of_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes("é\r\nb".encode(encoding))
        assert read_text(path) == "é\nb"
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_text(path)


def test_room_is_tried_and_given_back(tmp_path: Path) -> None:
    check_room(tmp_path, 10_000)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OutputError, match=r"gone.*room for 10 bytes"):
        check_room(tmp_path / "gone", 10)


def test_paths_of_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("out", "~/a") == tmp_path / "a"
    assert user_path("out", Path("b")) == Path("b")
    for odd in ("", "a\0b", 3, None, b"a"):
        with pytest.raises(InvalidValueError, match="out = "):
            user_path("out", odd)
