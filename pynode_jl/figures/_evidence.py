"""What a certificate rests on, in three panels: answers by step, order, and the error's share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from pynode_jl.errors import InvalidValueError
from pynode_jl.figures import _checks, _style

COLUMNS = ("setting", "own", "accuracy", "agreement")


@dataclass(frozen=True, eq=False)
class OrderPanel:
    """`steps` (k,), the distances (k,) of final states from the extrapolated ODE, and the order."""

    steps: npt.ArrayLike
    errors: npt.ArrayLike
    order: int


@dataclass(frozen=True, eq=False)
class MarginPanel:
    """By sample: the `margin` (n,) of the leading class and the numerical `error` (n,) in it."""

    margin: npt.ArrayLike
    error: npt.ArrayLike


@_style.styled
def evidence(
    by_step: pd.DataFrame,
    *,
    fixed: bool,
    ode: float,
    critical: float | None = None,
    folds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    order: OrderPanel | None = None,
    margins: MarginPanel | None = None,
) -> Figure:
    """Why a model is an ODE or is none.

    Args:
        by_step: rows of setting (step or tolerance), own (the training solver's), accuracy,
            agreement with the ODE's answers.
        fixed: whether settings are steps; tolerances otherwise.
        ode: the ODE's accuracy, drawn as a line (nan for none).
        critical: the setting from which on the accuracy is the ODE's, drawn as a line.
        folds: steps and the share of samples that fold at each.
        order: the order test; None leaves its panel out.
        margins: margins and errors; None leaves their panel out.

    Raises:
        InvalidValueError: no rows, or a column that lacks.
    """
    table = _checks.named_tables("by_step", {"by_step": by_step}, COLUMNS)["by_step"]
    if table.empty:
        raise InvalidValueError("by_step", "no rows", "at least one row", "Evaluate a step.")
    panels = 1 + (order is not None) + (margins is not None)
    figure = _style.new_figure(0.6 + 3.3 * panels, 3.5)
    axes = iter(figure.subplots(1, panels, squeeze=False).ravel())
    _answers(next(axes), table, fixed, ode, critical, folds)
    if order is not None:
        _order(next(axes), order)
    if margins is not None:
        _margins(next(axes), margins)
    return figure


def _answers(
    ax: Axes,
    table: pd.DataFrame,
    fixed: bool,
    ode: float,
    critical: float | None,
    folds: tuple[npt.ArrayLike, npt.ArrayLike] | None,
) -> None:
    _style.title(ax, "answers by " + ("step" if fixed else "tolerance"), 3.0)
    blue, orange, green = _style.COLOURS[:3]
    x = table["setting"].to_numpy(float)
    if np.isfinite(ode):
        ax.axhline(ode, color=_style.FAINT, linewidth=1.0, label="accuracy of the ODE")
    ax.plot(x, table["accuracy"], color=blue, marker="o", label="accuracy")
    agreement = table["agreement"]
    ax.plot(
        x, agreement, color=orange, marker="s", ls=_style.DASHES[1], ms=4, label="agrees with ODE"
    )
    if folds is not None:
        steps, share = (np.asarray(each, float) for each in folds)
        ax.plot(
            steps, share, color=green, marker="^", ls=_style.DASHES[2], ms=4, label="samples folded"
        )
    own = table[table["own"].astype(bool)]
    ax.plot(
        own["setting"],
        own["accuracy"],
        linestyle="",
        marker="*",
        markersize=14,
        markerfacecolor="black",
        markeredgecolor="white",
        label="as trained",
        zorder=5,
    )
    if critical is not None:
        ax.axvline(critical, color=_style.INK, linewidth=0.9, linestyle="--", label="critical")
    _steps(ax, fixed, "h" if fixed else "tolerance")
    ax.set_ylim(-0.03, 1.05)
    ax.yaxis.set_major_formatter(_style.percent_axis())
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)


def _order(ax: Axes, panel: OrderPanel) -> None:
    _style.title(ax, "distance from the ODE", 3.0)
    steps, errors = np.asarray(panel.steps, float), np.asarray(panel.errors, float)
    ax.plot(steps, errors, color=_style.COLOURS[0], marker="o", label="final states, rms")
    # A line of the method's order through the finest point.
    slope = errors[-1] * (steps / steps[-1]) ** panel.order
    ax.plot(steps, slope, color=_style.INK, ls="--", lw=0.9, label=f"order {panel.order}")
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    _steps(ax, True, "h")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)


def _steps(ax: Axes, fixed: bool, name: str) -> None:
    ax.set_xscale("log", base=2 if fixed else 10)
    if fixed:
        ax.xaxis.set_major_locator(LogLocator(base=4))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _style.step_text(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(name)


def _margins(ax: Axes, panel: MarginPanel) -> None:
    _style.title(ax, "numerical error in the margin", 3.0)
    margin = np.maximum(np.asarray(panel.margin, float), 1e-12)
    error = np.asarray(panel.error, float)
    size = np.maximum(np.abs(error), 1e-12)
    # Only an error in favour of the leading class can have made it lead.
    for those, marker, colour, label in (
        (error > 0, "o", _style.COLOURS[6], "for the answer"),
        (error <= 0, "s", _style.COLOURS[0], "against it"),
    ):
        ax.plot(
            margin[those], size[those], ls="", marker=marker, ms=4, color=colour, mec="white",
            mew=0.4, label=label,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = margin.min() / 1.5, margin.max() * 1.5
    for share, style in ((1.0, "-"), (0.1, "--")):
        ax.plot([low, high], [share * low, share * high], color=_style.INK, lw=0.9, ls=style,
                label=f"{share:.0%} of it")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.set_xlim(low, high)
    ax.set_xlabel("margin of the leading class")
    ax.set_ylabel("error in it")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)
