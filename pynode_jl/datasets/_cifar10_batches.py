"""The two archives of CIFAR-10: batches of pixels and labels in a tar file.

Nothing is unpacked to disk, and no pickle is trusted: of the python archive's pickles only plain
values and arrays of bytes are taken, and what would call anything else is refused.
"""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pynode_jl._io import check_regular
from pynode_jl.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# A batch of the published archives has 30 MB, and an archive six.
_MOST_BYTES = 2**29
_MOST_BYTES_OF_ALL = 2**32

#: Pixels (n, 3, 32, 32), bytes, and labels (n,), integers.
Batch: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]


def read_batches(path: Path, kind: str) -> tuple[Batch, Batch]:
    """Return the training batches, joined in order, and the test batch of the archive `path`.

    Raises:
        DataError: an archive that is damaged, cut short, or lacks a batch; a damaged batch.
    """
    suffix, parse = FORMATS[kind]
    names = [f"data_batch_{i}{suffix}" for i in range(1, 6)] + [f"test_batch{suffix}"]
    batches = [parse(path, name, data) for name, data in _members(path, names).items()]
    pixels, labels = zip(*batches[:-1], strict=True)
    return (np.concatenate(pixels), np.concatenate(labels)), batches[-1]


def _members(path: Path, names: list[str]) -> dict[str, bytes]:
    """Return the contents of the files `names` of a gzipped tar file, in whatever folder."""
    found: dict[str, bytes] = {}
    try:
        check_regular(path)
        with gzip.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                name = Path(member.name).name
                if name not in names or not member.isreg() or member.size > _MOST_BYTES:
                    continue
                content = archive.extractfile(member)
                assert content is not None  # a regular file
                found[name] = content.read()
                if len(found[name]) != member.size:
                    raise EOFError(f"{name} has {len(found[name])} of {member.size} bytes")
            # To the end, where gzip's checksum is: tar stops before it.
            while file.read(2**20):
                if file.tell() > _MOST_BYTES_OF_ALL:
                    raise EOFError(f"it has more than {_MOST_BYTES_OF_ALL} bytes")
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, MemoryError) as cause:
        raise DataError(
            "file",
            str(path),
            "a whole .tar.gz file",
            f"It is damaged, cut short, or not that: get it anew. {type(cause).__name__}: {cause}.",
        ) from cause
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            "file",
            str(path),
            f"an archive with {', '.join(names)}",
            f"It lacks {', '.join(missing)}: another file under this name, or cut short.",
        )
    return {name: found[name] for name in names}


def _binary(path: Path, name: str, data: bytes) -> Batch:
    """Read records of a label and then the red, green and blue planes, row by row."""
    record = 1 + _PIXELS
    if len(data) % record or not data:
        raise DataError(
            f"{path.name}: {name}",
            len(data),
            f"a multiple of {record} bytes, a label and {_PIXELS} pixels for each image",
            "It is damaged or cut short: get the archive anew.",
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    return rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0]


def _python(path: Path, name: str, data: bytes) -> Batch:
    """Read a pickled dictionary of Python 2: b"data", (n, 3072) bytes, and b"labels", a list."""
    argument = f"{path.name}: {name}"
    allowed = f"a pickled dictionary of b'data', (n, {_PIXELS}) bytes, and b'labels', n integers"
    try:
        _check_pickle(data)
        batch = _Plain(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = batch[b"data"].array(), np.array(batch[b"labels"])
    except Exception as cause:  # what a damaged pickle raises is open-ended
        raise DataError(
            argument,
            f"{len(data)} bytes",
            allowed,
            f"It is damaged, or not that: get the archive anew. {type(cause).__name__}: {cause}.",
        ) from cause
    good = labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size > 0
    if not good or pixels.shape != (labels.size, _PIXELS):
        raise DataError(
            argument,
            f"data {pixels.shape}, labels {labels.dtype} {labels.shape}",
            allowed,
            "Get the archive anew.",
        )
    return pixels.reshape(-1, *_SHAPE), labels


def _check_pickle(data: bytes) -> None:
    """Refuse a pickle that asks for memory which its own length does not account for.

    A few bytes may number a place of the memo in the billions, or, in later protocols than Python
    2's, name a length; the unpickler would make room for it.

    Raises:
        UnpicklingError: it does.
    """
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.proto > 2:
            raise pickle.UnpicklingError(f"it has {code.name}, which Python 2 does not write")
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
            raise pickle.UnpicklingError(f"{code.name} {argument} after {count} operations")


#: Each archive: what its batches' names end with, and how one is read.
FORMATS: Mapping[str, tuple[str, Callable[[Path, str, bytes], Batch]]] = {
    "binary": (".bin", _binary),
    "python": ("", _python),
}


class _PickledArray:
    """What a pickle says of an array, not yet believed."""

    def __init__(self, *arguments: object) -> None:
        del arguments

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def array(self) -> NDArray[np.uint8]:
        if self.dtype.name != b"u1" or self.fortran:
            raise pickle.UnpicklingError(f"an array of {self.dtype.name!r}, not of bytes by rows")
        return np.frombuffer(self.data, np.uint8).reshape(self.shape)


class _PickledType:
    """The name of an array's type."""

    def __init__(self, name: object, *rest: object) -> None:
        del rest
        self.name = name

    def __setstate__(self, state: object) -> None:
        del state


class _Plain(pickle.Unpickler):
    """Plain values, and stand-ins for the three names that pickled arrays use; no other name."""

    _KNOWN: Mapping[tuple[str, str], type] = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledType,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return self._KNOWN[module, name]
