"""IDX, the format of MNIST: a big-endian array behind a header of its type and lengths.

Two zero bytes, a byte for the type, one for the number of axes, and four for the length of each
(LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._io import check_regular
from pynode_jl.errors import DataError

#: The format's type codes.
TYPES: Mapping[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
# No header may ask for more: a damaged one would have the machine swap before it is found out.
_MOST_BYTES = 2**31


def read_idx(path: Path, axes: int, code: int = 0x08) -> NDArray[Any]:
    """Return the array in the gzipped IDX file `path`, in the machine's byte order.

    Args:
        path: the file.
        axes: how many axes it must have.
        code: the type that it must have, a key of `TYPES`.

    Raises:
        DataError: no such file, not gzip, cut short or too long, or an array of another kind.
    """
    try:
        check_regular(path)
        with gzip.open(path, "rb") as file:
            lengths = _header(path, file.read(4 + 4 * axes), axes, code)
            count = math.prod(lengths)
            # One byte more than is wanted: a file that goes on behind its array is damaged too.
            data = file.read(count * TYPES[code].itemsize + 1)
    except (OSError, EOFError, zlib.error, MemoryError) as cause:
        raise DataError(
            "file",
            str(path),
            "a whole gzip file",
            f"It is damaged, cut short, or not gzip: get it anew. {type(cause).__name__}: {cause}.",
        ) from cause
    expected = count * TYPES[code].itemsize
    if len(data) != expected:
        has = f"{len(data)}" if len(data) < expected else f"more than {expected}"
        raise DataError(
            "file",
            str(path),
            f"{expected} bytes of data, as its header says: {lengths}",
            f"It has {has}: get it anew.",
        )
    array = np.frombuffer(data, TYPES[code]).reshape(lengths)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _header(path: Path, head: bytes, axes: int, code: int) -> tuple[int, ...]:
    allowed = f"an IDX file of {TYPES[code].name} with {axes} axes, magic {code << 8 | axes:#010x}"
    if len(head) < 4:
        raise DataError("file", str(path), allowed, f"It has {len(head)} bytes: get it anew.")
    (magic,) = struct.unpack(">I", head[:4])
    if magic != code << 8 | axes:
        raise DataError(
            "file",
            str(path),
            allowed,
            f"Its magic is {magic:#010x}: another file under this name, or images and labels"
            " exchanged.",
        )
    if len(head) < 4 + 4 * axes:
        raise DataError("file", str(path), allowed, "It ends within its header: get it anew.")
    lengths = struct.unpack(f">{axes}I", head[4:])
    if math.prod(lengths) * TYPES[code].itemsize > _MOST_BYTES:
        raise DataError(
            "file", str(path), f"at most {_MOST_BYTES} bytes of data", f"Its header says {lengths}."
        )
    return lengths
