"""Test accuracy, or another score, against the step of the test solver (the paper's Figure 4a)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterSciNotation, NullFormatter

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._measure import ACCURACY, Measure
from pynode_jl.reporting.figures._solve_descriptions import describe_lines

COLUMNS = (
    "train_solver",
    "test_solver",
    "order",
    "factor",
    "label",
    "step",
    "fixed",
    "retcode",
)

_MOST_NAMED = 8  # solvers that colours and markers tell apart; more are told apart by order
_PANELS_IN_A_ROW = 3


@_style.styled
def accuracy_against_step(
    tables: Mapping[str, pd.DataFrame],
    *,
    x: Literal["factor", "step"] = "factor",
    chance: float | None = None,
    title: str = "",
    measure: Measure = ACCURACY,
) -> Figure:
    """Draw test accuracy over the step (or tolerance) of the test solver, a line for each solver.

    A star marks the solver that the model was trained with, a cross on the floor a solve that
    failed. Where a table has the columns low and high, its accuracies are means over seeds and a
    pale band is their interval. Up to 8 test solvers have a line each; of more, each has pale dots
    and the median of each order has a line, beside the line of the solver trained with.

    Args:
        tables: by title, a swap table with at least the columns train_solver, test_solver, order,
            factor, label, step, fixed, accuracy, retcode. Rows whose x is another quantity are
            left out: solvers with their own settings (factor NaN) for x="factor", adaptive test
            solvers of a model trained at a fixed step (and the reverse) for x="step".
        x: "factor", relative to training: a panel for each table. "step", the step or tolerance
            itself: all tables in one panel, each training run's lines apart.
        chance: accuracy of guessing, drawn as a line; None for no line.
        title: over the one panel of x="step"; the panels of x="factor" have their tables' titles.
        measure: what the scores are; of another one than accuracy, tables have its score.

    Raises:
        InvalidValueError: no table, a missing column, or another `x`.

    Example:
        >>> from pynode_jl.reporting.figures import accuracy_against_step
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> len(accuracy_against_step({"one weight": report.table}).axes)
        1
    """
    if x not in ("factor", "step"):
        raise InvalidValueError("x", x, '"factor" or "step"', 'Use x="factor".')
    if chance is not None and measure.in_percent:
        _checks.share("chance", chance)
    chance = None if chance is None or not math.isfinite(chance) else chance
    needed = (*COLUMNS[:-1], measure.score_column, "retcode")
    checked = {
        key: _comparable(table.assign(score=table[measure.score_column].astype(float)), x)
        for key, table in _checks.named_tables("tables", tables, needed).items()
    }
    lines = _lines(pd.concat(checked.values()))

    if x == "step":
        figure = _style.new_figure(7.4, 4.2)
        panels = [(figure.subplots(), title, list(checked.values()))]
        across = 1
    else:
        down, across = _style.grid_shape(len(checked), _PANELS_IN_A_ROW)
        figure = _style.new_figure(max(1.9 + 2.6 * across, 5.0), 1.0 + 2.7 * down)
        axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        figure.supxlabel("step or tolerance, relative to training", fontsize=9)
        for ax in axes[len(checked) :]:
            ax.set_visible(False)
        panels = [
            (ax, key, [table]) for ax, (key, table) in zip(axes, checked.items(), strict=False)
        ]
    for i, (ax, key, shown) in enumerate(panels):
        _style.title(ax, key, 2.5 if x == "factor" else 5.0)
        drawn = [_draw(ax, table, x, lines, measure) for table in shown]
        _frame(ax, pd.concat(shown), x, chance)
        every = pd.concat(checked.values())
        scores = every["score"].where(~every["failed"])
        measure.scale_scores(ax, scores, math.nan if chance is None else chance)
        if every["failed"].any():
            _make_room(ax, measure)
        if not any(drawn):
            ax.text(0.5, 0.5, "no test solves", transform=ax.transAxes, ha="center", va="center")
        if i % across == 0:
            ax.set_ylabel(f"test {measure.metric}")
    handles: list[Artist] = [Line2D([], [], label=line.name, **line.look) for line in lines]
    handles += _marks(pd.concat(checked.values()), chance)
    if handles:
        medians = any(len(line.solvers) > 1 for line in lines)
        figure.legend(
            handles=handles,
            loc="outside right upper",
            title="medians by order" if medians else None,
            alignment="left",
        )
    groups = {solver: line.name for line in lines for solver in line.solvers}
    figure.description = describe_lines(checked, groups, x, chance, measure, title)
    return figure


def _comparable(table: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return the rows whose x is what it is for the training solver (a step, or a tolerance)."""
    table = table.assign(
        failed=table["retcode"].astype(str) != "Success",
        trained=table["label"] == table["train_solver"],
    )
    alike = table["trained"] | table["factor"].notna()
    if x == "step" and alike.any():
        kind = bool(table.loc[alike, "fixed"].iloc[0])
        table = table[table["fixed"].astype(bool) == kind]
    return table[table[x].notna() & (table[x] > 0)]


@dataclass(frozen=True)
class _Line:
    """One line of the figure: the test solvers whose median it is, and how it is drawn."""

    name: str
    solvers: tuple[str, ...]
    look: dict[str, Any]


