"""Three minima: in which well does a damped particle come to rest?"""

from __future__ import annotations

import numpy as np

from pynode_jl._validation import real_number, whole_number
from pynode_jl.datasets._arrays import check_size
from pynode_jl.datasets._dataset import Dataset
from pynode_jl.datasets.particle import resting_minimum
from pynode_jl.errors import DataError
from pynode_jl.seeding import generator


def three_minima(
    *, n_train: int = 2000, n_test: int = 1000, seed: int = 0, t_end: float = 100.0
) -> Dataset:
    """Draw initial states (x, v) of a damped particle; the class is the minimum that it ends in.

    x' = v, v' = -V'(x) - 0.2 v with V = 0.2 x (x-2)(x-0.5)(x+1)(x+0.6)(x-1.6); the minima near
    -0.850, 0.269 and 1.839 are classes 0, 1 and 2; x ~ U[-1, 2], v ~ U[-2, 2] (2022 data set of
    Ott et al.). A class is given only where it is certain: within `t_end` the particle must be
    in a well with less energy than the well's barriers. Energy never grows, so there it stays.

    Args:
        n_train, n_test: numbers of examples. More test examples leave the training examples as
            they were.
        seed: decides the data, bit for bit.
        t_end: time by which every particle must be caught, > 0. Most are by 20.

    Returns:
        States of shape (2,), drawn in float32 and integrated as stored.

    Raises:
        InvalidValueError: an argument that is not allowed.
        DataError: a particle not caught by `t_end`, with its index and initial state.

    Example:
        >>> pn.three_minima(n_train=30, n_test=10).classes
        3
    """
    n_train = whole_number("n_train", n_train, 1)
    n_test = whole_number("n_test", n_test, 1)
    t_end = real_number("t_end", t_end, "Try t_end=100.", above=0)
    check_size(n_train + n_test, 2)
    random = generator(seed, "data")
    states = random.uniform((-1.0, -2.0), (2.0, 2.0), (n_train + n_test, 2)).astype(np.float32)
    labels = resting_minimum(states[:, 0], states[:, 1], t_end)
    if (labels < 0).any():
        index = int((labels < 0).argmax())
        part, offset = ("train", 0) if index < n_train else ("test", n_train)
        raise DataError(
            f"x_{part}[{index - offset}]",
            tuple(states[index].tolist()),
            f"an initial state (x, v) whose well is decided by t_end = {t_end:g}",
            f"{int((labels < 0).sum())} of {labels.size} are not: raise t_end (its default is "
            "100), or take another seed.",
        )
    return Dataset(
        "three_minima",
        states[:n_train],
        labels[:n_train],
        states[n_train:],
        labels[n_train:],
        classes=3,
        seed=seed,
    )
