"""Test accuracy against the number of steps of the test solver (the paper's Figure 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from pynode_jl.reporting.charts import Field, line_chart
from pynode_jl.reporting.figures import _checks, _style
from pynode_jl.reporting.figures._described import Description

COLUMNS = ("steps", "solver", "accuracy")


@_style.styled
def accuracy_against_count(
    tables: Mapping[str, pd.DataFrame],
    *,
    trained_with: Mapping[str, int],
    chance: float | None = None,
) -> Figure:
    """Draw a colour for each model, a line style for each test solver, over the number of steps.

    Rows that share steps and solver are seeds: the line is their mean, the band their range. A
    star marks the number of steps that the model was trained with, under the first solver.

    Args:
        tables: by the model's name, rows of steps, solver and accuracy.
        trained_with: by the model's name, the number of steps in training.
        chance: accuracy of guessing, drawn as a line; None for no line.

    Raises:
        InvalidValueError: no table, or a missing column.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.figures import accuracy_against_count
        >>> table = pd.DataFrame({"steps": [1, 2], "solver": "Euler", "accuracy": [0.5, 1.0]})
        >>> len(accuracy_against_count({"a model": table}, trained_with={"a model": 2}).axes)
        1
    """
    checked = _checks.named_tables("tables", tables, COLUMNS)
    if chance is not None:
        _checks.share("chance", chance)
    figure = _style.new_figure(6.4, 3.6)
    ax = figure.subplots()
    solvers = list(dict.fromkeys(s for table in checked.values() for s in table["solver"]))
    for i, (name, table) in enumerate(checked.items()):
        colour = _style.COLOURS[i % len(_style.COLOURS)]
        for j, solver in enumerate(solvers):
            seeds = table[table["solver"] == solver].groupby("steps")["accuracy"]
            mean = seeds.mean()
            ax.fill_between(mean.index, seeds.min(), seeds.max(), color=colour, alpha=0.15, lw=0)
            ax.plot(
                mean.index,
                mean,
                color=colour,
                linestyle=_style.DASHES[j % len(_style.DASHES)],
                marker=_style.MARKERS[i % len(_style.MARKERS)],
                markersize=3.5,
                markerfacecolor="white" if j else colour,
            )
            if j == 0 and trained_with.get(name) in mean.index:
                at = trained_with[name]
                ax.plot(
                    at,
                    mean[at],
                    marker="*",
                    markersize=15,
                    markerfacecolor=colour,
                    markeredgecolor="black",
                    zorder=5,
                )
    if chance is not None:
        ax.axhline(chance, color=_style.FAINT, linestyle=(0, (1.5, 1.5)), linewidth=1.0)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("steps of the test solver")
    ax.set_ylabel("test accuracy")
    ax.set_ylim(0, 1.03)
    ax.yaxis.set_major_formatter(_style.percent_axis())
    handles = _handles(list(checked), solvers, chance is not None)
    figure.legend(handles=handles, loc="outside right upper", alignment="left")
    figure.description = _described(checked, trained_with, chance)
    return figure


def _described(
    tables: Mapping[str, pd.DataFrame], trained_with: Mapping[str, int], chance: float | None
) -> Description:
    parts, said = [], []
    for name, table in tables.items():
        seeds = table.groupby(["solver", "steps"], sort=False)["accuracy"]
        mean = seeds.agg(["mean", "min", "max"]).reset_index()
        first = mean["solver"].iloc[0] if len(mean) else ""
        own = (mean["steps"] == trained_with.get(name)) & (mean["solver"] == first)
        parts.append(mean.assign(model=name, own=own, line=name + ", " + mean["solver"]))
        at = "".join(f"{row:.1%} as trained, " for row in mean[own]["mean"])
        said.append(f"{name}: {at}from {mean['mean'].min():.1%} to {mean['mean'].max():.1%}.")
    data = pd.concat(parts, ignore_index=True)
    ticks = {float(steps): f"{steps:g}" for steps in sorted(set(data["steps"]))}
    chart = line_chart(
        data,
        Field("steps", "steps of the test solver", scale="log", base=2, ticks=ticks),
        Field("mean", "test accuracy", ".0%", domain=(0.0, 1.0)),
        colour=Field("line", "", kind="nominal"),
        told=[
            Field("model", kind="nominal"),
            Field("solver", kind="nominal"),
            Field("steps", form="d"),
            Field("mean", "mean accuracy", ".1%"),
            Field("min", "lowest seed", ".1%"),
            Field("max", "highest seed", ".1%"),
        ],
        low="min",
        high="max",
        level=float("nan") if chance is None else chance,
        own="own",
    )
    return Description("Lines of test accuracy by steps. " + " ".join(said), chart)


def _handles(models: Sequence[str], solvers: Sequence[str], chance: bool) -> list[Line2D]:
    """Return the legend: a colour for each model, a line style for each solver, star and chance."""
    handles = [
        Line2D(
            [],
            [],
            color=_style.COLOURS[i % len(_style.COLOURS)],
            marker=_style.MARKERS[i % len(_style.MARKERS)],
            label=name,
        )
        for i, name in enumerate(models)
    ]
    ink = _style.INK
    handles += [
        Line2D([], [], color=ink, linestyle=_style.DASHES[j % len(_style.DASHES)], label=solver)
        for j, solver in enumerate(solvers)
    ]
    star = Line2D([], [], linestyle="", marker="*", markersize=13, color=ink, label="as trained")
    handles.append(star)
    if chance:
        handles.append(
            Line2D([], [], color=_style.FAINT, linestyle=(0, (1.5, 1.5)), label="chance")
        )
    return handles