def _lines(table: pd.DataFrame) -> list[_Line]:
    solvers = table[["test_solver", "order"]].drop_duplicates("test_solver")
    solvers = solvers.sort_values(["order", "test_solver"], kind="stable")
    groups: dict[str, list[str]] = {}
    trained = set(table.loc[table["trained"], "test_solver"])
    named = len(solvers) <= _MOST_NAMED
    for solver, order in zip(solvers["test_solver"], solvers["order"], strict=True):
        group = str(solver) if named or solver in trained else _order_text(order)
        groups.setdefault(group, []).append(str(solver))
    return [
        _Line(
            group,
            tuple(members),
            {
                "color": _style.COLOURS[i % len(_style.COLOURS)],
                "linestyle": _style.DASHES[i // len(_style.COLOURS) % len(_style.DASHES)],
                "marker": _style.MARKERS[i % len(_style.MARKERS)],
                "markerfacecolor": "white",
                "linewidth": 1.2,
            },
        )
        for i, (group, members) in enumerate(groups.items())
    ]


def _order_text(order: float | None) -> str:
    return "order unknown" if order is None or pd.isna(order) else f"order {int(order)}"


def _marks(table: pd.DataFrame, chance: float | None) -> list[Artist]:
    handles: list[Artist] = []
    if (table["trained"] & ~table["failed"]).any():
        handles.append(Line2D([], [], label="solver of training", **_STAR))
    if {"low", "high"} <= set(table) and (table["low"].notna() & ~table["failed"]).any():
        handles.append(Patch(color=_style.INK, alpha=0.13, linewidth=0, label="95 % interval"))
    if table["failed"].any():
        handles.append(Line2D([], [], label="solve failed", **_CROSS))
    if chance is not None:
        handles.append(Line2D([], [], label="chance", **_CHANCE))
    return handles


_STAR: dict[str, Any] = {
    "linestyle": "",
    "marker": "*",
    "markersize": 13,
    "markerfacecolor": "black",
    "markeredgecolor": "white",
    "zorder": 5,
}
_CHANCE: dict[str, Any] = {"color": _style.FAINT, "linestyle": (0, (1.5, 1.5)), "linewidth": 1.0}
_CROSS: dict[str, Any] = {
    "linestyle": "",
    "marker": "x",
    "markersize": 5,
    "markeredgecolor": _style.INK,
    "clip_on": False,
    "zorder": 5,
}


def _draw(ax: Axes, table: pd.DataFrame, x: str, lines: list[_Line], measure: Measure) -> bool:
    table = table.assign(shown=table["score"].where(~table["failed"]))
    for line in lines:
        rows = table[table["test_solver"].isin(line.solvers)]
        if not len(rows):
            continue
        if len(line.solvers) > 1:
            ax.plot(
                rows[x].to_numpy(float),
                rows["shown"].to_numpy(float),
                ".",
                color=line.look["color"],
                alpha=0.35,
                markersize=4,
                markeredgewidth=0,
                zorder=1.8,
            )
        elif {"low", "high"} <= set(rows):
            _band(ax, rows, x, line.look["color"])
        median = rows.groupby(rows[x].astype(float))["shown"].median()  # of one: itself
        ax.plot(median.index.to_numpy(), median.to_numpy(), label=line.name, **line.look)
    failed = table[table["failed"]]
    if len(failed):
        # On the side of the worst scores, where no score stands: there is room for it.
        edge = np.full(len(failed), 0.03 if measure.higher_is_better else 0.97)
        across = ax.get_xaxis_transform()
        ax.plot(failed[x].to_numpy(float), edge, gid="failed", transform=across, **_CROSS)
    star = table[table["trained"] & ~table["failed"]]
    ax.plot(star[x].to_numpy(float), star["score"].to_numpy(float), gid="training", **_STAR)
    return not table.empty


def _make_room(ax: Axes, measure: Measure) -> None:
    """Lengthen the axis of scores on the side of the worst, for the crosses of failed solves."""
    transform = ax.yaxis.get_transform()
    low, high = transform.transform(np.array(ax.get_ylim()))
    room = 0.08 * (high - low)
    low, high = (low - room, high) if measure.higher_is_better else (low, high + room)
    ax.set_ylim(*transform.inverted().transform(np.array([low, high])))
    if measure.in_percent:
        ax.set_yticks(np.linspace(0, 1, 6))


def _band(ax: Axes, rows: pd.DataFrame, x: str, colour: str) -> None:
    """Draw the interval of each mean; of a single point, which has no width, a bar."""
    known = rows["low"].notna() & rows["high"].notna() & ~rows["failed"]
    rows = rows[known].sort_values(x)
    at, low, high = (rows[name].to_numpy(float) for name in (x, "low", "high"))
    if len(rows) == 1:
        ax.vlines(at, low, high, color=colour, alpha=0.4, linewidth=1.2, zorder=1.6, gid="interval")
    elif len(rows):
        ax.fill_between(
            at, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1.6, gid="interval"
        )


def _frame(ax: Axes, table: pd.DataFrame, x: str, chance: float | None) -> None:
    if chance is not None:
        ax.axhline(chance, zorder=1.5, **_CHANCE)
    values = np.unique(table[x].to_numpy(float))
    tolerance = x == "step" and len(table) > 0 and not table["fixed"].astype(bool).any()
    ax.set_xscale("log", base=10 if tolerance else 2)
    low, high = (values[0], values[-1]) if len(values) else (0.5, 2.0)
    ax.set_xlim(low / 1.15, high * 1.15)
    ax.xaxis.set_minor_formatter(NullFormatter())
    if tolerance:
        ax.xaxis.set_major_formatter(LogFormatterSciNotation())
        ax.set_xlabel("tolerance of the test solver")
    elif x == "step":
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _style.step_text(value)))
        ax.set_xlabel("step h of the test solver")
    else:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if 0 < len(values) <= 6:
            ax.xaxis.set_major_locator(FixedLocator(values.tolist()))
    ax.xaxis.set_tick_params(which="minor", length=0)
