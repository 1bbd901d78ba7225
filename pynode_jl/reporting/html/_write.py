"""Sections to one HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pynode_jl._io import make_folder, write_text
from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.html._blocks import Block, Section

# Autoescape is on for all: the one thing not escaped is the style sheet, a file of this package.
_TEMPLATES = Environment(
    loader=PackageLoader("pynode_jl.reporting.html"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report_html(
    *,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    footer: str = "",
) -> str:
    """Return the page that `write_report` writes. Equal arguments give equal text.

    Example:
        >>> from pynode_jl.reporting.html import Section, Text, report_html
        >>> page = report_html(title="Report", sections=[Section("Results", [Text("1 < 2")])])
        >>> "1 &lt; 2" in page
        True
    """
    if not title.strip():
        raise InvalidValueError("title", title, "some text", "Say what the report is about.")
    for i, section in enumerate(sections):
        for j, block in enumerate(section.blocks):
            if not isinstance(block, Block):
                raise InvalidValueError(
                    f"sections[{i}].blocks[{j}]",
                    block,
                    "Text, VerdictCard, Table, Picture or Facts",
                    "Wrap plain text as Text(...).",
                )
    return _TEMPLATES.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, footer=footer
    )


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    footer: str = "",
) -> Path:
    """Write a report as one self-contained HTML file: style inline, pictures as data.

    All text is escaped. An existing file is replaced in one move, so that a reader sees the old
    report or the new one, never half of it.

    Args:
        path: where; missing folders are created.
        title: the heading of the page.
        sections: the content; three or more get a table of contents.
        subtitle: a line under the title.
        footer: a line at the end.

    Returns:
        The path.

    Raises:
        InvalidValueError: an empty title, or an object that is no block.
        OutputError: the file cannot be written.

    Example:
        >>> from pynode_jl.reporting.html import Section, Text, write_report
        >>> sections = [Section("Results", [Text("None.")])]
        >>> write_report("report.html", title="Report", sections=sections).name
        'report.html'
    """
    page = report_html(title=title, sections=sections, subtitle=subtitle, footer=footer)
    target = Path(path)
    make_folder(target.parent)
    write_text(target, page)
    return target
