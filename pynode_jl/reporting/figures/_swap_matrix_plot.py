"""A swap matrix as a clustered heat map: training solvers down, test solvers across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Affine2D

from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.figures._measure import ACCURACY, Measure

_CELL_WIDTH, _CELL_HEIGHT = 0.34, 0.24  # inches
_NARROW, _WIDE, _LOW = 0.2, 0.42, 0.13
_MOST_CELLS = 1500  # of more there are no numbers, and rows are lower
_MOST_NUMBERED = 24  # columns: of more the cells are too narrow for numbers
_TREE = 0.55  # inches
_HATCH = "//////"


@_style.styled
def swap_matrix_heatmap(
    grid: pd.DataFrame,
    *,
    row_tree: npt.ArrayLike,
    column_tree: npt.ArrayLike,
    own: pd.DataFrame | None = None,
    failed: pd.DataFrame | None = None,
    chance: float = 0.0,
    measure: Measure = ACCURACY,
) -> Figure:
    """Mean test accuracy, rows and columns ordered and joined by how alike they are.

    The colours run from `chance` to 100 %, of other scores from the best to chance's; a framed cell
    is the solver trained with; hatching marks failed solves, white no solve. Up to 24 columns the
    cells carry their numbers, accuracies in percent. A grid of more columns than that, and than
    rows, is turned: test solvers then stand down the page.

    Args:
        grid: accuracies or scores, training solvers down and tests across, NaN where there is none.
        row_tree, column_tree: SciPy linkages of the rows and of the columns (`analysis.clusters`);
            an empty one leaves the order as it is and draws no tree.
        own: of the same shape, true where the test is the training solver itself.
        failed: of the same shape, true where solves failed.
        chance: accuracy of guessing, in [0, 1), or the score of an answer without an input.
        measure: what the scores are.

    Raises:
        InvalidValueError: an empty grid.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.diagnostics import clusters
        >>> from pynode_jl.reporting.figures import swap_matrix_heatmap
        >>> grid = pd.DataFrame([[1.0, 0.5], [0.1, 0.2], [0.9, 0.5]])
        >>> trees = clusters(grid)
        >>> figure = swap_matrix_heatmap(grid, row_tree=trees.rows, column_tree=trees.columns)
    """
    low = _checks.share("chance", chance) if measure.in_percent else chance
    _checks.some("grid", list(grid.columns) if len(grid) else [])
    sides = "training solver", "test solver"
    if grid.shape[1] > max(_MOST_NUMBERED, len(grid)):
        grid, sides, row_tree, column_tree = grid.T, sides[::-1], column_tree, row_tree
        own, failed = (None if each is None else each.T for each in (own, failed))
    rows, row_lines = _tree(row_tree, len(grid))
    columns, column_lines = _tree(column_tree, grid.shape[1])
    shown = grid.iloc[rows, columns]
    frames = _alike(own, shown)
    failures = _alike(failed, shown)
    values = shown.to_numpy(float)

    many = values.size > _MOST_CELLS
    numbered = len(columns) <= _MOST_NUMBERED and not many
    cell = (_CELL_WIDTH if measure.in_percent else _WIDE) if numbered else _NARROW
    wide, tall = (
        max(cell * len(columns), 1.5),
        max((_LOW if many else _CELL_HEIGHT) * len(rows), 0.7),
    )
    letter = 0.063 if numbered else 0.052
    names = [letter * max(map(len, map(str, labels))) for labels in (shown.index, shown.columns)]
    width = wide + names[0] + _TREE + 1.4
    height = tall + names[1] + _TREE + 0.75
    figure = _style.ShownFigure(figsize=(width, height))
    left, bottom = names[0] + 0.35, names[1] + 0.35

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    ax = axes(left, bottom, wide, tall)
    scale = measure.colours(np.where(failures, np.nan, values), low)
    if many:  # a thousand patches take seconds, one mesh does not
        solved = np.ma.masked_where(failures | ~np.isfinite(values), values)
        ax.pcolormesh(
            solved,
            cmap=scale.cmap,
            norm=cast(Normalize, scale.norm),
            edgecolors="white",
            linewidth=0.3,
        )
        ax.collections[0].set_transform(Affine2D().translate(-0.5, -0.5) + ax.transData)
    for i, j in zip(*np.nonzero(failures if many else np.ones_like(failures)), strict=True):
        text = _text(float(values[i, j]), measure) if numbered else ""
        _cell(ax, i, j, float(values[i, j]), bool(failures[i, j]), scale, text)
    for i, j in zip(*np.nonzero(frames), strict=True):
        _outline(ax, i, j)
    _frame(ax, shown, numbered, sides)
    _draw_tree(axes(left, bottom + tall + 0.03, wide, _TREE), column_lines, len(columns), "top")
    _draw_tree(axes(left + wide + 0.03, bottom, _TREE, tall), row_lines, len(rows), "right")
    bar_axes = axes(left + wide + _TREE + 0.15, bottom, 0.13, min(tall, 3.0))
    bar = figure.colorbar(scale, cax=bar_axes, format=measure.score_formatter())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label(f"test {measure.metric}")
    bar.outline.set_visible(False)
    handles = []
    if frames.any():
        handles.append(
            Patch(facecolor="white", edgecolor="black", linewidth=1.6, label="solver of training")
        )
    if failures.any():
        handles.append(
            Patch(facecolor="white", edgecolor="#BBBBBB", hatch=_HATCH, label="solve failed")
        )
    if handles:
        figure.legend(handles=handles, loc="upper left", ncols=2)
    figure.description = Description(_seen(shown, failures, measure))
    return figure


def _seen(shown: pd.DataFrame, failed: npt.NDArray[np.bool_], measure: Measure) -> str:
    """Return what is seen: the least and the largest score, and where."""
    said = f"Heat map of test {measure.metric}, {len(shown)} rows by {shown.shape[1]} columns"
    values = np.where(failed, np.nan, shown.to_numpy(float))
    if np.isfinite(values).any():
        places = (
            ("least", np.nanargmin(values)),
            ("largest", np.nanargmax(values)),
        )
        for name, flat in places:
            i, j = divmod(int(flat), values.shape[1])
            score = measure.score_text(float(values[i, j]))
            said += f", {name} {score} ({shown.index[i]} by {shown.columns[j]})"
    return f"{said}; {int(failed.sum())} cells with failed solves."


def _tree(linkage: npt.ArrayLike, n: int) -> tuple[list[int], list[Any]]:
    """Return the order of the leaves, and the tree's brackets as (positions, heights)."""
    from scipy.cluster.hierarchy import dendrogram

    links = np.asarray(linkage, float)
    if len(links) == 0:
        return list(range(n)), []
    drawn = dendrogram(links, no_plot=True)
    # SciPy puts leaf i at 10 i + 5.
    lines = [
        ((np.array(places) - 5) / 10, np.array(heights))
        for places, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    return [int(i) for i in drawn["leaves"]], lines


def _alike(marks: pd.DataFrame | None, shown: pd.DataFrame) -> npt.NDArray[np.bool_]:
    if marks is None:
        return np.zeros(shown.shape, bool)
    same = marks.reindex(index=shown.index, columns=shown.columns)
    return np.asarray(same.fillna(0).to_numpy(float) > 0)


def _text(score: float, measure: Measure) -> str:
    return f"{100 * score:.0f}" if measure.in_percent else measure.score_text(score)


def _cell(
    ax: Axes, i: int, j: int, score: float, failed: bool, scale: ScalarMappable, text: str
) -> None:
    corner = (j - 0.5, i - 0.5)
    if failed:
        ax.add_patch(
            Rectangle(corner, 1, 1, facecolor="white", hatch=_HATCH, edgecolor="#BBBBBB", lw=0)
        )
        return
    if not np.isfinite(score):
        return
    colour = scale.to_rgba(np.array(score))
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=0.5))
    if text:
        red, green, blue = colour[:3]
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        ax.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if dark else "black",
        )


