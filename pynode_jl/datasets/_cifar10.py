"""CIFAR-10: 60,000 colour photographs of 32x32 pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pynode_jl.datasets._arrays import class_labels
from pynode_jl.datasets._cifar10_batches import FORMATS, read_batches
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets._images import first, unit_pixels
from pynode_jl.datasets._public_files import PublicFile, data_folder, public_file
from pynode_jl.errors import InvalidValueError

_MIRRORS = ("https://www.cs.toronto.edu/~kriz", "https://cave.cs.toronto.edu/kriz")
# SHA-256 of the archives as Krizhevsky published them (his page gives their MD5, c32a1d4a... and
# c58f3010...). The binary one's is also in TensorFlow Datasets' and GoMLX's code and MLDatasets.jl,
# the python one's in Keras and torchdata.
_SHA256 = {
    "binary": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "python": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
#: The two archives, of the same pictures in the same order.
CIFAR10_FILES: Mapping[str, PublicFile] = {
    kind: PublicFile(name, sha256, tuple(f"{mirror}/{name}" for mirror in _MIRRORS))
    for kind, sha256 in _SHA256.items()
    for name in (f"cifar-10-{kind}.tar.gz",)
}


def cifar10(
    folder: str | os.PathLike[str] | None = None,
    *,
    archive: Literal["binary", "python"] | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    download: bool = True,
    verify: bool = True,
) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): states (3, 32, 32) in [0, 1], ten classes.

    Args:
        folder: where its archive is, or is put. Default: the folder that the environment variable
            PYNODE_JL_DATA names, or ``~/.cache/pynode_jl``.
        archive: the archive to read. Default: the one that is there, the binary one if both or
            neither are. The python one's pickles are read without running what is in them.
        n_train, n_test: only the first so many examples of each part. Default: all, 50,000 and
            10,000.
        download: whether the archive may be fetched if it is not there (170 MB).
        verify: whether it must be the published one, by SHA-256. False takes your own data in the
            same format.

    Raises:
        DataError: an archive that is missing, damaged, cut short, or of another format.
        InvalidValueError: an argument that is not allowed.
        MissingDependencyError: a download is needed and pooch is not installed.

    Example:
        >>> pn.cifar10("no/such/folder", download=False)
        Traceback (most recent call last):
        pynode_jl.errors.DataError: ...
    """
    if archive is not None and archive not in FORMATS:
        raise InvalidValueError(
            "archive", archive, " or ".join(FORMATS), "Leave it out for the one that is there."
        )
    where = data_folder(folder)
    at_hand = [kind for kind, file in CIFAR10_FILES.items() if (where / file.name).exists()]
    kind = archive or (at_hand[0] if at_hand else "binary")
    path = public_file(CIFAR10_FILES[kind], where, download=download, verify=verify)
    (x_train, y_train), (x_test, y_test) = read_batches(path, kind)
    return Dataset(
        "cifar10",
        unit_pixels(first("n_train", n_train, x_train)),
        class_labels("y_train", first("n_train", n_train, y_train), 10),
        unit_pixels(first("n_test", n_test, x_test)),
        class_labels("y_test", first("n_test", n_test, y_test), 10),
        classes=10,
    )
