"""MNIST: 70,000 handwritten digits of 28x28 pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pynode_jl.datasets._arrays import class_labels
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._idx import read_idx
from pynode_jl.datasets._images import first, unit_pixels
from pynode_jl.datasets._public_files import PublicFile, data_folder, public_file
from pynode_jl.errors import DataError

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
# SHA-256 of the files as LeCun published them. The same four are in TensorFlow Datasets'
# checksums, in the Ruby port of torchvision and in the Haskell bindings of TensorFlow.
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
#: The four files, images before labels, training before test.
MNIST_FILES = tuple(
    PublicFile(name, sha256, tuple(f"{mirror}/{name}" for mirror in _MIRRORS))
    for name, sha256 in _SHA256.items()
)
_SIDE = 28


def mnist(
    folder: str | os.PathLike[str] | None = None,
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    download: bool = True,
    verify: bool = True,
) -> Dataset:
    """MNIST (LeCun, Cortes and Burges 1998): states (1, 28, 28) in [0, 1], ten classes.

    Args:
        folder: where its four gzipped files are, or are put. Default: the folder that the
            environment variable PYNODE_JL_DATA names, or ``~/.cache/pynode_jl``.
        n_train, n_test: only the first so many examples of each part. Default: all, 60,000 and
            10,000.
        download: whether a file that is not there may be fetched (11 MB in all).
        verify: whether the files must be the published ones, by SHA-256. False takes your own
            data in the same format: 28x28 bytes, labels 0 to 9.

    Raises:
        DataError: a file that is missing, damaged, cut short, or of another format.
        InvalidValueError: an argument that is not allowed.
        MissingDependencyError: a download is needed and pooch is not installed.

    Example:
        >>> pn.mnist("no/such/folder", download=False)
        Traceback (most recent call last):
        pynode_jl.errors.DataError: ...
    """
    where = data_folder(folder)
    paths = [public_file(file, where, download=download, verify=verify) for file in MNIST_FILES]
    train, test = _part(*paths[:2]), _part(*paths[2:])
    return Dataset(
        "mnist",
        unit_pixels(first("n_train", n_train, train[0])),
        class_labels("y_train", first("n_train", n_train, train[1]), 10),
        unit_pixels(first("n_test", n_test, test[0])),
        class_labels("y_test", first("n_test", n_test, test[1]), 10),
        classes=10,
    )


def _part(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pixels, names = read_idx(images, axes=3), read_idx(labels, axes=1)
    if pixels.shape[1:] != (_SIDE, _SIDE):
        raise DataError(
            "file",
            str(images),
            f"images of {_SIDE}x{_SIDE} pixels",
            f"Its images are {pixels.shape[1]}x{pixels.shape[2]}: give such data as .npz.",
        )
    if len(pixels) != len(names):
        raise DataError(
            "file",
            str(labels),
            f"one label for each of the {len(pixels)} images of {images.name}",
            f"It has {len(names)}: the two are not of one set.",
        )
    return pixels[:, None], names