def _outline(ax: Axes, i: int, j: int) -> None:
    for colour, thick in (("white", 2.6), ("black", 1.3)):
        ax.add_patch(
            Rectangle(
                (j - 0.45, i - 0.43),
                0.9,
                0.86,
                fill=False,
                edgecolor=colour,
                linewidth=thick,
                zorder=3,
                gid="training",
            )
        )


def _frame(ax: Axes, shown: pd.DataFrame, numbered: bool, sides: tuple[str, str]) -> None:
    size = 7.5 if numbered else 6.0
    ax.set_xticks(
        range(shown.shape[1]),
        [_style.drawable(str(each)) for each in shown.columns],
        rotation=90,
        fontsize=size,
    )
    ax.set_yticks(
        range(len(shown)), [_style.drawable(str(each)) for each in shown.index], fontsize=size
    )
    ax.set_xlim(-0.5, shown.shape[1] - 0.5)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(sides[1])
    ax.set_ylabel(sides[0])


def _draw_tree(ax: Axes, lines: Sequence[Any], n: int, side: str) -> None:
    for places, heights in lines:
        x, y = (places, heights) if side == "top" else (heights, places)
        ax.plot(x, y, color=_style.INK, linewidth=0.7)
    if side == "top":
        ax.set_xlim(-0.5, n - 0.5)
    else:
        ax.set_ylim(n - 0.5, -0.5)
    ax.set_axis_off()
