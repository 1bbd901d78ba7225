"""The paper's figures and tables, made from our own runs: one short module each.

A module ``_fig3.py`` has one function, ``make(desk) -> Plate``; a row of `REPRODUCTIONS` names it.
Trained runs lie on one shelf, the folder ``runs`` beside the figures: what one figure has trained
the next one finds, and what was interrupted goes on.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pynode_jl.errors import UnknownNameError

if TYPE_CHECKING:
    from pynode_jl.paper._context import Desk, Plate

#: Name of a figure or table, and what it shows. Nothing is imported to read this.
REPRODUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "fig1": "Trajectories of a coarse and a fine model, and accuracy by number of steps.",
        "fig2": "Block outputs and decision regions of a coarse model at two steps.",
        "fig3": "Lady Windermere's fan makes XOR linearly separable, by the solver's error alone.",
        "fig4": "Accuracy by training step or tolerance, test solver and factor.",
        "minima": "Phase portraits of the three minima: the particle's field and two learned ones.",
        "blindspot": "No folds at one step do not exclude them at a smaller one.",
        "fig4-images": "Figure 4 for images: digits, CIFAR-10 with --full, which wants a GPU.",
        "fig5": "The step while the paper's controller and ours adapt it.",
        "fig5-images": "Figure 5 for images: digits, CIFAR-10 with --full, which wants a GPU.",
        "table1": "Critical step and adaptation: evaluations and accuracy beside the paper's.",
        "table1-cifar10": "The same for CIFAR-10. --full wants a GPU; stopped, it goes on.",
    }
)


def make(name: str, desk: Desk) -> Plate:
    """Make a figure or table of `REPRODUCTIONS`, training what is not on the desk's shelf yet.

    Raises:
        UnknownNameError: no reproduction has that name.
    """
    if name not in REPRODUCTIONS:
        raise UnknownNameError("reproduction", name, REPRODUCTIONS)
    module = f"pynode_jl.paper._{name.replace('-', '_')}"
    plate: Plate = importlib.import_module(module).make(desk)
    return plate
