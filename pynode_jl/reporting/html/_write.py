"""Sections to one HTML file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pynode_jl._io import make_folder, write_text
from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting._templates import templates
from pynode_jl.reporting.html._blocks import Block, Section
from pynode_jl.reporting.html._matrix_block import Matrix
from pynode_jl.reporting.html._picture import Picture
from pynode_jl.reporting.html._scripts import vega_script
from pynode_jl.reporting.html._table import Table

_STILL = (
    "The figures of this page are still: with pip install 'pynode-jl[pages]' they answer to the"
    " pointer."
)


def _json_in_html(text: str) -> Markup:
    """Return JSON that ends no script element and begins no comment, whatever it holds."""
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(safe)


# Autoescape is on for all: what is not escaped are the style sheet and the scripts, files of this
# package and of vl-convert's, and JSON, which has no character of markup left.
_TEMPLATES = templates("pynode_jl.reporting.html")
_TEMPLATES.filters["json_in_html"] = _json_in_html


def report_html(
    *,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    footer: str = "",
) -> str:
    """Return the page that `write_report` writes. Equal arguments give equal text.

    `subtitle` stands below the title, `footer` at the end.

    Raises:
        InvalidValueError: no title, or what is no block in a section.

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
                    "Text, VerdictCard, Table, Picture, Matrix or Facts",
                    "Wrap plain text as Text(...).",
                )
    blocks = [block for section in sections for block in section.blocks]
    charts = any(isinstance(block, Picture) and block.chart is not None for block in blocks)
    vega = vega_script() if charts else None
    moving = vega is not None or any(isinstance(block, Table | Matrix) for block in blocks)
    scripts = [*([vega] if vega else []), *([_page_script()] if moving else [])]
    style = _source("style.css")
    return _TEMPLATES.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        footer=footer,
        note=_STILL if charts and vega is None else "",
        interactive=vega is not None,
        style=style,
        scripts=scripts,
        policy=_policy(style, scripts),
    )


def _source(name: str) -> str:
    text, *_ = _TEMPLATES.loader.get_source(_TEMPLATES, name)  # type: ignore[union-attr]
    return str(text)


def _page_script() -> str:
    parts = [_source(f"{name}.js") for name in ("tooltip", "tables", "matrices", "charts")]
    return '"use strict";\n{\n' + "\n".join(parts) + "}\n"


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Return a content policy that allows this style sheet, these scripts, and nothing else."""
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:;"
        f" style-src {_hash(style)}; script-src {allowed}"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    footer: str = "",
) -> Path:
    """Write a report as one self-contained HTML file: style and scripts inline, pictures as data.

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
