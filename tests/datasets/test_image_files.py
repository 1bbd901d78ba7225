"""MNIST and CIFAR-10 from files in their true formats, and from files that are damaged."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import pickle
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import image_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pynode_jl.datasets import Dataset, cifar10, load, mnist
from pynode_jl.datasets import _cifar10 as cifar10_module
from pynode_jl.datasets import _mnist as mnist_module
from pynode_jl.datasets._idx import TYPES, read_idx
from pynode_jl.datasets._public_files import PublicFile, data_folder, public_file
from pynode_jl.errors import DataError, InvalidValueError

own = {"download": False, "verify": False}


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default folder is empty, and no test reaches the network."""
    monkeypatch.setenv("PYNODE_JL_DATA", str(tmp_path / "default"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mnist_folder(tmp_path: Path) -> Path:
    image_files.write_mnist(tmp_path)
    return tmp_path


def refused(call: Any, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    for word in words:
        assert word in text, text
    return text


# IDX


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda code: hnp.arrays(
            TYPES[code].newbyteorder("="),
            hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
        )
    )
)
def test_idx_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    image_files.write_gz(path, image_files.idx_bytes(array))
    code = image_files.IDX_CODES[f"{array.dtype.kind}{array.dtype.itemsize}"]
    back = read_idx(path, axes=array.ndim, code=code)
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)


@settings(max_examples=60)
@given(st.data())
def test_a_gzip_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    whole = gzip.compress(image_files.idx_bytes(np.arange(200, dtype=np.uint8).reshape(2, 10, 10)))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(lambda: read_idx(path, axes=3), "a.gz")


