"""Test accuracy, or the task's score, for every solver that was swapped in, as a grid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._measure import ACCURACY, Measure
from pynode_jl.reporting.figures._solve_descriptions import describe_heatmap

COLUMNS = (
    "train_solver",
    "test_solver",
    "order",
    "factor",
    "label",
    "finer",
    "retcode",
)

_CELL_WIDTH, _CELL_HEIGHT = 0.5, 0.24  # inches
_GAP = 0.35  # between the factors and the column "as given", in cells
_PANELS_IN_A_ROW = 4
_TALL = 20  # rows from which on the columns are named above the cells too
_HATCH = "//////"


class _Row(NamedTuple):
    order: int | None
    name: str


@_style.styled
def swap_heatmap(
    tables: Mapping[str, pd.DataFrame], *, chance: float = 0.0, measure: Measure = ACCURACY
) -> Figure:
    """One panel for each trained model: test accuracy by test solver (down) and step (across).

    The colours run from `chance`, or the least accuracy below it, to 100 %. Of other scores they
    run from the best one to chance's, on a logarithmic scale where that is far. A solve that failed
    is hatched and carries its return code, the solver that the model was trained with has a frame,
    and an accuracy under a solver farther from the ODE than that one is in italics.

    Args:
        tables: by title, a swap table with at least the columns train_solver, test_solver, order,
            factor (NaN: a solver with its own settings, in the column "as given"), label, accuracy,
            finer, retcode; of another `measure` with its score in place of the accuracy. All panels
            share the rows and columns that any of them has.
        chance: accuracy of guessing, in [0, 1), or the score of an answer without an input.
        measure: what the scores are.

    Raises:
        InvalidValueError: no table, a missing column, or two rows for one cell.

    Example:
        >>> from pynode_jl.reporting.figures import swap_heatmap
        >>> report = pn.swap(trained, data, ["RK4"], backend="jax")
        >>> figure = swap_heatmap({"one weight": report.table}, chance=0.5)
    """
    low = _checks.share("chance", chance) if measure.in_percent else chance
    needed = (*COLUMNS[:-1], measure.score_column, "retcode")
    checked = {
        key: _with_rows(key, table).assign(shown=table[measure.score_column].to_numpy(float))
        for key, table in _checks.named_tables("tables", tables, needed).items()
    }
    rows = sorted({row for table in checked.values() for row in table["row"]}, key=_sort_key)
    factors = sorted({f for table in checked.values() for f in table["factor"].dropna()})
    given = any(table["factor"].isna().any() for table in checked.values())
    columns = [*factors, *[np.nan] * given]

    cells = max(len(columns) + _GAP * given, 3)
    down, across = _style.grid_shape(len(checked), _PANELS_IN_A_ROW)
    width = 1.9 + across * (cells * _CELL_WIDTH + 0.15) + 0.8
    height = 1.15 + down * (max(len(rows), 3) * _CELL_HEIGHT + 0.55)
    figure = _style.new_figure(max(width, 4.8), height)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    axes, empty = grid[: len(checked)], grid[len(checked) :]
    for ax in empty:
        ax.set_visible(False)

    every = pd.concat(checked.values())
    scores = every["shown"].where(every["retcode"].astype(str) == "Success")
    scale = measure.colours(scores, low)
    for i, (ax, (key, table)) in enumerate(zip(axes, checked.items(), strict=True)):
        _style.title(ax, key, cells * _CELL_WIDTH)
        _draw(ax, table, rows, factors, scale, measure)
        _frame(ax, rows, columns, factors)
        ax.tick_params(
            labelleft=i % across == 0,
            labelbottom=i + across >= len(axes),
            labeltop=len(rows) > _TALL and i < across,
        )
    _key(figure, axes, scale, low, every, measure)
    ends = cast("tuple[float, float]", (scale.norm.vmin, scale.norm.vmax))
    figure.description = describe_heatmap(checked, ends, isinstance(scale.norm, LogNorm), measure)
    return figure


def _with_rows(key: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the row of the figure that each of its rows belongs to."""
    # A factor is a quotient of two steps: its last digits make no column of their own.
    table = table.assign(factor=[float(f"{factor:.4g}") for factor in table["factor"]])
    again = table.duplicated(["test_solver", "factor"], keep=False) & table["factor"].isna()
    # One method with several settings of its own: its settings make the row.
    names = table["test_solver"].where(~again, table["label"])
    rows = [
        _Row(None if pd.isna(order) else int(order), str(name))
        for order, name in zip(table["order"], names, strict=True)
    ]
    table = table.assign(row=pd.Series(rows, index=table.index, dtype=object))
    twice = table[table.duplicated(["row", "factor"])]
    if len(twice):
        raise InvalidValueError(
            f"tables[{key!r}]",
            str(twice["label"].iloc[0]),
            "one row for each test solver and factor",
            "Average over seeds first, or give each seed its own panel.",
        )
    return table


def _sort_key(row: _Row) -> tuple[float, str]:
    return np.inf if row.order is None else row.order, row.name.casefold()


def _draw(
    ax: Axes,
    table: pd.DataFrame,
    rows: list[_Row],
    factors: list[float],
    scale: ScalarMappable,
    measure: Measure,
) -> None:
    down = {row: i for i, row in enumerate(rows)}
    across = {factor: j for j, factor in enumerate(factors)}
    if table.empty:
        ax.text(0.5, 0.5, "no test solves", transform=ax.transAxes, ha="center", va="center")
    for cell in table.to_dict("records"):
        x = across.get(cell["factor"], len(factors) + _GAP if factors else 0)
        y = down[cell["row"]]
        _cell(ax, x, y, cell, scale, measure)
        if cell["label"] == cell["train_solver"]:
            for colour, thick in (("white", 3.2), ("black", 1.6)):
                ax.add_patch(
                    Rectangle(
                        (x - 0.46, y - 0.44),
                        0.92,
                        0.88,
                        fill=False,
                        edgecolor=colour,
                        linewidth=thick,
                        zorder=3,
                        gid=f"training:{cell['label']}",
                    )
                )


