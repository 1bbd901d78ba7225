"""The layout of every page: what was found, pictures, numbers, and what decides them.

Pictures are written beside the page as PNG and PDF, under names that the page gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from pynode_jl._io import make_folder, read_bytes
from pynode_jl.reporting import figures
from pynode_jl.reporting.formats import formats_for
from pynode_jl.reporting.html import Facts, Picture, Section, Table, write_report


class Drawing(NamedTuple):
    """A figure on a page.

    Attributes:
        figure: the figure.
        caption: the text under it.
        alt: what it shows, for who does not see it; default: the caption.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.pages import Drawing
        >>> Drawing(Figure(), "What it shows.").alt
        ''
    """

    figure: Figure
    caption: str
    alt: str = ""


def write_page(
    path: Path,
    *,
    title: str,
    subtitle: str,
    found: Sequence[Section] = (),
    drawings: Mapping[str, Drawing],
    numbers: Sequence[Section],
    facts: Sequence[Facts],
) -> list[Path]:
    """Write a page, and its figures as PNG and PDF beside it.

    Args:
        path: the page's.
        title, subtitle: its heading.
        found: verdicts, or what else was found, before all.
        drawings: by the name of their files, without suffix.
        numbers: tables.
        facts: settings and circumstances that decide the numbers.

    Returns:
        The paths, the page last.

    Example:
        >>> from pathlib import Path
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.html import Facts
        >>> from pynode_jl.reporting.pages import Drawing, write_page
        >>> paths = write_page(
        ...     Path("page.html"),
        ...     title="A page",
        ...     subtitle="of one figure",
        ...     drawings={"empty": Drawing(Figure((2, 1)), "An empty figure.")},
        ...     numbers=[],
        ...     facts=[Facts({"seed": 0})],
        ... )
        >>> [path.name for path in paths]
        ['empty.png', 'empty.pdf', 'page.html']
    """
    make_folder(path.parent)
    paths, pictures = [], []
    for name, drawing in drawings.items():
        png, pdf = figures.save(drawing.figure, path.with_name(name))
        paths += [png, pdf]
        alt = drawing.alt or drawing.caption
        pictures.append(Picture(read_bytes(png), alt, drawing.caption))
    page = write_report(
        path,
        title=title,
        subtitle=subtitle,
        sections=[
            *found,
            *([Section("Pictures", pictures)] if pictures else []),
            *numbers,
            Section("What decides it", facts),
        ],
    )
    return [*paths, page]


def table(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    caption: str = "",
    *,
    formats: Mapping[str, str] | None = None,
    folded: bool = False,
) -> Table:
    """Return a table of some `columns` (by name, their headings; default: all), formats by column.

    Args:
        frame: the rows.
        columns: which to show, and under which headings where those are not their names.
        caption: what the table shows.
        formats: those that differ from `reporting.formats.FORMATS`.
        folded: closed at first.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.pages import table
        >>> frame = pd.DataFrame({"label": ["Euler"], "accuracy": [0.987]})
        >>> table(frame, {"label": "solver", "accuracy": "accuracy"}).rows[0][1].text
        '98.7%'
    """
    shown = frame if columns is None else frame[list(columns)]
    headers = columns if isinstance(columns, Mapping) else {}
    return Table(shown, formats_for(shown, formats), headers, caption, folded)
