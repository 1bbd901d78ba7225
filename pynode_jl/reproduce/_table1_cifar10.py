"""Table 1's row of CIFAR-10: days on a CPU in the full protocol, for a GPU."""

from __future__ import annotations

from pynode_jl.reproduce._cifar10 import adapted_cifar10, cifar10_run, protocol
from pynode_jl.reproduce._desk import Desk, Plate
from pynode_jl.reproduce._table1 import Problem, row

CIFAR10 = Problem(
    "CIFAR-10",
    cifar10_run,
    adapted_cifar10,
    protocol,
    1 / 4,
    1 / 32,
    1 / 64,
    {
        "grid search": ("17-33", "54.7 +- 0.3 %"),
        "adaptation, the paper's": ("21.9", "55.0 +- 0.8 %"),
    },
)


def make(desk: Desk) -> Plate:
    """The row of CIFAR-10."""
    return row(desk, CIFAR10)
