"""Reports: one self-contained HTML file of text, verdicts, tables, pictures and facts.

`write_report` writes `Section`s of blocks to a page that needs neither network nor scripts, is
readable on a phone and on paper, and follows the reader's choice of a light or a dark screen.
"""

from __future__ import annotations

from pynode_jl.reporting.html._blocks import VERDICTS as VERDICTS
from pynode_jl.reporting.html._blocks import Block as Block
from pynode_jl.reporting.html._blocks import Facts as Facts
from pynode_jl.reporting.html._blocks import Picture as Picture
from pynode_jl.reporting.html._blocks import Section as Section
from pynode_jl.reporting.html._blocks import Table as Table
from pynode_jl.reporting.html._blocks import Text as Text
from pynode_jl.reporting.html._blocks import VerdictCard as VerdictCard
from pynode_jl.reporting.html._write import report_html as report_html
from pynode_jl.reporting.html._write import write_report as write_report

__all__ = [
    "VERDICTS",
    "Block",
    "Facts",
    "Picture",
    "Section",
    "Table",
    "Text",
    "VerdictCard",
    "report_html",
    "write_report",
]
