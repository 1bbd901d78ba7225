"""The figures and tables of Ott et al. (2021), made from runs of our own.

A row of `REPRODUCTIONS` names a module and its function ``make(context) -> FigureResult``. The runs
that it needs are trained, or taken from the context's run cache: what one figure has trained the
next one finds, and an interrupted run goes on from its checkpoint.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pynode_jl.errors import UnknownNameError

if TYPE_CHECKING:
    from pynode_jl.paper._context import FigureResult as FigureResult
    from pynode_jl.paper._context import ReproductionContext as ReproductionContext

__all__ = ["REPRODUCTIONS", "FigureResult", "Reproduction", "ReproductionContext", "make"]


class Reproduction(NamedTuple):
    """A figure or table of the paper.

    Attributes:
        summary: what it shows.
        module: where its function is; imported when it is made.
        function: takes a `ReproductionContext` and returns a `FigureResult`.

    Example:
        >>> from pynode_jl.paper import REPRODUCTIONS
        >>> REPRODUCTIONS["blindspot"].summary
        'No folds at one step do not exclude them at a smaller one.'
    """

    summary: str
    module: str
    function: str = "make"


#: Every figure and table, by name.
REPRODUCTIONS: Mapping[str, Reproduction] = MappingProxyType(
    {
        "fig1": Reproduction(
            "Trajectories of a coarse and a fine model, and accuracy by number of steps.",
            "pynode_jl.paper._figure1",
        ),
        "fig2": Reproduction(
            "Block outputs and decision regions of a coarse model at two steps.",
            "pynode_jl.paper._figure2",
        ),
        "fig3": Reproduction(
            "Lady Windermere's fan makes XOR linearly separable, by the solver's error alone.",
            "pynode_jl.paper._figure3",
        ),
        "fig4": Reproduction(
            "Accuracy by training step or tolerance, test solver and factor.",
            "pynode_jl.paper._figure4",
        ),
        "fig4-images": Reproduction(
            "Figure 4 for images: digits, or CIFAR-10 with --full, which needs a GPU.",
            "pynode_jl.paper._figure4",
            "make_for_images",
        ),
        "fig5": Reproduction(
            "The step while the paper's controller and ours adapt it.",
            "pynode_jl.paper._figure5",
        ),
        "fig5-images": Reproduction(
            "Figure 5 for images: digits, or CIFAR-10 with --full, which needs a GPU.",
            "pynode_jl.paper._figure5",
            "make_for_images",
        ),
        "minima": Reproduction(
            "Phase portraits of the three minima: the particle's field and two learned ones.",
            "pynode_jl.paper._minima",
        ),
        "blindspot": Reproduction(
            "No folds at one step do not exclude them at a smaller one.",
            "pynode_jl.paper._blindspot",
        ),
        "table1": Reproduction(
            "Critical step and adaptation: evaluations and accuracy beside the paper's.",
            "pynode_jl.paper._table1",
        ),
        "table1-cifar10": Reproduction(
            "The same for CIFAR-10. --full needs a GPU; run again, it resumes.",
            "pynode_jl.paper._table1",
            "make_for_cifar10",
        ),
    }
)


def make(name: str, context: ReproductionContext) -> FigureResult:
    """Make a figure or table of `REPRODUCTIONS`; train the runs that its cache does not have.

    `context` has the folder, the protocol and the seeds.

    Raises:
        UnknownNameError: no reproduction has that name.

    Example:
        >>> from pathlib import Path
        >>> from pynode_jl.paper import ReproductionContext, make
        >>> result = make("blindspot", ReproductionContext(Path("runs/reproduce")))
        >>> result.numbers["folded"].tolist()
        [False, True, False]
    """
    if name not in REPRODUCTIONS:
        raise UnknownNameError("reproduction", name, REPRODUCTIONS)
    row = REPRODUCTIONS[name]
    result: FigureResult = getattr(importlib.import_module(row.module), row.function)(context)
    return result


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line lists the reproductions without loading matplotlib.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("pynode_jl.paper._context"), name)
