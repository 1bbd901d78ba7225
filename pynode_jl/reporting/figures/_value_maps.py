"""A number that a model answers, over the plane of its inputs: a log-density, or a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

_PANELS_IN_A_ROW = 3
_COLOURS = matplotlib.colormaps["viridis"]


@dataclass(frozen=True, eq=False)
class MapPanel:
    """One model under one solver.

    Attributes:
        title: over the panel.
        x: (nx,), the grid's first coordinate, ascending.
        y: (ny,), its second coordinate, ascending.
        values: (ny, nx), what the model answers at each grid point; NaN where it has no answer.
        points: (n, 2), test inputs to draw over it; None for none.
        targets: (n,), what the data say there, in the colours of the map; None for points alone.

    Example:
        >>> from pynode_jl.reporting.figures import MapPanel
        >>> MapPanel("RK4", [0.0, 1.0], [0.0, 1.0], np.zeros((2, 2))).title
        'RK4'
    """

    title: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    values: npt.ArrayLike
    points: npt.ArrayLike | None = None
    targets: npt.ArrayLike | None = None


@_style.styled
def value_maps(
    panels: Sequence[MapPanel], *, name: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Draw answers over a grid of inputs, side by side, in the same colours.

    Args:
        panels: what to draw.
        name: what the colours are.
        limits: of the colours; default from the least to the largest answer.

    Raises:
        InvalidValueError: no panel, or an array of another shape.

    Example:
        >>> from pynode_jl.reporting.figures import MapPanel, value_maps
        >>> panel = MapPanel("RK4", [0.0, 1.0], [0.0, 1.0], np.eye(2))
        >>> len(value_maps([panel], name="log-density, nats").axes)
        2
    """
    _checks.some("panels", panels)
    down, across = _style.grid_shape(len(panels), _PANELS_IN_A_ROW)
    figure = _style.new_figure(1.3 + 3.1 * across, 0.2 + 3.5 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    values = np.concatenate([np.asarray(each.values, float).ravel() for each in panels])
    values = values[np.isfinite(values)]
    if limits is None:
        limits = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    low, high = limits
    norm = Normalize(low, high)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        _style.title(ax, panel.title, 2.9)
        _draw(ax, panel, norm, f"panels[{i}]")
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    below, above = bool((values < low).any()), bool((values > high).any())
    extend = {(True, False): "min", (False, True): "max", (True, True): "both"}
    bar = figure.colorbar(
        ScalarMappable(norm, _COLOURS),
        ax=list(axes),
        extend=extend.get((below, above), "neither"),
        shrink=0.85,
        pad=0.02,
    )
    bar.set_label(name)
    bar.outline.set_visible(False)
    figure.description = Description(f"Maps of {name}. " + " ".join(map(_seen, panels)))
    return figure


def _seen(panel: MapPanel) -> str:
    """Return what is seen in a panel: between which values its answers lie."""
    values = np.asarray(panel.values, float)
    known = values[np.isfinite(values)]
    title = panel.title.replace("\n", ", ")
    if not known.size:
        return f"{title}: no finite answer."
    return f"{title}: from {known.min():.3g} to {known.max():.3g}, median {np.median(known):.3g}."


def _draw(ax: Axes, panel: MapPanel, norm: Normalize, where: str) -> None:
    x = _checks.array(f"{where}.x", panel.x, (None,))
    y = _checks.array(f"{where}.y", panel.y, (None,))
    values = _checks.array(f"{where}.values", panel.values, (len(y), len(x)))
    ax.set_facecolor("#EEEEEE")  # where there is no finite answer
    shown = np.ma.masked_invalid(values)
    # A grid of 160 by 160 is no vector graphic.
    ax.pcolormesh(x, y, shown, cmap=_COLOURS, norm=norm, shading="nearest", rasterized=True)
    if panel.points is not None:
        points = _checks.array(f"{where}.points", panel.points, (None, 2))
        many = len(points) > 300
        if panel.targets is None:
            ax.plot(
                *points.T, ls="", marker="o", ms=1.3 if many else 2.2, mfc="white",
                mec=_style.INK, mew=0.25,
            )  # fmt: skip
        else:
            targets = _checks.array(f"{where}.targets", panel.targets, (len(points),))
            ax.scatter(
                points[:, 0], points[:, 1], c=targets, cmap=_COLOURS, norm=norm,
                s=7 if many else 14, edgecolors="white", linewidths=0.4, zorder=3,
            )  # fmt: skip
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), xlabel="$x_1$")
    ax.set_ylabel("$x_2$", rotation=0, labelpad=8)
    ax.set_aspect("equal")
    ax.grid(False)
    ax.spines[:].set_visible(True)
