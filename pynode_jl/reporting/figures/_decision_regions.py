"""What a model answers over the plane of its inputs (the paper's Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

_PANELS_IN_A_ROW = 3


@dataclass(frozen=True, eq=False)
class DecisionPanel:
    """One model under one solver.

    Attributes:
        title: over the panel; the place for the solver and its accuracy.
        x: (nx,), the grid's first coordinate, ascending.
        y: (ny,), its second coordinate, ascending.
        classes: (ny, nx), the predicted class at each grid point; -1 where there is none.
        points: (n, 2), test inputs to draw over it; None for none.
        labels: (n,), their true classes.
        predictions: (n,), their predicted classes: those that are wrong get a rim. None leaves
            all of them plain.
        names: of the two coordinates.

    Example:
        >>> from pynode_jl.reporting.figures import DecisionPanel, decision_regions
        >>> panel = DecisionPanel("Euler", [0.0, 1.0], [0.0, 1.0], np.array([[0, 1], [0, 1]]))
        >>> len(decision_regions([panel]).axes)
        1
    """

    title: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    classes: npt.ArrayLike
    points: npt.ArrayLike | None = None
    labels: npt.ArrayLike | None = None
    predictions: npt.ArrayLike | None = None
    names: tuple[str, str] = ("$x_1$", "$x_2$")


@_style.styled
def decision_regions(panels: Sequence[DecisionPanel]) -> Figure:
    """Draw predicted classes over a grid of inputs, with test points over them, side by side.

    Args:
        panels: what to draw.

    Raises:
        InvalidValueError: no panel, an array of another shape, points without labels.

    Example:
        >>> from pynode_jl.reporting.figures import DecisionPanel, decision_regions
        >>> panel = DecisionPanel("Euler", [0.0, 1.0], [0.0, 1.0], np.array([[0, 1], [0, 1]]))
        >>> len(decision_regions([panel, panel]).axes)
        2
    """
    _checks.some("panels", panels)
    down, across = _style.grid_shape(len(panels), _PANELS_IN_A_ROW)
    figure = _style.new_figure(max(0.3 + 3.1 * across, 4.6), 0.5 + 3.2 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    seen: set[int] = set()
    any_wrong = False
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        _style.title(ax, panel.title, 2.9)
        seen |= _regions(ax, panel, f"panels[{i}]")
        labels, wrong = _points(ax, panel, f"panels[{i}]")
        seen |= labels
        any_wrong |= wrong
        ax.set_xlabel(panel.names[0])
        ax.set_ylabel(panel.names[1], rotation=0, labelpad=8)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    figure.legend(
        handles=_legend(seen, any_wrong, any(panel.points is not None for panel in panels)),
        loc="outside lower center",
        ncols=4,
    )
    figure.description = Description(
        "Regions of the plane by answer. " + " ".join(map(_seen, panels))
    )
    return figure


def _seen(panel: DecisionPanel) -> str:
    """Return what is seen in a panel: how much of the square has which answer, what is wrong."""
    classes = np.asarray(panel.classes)
    shares = ", ".join(
        f"class {k} on {np.mean(classes == k):.0%}" for k in np.unique(classes) if k >= 0
    )
    said = f"{panel.title}: {shares or 'no answer'}"
    if panel.predictions is not None and panel.labels is not None:
        wrong = int(np.sum(np.asarray(panel.predictions) != np.asarray(panel.labels)))
        said += f"; {wrong} of {len(np.asarray(panel.labels))} test points answered wrong"
    return said + "."


def _regions(ax: Axes, panel: DecisionPanel, where: str) -> set[int]:
    x = _checks.array(f"{where}.x", panel.x, (None,))
    y = _checks.array(f"{where}.y", panel.y, (None,))
    classes = _checks.array(f"{where}.classes", panel.classes, (len(y), len(x))).astype(int)
    present = np.unique(classes)
    place = np.searchsorted(present, classes)
    ax.pcolormesh(
        x,
        y,
        place,
        cmap=ListedColormap([_region_colour(int(k)) for k in present]),
        vmin=-0.5,
        vmax=len(present) - 0.5,
        shading="nearest",
        rasterized=True,  # a grid of 300 by 300 is no vector graphic
    )
    if len(present) > 1 and min(len(x), len(y)) > 1:
        for k in present[1:]:
            ax.contour(
                x, y, (classes == k).astype(float), [0.5], colors=[_style.INK], linewidths=0.6
            )
    ax.set_aspect("equal")
    ax.grid(False)
    ax.spines[:].set_visible(True)
    return {int(k) for k in present}


def _points(ax: Axes, panel: DecisionPanel, where: str) -> tuple[set[int], bool]:
    """Draw the points; the classes they have, and whether any of them is wrong."""
    if panel.points is None:
        return set(), False
    points = _checks.array(f"{where}.points", panel.points, (None, 2))
    if panel.labels is None:
        raise InvalidValueError(
            f"{where}.labels", None, "(n,) true classes where points are given", "Pass labels."
        )
    labels = _checks.array(f"{where}.labels", panel.labels, (len(points),))
    wrong = np.zeros(len(points), bool)
    if panel.predictions is not None:
        wrong = labels != _checks.array(f"{where}.predictions", panel.predictions, (len(points),))
    size = 4.5 if len(points) <= 300 else 3.2
    for k in np.unique(labels):
        for those, rim, width, over in (
            ((labels == k) & ~wrong, "white", 0.4, 3.0),
            ((labels == k) & wrong, "black", 1.1, 3.1),
        ):
            ax.plot(
                *points[those].T,
                linestyle="",
                marker=_style.MARKERS[int(k) % len(_style.MARKERS)],
                markersize=size,
                markerfacecolor=_style.class_colour(int(k)),
                markeredgecolor=rim,
                markeredgewidth=width,
                zorder=over,
            )
    return {int(k) for k in labels}, bool(wrong.any())


def _legend(seen: set[int], wrong: bool, points: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    for k in sorted(seen, key=lambda k: (k < 0, k)):
        if k < 0:
            handles.append(Patch(facecolor=_region_colour(k), label="no finite answer"))
        elif points:
            handles.append(
                Line2D(
                    [],
                    [],
                    linestyle="",
                    marker=_style.MARKERS[k % len(_style.MARKERS)],
                    color=_style.class_colour(k),
                    label=f"class {k}",
                )
            )
        else:
            handles.append(Patch(facecolor=_region_colour(k), label=f"class {k}"))
    if wrong:
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                markerfacecolor="#DDDDDD",
                markeredgecolor="black",
                markeredgewidth=1.1,
                label="wrongly classified",
            )
        )
    return handles


def _region_colour(k: int) -> tuple[float, float, float]:
    return _style.tint(_style.class_colour(k), 0.32)
