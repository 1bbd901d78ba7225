"""Paths of the same samples in the plane: a solver's steps and the ODE's flow (Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.formats import counted

_PANELS_IN_A_ROW = 3
_FAR = 8.0  # times the size of the starts: from there on a linear axis shows them as one blot


@dataclass(frozen=True, eq=False)
class TrajectoryPanel:
    """One model's trajectories.

    Attributes:
        title: over the panel.
        steps: (times, n, 2), the states at a solver's own steps, start and end included.
        labels: (n,), whole numbers from 0: the classes; None where there are none.
        flow: (more times, n, 2), the same samples under a tight solver; None to leave it out.

    Example:
        >>> from pynode_jl.reporting.figures import TrajectoryPanel, trajectories
        >>> states = np.zeros((3, 1, 2))
        >>> panel = TrajectoryPanel("Euler h=1/2", states, [0], states)
        >>> len(trajectories([panel]).axes)
        1
    """

    title: str
    steps: npt.ArrayLike
    labels: npt.ArrayLike | None
    flow: npt.ArrayLike | None = None


@_style.styled
def trajectories(
    panels: Sequence[TrajectoryPanel],
    *,
    steps_name: str = "steps of the training solver",
    flow_name: str = "flow of the ODE",
    scale: Literal["auto", "linear", "asinh"] = "auto",
) -> Figure:
    """Trajectories in the plane, coloured by class, a panel for each model.

    A ring is a start, a small dot a step, a large one the end; a smooth pale line is the flow, and
    a square its end. What is seen is where the steps go: a flow that leaves them leaves the panel,
    as that of a model trained with coarse steps often does, by orders of magnitude.

    Args:
        panels: what to draw, side by side.
        steps_name: the legend's name for the polylines.
        flow_name: the legend's name for the smooth lines.
        scale: of both axes. "asinh" is linear over the starts and logarithmic beyond; "auto" takes
            it for a panel whose steps go more than 8 times as far as its starts.

    Raises:
        InvalidValueError: no panel, an array of another shape, or another `scale`.

    Example:
        >>> from pynode_jl.reporting.figures import TrajectoryPanel, trajectories
        >>> states = np.arange(6.0).reshape(3, 1, 2)
        >>> len(trajectories([TrajectoryPanel("Euler", states, [0], states)] * 2).axes)
        2
    """
    if scale not in ("auto", "linear", "asinh"):
        raise InvalidValueError("scale", scale, '"auto", "linear" or "asinh"', "Use one of them.")
    _checks.some("panels", panels)
    down, across = _style.grid_shape(len(panels), _PANELS_IN_A_ROW)
    figure = _style.new_figure(max(0.4 + 3.4 * across, 5.4), 0.7 + 3.3 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    classes: set[int] = set()
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        where = f"panels[{i}]"
        steps = _checks.array(f"{where}.steps", panel.steps, (None, None, 2))
        n = steps.shape[1]
        labelled = panel.labels is not None
        given = np.zeros(n, int) if panel.labels is None else panel.labels
        labels = _checks.array(f"{where}.labels", given, (n,))
        flow = None
        if panel.flow is not None:
            flow = _checks.array(f"{where}.flow", panel.flow, (None, n, 2))
        _style.title(ax, panel.title, 3.2)
        for label in np.unique(labels):
            mine = labels == label
            _draw(ax, steps[:, mine], None if flow is None else flow[:, mine], int(label))
        classes |= {int(label) for label in labels if labelled}
        _frame(ax, steps, scale)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)

    handles = [
        Line2D([], [], linestyle="", marker="o", color=_style.class_colour(k), label=f"class {k}")
        for k in sorted(classes)
    ]
    ink = _style.INK
    handles.append(
        Line2D([], [], color=ink, linewidth=0.9, marker="o", markersize=2.6, label=steps_name)
    )
    if any(panel.flow is not None for panel in panels):
        pale = _style.tint(ink, 0.4)
        handles.append(
            Line2D([], [], color=pale, linewidth=2.2, marker="s", markersize=4.5, label=flow_name)
        )
    start: dict[str, Any] = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": ink}
    handles.append(Line2D([], [], linestyle="", label="start", **start))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3 * across))
    _style.say_ranges(figure, axes[: len(panels)])
    figure.description = Description("Paths in the plane. " + " ".join(map(_seen, panels)))
    return figure


def _seen(panel: TrajectoryPanel) -> str:
    """Return what is seen in a panel: how many paths, and how far they end from the flow's ends."""
    steps = np.asarray(panel.steps, float)
    samples, count = counted(steps.shape[1], "sample"), counted(len(steps) - 1, "step")
    said = f"{panel.title}: {samples} in {count} each"
    if panel.flow is not None:
        ends = np.linalg.norm(steps[-1] - np.asarray(panel.flow, float)[-1], axis=1)
        known = ends[np.isfinite(ends)]
        if known.size:
            said += f", which end {np.median(known):.2g} from the flow's ends in the median"
    return said + "."


