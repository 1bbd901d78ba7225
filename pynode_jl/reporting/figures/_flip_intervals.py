"""The answers that change under the ODE and the solves nearer to it, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._measure import ACCURACY, Measure
from pynode_jl.reporting.figures._solve_descriptions import describe_flips

COLUMNS = ("label", "share", "low", "high")

_MOST_ROWS = 16
_PANELS_IN_A_ROW = 2
_TICKS = (0.0, 0.01, 0.1, 0.3, 0.6, 1.0)
# Sides of the margin: surely within, surely above, neither.
_TONES = _VALID, _TIED, _OPEN = _style.COLOURS[2], _style.COLOURS[6], _style.COLOURS[7]


@_style.styled
def flip_intervals(
    tables: Mapping[str, pd.DataFrame], *, margin: float, measure: Measure = ACCURACY
) -> Figure:
    """Draw one panel for each model: the share of answers that each solve changes.

    The first row of a table, the ODE's, stands at the top; of the others up to 15 with the largest
    shares follow. The axis is that of square roots: shares near zero and near one can both be read.
    Shifts of answers that are numbers have a logarithmic one.

    Args:
        tables: by title, rows of label, share, low, high (shares of answers, or shifts, with their
            interval).
        margin: drawn as a line; of shares in (0, 1).
        measure: what changes.

    Raises:
        InvalidValueError: no table, or a missing column.

    Example:
        >>> from pynode_jl.reporting.figures import flip_intervals
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> figure = flip_intervals({"one weight": report.comparisons}, margin=0.03)
    """
    allowed = margin if measure.shifts else _checks.share("margin", margin)
    checked = _checks.named_tables("tables", tables, COLUMNS)
    shown = {key: _largest(table) for key, table in checked.items()}
    down, across = _style.grid_shape(len(shown), _PANELS_IN_A_ROW)
    rows = max(max(len(table) for table in shown.values()), 3)
    figure = _style.new_figure(max(0.6 + 4.3 * across, 5.8), 0.95 + down * (0.22 * rows + 0.7))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    for ax, (key, table) in zip(axes, shown.items(), strict=False):
        _style.title(ax, key, 3.2)
        _draw(ax, table, allowed, rows, measure)
        ax.set_xlabel(measure.changes_name)
    columns = 2 if measure.shifts and across == 1 else 4
    handles = [
        Line2D([], [], color=_VALID, marker="o", label="surely within the margin"),
        Line2D([], [], color=_TIED, marker="s", label="surely above it"),
        Line2D([], [], color=_OPEN, marker="D", label="neither"),
        Line2D(
            [],
            [],
            color=_style.INK,
            ls="--",
            lw=1.0,
            label=f"margin, {measure.change_text(allowed)}",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    tones = dict(
        zip(("surely within the margin", "surely above it", "neither"), _TONES, strict=True)
    )
    figure.description = describe_flips(shown, allowed, measure, tones)
    return figure


def _largest(table: pd.DataFrame) -> pd.DataFrame:
    first, others = table.iloc[:1], table.iloc[1:]
    others = others.sort_values(["share", "high"], ascending=False, kind="stable")
    return pd.concat([first, others.head(_MOST_ROWS - 1)], ignore_index=True)


def _draw(ax: Axes, table: pd.DataFrame, margin: float, rows: int, measure: Measure) -> None:
    left, right = _scale(ax, table, margin, measure)
    ax.set_ylim(rows - 0.4, -0.6)
    ax.set_yticks(range(len(table)), [_style.drawable(str(label)) for label in table["label"]])
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x")
    ax.axvline(margin, color=_style.INK, linewidth=1.0, linestyle="--", zorder=1.5)
    if table.empty:
        ax.text(0.5, 0.5, "no comparisons", transform=ax.transAxes, ha="center", va="center")
    for y, row in enumerate(table.to_dict("records")):
        low, high = float(row["low"]), float(row["high"])
        colour, marker = (
            (_TIED, "s") if low > margin else (_VALID, "o") if high <= margin else (_OPEN, "D")
        )
        ends, middle = np.clip([low, high], left, right), np.clip(row["share"], left, right)
        ax.plot(ends, [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        ax.plot([float(middle)], [y], color=colour, marker=marker, clip_on=False, zorder=3)


def _scale(ax: Axes, table: pd.DataFrame, margin: float, measure: Measure) -> tuple[float, float]:
    """Scale the axis of changes, and return its ends."""
    if measure.shifts:
        measure.scale_changes(ax, table[["share", "low", "high"]], margin, "x")
        return ax.get_xlim()
    ax.set_xscale("function", functions=(np.sqrt, np.square))
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_locator(FixedLocator(list(_TICKS)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(_style.percent_axis())
    return 0.0, 1.0
