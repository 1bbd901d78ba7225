"""What a controller saw and did while a model was trained (the paper's Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._training_descriptions import describe_adaptation

COLUMNS = ("iteration", "step", "accuracy", "test_accuracy", "statistic", "action")
_WIDTH = 3.6


@_style.styled
def adaptation_trace(
    traces: Mapping[str, pd.DataFrame | Mapping[str, Any]],
    *,
    thresholds: Mapping[str, float] | None = None,
    fixed: bool = True,
    metric: str = "accuracy",
    unit: str = "",
) -> Figure:
    """Draw accuracy (or another score), step or tolerance, and cross-checks, a column for each run.

    Args:
        traces: by the run's name, its checks, one a row: iteration, step (or tolerance) in force
            before the check, accuracy under it and under the finer test solver (nan where a check
            compared nothing), the statistic decided on, and the action. If a column best marks
            checks, the last one marked has a ring: its weights were kept.
        thresholds: by the run's name, what the statistic was held against.
        fixed: the column step holds steps; False for tolerances.
        metric, unit: of the task, whose score stands in the columns of accuracies.

    Raises:
        InvalidValueError: no trace, or one without a column it needs.

    Example:
        >>> from pynode_jl.reporting.figures import adaptation_trace
        >>> trace = {
        ...     "iteration": [50, 100],
        ...     "step": [0.125, 0.0625],
        ...     "accuracy": [0.9, 0.9],
        ...     "test_accuracy": [0.7, 0.89],
        ...     "statistic": [0.2, 0.01],
        ...     "action": ["halve", "hold"],
        ... }
        >>> len(adaptation_trace({"a run": trace}).axes)
        3
    """
    tables = _checks.named_tables("traces", traces, COLUMNS)
    figure = _style.new_figure(max(4.6, _WIDTH * len(tables)), 5.6)
    axes = figure.subplots(3, len(tables), squeeze=False, sharex="col", sharey="row")
    for column, (name, table) in zip(axes.T, tables.items(), strict=True):
        compared = table[table["accuracy"].notna()]
        _style.title(column[0], name, _WIDTH)
        _accuracy(column[0], compared)
        _steps(column[1], table[table["action"] != "start"], fixed)
        _statistic(column[2], compared, (thresholds or {}).get(name))
        column[2].set_xlabel("iteration")
        column[2].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    labels = (metric, "step" if fixed else "tolerance", "cross-check")
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    # Limits last: one set earlier would hold for the columns that share the axis.
    if unit in ("", "of their error"):
        axes[2, 0].yaxis.set_major_formatter(_style.percent_axis())
    if metric == "accuracy":
        axes[0, 0].yaxis.set_major_formatter(_style.percent_axis())
        axes[0, 0].set_ylim(top=1.02)
    axes[2, 0].set_ylim(bottom=-0.005)
    figure.align_ylabels(axes[:, 0])
    handles, names = axes[0, 0].get_legend_handles_labels()
    more, their_names = axes[2, 0].get_legend_handles_labels()
    figure.legend([*handles, *more], [*names, *their_names], loc="outside upper left", ncols=3)
    figure.description = describe_adaptation(tables, thresholds or {}, fixed)
    return figure


def _accuracy(ax: Axes, table: pd.DataFrame) -> None:
    for column, label, colour in (
        ("accuracy", "training solver", _style.COLOURS[0]),
        ("test_accuracy", "finer test solver", _style.COLOURS[1]),
    ):
        ax.plot(table["iteration"], table[column], label=label, color=colour, linewidth=0.9)
    kept = table[table["best"]] if "best" in table else table[:0]
    if len(kept):
        ax.plot(
            kept["iteration"].iloc[-1],
            kept["test_accuracy"].iloc[-1],
            "o",
            markersize=7,
            markerfacecolor="none",
            markeredgecolor=_style.INK,
            label="weights kept",
        )


def _steps(ax: Axes, table: pd.DataFrame, fixed: bool) -> None:
    ax.plot(
        table["iteration"],
        table["step"],
        color=_style.COLOURS[2],
        drawstyle="steps-pre",  # a check's step was in force before it
        linewidth=1.1,
    )
    ax.set_yscale("log", base=2 if fixed else 10)
    if fixed:
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _style.step_text(value)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _statistic(ax: Axes, table: pd.DataFrame, threshold: float | None) -> None:
    ax.plot(
        table["iteration"],
        table["statistic"],
        ".",
        color=_style.FAINT,
        markersize=3,
        label="passed",
    )
    shrunk = table[table["action"] == "shrink"]
    ax.plot(
        shrunk["iteration"],
        shrunk["statistic"],
        "v",
        color=_style.COLOURS[6],
        markersize=4.5,
        label="failed: refined",
    )
    if threshold is not None:
        ax.axhline(threshold, color=_style.INK, linewidth=0.8, linestyle=_style.DASHES[1])
