"""What a model of one input answers: a curve, beside the data and its ODE's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from pynode_jl.reporting.charts import Chart, Field, Panels
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

_PANELS_IN_A_ROW = 2
_DATA, _TRAINED, _ODE = "test data", "as trained", "as an ODE"


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """A model of one input.

    Attributes:
        title: over the panel.
        x: (g,), inputs, ascending.
        answers: (g,), what the model answers there under its training solver.
        flow: (g,), what it answers as an ODE.
        points: (n,), test inputs.
        targets: (n,), what the data say there.

    Example:
        >>> from pynode_jl.reporting.figures import CurvePanel
        >>> CurvePanel("RK4", [0.0, 1.0], [0.0, 1.0], [0.1, 1.1], [0.5], [0.4]).title
        'RK4'
    """

    title: str
    x: npt.ArrayLike
    answers: npt.ArrayLike
    flow: npt.ArrayLike
    points: npt.ArrayLike
    targets: npt.ArrayLike


@_style.styled
def curve_fit(panels: Sequence[CurvePanel], *, name: str = "answer") -> Figure:
    """Draw data as dots, answers under the training solver as a line, the ODE's as a pale one.

    The axis reaches around data and answers, whatever the ODE's curve does.

    Args:
        panels: what to draw.
        name: of the answers.

    Raises:
        InvalidValueError: no panel, or an array of another shape.

    Example:
        >>> from pynode_jl.reporting.figures import CurvePanel, curve_fit
        >>> panel = CurvePanel("RK4", [0.0, 1.0], [0.0, 1.0], [0.1, 1.1], [0.5], [0.4])
        >>> len(curve_fit([panel]).axes)
        1
    """
    _checks.some("panels", panels)
    down, across = _style.grid_shape(len(panels), _PANELS_IN_A_ROW)
    figure = _style.new_figure(0.4 + 3.8 * across, 0.6 + 2.8 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        x = _checks.array(f"panels[{i}].x", panel.x, (None,))
        answers = _checks.array(f"panels[{i}].answers", panel.answers, x.shape)
        flow = _checks.array(f"panels[{i}].flow", panel.flow, x.shape)
        points = _checks.array(f"panels[{i}].points", panel.points, (None,))
        targets = _checks.array(f"panels[{i}].targets", panel.targets, points.shape)
        _style.title(ax, panel.title, 3.4)
        pale = _style.tint(_style.COLOURS[6], 0.55)
        ax.plot(points, targets, ls="", marker=".", ms=3.5, color=_style.FAINT, label=_DATA)
        ax.plot(x, flow, color=pale, linewidth=3.0, label=_ODE)
        ax.plot(x, answers, color=_style.COLOURS[0], linewidth=1.3, label=_TRAINED)
        seen = np.concatenate([answers, targets]).astype(float)
        seen = seen[np.isfinite(seen)]
        if seen.size:
            room = 0.15 * float(np.ptp(seen)) or 1.0
            ax.set_ylim(seen.min() - room, seen.max() + room)
        ax.set_xlabel("input x")
        ax.set_ylabel(name)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    charts = [(panel.title, _chart(panel, name)) for panel in panels]
    said = "Data as dots, and curves of answers by input. " + " ".join(map(_seen, panels))
    figure.description = Description(said, Panels(charts))
    return figure


def _chart(panel: CurvePanel, name: str) -> Chart:
    curves = [
        pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float), "kind": kind})
        for x, y, kind in (
            (panel.points, panel.targets, _DATA),
            (panel.x, panel.answers, _TRAINED),
            (panel.x, panel.flow, _ODE),
        )
    ]
    data = pd.concat(curves, ignore_index=True)
    seen = data.loc[data["kind"] != _ODE, "y"]
    seen = seen[np.isfinite(seen)]
    room = 0.15 * float(np.ptp(seen)) if len(seen) else 1.0
    ends = (float(seen.min()) - room, float(seen.max()) + room) if len(seen) else None
    kinds = Field("kind", kind="nominal")
    shared: dict[str, Any] = {
        "x": Field("x", "input x").axis(),
        "y": Field("y", name, domain=ends).axis(),
        "color": kinds.encoded() | {"legend": {"title": None}, "sort": [_TRAINED, _DATA, _ODE]},
        "tooltip": [kinds.told(), Field("x", form=".4g").told(), Field("y", name, ".4g").told()],
    }
    layer = [
        {
            "transform": [{"filter": f'datum["kind"] {sign} "{_DATA}"'}],
            "mark": mark | {"clip": True},
            "encoding": shared,
        }
        for sign, mark in (
            ("==", {"type": "point", "filled": True, "size": 18, "opacity": 0.6}),
            ("!=", {"type": "line", "strokeWidth": 2}),
        )
    ]
    return Chart({"layer": layer}, data)


def _seen(panel: CurvePanel) -> str:
    """Return how far apart the two curves are."""
    apart = np.abs(np.asarray(panel.answers, float) - np.asarray(panel.flow, float))
    known = apart[np.isfinite(apart)]
    if not known.size:
        return f"{panel.title}: the ODE has no finite answer."
    return (
        f"{panel.title}: answers as trained and as an ODE are {known.mean():.2g} apart in the mean,"
        f" {known.max():.2g} at the most."
    )