def _draw(
    ax: Axes, steps: npt.NDArray[np.float64], flow: npt.NDArray[np.float64] | None, label: int
) -> None:
    colour = _style.class_colour(label)
    if flow is not None:
        pale = _style.tint(colour, 0.45)
        ax.add_collection(
            LineCollection(_lines(flow), colors=[pale], linewidths=2.2, capstyle="round", zorder=2)
        )
        ax.plot(*flow[-1].T, linestyle="", marker="s", markersize=4, color=pale, zorder=2.1)
    ax.add_collection(LineCollection(_lines(steps), colors=[colour], linewidths=0.8, zorder=3))
    ax.plot(*steps[1:-1].reshape(-1, 2).T, ".", markersize=3, color=colour, zorder=3.1)
    ax.plot(
        *steps[0].T,
        linestyle="",
        marker="o",
        markersize=4,
        markerfacecolor="white",
        markeredgecolor=colour,
        markeredgewidth=0.9,
        zorder=3.2,
    )
    ax.plot(
        *steps[-1].T,
        linestyle="",
        marker="o",
        markersize=5,
        markerfacecolor=colour,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=3.3,
    )


def _lines(paths: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """One polyline for each sample, up to where its state stops being finite."""
    whole = np.isfinite(paths).all(axis=2)
    ends = np.where(whole.all(axis=0), len(paths), np.argmin(whole, axis=0))
    return [paths[:end, i] for i, end in enumerate(ends)]


def _frame(ax: Axes, steps: npt.NDArray[np.float64], scale: str) -> None:
    seen = steps.reshape(-1, 2).astype(float)
    seen = seen[np.isfinite(seen).all(axis=1)]
    starts = steps[:1][np.isfinite(steps[:1])]
    near = float(np.abs(starts).max(initial=0.0)) or 1.0
    far = float(np.abs(seen).max(initial=near))
    stretched = scale == "asinh" or (scale == "auto" and far > _FAR * near)
    if stretched:
        ax.set_xscale("asinh", linear_width=near)
        ax.set_yscale("asinh", linear_width=near)
    # A square of equal units on paper, around all steps.
    corners = np.array([seen.min(axis=0), seen.max(axis=0)]) if len(seen) else np.zeros((2, 2))
    to_paper = ax.xaxis.get_transform()
    on_paper = to_paper.transform(corners.ravel()).reshape(2, 2)
    half = 0.56 * float(np.ptp(on_paper, axis=0).max()) or near
    edges = on_paper.mean(axis=0) + np.array([[-half], [half]])
    (left, bottom), (right, top) = to_paper.inverted().transform(edges.ravel()).reshape(2, 2)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_locator(FixedLocator(_decades(near, far)) if stretched else MaxNLocator(5))
        axis.set_major_formatter("{x:g}" if stretched else ScalarFormatter())
    ax.set_box_aspect(1)
    unit = ", asinh scale" if stretched else ""
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.set_xlabel("$y_1$" + unit)
    ax.set_ylabel("$y_2$", rotation=0, labelpad=8)


def _decades(near: float, far: float) -> list[float]:
    """Ticks for an asinh axis: 0 and at most four powers of ten on each side."""
    first, last = floor(log10(near)) + 1, max(ceil(log10(far)), floor(log10(near)) + 1)
    powers = [10.0**k for k in range(first, last + 1, ceil((last - first + 1) / 4))]
    return [*(-power for power in reversed(powers)), 0.0, *powers]
