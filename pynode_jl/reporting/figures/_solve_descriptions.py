"""What is seen in figures of test solves: in words, and as interactive charts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pynode_jl.reporting.charts import (
    Chart,
    Field,
    Panels,
    decades,
    heatmap_chart,
    interval_chart,
    line_chart,
)
from pynode_jl.reporting.figures import _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.figures._measure import Measure
from pynode_jl.reporting.formats import counted

_SHORT = 6  # letters at a tick
_MOST_COLOURED = 8  # of more test solvers the colours tell orders apart


def describe_heatmap(
    tables: Mapping[str, pd.DataFrame], ends: tuple[float, float], log: bool, measure: Measure
) -> Description:
    """Describe a heat map of swap tables that have the columns row, shown and factor."""
    frames = []
    for title, table in tables.items():
        table = _told(table, measure).sort_values("order", kind="stable", na_position="last")
        names = [str(row.name) for row in table["row"]]
        shown = [measure.score_text(value) for value in table["score"]]
        factor = [f"{value:g}" if value == value else "as given" for value in table["factor"]]
        frames.append(
            table.assign(panel=title, test=names, text=shown, across=factor, at=table["factor"])
        )
    data = pd.concat(frames).sort_values("at", kind="stable")
    # Names down in the order of their methods, whatever the sort by step has made of it.
    down = pd.concat(frames).drop_duplicates("test")["test"].to_list()
    data["rank"] = data["test"].map({name: i for i, name in enumerate(down)})
    chart = heatmap_chart(
        data,
        Field("across", "relative step", kind="nominal"),
        Field("test", "", kind="nominal"),
        Field("score", f"test {measure.metric}", _form(measure)),
        ends=ends,
        reverse=not measure.higher_is_better,
        log=log,
        text="text",
        italic="farther",
        told=_fields(data, measure),
        panel="panel",
        own="own",
        failed="failed",
    )
    layers = chart.spec["spec"]["layer"]
    for layer in layers:
        layer["encoding"]["y"]["sort"] = down
    said = "Heat map, test solvers down and steps across. "
    return Description(said + " ".join(_said(*each, measure) for each in tables.items()), chart)


def describe_lines(
    tables: Mapping[str, pd.DataFrame],
    groups: Mapping[str, str],
    x: str,
    chance: float | None,
    measure: Measure,
    title: str,
) -> Description:
    """Describe lines of scores by step; `groups` names the line of each test solver."""
    data = pd.concat(
        [_told(table, measure).assign(panel=key) for key, table in tables.items()]
    ).reset_index(drop=True)
    data["group"] = data["panel"] + ": " + data["test_solver"]
    data["line"] = data["test_solver"].map(groups)
    data = data.sort_values(["line", "group", x], kind="stable")
    tolerances = x == "step" and len(data) > 0 and not data["fixed"].astype(bool).any()
    name = {
        ("factor", False): "step or tolerance, relative to training",
        ("step", False): "step h of the test solver",
        ("step", True): "tolerance of the test solver",
    }[x, bool(tolerances)]
    values = sorted(set(data[x].astype(float)))
    texts = {value: _style.step_text(value) if x == "step" else f"{value:g}" for value in values}
    # "1/64" and not "0.0117188", which collides with its neighbours.
    ticks = {value: text for value, text in texts.items() if len(text) <= _SHORT} or texts
    across = Field(
        x,
        name,
        scale="log",
        base=10 if tolerances else 2,
        ticks=decades(values) if tolerances else ticks,
    )
    down = Field(
        "score",
        f"test {measure.metric}",
        _form(measure),
        "linear" if measure.in_percent or measure.signed else "log",
        domain=(0.0, 1.0) if measure.in_percent else None,
    )
    if down.scale == "log" and not (data["score"].dropna() > 0).all():
        down = Field("score", down.title, down.form)
    intervals = "low" in data and data["low"].notna().any()
    chart = line_chart(
        data,
        across,
        down,
        colour=Field("line", "", kind="nominal"),
        told=_fields(data, measure),
        panel="panel" if x == "factor" else None,
        low="low" if intervals else "",
        high="high" if intervals else "",
        level=math.nan if chance is None else chance,
        own="own",
        failed="failed",
        group="group",
    )
    said = f"Lines of test {measure.metric} by {name}{f', {title}' if title else ''}. "
    return Description(said + " ".join(_said(*each, measure) for each in tables.items()), chart)


def describe_flips(
    tables: Mapping[str, pd.DataFrame], margin: float, measure: Measure, tones: Mapping[str, str]
) -> Description:
    """Describe intervals of changes against the margin."""
    names = list(tones)
    known = pd.concat([table["high"] for table in tables.values()]).astype(float)
    # One axis for all panels.
    most = 1.05 * max([margin, *known[np.isfinite(known)]])
    panels, said = [], []
    for key, table in tables.items():
        sides = [
            names[0] if high <= margin else names[1] if low > margin else names[2]
            for low, high in table[["low", "high"]].to_numpy(float)
        ]
        data = table.assign(side=sides)
        panels.append((key, _changes(data, margin, most, measure, tones)))
        if table.empty:
            said.append(f"{key}: no comparison.")
            continue
        first, surely = table.iloc[0], table["low"].astype(float) > margin
        said.append(
            f"{key}: {first['label']} changes {measure.change_text(float(first['share']))}"
            f" ({measure.change_text(float(first['low']))} to"
            f" {measure.change_text(float(first['high']))}); {int(surely.sum())} of"
            f" {counted(len(table), 'solve')} surely more than the margin of"
            f" {measure.change_text(margin)}."
        )
    return Description("Intervals of changed answers. " + " ".join(said), Panels(panels))


def _changes(
    data: pd.DataFrame, margin: float, most: float, measure: Measure, tones: Mapping[str, str]
) -> Chart:
    form = ".1%" if measure.changes_in_percent else ".3g"
    counts = [Field(name, form="d") for name in ("samples", "lost", "won") if name in data]
    return interval_chart(
        data,
        Field("label", "", kind="nominal"),
        Field(
            "share",
            measure.changes_name,
            ".0%" if measure.changes_in_percent else ".2g",
            "symlog" if measure.shifts else "sqrt",
            domain=(0.0, most if measure.shifts else 1.0),
        ),
        low="low",
        high="high",
        colour=Field("side", "", kind="nominal"),
        tones=tones,
        told=[
            Field("label", "solve", kind="nominal"),
            Field("share", measure.change_column, form),
            Field("low", "at least", form),
            Field("high", "at most", form),
            *counts,
        ],
        level=margin,
    )


def _told(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return a swap table with score, own, failed, and its interval's ends, as charts tell them."""
    failed = table["retcode"].astype(str) != "Success"
    score = table[measure.score_column].astype(float).where(~failed)
    return table.assign(
        score=score,
        failed=failed,
        farther=~table["finer"].astype(bool) if "finer" in table else False,
        own=(table["label"] == table["train_solver"]) & ~failed,
    )


