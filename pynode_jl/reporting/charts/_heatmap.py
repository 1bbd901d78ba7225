"""Cells in colours, as an interactive chart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pynode_jl.reporting.charts._chart import Chart, Field, check_columns, in_panels, is_true


def heatmap_chart(
    data: pd.DataFrame,
    x: Field,
    y: Field,
    value: Field,
    *,
    ends: tuple[float, float],
    reverse: bool = False,
    log: bool = False,
    text: str = "",
    italic: str = "",
    told: Sequence[Field] = (),
    panel: str | None = None,
    own: str = "",
    failed: str = "",
) -> Chart:
    """Return a coloured cell for each row, told under the pointer.

    Args:
        data: the rows, in the order of the axes.
        x, y: names across and down.
        value: what the colours are.
        ends: of the colours, the least value first.
        reverse: whether the least value is the lightest.
        log: whether colours are of its logarithm.
        text: a column with what stands in the cell; "" for none.
        italic: a column, true where it stands in italics.
        told: what the box beside the pointer has.
        panel: a column, a panel for each of its values.
        own: a column, true where a cell has a frame: the solver trained with.
        failed: a column, true where a solve failed: a cross, and no colour.

    Raises:
        InvalidValueError: a column that the data do not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.charts import Field, heatmap_chart
        >>> data = pd.DataFrame({"solver": ["RK4"], "step": ["1"], "accuracy": [0.9]})
        >>> names = Field("step", kind="nominal"), Field("solver", kind="nominal")
        >>> heatmap_chart(data, *names, Field("accuracy"), ends=(0.5, 1.0)).spec["height"]
        {'step': 22}
    """
    check_columns(
        data, [x, y, value, *told], [each for each in (panel, own, failed, text, italic) if each]
    )
    axes: dict[str, Any] = {
        channel: each.axis() | {"sort": list(dict.fromkeys(map(str, data[each.column])))}
        for channel, each in (("x", x), ("y", y))
    }
    axes["x"]["axis"]["labelAngle"] = 0 if max(map(len, axes["x"]["sort"]), default=0) < 6 else -90
    tooltip = {"tooltip": [each.told() for each in told or [x, y, value]]}
    scale: dict[str, Any] = {
        "type": "log" if log else "linear",
        "domain": list(ends),
        "range": [*_CIVIDIS][:: -1 if reverse else 1],
        "clamp": True,
    }
    if not log:
        scale["zero"] = False
    shown = value.encoded()
    legend = {
        "title": value.title or value.column,
        "format": shown.get("format", ""),
        "gradientLength": 220,
        "labelOverlap": "greedy",
        "labelSeparation": 8,
    }
    colour = shown | {"scale": scale, "legend": legend}
    name = shown["field"]
    known = {"filter": f"isValid(datum[{json.dumps(value.column)}])"}
    layer: list[dict[str, Any]] = [
        {
            "transform": [known],
            "mark": {"type": "rect"},
            "encoding": axes | tooltip | {"color": colour},
        }
    ]
    if text:
        low, high = ends
        middle = math.sqrt(low * high) if log else (low + high) / 2
        dark = f"datum[{json.dumps(name)}] {'>' if reverse else '<'} {middle!r}"
        ink = {"condition": {"test": dark, "value": "#ffffff"}, "value": "#000000"}
        words = {"text": {"field": text, "type": "nominal"}, "color": ink}
        for style, sign in (("normal", "!"), ("italic", ""))[: 2 if italic else 1]:
            mark = {"type": "text", "fontSize": 11, "fontStyle": style}
            those = [{"filter": f"{sign}datum[{json.dumps(italic)}]"}] if italic else []
            layer.append(
                {
                    "transform": [known, *those],
                    "mark": mark,
                    "encoding": axes | tooltip | words,
                }
            )
    for column, mark in (
        (failed, {"type": "text", "text": "\N{MULTIPLICATION X}", "fontSize": 12, "style": "ink"}),
        (own, _frame("#ffffff", 4.5)),
        (own, _frame("#000000", 2)),
    ):
        if column and data[column].astype(bool).any():
            frame = {"transform": [is_true(column)], "mark": mark, "encoding": axes | tooltip}
            layer.append(frame)
    spec = in_panels(layer, panel)
    inner = spec["spec"] if panel else spec
    wide = max((len(str(each)) for each in data[text]), default=0) if text else 0
    inner["width"], inner["height"] = {"step": max(30, 8 * wide + 8)}, {"step": 22}
    return Chart(spec, data)


def _frame(colour: str, width: float) -> dict[str, Any]:
    return {"type": "rect", "fillOpacity": 0, "stroke": colour, "strokeWidth": width}


# Matplotlib's cividis at nine places: what its still figures have.
_CIVIDIS = (
    "#00224e", "#1a386f", "#434e6c", "#61656f", "#7d7c78", "#9b9476", "#bcae6c", "#dec958",
    "#fee838",
)  # fmt: skip
