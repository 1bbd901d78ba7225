"""What is seen in the evidence of a certificate: in words, and as interactive charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pynode_jl.reporting.charts import Chart, Field, Panels, decades, line_chart, point_chart
from pynode_jl.reporting.figures import _style
from pynode_jl.reporting.figures._described import Description
from pynode_jl.reporting.figures._measure import Measure


@dataclass(frozen=True, eq=False)
class OrderPanel:
    """Convergence of final states.

    Attributes:
        steps: (k,), steps.
        errors: (k,), distances of final states from the ODE's.
        order: of the method.
        floor: the error of the ODE's states themselves; nan where it is not known.

    Example:
        >>> from pynode_jl.reporting.figures import OrderPanel
        >>> OrderPanel(steps=[0.5, 0.25], errors=[0.1, 0.05], order=1).order
        1
    """

    steps: npt.ArrayLike
    errors: npt.ArrayLike
    order: int
    floor: float = float("nan")


@dataclass(frozen=True, eq=False)
class MarginPanel:
    """By sample: the `margin` (n,) of the leading class and the numerical `error` (n,) in it.

    Example:
        >>> from pynode_jl.reporting.figures import MarginPanel
        >>> MarginPanel(margin=[2.0, 1.0], error=[0.1, -0.1]).margin
        [2.0, 1.0]
    """

    margin: npt.ArrayLike
    error: npt.ArrayLike


def describe_evidence(
    by_step: pd.DataFrame,
    fixed: bool,
    ode: float,
    margin: float,
    order: OrderPanel | None,
    margins: MarginPanel | None,
    measure: Measure,
) -> Description:
    """Describe answers by step, the order of convergence, and errors in margins."""
    step = "step" if fixed else "tolerance"
    charts = [
        (f"{measure.metric} by {step}", _scores(by_step, fixed, ode, measure)),
        ("changes against the ODE's answers", _changes(by_step, fixed, margin, measure)),
    ]
    own = by_step[by_step["own"].astype(bool)]
    said = [f"{measure.title} by {step}:"]
    said += [
        f"{measure.score_text(float(row[measure.score_column]))} as trained,"
        f" {measure.change_text(float(row[measure.change_column]))} changed against the ODE;"
        for row in own.head(1).to_dict("records")
    ]
    least = by_step.loc[[by_step["setting"].idxmin()]].to_dict("records")[0]
    said.append(
        f"{measure.change_text(float(least[measure.change_column]))} at {least['setting']:.3g}."
    )
    if order is not None:
        charts.append(("distance from the ODE", _order(order)))
        said.append(f"Final states approach the ODE's, beside a line of order {order.order}.")
    if margins is not None:
        charts.append(("numerical error in the margin", _margins(margins)))
        error, lead = np.asarray(margins.error, float), np.asarray(margins.margin, float)
        if error.size:
            made = float(np.mean(error >= lead))
            said.append(f"For {made:.1%} of samples the error is the whole of the margin.")
    return Description(" ".join(said), Panels(charts))


def _setting(data: pd.DataFrame, column: str, fixed: bool) -> Field:
    values = sorted({float(value) for value in data[column]})
    ticks = {value: _style.step_text(value) for value in values} if fixed else {}
    name = "step h" if fixed else "tolerance"
    return Field(column, name, scale="log", base=2 if fixed else 10, ticks=ticks)


def _told(data: pd.DataFrame, measure: Measure) -> list[Field]:
    change = measure.change_column
    shares = ".1%" if measure.changes_in_percent else ".3g"
    told = [
        Field("label", "solver", kind="nominal"),
        Field("setting", "step or tolerance", ".4g"),
        Field(measure.score_column, measure.metric, ".1%" if measure.in_percent else ".4g"),
        Field(change, change, shares),
        Field(f"{change}_low", f"{change}, at least", shares),
        Field(f"{change}_high", f"{change}, at most", shares),
        Field("state_error", "state error", ".1e"),
        Field("nf", "evaluations", ",d"),
    ]
    return [each for each in told if each.column in data]


def _scores(data: pd.DataFrame, fixed: bool, ode: float, measure: Measure) -> Chart:
    form = ".0%" if measure.in_percent else ".3g"
    score = Field(
        measure.score_column,
        f"test {measure.metric}",
        form,
        domain=(0.0, 1.0) if measure.in_percent else None,
    )
    return line_chart(
        data,
        _setting(data, "setting", fixed),
        score,
        told=_told(data, measure),
        level=ode,
        level_name="the ODE",
        own="own",
    )


def _changes(data: pd.DataFrame, fixed: bool, margin: float, measure: Measure) -> Chart:
    change = measure.change_column
    form = ".0%" if measure.changes_in_percent else ".2g"
    name = measure.changes_name if measure.shifts else change
    return line_chart(
        data,
        _setting(data, "setting", fixed),
        Field(change, name, form, "sqrt" if change == "flips" else "symlog"),
        told=_told(data, measure),
        low=f"{change}_low",
        high=f"{change}_high",
        level=margin,
        level_name="margin",
        own="own",
    )


def _order(panel: OrderPanel) -> Chart:
    data = pd.DataFrame({"h": np.asarray(panel.steps), "distance": np.asarray(panel.errors)})
    data = data[np.isfinite(data["distance"]) & (data["distance"] > 0)].astype(float)
    seen, parallel = "final states", f"order {panel.order}"
    # A line of the method's order through the first point.
    slope = data.assign(
        distance=data["distance"].iloc[:1].sum() * (data["h"] / data["h"].max()) ** panel.order
    )
    lines = [data.assign(line=seen), slope.assign(line=parallel)]
    ticks = decades([*data["distance"], *slope["distance"], panel.floor])
    return line_chart(
        pd.concat(lines, ignore_index=True),
        _setting(data, "h", True),
        Field("distance", "distance of final states", ".0e", "log", ticks=ticks),
        colour=Field("line", "", kind="nominal"),
        told=[
            Field("line", "", kind="nominal"),
            Field("h", "step h", ".4g"),
            Field("distance", form=".2e"),
        ],
        level=panel.floor,
        level_name="the reference's own error",
    )


def _margins(panel: MarginPanel) -> Chart:
    margin, error = np.asarray(panel.margin, float), np.asarray(panel.error, float)
    data = pd.DataFrame(
        {
            "sample": range(len(margin)),
            "margin": margin,
            "error": error,
            "size": np.abs(error),
            "side": np.where(error > 0, "for the answer", "against it"),
        }
    )
    data = data[(data["margin"] > 0) & (data["size"] > 0)]
    return point_chart(
        data,
        Field("margin", "margin of the leading class", ".1g", "log"),
        Field("size", "error in it", ".0e", "log"),
        colour=Field("side", "", kind="nominal"),
        told=[
            Field("sample", "test sample", "d"),
            Field("margin", form=".3g"),
            Field("error", "numerical error in it", "+.3g"),
            Field("side", "it is", kind="nominal"),
        ],
    )