def _form(measure: Measure) -> str:
    return ".0%" if measure.in_percent else ".3g"


def _fields(data: pd.DataFrame, measure: Measure) -> list[Field]:
    """Return what the box beside the pointer tells of a solve, as far as the table has it."""
    change = measure.change_column
    shares = ".1%" if measure.changes_in_percent else ".3g"
    # A swap's flips are counts.
    counts = change == "flips" and change in data and (data[change].dropna() > 1).any()
    told = [
        Field("train_solver", "trained with", kind="nominal"),
        Field("label", "solver", kind="nominal"),
        Field("score", measure.metric, ".1%" if measure.in_percent else ".4g"),
        Field("low", "mean at least", ".1%" if measure.in_percent else ".4g"),
        Field("high", "mean at most", ".1%" if measure.in_percent else ".4g"),
        Field(change, change, "d" if counts else shares),
        Field(f"{change}_low", f"{change}, at least", shares),
        Field(f"{change}_high", f"{change}, at most", shares),
        Field("state_error", "state error", ".1e"),
        Field("nf", "evaluations", ",d"),
        Field("order", "order", "d"),
        Field("retcode", "return code", kind="nominal"),
    ]
    return [each for each in told if each.column in data]


def _said(title: str, table: pd.DataFrame, measure: Measure) -> str:
    """Return what a table's solves come to: as trained, the worst, the best, how many failed."""
    shown = _told(table, measure)
    solved = shown[shown["score"].notna()]
    if solved.empty:
        return f"{title}: no solve has a score."

    def text(row: pd.Series) -> str:
        percent = " %" if measure.in_percent else ""
        return f"{measure.score_text(float(row['score']))}{percent} with {row['label']}"

    parts = [f"as trained {text(row)}" for _, row in solved[solved["own"]].head(1).iterrows()]
    ranked = solved.sort_values("score", ascending=measure.higher_is_better, kind="stable")
    parts += [f"worst {text(ranked.iloc[0])}", f"best {text(ranked.iloc[-1])}"]
    failed = int(shown["failed"].sum())
    return f"{title}: {', '.join(parts)}; {failed} of {counted(len(shown), 'solve')} failed."
