"""What the image sets share: pixels to states, and the first part of a set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import whole_number
from pynode_jl.datasets._arrays import Floats
from pynode_jl.errors import DataError


def unit_pixels(pixels: NDArray[np.uint8]) -> Floats:
    """Bytes as float32 in [0, 1]; nothing is centred or scaled further (Ott et al. 2021)."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def first(name: str, count: int | None, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the first `count` of `rows`; all of them for None.

    Raises:
        InvalidValueError: not an integer >= 1.
        DataError: fewer rows than that.
    """
    if count is None:
        return rows
    if whole_number(name, count, 1) > len(rows):
        raise DataError(
            name, count, f"at most the {len(rows)} that there are", f"Leave {name} out for all."
        )
    return rows[:count]
