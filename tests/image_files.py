"""Writers of the image sets' file formats, byte for byte as the published files are laid out."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
MNIST_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def idx_bytes(array: np.ndarray) -> bytes:
    code = IDX_CODES[f"{array.dtype.kind}{array.dtype.itemsize}"]
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_gz(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels whose brightest band of rows tells the class, and the classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, n).astype(np.uint8)
    pixels = random.integers(0, 80, (n, *shape)).astype(np.uint8)
    band = shape[-2] // 10
    for image, label in zip(pixels, labels, strict=True):
        image[..., label * band : (label + 1) * band, :] += 170
    return pixels, labels


def write_mnist(folder: Path, n_train: int = 40, n_test: int = 20) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    (x, y), (x_test, y_test) = pictures(n_train, (28, 28)), pictures(n_test, (28, 28), 1)
    for name, array in zip(MNIST_NAMES, (x, y, x_test, y_test), strict=True):
        write_gz(folder / name, idx_bytes(array))
    return {"x": x, "y": y, "x_test": x_test, "y_test": y_test}


def write_cifar10(folder: Path, kind: str, n: int = 8) -> dict[str, np.ndarray]:
    """An archive of six batches of `n` images; returns the images in order, the test's last."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = pictures(6 * n, (3, 32, 32))
    write, suffix, inner = {
        "binary": (binary_batch, ".bin", "cifar-10-batches-bin"),
        "python": (python_batch, "", "cifar-10-batches-py"),
    }[kind]
    names = [f"data_batch_{i}{suffix}" for i in range(1, 6)] + [f"test_batch{suffix}"]
    batches = {
        f"{inner}/{name}": write(x[i * n : (i + 1) * n], y[i * n : (i + 1) * n])
        for i, name in enumerate(names)
    }
    # The published archives hold more than the batches.
    write_tar(folder / f"cifar-10-{kind}.tar.gz", {f"{inner}/readme.html": b"<html>", **batches})
    return {"x": x[: 5 * n], "y": y[: 5 * n], "x_test": x[5 * n :], "y_test": y[5 * n :]}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def binary_batch(x: np.ndarray, y: np.ndarray) -> bytes:
    return np.concatenate([y[:, None], x.reshape(len(x), -1)], axis=1).tobytes()


def python_batch(x: np.ndarray, y: np.ndarray) -> bytes:
    """As Python 2 pickled it (protocol 2): its strings are byte strings, BINSTRING."""
    array = _call(
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy\nndarray\n" + _tuple(_int(0)) + _text(b"b"),
    )
    kind = _call(b"cnumpy\ndtype\n", _text(b"u1") + _int(0) + _int(1))
    kind += _tuple(_int(3), _text(b"|"), b"N", b"N", b"N", _int(-1), _int(-1), _int(0)) + b"b"
    shape = _tuple(_int(len(x)), _int(3072))
    array += _tuple(_int(1), shape, kind, b"\x89", _text(x.tobytes())) + b"b"
    labels = b"](" + b"".join(_int(int(label)) for label in y) + b"e"
    names = b"](" + b"".join(_text(b"a_photo_s_%06d.png" % i) for i in range(len(y))) + b"e"
    entries = {
        b"batch_label": _text(b"training batch 1 of 5"),
        b"labels": labels,
        b"data": array,
        b"filenames": names,
    }
    body = b"".join(_text(key) + value for key, value in entries.items())
    return b"\x80\x02}(" + body + b"u."


def _text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def _call(function: bytes, arguments: bytes) -> bytes:
    return function + b"(" + arguments + b"tR"


class Evil:
    """What unpickles into a call, here one that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def evil_batch(mark: Path) -> bytes:
    return pickle.dumps({b"data": Evil(mark), b"labels": [0]}, protocol=2)
