"""Loss, batch accuracy and cost of training, iteration by iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from pynode_jl._validation import whole_number
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._measure import ACCURACY, Measure
from pynode_jl.reporting.figures._training_descriptions import describe_training

COLUMNS = ("loss",)


@_style.styled
def training_history(
    histories: Mapping[str, pd.DataFrame | Mapping[str, Any]],
    *,
    window: int | None = None,
    measure: Measure = ACCURACY,
) -> Figure:
    """Loss and batch accuracy against iteration for several runs, with a rolling mean.

    Evaluations of the right-hand side (`nf`) and the solver's step or tolerance (`step`) get an
    axis each where a run has the column and it varies, as it does under a controller (the paper's
    Figure 5).

    Args:
        histories: by the run's name, a table (or mapping of arrays) with one row an iteration:
            loss, accuracy (or score, as the `measure` has it) and, if known, iteration (counted
            from 1 otherwise), nf, step.
        window: iterations in the rolling mean; None takes a fiftieth of each run.
        measure: what the scores are. Scores that are the losses themselves are not drawn again.

    Raises:
        InvalidValueError: no history, a missing column, or a window below 1.

    Example:
        >>> from pynode_jl.reporting.figures import training_history
        >>> figure = training_history({"a run": {"loss": [1.0, 0.5], "accuracy": [0.5, 0.9]}})
    """
    if window is not None:
        whole_number("window", window, hint="Use window=1 for none.")
    scores = measure.score_column
    checked = _checks.named_tables("histories", histories, (*COLUMNS, scores))
    rows: list[tuple[str, str]] = [("loss", "loss")]
    if measure.in_percent or not all(t["loss"].equals(t[scores]) for t in checked.values()):
        rows.append((scores, f"batch {measure.metric}"))
    for column, label in (
        ("nf", "evaluations of f\nper iteration"),
        ("step", "step or\ntolerance"),
    ):
        if any(column in t and t[column].nunique() > 1 for t in checked.values()):
            rows.append((column, label))

    figure = _style.new_figure(7.2, 0.75 + 1.75 * len(rows))
    axes = figure.subplots(len(rows), 1, squeeze=False, sharex=True).ravel()
    for ax, (column, label) in zip(axes, rows, strict=True):
        for i, (name, table) in enumerate(checked.items()):
            if column in table:
                _draw(ax, table, column, name, i, window)
        ax.set_ylabel(label)
        _scale(ax, column, checked)
        ax.margins(x=0.015)
    axes[-1].set_xlabel("iteration")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(axes)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(len(handles), 4))
    figure.description = describe_training(checked, rows)
    return figure


def _draw(
    ax: Axes, table: pd.DataFrame, column: str, name: str, i: int, window: int | None
) -> None:
    iteration = table["iteration"] if "iteration" in table else pd.Series(range(1, len(table) + 1))
    values = table[column].astype(float).replace([np.inf, -np.inf], np.nan)
    look: dict[str, Any] = {
        "color": _style.COLOURS[i % len(_style.COLOURS)],
        "linestyle": _style.DASHES[i // len(_style.COLOURS) % len(_style.DASHES)],
    }
    if column in ("nf", "step"):  # a controller's moves: a mean would hide them
        ax.plot(iteration, values, label=name, drawstyle="steps-post", linewidth=1.1, **look)
        return
    width = max(1, len(values) // 50) if window is None else window
    mean = values.rolling(width, center=True, min_periods=1).mean()
    if width > 1:
        ax.plot(iteration, values, color=look["color"], alpha=0.2, linewidth=0.6, zorder=1.5)
    ax.plot(iteration, mean, label=name, **look)


def _scale(ax: Axes, column: str, tables: Mapping[str, pd.DataFrame]) -> None:
    if column == "accuracy":
        ax.yaxis.set_major_formatter(_style.percent_axis())
        ax.set_ylim(top=1.02)
        return
    values = np.concatenate([t[column].to_numpy(float) for t in tables.values() if column in t])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() / values.min() > 10:
        ax.set_yscale("log")
        if column == "score":
            ax.yaxis.set_major_locator(_style.log_locator(values.min(), values.max()))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            ax.yaxis.set_minor_locator(NullLocator())
    elif column == "loss" and (not len(values) or values.min() >= 0):
        ax.set_ylim(bottom=0)
    if column == "step" and len(values):
        steps_of_two = values.max() / values.min() < 1e4
        ax.set_yscale("log", base=2 if steps_of_two else 10)
        if steps_of_two:
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _style.step_text(value)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
