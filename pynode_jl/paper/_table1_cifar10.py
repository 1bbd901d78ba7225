"""Table 1's row of CIFAR-10: days on a CPU in the full protocol, for a GPU."""

from __future__ import annotations

from pynode_jl.paper._context import Desk, Plate
from pynode_jl.paper._image_experiments import CIFAR10 as IMAGES
from pynode_jl.paper._table1 import Problem, row

CIFAR10 = Problem(
    **vars(IMAGES),
    coarse=1 / 4,
    fine=1 / 64,
    success={True: 0.5, False: 0.15},
    paper={
        "grid search": ("17-33", "54.7 +- 0.3 %"),
        "adaptation, the paper's": ("21.9", "55.0 +- 0.8 %"),
    },
)


def make(desk: Desk) -> Plate:
    """The row of CIFAR-10."""
    return row(desk, CIFAR10)
