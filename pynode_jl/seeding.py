"""One seed, and a stream of random numbers of its own for each thing that is drawn from it.

The streams are independent: drawing more data never moves the initial weights, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from pynode_jl._validation import whole_number
from pynode_jl.errors import UnknownNameError

#: Spawn key of each stream. A number here is part of every stored result: add, never change.
STREAMS: Mapping[str, int] = MappingProxyType(
    {"data": 0, "weights": 1, "batches": 2, "controller": 3, "trace": 4, "resampling": 5}
)


def generator(seed: int, stream: str, *index: int) -> np.random.Generator:
    """Return the generator of `stream` for `seed`; the same arguments always give the same numbers.

    `index` numbers independent parts of a stream, epochs for one, so that each can be drawn without
    those before it.

    Raises:
        InvalidValueError: `seed` is not an integer of 0 or more (a bool is none).
        UnknownNameError: `stream` is not in `STREAMS`.

    Example:
        >>> from pynode_jl.seeding import generator
        >>> float(generator(0, "data").uniform()) == float(generator(0, "data").uniform())
        True
    """
    if stream not in STREAMS:
        raise UnknownNameError("random stream", stream, STREAMS)
    sequence = np.random.SeedSequence(checked_seed(seed), spawn_key=(STREAMS[stream], *index))
    # PCG64 by name: `default_rng` may change its bit generator in a later NumPy.
    return np.random.Generator(np.random.PCG64(sequence))


def checked_seed(seed: int) -> int:
    """Return `seed` as a plain int of 0 or more, or raise an `InvalidValueError`."""
    return whole_number("seed", seed, 0)
