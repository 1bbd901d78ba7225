"""Reports: one self-contained HTML file of text, verdicts, tables, pictures and facts.

`write_report` writes `Section`s of blocks to a page that needs no network, allows no script but its
own (by their hashes), can be read without any, on a phone and on paper, and follows the reader's
choice of a light or a dark screen. Tables sort by a click on a heading and show the rows that match
what is typed ("rk4 accuracy>90"), by a hundred lines of script of our own: a library would be one
more dependency, and a larger script, for a sort and a filter.
A `Matrix` is a table in colours whose headings stay in sight; pictures may have a `Chart`.
"""

from __future__ import annotations

from pynode_jl.reporting.formats import counted as counted
from pynode_jl.reporting.html._blocks import VERDICTS as VERDICTS
from pynode_jl.reporting.html._blocks import Block as Block
from pynode_jl.reporting.html._blocks import Facts as Facts
from pynode_jl.reporting.html._blocks import Section as Section
from pynode_jl.reporting.html._blocks import Text as Text
from pynode_jl.reporting.html._blocks import VerdictCard as VerdictCard
from pynode_jl.reporting.html._blocks import fact_text as fact_text
from pynode_jl.reporting.html._matrix_block import Layer as Layer
from pynode_jl.reporting.html._matrix_block import Matrix as Matrix
from pynode_jl.reporting.html._matrix_block import shades as shades
from pynode_jl.reporting.html._matrix_block import texts as texts
from pynode_jl.reporting.html._picture import Picture as Picture
from pynode_jl.reporting.html._scripts import vega_script as vega_script
from pynode_jl.reporting.html._table import Table as Table
from pynode_jl.reporting.html._write import report_html as report_html
from pynode_jl.reporting.html._write import write_report as write_report

__all__ = [
    "VERDICTS",
    "Block",
    "Facts",
    "Layer",
    "Matrix",
    "Picture",
    "Section",
    "Table",
    "Text",
    "VerdictCard",
    "counted",
    "fact_text",
    "report_html",
    "shades",
    "texts",
    "vega_script",
    "write_report",
]
