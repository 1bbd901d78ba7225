"""What is seen in figures of trainings: in words, and as interactive charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from pynode_jl.reporting.charts import Chart, Field, Panels, decades, line_chart
from pynode_jl.reporting.figures import _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.formats import counted

_MOST_POINTS = 200  # of a run: its mean over as many parts of it


def describe_training(
    histories: Mapping[str, pd.DataFrame], rows: Sequence[tuple[str, str]]
) -> Description:
    """Describe histories; `rows` are the columns that have a panel, with their names."""
    tables = []
    for name, table in histories.items():
        given = table if "iteration" in table else table.assign(iteration=range(1, len(table) + 1))
        known = given[[each for each in given if each in ("iteration", *(row[0] for row in rows))]]
        last = 1 if known.empty else max(int(known["iteration"].max()), 1)
        part = (known["iteration"] - 1) * _MOST_POINTS // last
        tables.append(known.astype(float).groupby(part.astype(int)).mean().assign(run=name))
    data = pd.concat(tables, ignore_index=True)
    charts, said = [], []
    for column, label in rows:
        known = data[data[column].notna()]
        form = ".0%" if column == "accuracy" else ".3g"
        charts.append((label, _by_iteration(known, column, label, form)))
        for run, ends in known.groupby("run", sort=False)[column]:
            before, after = (format(float(ends.iloc[end]), form) for end in (0, -1))
            said.append(f"{run}: {label} from {before} to {after}.")
    return Description("Lines by iteration of training. " + " ".join(said), Panels(charts))


def _by_iteration(data: pd.DataFrame, column: str, label: str, form: str) -> Chart:
    values = data[column].astype(float)
    wide = len(values) > 0 and values.min() > 0 and values.max() > 10 * values.min()
    exact = ".1%" if form.endswith("%") else ".4g"
    return line_chart(
        data,
        Field("iteration", form=",d"),
        Field(column, label, form, "log" if wide else "linear"),
        colour=Field("run", "", kind="nominal"),
        told=[
            Field("run", kind="nominal"),
            Field("iteration", form=",.0f"),
            Field(column, label, exact),
        ],
        dots=False,
    )


def _halvings(steps: Iterable[float]) -> dict[float, str]:
    """Return ticks at the powers of two around steps."""
    known = [math.log2(each) for each in steps if math.isfinite(each) and each > 0] or [0.0]
    powers = range(math.floor(min(known)), math.ceil(max(known)) + 1)
    return {2.0**power: _style.step_text(2.0**power) for power in powers}


def describe_adaptation(
    traces: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float], fixed: bool
) -> Description:
    """Describe the checks of a controller: accuracies, steps, what it decided on."""
    data = pd.concat([table.assign(run=name) for name, table in traces.items()], ignore_index=True)
    told = [
        Field("run", kind="nominal"),
        Field("iteration", form=",d"),
        Field("step", "step" if fixed else "tolerance", ".4g"),
        Field("accuracy", "accuracy", ".1%"),
        Field("test_accuracy", "under the finer solver", ".1%"),
        Field("statistic", "cross-check", ".2%"),
        Field("action", kind="nominal"),
    ]
    kinds = {"accuracy": "training solver", "test_accuracy": "finer test solver"}
    both = pd.concat(
        [
            data.assign(shown=data[column], line=data["run"] + ", " + kind)
            for column, kind in kinds.items()
        ],
        ignore_index=True,
    )
    iteration, run = Field("iteration", form=",d"), Field("run", "", kind="nominal")
    limits = {run: f"{run}, threshold {100 * at:.3g} %" for run, at in thresholds.items()}
    decided = data.assign(limit=[limits.get(run, run) for run in data["run"]])
    charts = [
        (
            "accuracy",
            line_chart(
                both,
                iteration,
                Field("shown", "accuracy", ".0%"),
                colour=Field("line", "", kind="nominal"),
                told=told,
                dots=False,
            ),
        ),
        (
            "step" if fixed else "tolerance",
            line_chart(
                data,
                iteration,
                Field(
                    "step",
                    "step" if fixed else "tolerance",
                    scale="log",
                    base=2 if fixed else 10,
                    ticks=_halvings(data["step"]) if fixed else decades(data["step"]),
                ),
                colour=run,
                told=told,
            ),
        ),
        (
            "cross-check",
            line_chart(
                decided,
                iteration,
                Field("statistic", "cross-check", ".1%"),
                colour=Field("limit", "", kind="nominal"),
                told=told,
            ),
        ),
    ]
    said = []
    for name, table in traces.items():
        if table.empty:
            continue
        refined = int((table["action"] == "shrink").sum())
        said.append(
            f"{name}: {'step' if fixed else 'tolerance'} from {table['step'].iloc[0]:.3g} to"
            f" {table['step'].iloc[-1]:.3g}, refined"
            f" {counted(refined, 'time')} in {counted(len(table), 'check')}."
        )
    return Description("Checks of a controller by iteration. " + " ".join(said), Panels(charts))