def test_idx_faults_are_named(tmp_path: Path) -> None:
    good = image_files.idx_bytes(np.zeros((3, 4, 4), np.uint8))
    path = tmp_path / "a.gz"

    def reading(content: bytes) -> Any:
        image_files.write_gz(path, content)
        return partial(read_idx, path, axes=3)

    refused(reading(good[:-1]), "48 bytes", "It has 47")
    refused(reading(good + b"\0"), "more than 48")
    refused(reading(good[:10]), "ends within its header")
    refused(reading(good[:2]), "It has 2 bytes")
    refused(reading(b"\x00\x00\x08\x01" + good[4:]), "0x00000803", "0x00000801", "exchanged")
    refused(reading(b"\x1f\x8b\x08\x03" + good[4:]), "0x1f8b0803")
    huge = good[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    refused(reading(huge), "at most")
    path.write_bytes(good)  # not gzipped
    refused(partial(read_idx, path, axes=3), "not gzip")
    refused(partial(read_idx, tmp_path / "none.gz", axes=3), "none.gz")
    flipped = bytearray(gzip.compress(good))
    flipped[-6] ^= 1  # gzip's own checksum
    path.write_bytes(bytes(flipped))
    refused(partial(read_idx, path, axes=3), "CRC")


# MNIST


def test_mnist_gives_the_pixels_and_labels_in_order(tmp_path: Path) -> None:
    written = image_files.write_mnist(tmp_path)
    data = mnist(tmp_path, **own)
    assert (data.name, data.state_shape, data.classes, data.seed) == (
        "mnist",
        (1, 28, 28),
        10,
        None,
    )
    for part, x, y in (("", data.x_train, data.y_train), ("_test", data.x_test, data.y_test)):
        np.testing.assert_array_equal(y, written[f"y{part}"])
        np.testing.assert_array_equal(x[:, 0], written[f"x{part}"].astype(np.float32) / 255)
    fewer = load("mnist", folder=tmp_path, n_train=7, n_test=20, **own)
    np.testing.assert_array_equal(fewer.x_train, data.x_train[:7])
    refused(lambda: mnist(tmp_path, n_test=21, **own), "n_test", "20")
    with pytest.raises(InvalidValueError, match="n_train"):
        mnist(tmp_path, n_train=0, **own)


def test_mnist_faults_are_named(mnist_folder: Path) -> None:
    reading = partial(mnist, mnist_folder, **own)
    images, labels = (mnist_folder / name for name in image_files.MNIST_NAMES[:2])
    whole = labels.read_bytes()
    image_files.write_gz(labels, image_files.idx_bytes(np.zeros(39, np.uint8)))
    refused(reading, "train-labels", "40 images", "It has 39")
    image_files.write_gz(labels, image_files.idx_bytes(np.full(40, 10, np.uint8)))
    refused(reading, "y_train[0]", "range(10)")
    labels.write_bytes(images.read_bytes())
    refused(reading, "train-labels", "exchanged")
    labels.write_bytes(whole)
    image_files.write_gz(images, image_files.idx_bytes(np.zeros((40, 27, 28), np.uint8)))
    refused(reading, "28x28", "27x28")
    images.unlink()
    text = refused(reading, "nothing may be downloaded", str(mnist_folder))
    assert all(address in text for address in mnist_module.MNIST_FILES[0].addresses)


def test_files_that_are_not_the_published_ones_are_refused_unless_told(mnist_folder: Path) -> None:
    path = mnist_folder / image_files.MNIST_NAMES[0]
    before = path.read_bytes()
    digest = hashlib.sha256(before).hexdigest()
    refused(lambda: mnist(mnist_folder), digest, mnist_module.MNIST_FILES[0].sha256, "verify=False")
    assert path.read_bytes() == before  # nothing at hand is written over


def test_the_published_checksums_are_well_formed() -> None:
    files = [*mnist_module.MNIST_FILES, *cifar10_module.CIFAR10_FILES.values()]
    assert [file.name for file in mnist_module.MNIST_FILES] == list(image_files.MNIST_NAMES)
    assert len({file.sha256 for file in files}) == 6
    for file in files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert len(file.addresses) > 1
        assert all(a.startswith("https://") and a.endswith(file.name) for a in file.addresses)


# CIFAR-10


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar10_gives_the_pixels_and_labels_in_order(tmp_path: Path, kind: str) -> None:
    written = image_files.write_cifar10(tmp_path, kind)
    data = cifar10(tmp_path, **own)
    assert (data.name, data.state_shape, data.classes, data.seed) == (
        "cifar10",
        (3, 32, 32),
        10,
        None,
    )
    for part, x, y in (("", data.x_train, data.y_train), ("_test", data.x_test, data.y_test)):
        np.testing.assert_array_equal(y, written[f"y{part}"])
        np.testing.assert_array_equal(x, written[f"x{part}"].astype(np.float32) / 255)
    assert cifar10(tmp_path, n_train=5, n_test=3, **own).x_train.shape == (5, 3, 32, 32)


def test_cifar10_takes_the_archive_at_hand(tmp_path: Path) -> None:
    image_files.write_cifar10(tmp_path / "python", "python")
    image_files.write_cifar10(tmp_path / "binary", "binary")
    one, other = (cifar10(tmp_path / kind, **own) for kind in ("python", "binary"))
    assert one.fingerprint == other.fingerprint
    refused(lambda: cifar10(tmp_path / "python", archive="binary", **own), "cifar-10-binary.tar.gz")
    refused(lambda: cifar10(**own), "cifar-10-binary.tar.gz", str(data_folder(None)))
    with pytest.raises(InvalidValueError, match="binary or python"):
        cifar10(tmp_path, archive="matlab", **own)  # type: ignore[arg-type]


@settings(max_examples=25)
@given(st.data())
def test_an_archive_cut_or_bent_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cifar")
    image_files.write_cifar10(folder, "binary", n=1)
    path = folder / "cifar-10-binary.tar.gz"
    whole = bytearray(path.read_bytes())
    behind_its_name = whole.index(b"\0", 10) + 1
    at = data.draw(st.integers(behind_its_name, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[at:]
    else:
        whole[at] ^= data.draw(st.integers(1, 255))
    intact = gzip.decompress(path.read_bytes())
    path.write_bytes(bytes(whole))
    try:
        # A run of equal bytes has several encodings: a bent distance may give the same bytes.
        same = gzip.decompress(bytes(whole)) == intact
    except (OSError, EOFError, zlib.error):
        same = False
    if same:
        cifar10(folder, **own)
    else:
        refused(lambda: cifar10(folder, **own), "cifar-10-binary.tar.gz")


def test_cifar10_faults_are_named(tmp_path: Path) -> None:
    x, y = image_files.pictures(4, (3, 32, 32))
    binary, python = (tmp_path / f"cifar-10-{kind}.tar.gz" for kind in ("binary", "python"))
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]

    def reading(kind: str, batch: bytes) -> Any:
        write = {"binary": image_files.binary_batch, "python": image_files.python_batch}[kind]
        suffix = {"binary": ".bin", "python": ""}[kind]
        files = {f"a/{name}{suffix}": write(x, y) for name in names}
        files[f"a/data_batch_3{suffix}"] = batch
        image_files.write_tar({"binary": binary, "python": python}[kind], files)
        return partial(cifar10, tmp_path, archive=kind, **own)

    good = image_files.binary_batch(x, y)
    assert reading("binary", good)().n_train == 20
    refused(reading("binary", good[:-1]), "data_batch_3.bin", "3073")
    refused(reading("binary", b""), "data_batch_3.bin")
    refused(reading("binary", b"\x0a" + good[1:]), "y_train[8]", "range(10)")
    image_files.write_tar(binary, {"a/data_batch_1.bin": good})
    refused(partial(cifar10, tmp_path, archive="binary", **own), "lacks data_batch_2.bin")

    good = image_files.python_batch(x, y)
    assert reading("python", good)().n_train == 20
    refused(reading("python", good[:-100]), "data_batch_3", "pickle")
    refused(reading("python", b"not a pickle"), "data_batch_3")
    refused(reading("python", pickle.dumps({b"labels": [0]}, 2)), "data_batch_3", "b'data'")
    refused(reading("python", image_files.python_batch(x, y[:-1])), "labels", "(3,)", "(4, 3072)")
    wide = image_files.python_batch(x, y).replace(b"u1", b"u2")
    refused(reading("python", wide), "not of bytes")


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = image_files.evil_batch(mark)
    pickle.loads(evil)
    assert mark.exists()  # it would
    mark.unlink()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    image_files.write_tar(tmp_path / "cifar-10-python.tar.gz", {f"a/{n}": evil for n in names})
    refused(lambda: cifar10(tmp_path, **own), "refused")
    assert not mark.exists()


# Downloads, from a server of our own


class _Site(http.server.ThreadingHTTPServer):
    asked: list[str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[_Site]:
    root = tmp_path / "site"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, directory=str(root), **options)

        def do_GET(self) -> None:
            server.asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: Any) -> None: ...

    server = _Site(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_takes_the_first_mirror_that_has_the_published_file(
    tmp_path: Path, site: _Site
) -> None:
    pytest.importorskip("pooch")
    host = f"http://127.0.0.1:{site.server_port}"
    folder = tmp_path / "files"
    (tmp_path / "site" / "bad").mkdir()
    (tmp_path / "site" / "bad" / "a.gz").write_bytes(b"another file")
    (tmp_path / "site" / "a.gz").write_bytes(b"the file")
    sha256 = hashlib.sha256(b"the file").hexdigest()
    file = PublicFile("a.gz", sha256, tuple(f"{host}/{p}a.gz" for p in ("gone/", "bad/", "")))
    path = public_file(file, folder, download=True, verify=True)
    assert path.read_bytes() == b"the file"
    assert site.asked == ["/gone/a.gz", "/bad/a.gz", "/a.gz"]
    assert [p.name for p in folder.iterdir()] == ["a.gz"]  # the bad one left nothing
    public_file(file, folder, download=True, verify=True)
    assert len(site.asked) == 3  # it is at hand now

    path.unlink()
    nowhere = replace(file, addresses=file.addresses[:2])
    text = refused(
        lambda: public_file(nowhere, folder, download=True, verify=True), "404", sha256, str(folder)
    )
    assert all(address in text for address in nowhere.addresses)
    assert not any(folder.iterdir())


def test_mnist_downloads_what_is_missing(
    tmp_path: Path, site: _Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch")
    image_files.write_mnist(tmp_path / "site")
    here = [
        PublicFile(
            name,
            hashlib.sha256((tmp_path / "site" / name).read_bytes()).hexdigest(),
            (f"http://127.0.0.1:{site.server_port}/{name}",),
        )
        for name in image_files.MNIST_NAMES
    ]
    monkeypatch.setattr(mnist_module, "MNIST_FILES", tuple(here))
    data = mnist()
    assert isinstance(data, Dataset)
    assert data.n_train == 40
    assert sorted(p.name for p in data_folder(None).iterdir()) == sorted(image_files.MNIST_NAMES)
    (data_folder(None) / image_files.MNIST_NAMES[1]).unlink()
    site.asked.clear()
    assert mnist().fingerprint == data.fingerprint
    assert site.asked == [f"/{image_files.MNIST_NAMES[1]}"]


def test_the_folder_is_the_one_told_then_the_variable_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder(tmp_path / "told") == tmp_path / "told"
    assert data_folder(None) == tmp_path / "default"
    monkeypatch.delenv("PYNODE_JL_DATA")
    assert data_folder(None) == tmp_path / "cache" / "pynode_jl"
