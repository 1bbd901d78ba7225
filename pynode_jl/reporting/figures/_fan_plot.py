"""Lady Windermere's fan in the plane (the paper's Figure 3), and who can be told apart after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.formats import counted


@dataclass(frozen=True, eq=False)
class FanPanel:
    """One sample's numerical path, and the exact flow from points on it.

    Attributes:
        title: over the panel.
        path: (steps + 1, 2), the states at the solver's steps.
        flows: each (times, 2), the exact flow from a point of the path on to t1; the first one
            from the start, which is the exact solution.

    Example:
        >>> from pynode_jl.reporting.figures import FanPanel
        >>> FanPanel("Euler", path=np.zeros((3, 2)), flows=[np.zeros((9, 2))]).title
        'Euler'
    """

    title: str
    path: npt.ArrayLike
    flows: Sequence[npt.ArrayLike]


@dataclass(frozen=True, eq=False)
class EndsPanel:
    """Final states of two classes, and the line between them where there is one.

    Attributes:
        title: over the panel.
        points: (n, 2), the final states.
        labels: (n,), their classes.
        line: ``(a, b, c)`` of the line a x + b y = c that separates the classes; None where none
            does: then the points of each class are joined, and the joins cross.

    Example:
        >>> from pynode_jl.reporting.figures import EndsPanel
        >>> EndsPanel("separable", [[0.0, 0.0], [1.0, 0.0]], [0, 1], line=(1.0, 0.0, 0.5)).line
        (1.0, 0.0, 0.5)
    """

    title: str
    points: npt.ArrayLike
    labels: npt.ArrayLike
    line: tuple[float, float, float] | None


@dataclass(frozen=True)
class _Frame:
    """The part of the plane that a panel shows."""

    left: float
    right: float
    bottom: float
    top: float


@_style.styled
def windermere_fan(fans: Sequence[FanPanel], ends: Sequence[EndsPanel]) -> Figure:
    """Draw a row of panels: fans, then final states with the line that separates the classes.

    Args:
        fans: numerical paths with exact flows leaving them.
        ends: final states.

    Raises:
        InvalidValueError: no panel, an array of another shape.

    Example:
        >>> from pynode_jl.reporting.figures import FanPanel, windermere_fan
        >>> path = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, 2.0]])
        >>> len(windermere_fan([FanPanel("Euler", path, [path[1:]])], []).axes)
        1
    """
    _checks.some("fans and ends", [*fans, *ends])
    across = len(fans) + len(ends)
    figure = _style.new_figure(max(0.3 + 2.75 * across, 4.6), 3.5)
    axes = list(figure.subplots(1, across, squeeze=False).ravel())
    for i, (ax, panel) in enumerate(zip(axes, fans, strict=False)):
        _style.title(ax, panel.title, 2.6)
        _draw_fan(ax, panel, f"fans[{i}]")
    classes: set[int] = set()
    for i, (ax, each) in enumerate(zip(axes[len(fans) :], ends, strict=True)):
        _style.title(ax, each.title, 2.6)
        classes |= _draw_ends(ax, each, f"ends[{i}]")
    for ax in axes:
        ax.grid(False)
        ax.spines[:].set_visible(True)
        ax.set_box_aspect(1)
        ax.set_xlabel("$z_1$")
        ax.set_ylabel("$z_2$", rotation=0, labelpad=6)
    figure.legend(
        handles=_legend(bool(fans), sorted(classes), any(e.line is not None for e in ends)),
        loc="outside lower center",
        ncols=4,
    )
    _style.say_ranges(figure, axes)
    said = [
        f"{panel.title}: a path of {counted(len(np.asarray(panel.path)) - 1, 'step')}."
        for panel in fans
    ]
    said += [f"{panel.title}: where samples end." for panel in ends]
    figure.description = Description(
        "The exact flow from each step of a numerical path. " + " ".join(said)
    )
    return figure


_PATH, _EXACT = _style.COLOURS[0], _style.COLOURS[6]


def _draw_fan(ax: Axes, panel: FanPanel, where: str) -> None:
    path = _checks.array(f"{where}.path", panel.path, (None, 2))
    flows = [
        _checks.array(f"{where}.flows[{i}]", flow, (None, 2)) for i, flow in enumerate(panel.flows)
    ]
    pale = _style.tint(_style.INK, 0.35)
    ax.add_collection(LineCollection(flows[1:], colors=[pale], linewidths=0.8, zorder=2))
    ax.plot(*flows[0].T, color=_EXACT, linewidth=1.8, linestyle=_style.DASHES[1], zorder=2.2)
    ax.plot(*path.T, color=_PATH, linewidth=1.8, zorder=2.3)
    far = np.array([flow[-1] for flow in flows])
    ax.plot(*far[1:].T, ".", color=_style.INK, markersize=3.5, zorder=2.4)
    ax.plot(*flows[0][-1], "s", color=_EXACT, markersize=6, zorder=2.5)
    ax.plot(*path[-1], "o", color=_PATH, markersize=6, zorder=2.5)
    ax.plot(*path[0], "o", markerfacecolor="white", markeredgecolor=_style.INK, zorder=2.6)
    _frame(ax, np.concatenate([path, *flows]))


def _draw_ends(ax: Axes, panel: EndsPanel, where: str) -> set[int]:
    points = _checks.array(f"{where}.points", panel.points, (None, 2)).astype(float)
    labels = _checks.array(f"{where}.labels", panel.labels, (len(points),)).astype(int)
    frame = _frame(ax, points, 0.3)
    if panel.line is not None:
        ax.plot(*_across(panel.line, frame).T, color=_style.INK, linewidth=1.2, linestyle="--")
    for k in np.unique(labels):
        mine = points[labels == k]
        colour = _style.class_colour(int(k))
        if panel.line is None:
            ax.plot(*mine.T, color=colour, linewidth=1.0, linestyle=_style.DASHES[2])
        ax.plot(
            *mine.T,
            linestyle="",
            marker=_style.MARKERS[int(k) % len(_style.MARKERS)],
            markersize=8,
            markerfacecolor=colour,
            markeredgecolor="white",
        )
    return {int(k) for k in labels}


def _frame(ax: Axes, points: npt.NDArray[np.float64], room: float = 0.08) -> _Frame:
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + room) * np.maximum(high - low, 1e-9)
    (left, bottom), (right, top) = (low + high) / 2 - half, (low + high) / 2 + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    return _Frame(left, right, bottom, top)


def _across(line: tuple[float, float, float], frame: _Frame) -> npt.NDArray[np.float64]:
    """Two points of the line, on the edges of the frame or beyond them."""
    a, b, c = line
    if abs(b) * (frame.right - frame.left) > abs(a) * (frame.top - frame.bottom):
        x = np.array([frame.left, frame.right])
        return np.stack([x, (c - a * x) / b], axis=1)
    y = np.array([frame.bottom, frame.top])
    return np.stack([(c - b * y) / a, y], axis=1)


def _legend(fans: bool, classes: list[int], line: bool) -> list[Line2D]:
    handles = []
    if fans:
        ink = _style.INK
        handles += [
            Line2D([], [], color=_PATH, marker="o", label="solver"),
            Line2D([], [], color=_EXACT, linestyle="--", marker="s", label="exact solution"),
            Line2D(
                [],
                [],
                color=_style.tint(ink, 0.35),
                marker=".",
                markeredgecolor=ink,
                markerfacecolor=ink,
                label="exact flow from the solver's steps",
            ),
        ]
    handles += [
        Line2D(
            [],
            [],
            linestyle="",
            marker=_style.MARKERS[k % len(_style.MARKERS)],
            color=_style.class_colour(k),
            label=f"class {k}",
        )
        for k in classes
    ]
    if line:
        handles.append(Line2D([], [], color=_style.INK, linestyle="--", label="separating line"))
    return handles
