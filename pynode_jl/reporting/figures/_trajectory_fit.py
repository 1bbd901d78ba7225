"""Observed trajectories, and a model's under its training solver and as an ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

_MOST_SAMPLES, _MOST_COMPONENTS = 3, 3


@dataclass(frozen=True, eq=False)
class FitPanel:
    """A few trajectories of a model.

    Attributes:
        title: over the figure.
        times: (k,), of the observations.
        observed: (n, k, d), what was observed; NaN where nothing was.
        answers: (n, k, d), the model's under its training solver.
        flow_times: (m,), of the flow.
        flow: (n, m, d), the model's as an ODE.

    Example:
        >>> from pynode_jl.reporting.figures import FitPanel
        >>> states = np.zeros((1, 2, 3))
        >>> FitPanel("Euler h=1/2", [0.5, 1.0], states, states, [0.5, 1.0], states).title
        'Euler h=1/2'
    """

    title: str
    times: npt.ArrayLike
    observed: npt.ArrayLike
    answers: npt.ArrayLike
    flow_times: npt.ArrayLike
    flow: npt.ArrayLike


@_style.styled
def trajectory_fit(panel: FitPanel) -> Figure:
    """Draw components over time, a column for each sample; of states in the plane their paths too.

    Rings are observations, dots on a line the model's answers under its training solver, the pale
    line its flow as an ODE: one that leaves the others leaves the panel. The first three samples
    and components are drawn.

    Raises:
        InvalidValueError: arrays of other shapes.

    Example:
        >>> from pynode_jl.reporting.figures import FitPanel, trajectory_fit
        >>> states = np.arange(6.0).reshape(1, 2, 3)
        >>> panel = FitPanel("Euler h=1/2", [0.5, 1.0], states, states, [0.5, 1.0], states)
        >>> len(trajectory_fit(panel).axes)
        3
    """
    times = _checks.array("panel.times", panel.times, (None,))
    observed = _checks.array("panel.observed", panel.observed, (None, len(times), None))
    n, _, d = observed.shape
    _checks.some("panel.observed", range(n))
    answers = _checks.array("panel.answers", panel.answers, observed.shape)
    flow_times = _checks.array("panel.flow_times", panel.flow_times, (None,))
    flow = _checks.array("panel.flow", panel.flow, (n, len(flow_times), d))
    samples, parts, plane = min(n, _MOST_SAMPLES), min(d, _MOST_COMPONENTS), d == 2
    rows = parts + plane
    figure = _style.new_figure(0.7 + 2.5 * samples, 0.9 + 1.35 * parts + 2.4 * plane)
    heights = [1.35] * parts + [2.4] * plane
    axes = figure.subplots(
        rows, samples, squeeze=False, gridspec_kw={"height_ratios": heights}, sharey="row"
    )
    for i in range(samples):
        for j in range(parts):
            ax = axes[j, i]
            ax.plot(flow_times, flow[i, :, j], **_FLOW)
            ax.plot(times, answers[i, :, j], **_ANSWERS)
            ax.plot(times, observed[i, :, j], **_OBSERVED)
            _limit(ax, "y", observed[:samples, :, j], answers[:samples, :, j])
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.tick_params(labelbottom=j == parts - 1)
            if i == 0:
                ax.set_ylabel(f"$y_{j + 1}$", rotation=0, labelpad=8)
        axes[parts - 1, i].set_xlabel("t")
        if plane:
            _plane(axes[parts, i], observed, answers, flow, i, samples)
    figure.suptitle(panel.title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.description = Description(
        f"{panel.title}: {samples} test trajectories, {parts} components over time. Answers"
        f" under the training solver are off by {_rms(answers - observed)} (root mean square), the"
        f" flow ends {_rms(flow[:, -1] - answers[:, -1])} from their ends."
    )
    return figure


def _rms(difference: npt.NDArray[np.float64]) -> str:
    known = difference[np.isfinite(difference)]
    return f"{np.sqrt(np.mean(known**2)):.2g}" if known.size else "infinitely much"


_FLOW: dict[str, Any] = {
    "color": _style.tint(_style.COLOURS[6], 0.55),
    "linewidth": 2.6,
    "label": "flow of the ODE",
    "zorder": 2,
}
_ANSWERS: dict[str, Any] = {
    "color": _style.COLOURS[0],
    "linewidth": 1.0,
    "marker": ".",
    "markersize": 4,
    "label": "answers under the training solver",
    "zorder": 3,
}
_OBSERVED: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 4.5,
    "markerfacecolor": "none",
    "markeredgecolor": _style.INK,
    "markeredgewidth": 0.8,
    "label": "observed",
    "zorder": 4,
}


def _plane(ax: Axes, observed: Any, answers: Any, flow: Any, i: int, samples: int) -> None:
    for states, look in ((flow, _FLOW), (answers, _ANSWERS), (observed, _OBSERVED)):
        ax.plot(*states[i].T, **look)
    for axis, j in (("x", 0), ("y", 1)):
        _limit(ax, axis, observed[:samples, :, j], answers[:samples, :, j])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("$y_1$")
    if i == 0:
        ax.set_ylabel("$y_2$", rotation=0, labelpad=8)


def _limit(ax: Axes, axis: str, *shown: npt.NDArray[np.float64]) -> None:
    """Let an axis reach around the observations and answers, whatever the flow does."""
    values = np.concatenate([each.ravel() for each in shown])
    values = values[np.isfinite(values)]
    if values.size:
        room = 0.12 * float(np.ptp(values)) or 1.0
        limits = float(values.min()) - room, float(values.max()) + room
        _ = ax.set_xlim(limits) if axis == "x" else ax.set_ylim(limits)
