"""Figure 5 for images: digits, or CIFAR-10 in the full protocol."""

from __future__ import annotations

from pynode_jl.paper._context import Desk, Plate
from pynode_jl.paper._fig5 import plate
from pynode_jl.paper._image_experiments import images


def make(desk: Desk) -> Plate:
    """A column for each controller."""
    return plate(desk, images(desk))