def _cell(
    ax: Axes, x: float, y: float, cell: dict[Any, Any], scale: ScalarMappable, measure: Measure
) -> None:
    corner = (x - 0.5, y - 0.5)
    code = str(cell["retcode"])
    if code != "Success":
        ax.add_patch(
            Rectangle(
                corner,
                1,
                1,
                facecolor="white",
                hatch=_HATCH,
                edgecolor="#BBBBBB",
                linewidth=0,
                gid=f"failed:{cell['label']}",
            )
        )
        text = "\n".join(_two_lines(code))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        ax.text(
            x, y, text, ha="center", va="center", fontsize=5.5, linespacing=0.95, bbox=box, zorder=4
        )
        return
    value = float(cell["shown"])
    known = np.isfinite(value)
    colour = scale.to_rgba(np.array(value)) if known else (0.93, 0.93, 0.93, 1.0)
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8))
    red, green, blue = colour[:3]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    finer = bool(cell["finer"])
    ax.text(
        x,
        y,
        measure.score_text(value) if known else "?",
        ha="center",
        va="center",
        color="white" if dark else "black",
        fontsize=7.5 if finer else 7,
        style="normal" if finer else "italic",
        zorder=4,
    )


def _two_lines(code: str) -> list[str]:
    """``DtLessThanMin`` as two lines of about equal length, broken before a capital."""
    words = re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+", code) or [code]
    if len(code) <= 8:
        return [code]
    breaks = [("".join(words[:k]), "".join(words[k:])) for k in range(1, len(words))]
    return list(min(breaks, key=lambda two: max(map(len, two)))) if breaks else [code]


def _frame(ax: Axes, rows: list[_Row], columns: list[float], factors: list[float]) -> None:
    places = [*range(len(factors)), *[len(factors) + (_GAP if factors else 0)]][: len(columns)]
    names = [f"{factor:g}" if np.isfinite(factor) else "as\ngiven" for factor in columns]
    ax.set_xticks(places, names)
    ax.set_yticks(
        range(len(rows)),
        [f"{row.name}   {'?' if row.order is None else row.order}" for row in rows],
    )
    ax.set_xlim(-0.5, max(places, default=2) + 0.5)
    ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for i in range(1, len(rows)):
        if rows[i].order != rows[i - 1].order:
            ax.axhline(i - 0.5, color="#999999", linewidth=0.7, zorder=2)


def _key(
    figure: Figure,
    axes: Any,
    scale: ScalarMappable,
    low: float,
    table: pd.DataFrame,
    measure: Measure,
) -> None:
    below = bool((table["shown"] < scale.norm.vmin).any())
    above = bool((table["shown"] > scale.norm.vmax).any())
    tall = figure.get_figheight()
    length = min(tall, 4.0)  # inches
    bar = figure.colorbar(
        scale,
        ax=list(axes),
        extend={(1, 0): "min", (0, 1): "max", (1, 1): "both"}.get((below, above), "neither"),
        format=measure.score_formatter(),
        shrink=length / tall,
        aspect=length / 0.13,
        anchor=(0.0, 1.0),
        pad=0.01,
    )
    bar.set_label(f"test {measure.metric}")
    bar.outline.set_visible(False)
    if not measure.in_percent:
        _name_chance(bar, low, measure)
    elif low > 0:
        ticks = [
            low,
            *[t for t in np.linspace(0, 1, 11) if abs(t - low) > 0.05 and t >= bar.norm.vmin],
        ]
        bar.set_ticks(
            ticks, labels=[f"{100 * low:.3g} %\nchance", *[f"{100 * t:.3g} %" for t in ticks[1:]]]
        )
    figure.supxlabel("step or tolerance, relative to training", fontsize=9)
    figure.supylabel("test solver and its order", fontsize=9)
    handles = _marks(table)
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=3)


def _name_chance(bar: Any, chance: float, measure: Measure) -> None:
    """Write on a bar of scores where chance's is."""
    if isinstance(bar.norm, LogNorm):
        bar.set_ticks(_style.log_locator(bar.norm.vmin or 0.0, bar.norm.vmax or 1.0))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    if not np.isfinite(chance):
        return
    low, high = bar.norm.vmin, bar.norm.vmax
    (end,) = bar.norm.inverse([0.12 if measure.higher_is_better else 0.88])
    inner = [t for t in bar.get_ticks() if low <= t <= high]
    ticks = [t for t in inner if (t > end) == measure.higher_is_better]
    names = [measure.score_text(t) for t in ticks]
    bar.set_ticks([*ticks, chance], labels=[*names, f"{measure.score_text(chance)}\nchance"])


def _marks(table: pd.DataFrame) -> list[Any]:
    handles: list[Any] = []
    if (table["label"] == table["train_solver"]).any():
        handles.append(
            Patch(facecolor="white", edgecolor="black", linewidth=1.6, label="solver of training")
        )
    failed = table["retcode"].astype(str) != "Success"
    if (~table["finer"].astype(bool) & ~failed).any():
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker=r"$\mathit{12.3}$",
                markersize=15,
                color="black",
                markeredgewidth=0,
                label="farther from the ODE",
            )
        )
    if failed.any():
        handles.append(
            Patch(facecolor="white", edgecolor="#BBBBBB", hatch=_HATCH, label="solve failed")
        )
    return handles
