"""What image sets share: pixels to states, the place of channels, and the first part of a set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode_jl._validation import choice, whole_number
from pynode_jl.datasets._arrays import Arrays, Floats, as_numpy
from pynode_jl.errors import DataError


def unit_pixels(pixels: NDArray[np.uint8]) -> Floats:
    """Bytes as float32 in [0, 1]; nothing is centred or scaled further (Ott et al. 2021)."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def channels_first(argument: str, images: Arrays, channels: str) -> Arrays:
    """Return images (n, channels, height, width), from where the `channels` are said to be.

    Args:
        argument: what the images are called.
        images: any states for "first"; (n, height, width, channels) for "last"; (n, height, width)
            for "none", images without an axis of channels.
        channels: one of the three.

    Raises:
        InvalidValueError: none of them.
        DataError: images of another shape.
    """
    if choice("channels", channels, ("first", "last", "none")) == "first":
        return images
    array = as_numpy(argument, images)
    shape = "(n, height, width, channels)" if channels == "last" else "(n, height, width)"
    if array.ndim != shape.count(",") + 1:
        raise DataError(
            f"{argument}.shape",
            array.shape,
            f"{shape}, since channels={channels!r}",
            "Leave channels out if no axis is to be moved.",
        )
    return np.moveaxis(array, -1, 1) if channels == "last" else array[:, None]


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
