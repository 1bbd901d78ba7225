"""Interactive figures: plain data in, a `Chart` out, which a page shows by Vega-Lite.

Why Vega-Lite (the engine of Altair), and not Plotly or Bokeh: measured on one scatter plot, a page
that needs no network is 0.90 MB with it, 1.27 MB with Bokeh, 4.82 MB with Plotly; it runs under a
content policy that allows scripts and styles by their hashes alone (its expressions are
interpreted: no `eval`, where Bokeh's style sheets and Plotly's hover layer are blocked); and it
draws SVG, which prints, and whose marks have names for screen readers.

Its scripts come from the package vl-convert-python, 84 MB installed and so an extra:
``pip install 'pynode-jl[pages]'``. Without it a page has its still pictures, and says so.
"""

from __future__ import annotations

from pynode_jl.reporting.charts._chart import Chart as Chart
from pynode_jl.reporting.charts._chart import Field as Field
from pynode_jl.reporting.charts._chart import Panels as Panels
from pynode_jl.reporting.charts._chart import decades as decades
from pynode_jl.reporting.charts._chart import interval_chart as interval_chart
from pynode_jl.reporting.charts._chart import line_chart as line_chart
from pynode_jl.reporting.charts._chart import point_chart as point_chart
from pynode_jl.reporting.charts._heatmap import heatmap_chart as heatmap_chart

__all__ = [
    "Chart",
    "Field",
    "Panels",
    "decades",
    "heatmap_chart",
    "interval_chart",
    "line_chart",
    "point_chart",
]
