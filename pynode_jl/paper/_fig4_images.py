"""Figure 4 for images: digits, or CIFAR-10 in the full protocol."""

from __future__ import annotations

from pynode_jl.paper._context import Desk, Plate
from pynode_jl.paper._fig4 import Part, plate
from pynode_jl.paper._image_experiments import images

_PARTS = {
    "a": Part("Euler", ("dt=1/2", "dt=1/4", "dt=1/16", "dt=1/64"), ("dt=1/8", "dt=1/32")),
    "b": Part("RK4", ("dt=1", "dt=1/2", "dt=1/8"), ("dt=1/4", "dt=1/16")),
    "c": Part("Fehlberg21", ("tol=1", "tol=1e-1", "tol=1e-2"), ("tol=1e-3", "tol=1e-4")),
    "d": Part("DP5", ("tol=1", "tol=1e-1", "tol=1e-2"), ("tol=1e-3", "tol=1e-4")),
}


def make(desk: Desk) -> Plate:
    """A panel for each training solver."""
    return plate(desk, images(desk), _PARTS)
