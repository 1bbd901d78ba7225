"""Phase portraits: a vector field's streamlines over what becomes of each point of the plane."""

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

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

_PANELS_IN_A_ROW = 3


@dataclass(frozen=True, eq=False)
class PhasePanel:
    """A field over a rectangle of the plane.

    Attributes:
        title: over the panel.
        x: (nx,), the grid's first coordinate, evenly spaced and ascending.
        y: (ny,), its second coordinate.
        slope: (ny, nx, 2), the field at each grid point.
        classes: (ny, nx), the class of each grid point; -1 where there is none.
        rest: (k, 2), points of rest to mark; None for none.
        paths: each (times, 2), trajectories to draw, a dot at each end.

    Example:
        >>> from pynode_jl.reporting.figures import PhasePanel, phase_portrait
        >>> x = np.linspace(-1.0, 1.0, 5)
        >>> at = np.stack(np.meshgrid(x, x), axis=-1)
        >>> panel = PhasePanel("a sink", x, x, -at, np.zeros((5, 5), int), rest=[[0.0, 0.0]])
        >>> len(phase_portrait([panel]).axes)
        1
    """

    title: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    slope: npt.ArrayLike
    classes: npt.ArrayLike
    rest: npt.ArrayLike | None = None
    paths: Sequence[npt.ArrayLike] = ()


@_style.styled
def phase_portrait(
    panels: Sequence[PhasePanel], *, names: tuple[str, str] = ("$y_1$", "$y_2$")
) -> Figure:
    """Draw streamlines in grey over tinted classes, trajectories over them, side by side.

    Args:
        panels: what to draw.
        names: of the two coordinates.

    Raises:
        InvalidValueError: no panel, or an array of another shape.

    Example:
        >>> from pynode_jl.reporting.figures import PhasePanel, phase_portrait
        >>> x = np.linspace(-1.0, 1.0, 5)
        >>> at = np.stack(np.meshgrid(x, x), axis=-1)
        >>> slope = at[..., ::-1] * [1.0, -1.0]
        >>> len(phase_portrait([PhasePanel("a centre", x, x, slope, np.zeros((5, 5)))]).axes)
        1
    """
    _checks.some("panels", panels)
    down, across = _style.grid_shape(len(panels), _PANELS_IN_A_ROW)
    figure = _style.new_figure(max(0.3 + 3.2 * across, 4.6), 0.6 + 3.3 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    seen: set[int] = set()
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        _style.title(ax, panel.title, 3.0)
        seen |= _draw(ax, panel, f"panels[{i}]")
        ax.set_xlabel(names[0])
        ax.set_ylabel(names[1], rotation=0, labelpad=8)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    handles: list[Line2D | Patch] = [
        Patch(facecolor=_tint(k), label=f"class {k}" if k >= 0 else "no finite answer")
        for k in sorted(seen, key=lambda k: (k < 0, k))
    ]
    if any(panel.rest is not None for panel in panels):
        handles.append(Line2D([], [], ls="", marker="X", color=_style.INK, label="minimum"))
    if any(len(panel.paths) for panel in panels):
        handles.append(
            Line2D([], [], color=_style.INK, linewidth=1.4, marker="o", label="trajectory")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=6)
    _style.say_ranges(figure, axes[: len(panels)])
    said = (f"{panel.title}: {len(panel.paths)} trajectories." for panel in panels)
    figure.description = Description("Slopes over the plane, by class. " + " ".join(said))
    return figure


def _draw(ax: Axes, panel: PhasePanel, where: str) -> set[int]:
    x = _checks.array(f"{where}.x", panel.x, (None,))
    y = _checks.array(f"{where}.y", panel.y, (None,))
    classes = _checks.array(f"{where}.classes", panel.classes, (len(y), len(x))).astype(int)
    slope = _checks.array(f"{where}.slope", panel.slope, (len(y), len(x), 2)).astype(float)
    present = np.unique(classes)
    ax.pcolormesh(
        x,
        y,
        np.searchsorted(present, classes),
        cmap=ListedColormap([_tint(int(k)) for k in present]),
        vmin=-0.5,
        vmax=len(present) - 0.5,
        shading="nearest",
        rasterized=True,
    )
    for k in present[1:]:  # in grey the tints alone do not tell classes apart
        ax.contour(x, y, (classes == k).astype(float), [0.5], colors=[_style.INK], linewidths=0.5)
    ax.streamplot(
        x, y, slope[..., 0], slope[..., 1], color=_style.FAINT, density=1.1, linewidth=0.6,
        arrowsize=0.7,
    )  # fmt: skip
    for i, each in enumerate(panel.paths):
        path = _checks.array(f"{where}.paths[{i}]", each, (None, 2))
        ax.plot(*path.T, color=_style.INK, linewidth=1.3)
        ax.plot(*path[0], "o", markerfacecolor="white", markeredgecolor=_style.INK, markersize=4)
        ax.plot(*path[-1], "o", color=_style.INK, markersize=4.5)
    if panel.rest is not None:
        rest = _checks.array(f"{where}.rest", panel.rest, (None, 2))
        ax.plot(*rest.T, ls="", marker="X", ms=8, color=_style.INK, mec="white", zorder=5)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.set_box_aspect(1)
    ax.grid(False)
    ax.spines[:].set_visible(True)
    return {int(k) for k in present}


def _tint(k: int) -> tuple[float, float, float]:
    return _style.tint(_style.class_colour(k), 0.32)
