"""What a certificate rests on: answers by step, order, error in margins, a panel for each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._evidence_description import (
    MarginPanel,
    OrderPanel,
    describe_evidence,
)
from pynode_jl.reporting.figures._measure import ACCURACY, Measure

COLUMNS = ("setting", "own")

# Errors smaller than this share of the median margin are drawn on the panel's lower edge.
_SMALLEST = 1e-5
# More samples than this are drawn as smaller points.
_MANY = 200


@_style.styled
def evidence(
    by_step: pd.DataFrame,
    *,
    fixed: bool,
    ode: float,
    margin: float,
    settled: float | None = None,
    folds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    order: OrderPanel | None = None,
    margins: MarginPanel | None = None,
    measure: Measure = ACCURACY,
    chance: float = float("nan"),
) -> Figure:
    """Draw what the diagnostics of a certificate measured.

    Where answers are numbers the first panel is the error against the data by step, the convergence
    test of Krishnapriyan et al. (2022): an ODE's is flat from its training step on down, that of a
    model tied to its solver is least at the training step. Another has the shift of answers.

    Args:
        by_step: rows of setting (step or tolerance), own (the training solver's), accuracy, and the
            share of answers that flip against the ODE's with its interval (flips, flips_low,
            flips_high); where answers are numbers, score and shift in their place. Rows of nan
            (failed solves) are not drawn.
        fixed: whether settings are steps; tolerances otherwise.
        ode: the ODE's accuracy or score, drawn as a line (nan for none).
        margin: the share of flips, or the shift, that is allowed, drawn as a line.
        settled: the setting from which on down the answers are the ODE's, drawn as a line.
        folds: steps and the share of samples that fold at each; not drawn beside shifts.
        order: the order test; None leaves its panel out.
        margins: margins and errors; None leaves their panel out.
        measure: what the scores are, and how answers change.
        chance: the score of an answer without an input, around which errors are scaled.

    Raises:
        InvalidValueError: no rows, or a missing column.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.figures import evidence
        >>> table = pd.DataFrame(
        ...     {
        ...         "setting": [0.5, 0.25],
        ...         "own": [True, False],
        ...         "accuracy": [0.9, 0.5],
        ...         "flips": [0.4, 0.0],
        ...         "flips_low": [0.3, 0.0],
        ...         "flips_high": [0.5, 0.02],
        ...     }
        ... )
        >>> figure = evidence(table, fixed=True, ode=0.5, margin=0.03)
    """
    change = measure.change_column
    needed = (*COLUMNS, measure.score_column, *(f"{change}{end}" for end in ("", "_low", "_high")))
    table = _checks.named_tables("by_step", {"by_step": by_step}, needed)["by_step"]
    if table.empty:
        raise InvalidValueError("by_step", "no rows", "at least one row", "Evaluate a step.")
    panels = 1 + measure.shifts + (order is not None) + (margins is not None)
    figure = _style.new_figure(0.6 + 3.4 * panels, 3.5)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(wspace=0.06)  # type: ignore[call-arg]
    axes = iter(figure.subplots(1, panels, squeeze=False).ravel())
    if measure.shifts:
        _errors(next(axes), table, fixed, ode, settled, measure, chance)
        _shifts(next(axes), table, fixed, margin, settled, measure)
    else:
        _answers(next(axes), table, fixed, ode, margin, settled, folds)
    if order is not None:
        _order(next(axes), order)
    if margins is not None:
        _margins(next(axes), margins)
    figure.description = describe_evidence(table, fixed, ode, margin, order, margins, measure)
    return figure


def _answers(
    ax: Axes,
    table: pd.DataFrame,
    fixed: bool,
    ode: float,
    margin: float,
    settled: float | None,
    folds: tuple[npt.ArrayLike, npt.ArrayLike] | None,
) -> None:
    _style.title(ax, "answers by " + ("step" if fixed else "tolerance"), 3.0)
    blue, orange, green = _style.COLOURS[:3]
    x = table["setting"].to_numpy(float)
    if np.isfinite(ode):
        ax.axhline(ode, color=_style.FAINT, linewidth=1.0, label="accuracy of the ODE")
    ax.plot(x, table["accuracy"], color=blue, marker="o", label="accuracy")
    ax.fill_between(
        x, table["flips_low"], table["flips_high"], color=_style.tint(orange, 0.35), linewidth=0
    )
    ax.plot(
        x, table["flips"], color=orange, marker="s", ls=_style.DASHES[1], ms=4,
        label="flips against the ODE",
    )  # fmt: skip
    ax.axhline(
        margin, color=_style.INK, linewidth=0.9, ls=":", label=f"margin, {100 * margin:.3g} %"
    )
    if folds is not None:
        steps, share = (np.asarray(each, float) for each in folds)
        ax.plot(
            steps, share, color=green, marker="^", ls=_style.DASHES[2], ms=4, label="samples folded"
        )
    _star(ax, table, "accuracy")
    _settled(ax, settled)
    _steps(ax, fixed, "h" if fixed else "tolerance")
    ax.set_ylim(-0.03, 1.05)
    ax.yaxis.set_major_formatter(_style.percent_axis())
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)


def _errors(
    ax: Axes,
    table: pd.DataFrame,
    fixed: bool,
    ode: float,
    settled: float | None,
    measure: Measure,
    chance: float,
) -> None:
    _style.title(ax, f"{measure.metric} by " + ("step" if fixed else "tolerance"), 3.0)
    ax.plot(
        table["setting"], table["score"], color=_style.COLOURS[0], marker="o", label="of the solve"
    )
    if np.isfinite(ode):
        ax.axhline(ode, color=_style.FAINT, linewidth=1.2, label="of the ODE", zorder=1.6)
    _star(ax, table, "score")
    _settled(ax, settled)
    _steps(ax, fixed, "h" if fixed else "tolerance")
    measure.scale_scores(ax, [*table["score"], ode], chance)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)


def _shifts(
    ax: Axes,
    table: pd.DataFrame,
    fixed: bool,
    margin: float,
    settled: float | None,
    measure: Measure,
) -> None:
    _style.title(ax, "shift from the ODE's answers", 3.0)
    orange = _style.COLOURS[1]
    columns = ["shift", "shift_low", "shift_high"]
    least = measure.scale_changes(ax, table[columns], margin, "y")
    shown = table[columns].clip(lower=least)
    ax.fill_between(
        table["setting"], shown["shift_low"], shown["shift_high"],
        color=_style.tint(orange, 0.35), linewidth=0,
    )  # fmt: skip
    ax.plot(table["setting"], shown["shift"], color=orange, marker="s", ms=4, label="shift")
    _star(ax, table.assign(shift=shown["shift"]), "shift")
    label = f"margin, {measure.change_text(margin)}"
    ax.axhline(margin, color=_style.INK, linewidth=0.9, ls=":", label=label)
    _settled(ax, settled)
    _steps(ax, fixed, "h" if fixed else "tolerance")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)


def _star(ax: Axes, table: pd.DataFrame, column: str) -> None:
    own = table[table["own"].astype(bool)]
    ax.plot(
        own["setting"],
        own[column],
        linestyle="",
        marker="*",
        markersize=14,
        markerfacecolor="black",
        markeredgecolor="white",
        label="as trained",
        zorder=5,
    )


def _settled(ax: Axes, settled: float | None) -> None:
    if settled is not None:
        ax.axvline(settled, color=_style.INK, linewidth=0.9, linestyle="--", label="settled from")


def _order(ax: Axes, panel: OrderPanel) -> None:
    _style.title(ax, "distance from the ODE", 3.0)
    steps, errors = np.asarray(panel.steps, float), np.asarray(panel.errors, float)
    drawn = np.isfinite(errors) & (errors > 0)
    steps, errors = steps[drawn], errors[drawn]
    ax.plot(steps, errors, color=_style.COLOURS[0], marker="o", label="final states, relative")
    if errors.size:
        # A line of the method's order through the first point.
        slope = errors[0] * (steps / steps[0]) ** panel.order
        ax.plot(steps, slope, color=_style.INK, ls="--", lw=0.9, label=f"order {panel.order}")
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    if np.isfinite(panel.floor) and panel.floor > 0 and errors.size:
        bottom = min(errors.min(), panel.floor) / 3
        ax.axhspan(
            bottom, panel.floor, color=_style.tint(_style.FAINT, 0.25), lw=0,
            label="reference's own error",
        )  # fmt: skip
        ax.set_ylim(bottom, 3 * max(errors.max(), panel.floor))
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
    margin, error = np.asarray(panel.margin, float), np.asarray(panel.error, float)
    finite = np.isfinite(margin) & np.isfinite(error)
    margin, error = margin[finite], error[finite]
    least = _SMALLEST * (np.median(margin) if margin.size and np.median(margin) > 0 else 1.0)
    margin, size = np.maximum(margin, least), np.maximum(np.abs(error), least)
    points = 4.0 if len(margin) <= _MANY else 2.2
    # Only an error in favour of the leading class can have made it lead.
    for those, marker, colour, label in (
        (error > 0, "o", _style.COLOURS[6], "for the answer"),
        (error <= 0, "s", _style.COLOURS[0], "against it"),
    ):
        ax.plot(
            margin[those], size[those], ls="", marker=marker, ms=points, color=colour, mec="white",
            mew=0.1 * points, label=label,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = (margin.min() / 1.5, margin.max() * 1.5) if margin.size else (0.1, 1.0)
    for share, style in ((1.0, "-"), (0.5, "--")):
        ax.plot([low, high], [share * low, share * high], color=_style.INK, lw=0.9, ls=style,
                label=f"{share:.0%} of it")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.set_xlim(low, high)
    ax.set_xlabel("margin of the leading class")
    ax.set_ylabel("error in it")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=7.5)
