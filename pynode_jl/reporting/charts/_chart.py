"""What a chart is, and the three kinds that pages have: lines, points, intervals."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from pynode_jl.errors import InvalidValueError

#: Height of a panel, and its width where several stand side by side, in CSS pixels.
HEIGHT, PANEL = 280, 320
_ROW = 24
_TITLE = 36  # letters of a panel's title in a line
# A column in an expression: datum["a name"].
_DATUM = re.compile(r'datum\[("(?:[^"\\]|\\.)*")\]')


@dataclass(frozen=True, eq=False)
class Chart:
    """An interactive figure: a Vega-Lite specification without its data, and these.

    A page sizes it to its reader's screen and gives it the page's colours.

    Attributes:
        spec: the specification; its own ``data`` and ``description`` are replaced.
        data: the rows that it draws; what is not finite counts as missing.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Chart
        >>> axis = {"field": "a", "type": "quantitative"}
        >>> chart = Chart({"mark": "bar", "encoding": {"x": axis}}, pd.DataFrame({"a": [1]}))
        >>> '"description":"One bar."' in chart.to_json("One bar.")
        True
    """

    spec: Mapping[str, Any]
    data: pd.DataFrame

    def encoded(self) -> dict[str, Any]:
        """Return the specification with the data that it draws."""
        used = _fields(self.spec)
        rows = [
            {name: _plain(value) for name, value in row.items() if name in used}
            for row in self.data.to_dict("records")
        ]
        return {**self.spec, "data": {"values": rows}}

    def to_json(self, description: str) -> str:
        """Return the whole as JSON, described for readers who cannot see it."""
        return _json(self.encoded() | {"description": description})


@dataclass(frozen=True, eq=False)
class Panels:
    """Several charts side by side, or one below the other where the screen is narrow.

    Attributes:
        charts: each with its title.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Chart, Panels
        >>> chart = Chart({"mark": "bar"}, pd.DataFrame({"a": [1]}))
        >>> Panels([("one", chart), ("two", chart)]).to_json("Two bars.").count('"title"')
        2
    """

    charts: Sequence[tuple[str, Chart]]

    def to_json(self, description: str) -> str:
        """Return all of them as one specification in JSON."""
        # A name means one thing in a specification.
        views = [
            json.loads(_json(chart.encoded()).replace('"picked"', f'"picked{i}"'))
            | {"title": _lines(title), "width": PANEL, "height": chart.spec.get("height", HEIGHT)}
            for i, (title, chart) in enumerate(self.charts)
        ]
        resolved = {"scale": {"color": "independent"}}
        return _json({"concat": views, "resolve": resolved, "description": description})


def decades(values: Iterable[float]) -> dict[float, str]:
    """Return ticks at the powers of ten around positive `values`; none where they span one or two.

    Example:
        >>> from pynode_jl.reporting.charts import decades
        >>> decades([3e-4, 0.2])
        {0.0001: '1e-4', 0.001: '1e-3', 0.01: '1e-2', 0.1: '1e-1', 1.0: '1'}
    """
    known = [math.log10(each) for each in values if math.isfinite(each) and each > 0] or [0.0]
    powers = range(math.floor(min(known)), math.ceil(max(known)) + 1)
    if len(powers) <= 2:
        return {}
    return {10.0**power: "1" if power == 0 else f"1e{power}" for power in powers}


@dataclass(frozen=True)
class Field:
    """A column on an axis, or in the box beside the pointer.

    Attributes:
        column: its name.
        title: what the reader sees; default: the column's name.
        form: a d3 format: ".1%", ".3g", "d"; "" for Vega's own.
        scale: the kind of scale of an axis.
        base: of a logarithmic scale.
        domain: the ends of an axis; None for those of the data.
        ticks: by value, what stands at an axis there; empty for Vega's own choice.
        kind: of the values: numbers, or names.

    Example:
        >>> from pynode_jl.reporting.charts import Field
        >>> Field("nf", "evaluations", "d").told()["title"]
        'evaluations'
    """

    column: str
    title: str = ""
    form: str = ""
    scale: Literal["linear", "log", "sqrt", "symlog"] = "linear"
    base: float = 10
    domain: tuple[float, float] | None = None
    ticks: Mapping[float, str] = field(default_factory=dict)
    kind: Literal["quantitative", "nominal"] = "quantitative"

    def told(self) -> dict[str, Any]:
        """Return the column as a line of the box beside the pointer."""
        return self.encoded() | {"title": self.title or self.column}

    def axis(self, **more: Any) -> dict[str, Any]:
        """Return the column as an axis, with `more` keys of its channel."""
        if self.kind == "nominal":
            return self.encoded() | {"axis": {"title": self.title, "labelLimit": 260}, "sort": None}
        scale: dict[str, Any] = {"type": self.scale}
        if self.scale == "log":
            scale["base"] = self.base
        else:
            scale["zero"] = False
        if self.domain is None:
            scale |= {"nice": False, "padding": 12}
        else:
            scale |= {"nice": False, "domain": list(self.domain)}
        axis: dict[str, Any] = {"title": self.title or self.column}
        if "format" in self.encoded():
            axis["format"] = self.encoded()["format"]
        if self.ticks:
            values, names = json.dumps([*self.ticks]), json.dumps([*self.ticks.values()])
            at_tick = f"{names}[indexof({values}, datum.value)]"
            axis |= {"values": [*self.ticks], "labelExpr": at_tick}
        return self.encoded() | {"scale": scale, "axis": axis} | more

    def encoded(self) -> dict[str, Any]:
        """Return the column as an encoding without title or scale."""
        # Vega-Lite reads a dot or a bracket in a name as a path.
        name = self.column
        for sign in "\\.[]":
            name = name.replace(sign, "\\" + sign)
        # "~": no zeros that say nothing, "2.5" and not "2.50".
        text = self.form[:-1] + "~g" if self.form.endswith("g") else self.form
        form = {"format": text} if text else {}
        return {"field": name, "type": self.kind} | form


def line_chart(
    data: pd.DataFrame,
    x: Field,
    y: Field,
    *,
    colour: Field | None = None,
    told: Sequence[Field] = (),
    panel: str | None = None,
    low: str = "",
    high: str = "",
    level: float = math.nan,
    level_name: str = "chance",
    own: str = "",
    failed: str = "",
    group: str = "",
    dots: bool = True,
) -> Chart:
    """Return lines with a dot for each row, in panels side by side, told under the pointer.

    Args:
        data: the rows.
        x, y: the axes.
        colour: a line for each of its values; a click on one in the legend picks it out.
        told: what the box beside the pointer has.
        panel: a column, a panel for each of its values.
        low, high: columns with the ends of each y's interval; "" for none.
        level: a y that is drawn across; nan for none.
        level_name: what it is.
        own: a column, true where a star stands: the solver trained with.
        failed: a column, true where a solve failed: a cross on the floor, and no dot.
        group: a column, a line for each of its values within a colour.
        dots: whether rows have dots.

    Raises:
        InvalidValueError: a column that the data do not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Field, line_chart
        >>> data = pd.DataFrame({"h": [0.5, 0.25], "accuracy": [0.5, 1.0]})
        >>> chart = line_chart(data, Field("h", scale="log", base=2), Field("accuracy", form=".0%"))
        >>> chart.spec["layer"][0]["mark"]["type"]
        'line'
    """
    lines: list[Field] = [] if colour is None else [colour]
    columns = [panel, low, high, own, failed, group]
    check_columns(data, [x, y, *lines, *told], [each for each in columns if each])
    bad = data[failed].astype(bool) if failed else pd.Series(False, index=data.index)
    data = data.assign(**{y.column: data[y.column].astype(float).where(~bad)})
    shared: dict[str, Any] = {
        "x": x.axis(),
        "tooltip": [each.told() for each in told or [*lines, x, y]],
    }
    if group:
        shared["detail"] = Field(group, kind="nominal").encoded()
    pick: dict[str, Any] = {}
    if colour is not None:
        shared["color"] = colour.encoded() | {
            "legend": {"title": colour.title or None},
            "sort": list(dict.fromkeys(map(str, data[colour.column]))),
        }
        shared["opacity"] = {"condition": {"param": "picked", "value": 1}, "value": 0.12}
        name = colour.encoded()["field"]
        select = {"type": "point", "fields": [name]}
        pick = {"params": [{"name": "picked", "select": select, "bind": "legend"}]}
    across = y.axis()
    line: dict[str, Any] = {"type": "line", "strokeWidth": 1.6, "clip": True}
    if dots:
        line["point"] = {"size": 48, "filled": True}
    layer: list[dict[str, Any]] = [{"mark": line, "encoding": shared | {"y": across}, **pick}]
    if low:
        ends = {"y": {**across, "field": low}, "y2": {"field": high}}
        bar = {"type": "rule", "strokeWidth": 5, "opacity": 0.3, "clip": True}
        layer.insert(0, {"mark": bar, "encoding": shared | ends})
        if pick:  # a parameter stands in one layer, and may be used in all
            shared_bar = layer[0]["encoding"]
            shared_bar["opacity"] = {"condition": {"param": "picked", "value": 0.3}, "value": 0.05}
    if math.isfinite(level):
        layer.append(_level(level, level_name, "y", y))
    if failed and bad.any():
        mark = {"type": "point", "shape": _CROSS, "size": 70, "style": "ink", "strokeWidth": 2}
        at = {"x": shared["x"], "y": {"value": HEIGHT - 6}, "tooltip": shared["tooltip"]}
        layer.append({"transform": [is_true(failed)], "mark": mark, "encoding": at})
    if own and data[own].astype(bool).any():
        star = {"type": "point", "shape": _STAR, "size": 190, "style": "ink", "filled": True}
        at = {"x": shared["x"], "y": across, "tooltip": shared["tooltip"]}
        layer.append({"transform": [is_true(own)], "mark": star, "encoding": at})
    return Chart(in_panels(layer, panel), data)


# Vega's square goes from -1 to 1.
_CROSS = "M-0.9,-0.9L0.9,0.9M0.9,-0.9L-0.9,0.9"
# A five-pointed star.
_STAR = (
    "M0,-1L0.24,-0.31L0.95,-0.31L0.38,0.12L0.59,0.81"
    "L0,0.4L-0.59,0.81L-0.38,0.12L-0.95,-0.31L-0.24,-0.31Z"
)


def point_chart(
    data: pd.DataFrame,
    x: Field,
    y: Field,
    *,
    colour: Field | None = None,
    shape: Field | None = None,
    told: Sequence[Field] = (),
    panel: str | None = None,
) -> Chart:
    """Return a dot for each row, told under the pointer.

    Args:
        data: the rows.
        x, y: the axes.
        colour, shape: what colours and shapes tell apart; a click in the legend picks one out.
        told: what the box beside the pointer has.
        panel: a column, a panel for each of its values.

    Raises:
        InvalidValueError: a column that the data do not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Field, point_chart
        >>> data = pd.DataFrame({"h": [0.5, 0.25], "accuracy": [0.5, 1.0]})
        >>> chart = point_chart(data, Field("h", scale="log", base=2), Field("accuracy"))
        >>> chart.spec["layer"][0]["mark"]["type"]
        'point'
    """
    by = [each for each in (colour, shape) if each is not None]
    check_columns(data, [x, y, *by, *told], [panel] if panel else [])
    encoding: dict[str, Any] = {
        "x": x.axis(),
        "y": y.axis(),
        "tooltip": [each.told() for each in told or [*by, x, y]],
    }
    more: dict[str, Any] = {}
    for channel, each in (("color", colour), ("shape", shape)):
        if each is not None:
            encoding[channel] = each.encoded() | {"legend": {"title": each.title or each.column}}
    if colour is not None and colour.kind == "nominal":
        select = {"type": "point", "fields": [colour.encoded()["field"]]}
        more = {"params": [{"name": "picked", "select": select, "bind": "legend"}]}
        encoding["opacity"] = {"condition": {"param": "picked", "value": 0.85}, "value": 0.1}
    mark = {"type": "point", "filled": True, "size": 60, "opacity": 0.85}
    return Chart(in_panels([{"mark": mark, "encoding": encoding, **more}], panel), data)


def interval_chart(
    data: pd.DataFrame,
    name: Field,
    value: Field,
    *,
    low: str,
    high: str,
    colour: Field | None = None,
    tones: Mapping[str, str] | None = None,
    told: Sequence[Field] = (),
    level: float = math.nan,
    level_name: str = "margin",
) -> Chart:
    """Return a row for each name: its value, and the interval of it.

    Args:
        data: the rows, in the order of the page.
        name: down the page.
        value: across; `low` and `high` are the columns with the interval's ends.
        low, high: these.
        colour: what colours tell apart.
        tones: a colour for each of its values.
        told: what the box beside the pointer has.
        level: a value that is drawn down the page; nan for none.
        level_name: what it is.

    Raises:
        InvalidValueError: a column that the data do not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Field, interval_chart
        >>> data = pd.DataFrame({"solve": ["its ODE"], "flips": [0.5], "low": [0.4], "high": [0.6]})
        >>> names = Field("solve", kind="nominal")
        >>> interval_chart(data, names, Field("flips"), low="low", high="high").spec["height"]
        {'step': 24}
    """
    by = [] if colour is None else [colour]
    check_columns(data, [name, value, *by, *told], [low, high])
    down = name.axis()
    encoding: dict[str, Any] = {
        "y": down,
        "tooltip": [each.told() for each in told or [name, value]],
    }
    if colour is not None:
        encoding["color"] = colour.encoded() | {"legend": {"title": colour.title or None}}
        if tones:
            encoding["color"]["scale"] = {"domain": list(tones), "range": list(tones.values())}
    across = value.axis()
    bar = {"type": "rule", "strokeWidth": 3, "clip": True}
    dot = {"type": "point", "filled": True, "size": 70, "opacity": 1}
    layer = [
        {
            "mark": bar,
            "encoding": encoding | {"x": {**across, "field": low}, "x2": {"field": high}},
        },
        {"mark": dot, "encoding": encoding | {"x": across}},
    ]
    if math.isfinite(level):
        layer.append(_level(level, level_name, "x", value))
    # Names take room beside the panel.
    around = 60 + 7 * max(map(len, map(str, data[name.column])), default=0)
    spec = {"layer": layer, "height": {"step": _ROW}, "usermeta": {"around": around}}
    return Chart(spec, data)


def in_panels(layer: list[dict[str, Any]], panel: str | None) -> dict[str, Any]:
    if panel is None:
        return {"layer": layer, "height": HEIGHT}
    facet = Field(panel, kind="nominal").encoded() | {"header": {"title": None}, "sort": None}
    return {"facet": facet, "spec": {"layer": layer, "width": PANEL, "height": HEIGHT}}


def _level(value: float, name: str, channel: str, of: Field) -> dict[str, Any]:
    """Return a line across the panel at one value of an axis."""
    datum = {channel: {"datum": value, "type": "quantitative"}}
    said = f"{json.dumps(name + ': ')} + format({value!r}, {json.dumps(of.form or '.3g')})"
    mark = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5, "style": "faint"}
    return {"mark": mark | {"tooltip": {"expr": said}}, "encoding": datum}


def is_true(column: str) -> dict[str, str]:
    return {"filter": f"datum[{json.dumps(column)}]"}


def check_columns(data: pd.DataFrame, fields: Sequence[Field], columns: Sequence[str]) -> None:
    for name in (*(each.column for each in fields), *columns):
        if name not in data.columns:
            raise InvalidValueError(
                "data.columns", list(data.columns), f"a column {name!r}", "Add it to the table."
            )


def _lines(title: str) -> list[str]:
    """Return a title in lines that fit a panel on a phone."""
    return [line for each in title.splitlines() for line in textwrap.wrap(each, _TITLE) or [""]]


def _fields(spec: Any) -> set[str]:
    """Return the columns that a specification names, in encodings, filters and selections."""
    if isinstance(spec, Mapping):
        found: set[str] = set()
        for key, value in spec.items():
            if key == "field" and isinstance(value, str):
                found.add(value.replace("\\.", ".").replace("\\[", "[").replace("\\]", "]"))
            elif key == "filter" and isinstance(value, str):
                found |= {json.loads(name) for name in _DATUM.findall(value)}
            else:
                found |= _fields(value)
        return found
    if isinstance(spec, list | tuple):
        return set().union(*(_fields(each) for each in spec))
    return set()


def _json(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: what is not finite, or missing, is null."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str) else str(value)
