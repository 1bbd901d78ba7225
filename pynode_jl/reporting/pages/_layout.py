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
from pynode_jl.reporting.charts import Chart, Panels
from pynode_jl.reporting.figures import described
from pynode_jl.reporting.formats import Format, formats_for
from pynode_jl.reporting.html import Facts, Picture, Section, Table, write_report


class Drawing(NamedTuple):
    """A figure on a page.

    Attributes:
        figure: the figure.
        caption: the text under it.
        alt: what is seen in it, for who does not see it; default: the figure's own, or the caption.
        chart: its interactive form; default: the figure's own.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.pages import Drawing
        >>> Drawing(Figure(), "What it shows.").alt
        ''
    """

    figure: Figure
    caption: str
    alt: str = ""
    chart: Chart | Panels | None = None


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
        facts: settings and circumstances that decide the numbers; empty ones are left out.

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
    decisive = [each for each in facts if each.items]
    paths, pictures = [], []
    for name, drawing in drawings.items():
        png, pdf = figures.save(drawing.figure, path.with_name(name))
        paths += [png, pdf]
        own = described(drawing.figure)
        alt = drawing.alt or own.alt or drawing.caption
        pictures.append(Picture(read_bytes(png), alt, drawing.caption, drawing.chart or own.chart))
    page = write_report(
        path,
        title=title,
        subtitle=subtitle,
        sections=[
            *found,
            *([Section("Pictures", pictures)] if pictures else []),
            *numbers,
            *([Section("What decides it", decisive)] if decisive else []),
        ],
    )
    return [*paths, page]


def table(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    caption: str = "",
    *,
    formats: Mapping[str, Format] | None = None,
    folded: bool = False,
    measure: figures.Measure | None = None,
) -> Table:
    """Return a table of some `columns` (by name, their headings; default: all), formats by column.

    Args:
        frame: the rows.
        columns: which to show, and under which headings where those are not their names.
        caption: what the table shows.
        formats: those that differ from `reporting.formats.FORMATS`.
        folded: closed at first.
        measure: of a task whose answers are numbers: names scores and writes changes. With one,
            `columns` that the table does not have are left out.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.pages import table
        >>> frame = pd.DataFrame({"label": ["Euler"], "accuracy": [0.987]})
        >>> table(frame, {"label": "solver", "accuracy": "accuracy"}).rows[0][1].text
        '98.7%'
    """
    headers = dict(columns) if isinstance(columns, Mapping) else {}
    if measure is not None and columns is not None:
        columns = [name for name in columns if name in frame]
        headers = {name: headers[name] for name in columns if name in headers}
    shown = frame if columns is None else frame[list(columns)]
    if measure is None or not measure.shifts:
        return Table(shown, formats_for(shown, formats), headers, caption, folded)
    if "score" in headers:
        headers["score"] = measure.metric
    if "damage" in headers:
        headers["damage"] = f"damage, {measure.metric}"
    for name in ("shift", "shift of the ODE"):
        if name in headers:
            headers[name] = measure.heading(headers[name])
    own = _formats_of_shifts(shown, measure) | dict(formats or {})
    return Table(shown, formats_for(shown, own), headers, caption, folded)


#: Columns that hold changes where answers are numbers, and those that hold scores.
_CHANGES = ("shift", "shift_low", "shift_high", "low", "high", "margin", "shift of the ODE")
_SCORES = ("score", "score, low", "score, high", "lowest", "highest", "damage", "worst damage")
_ENDS = ("as trained", "as an ODE")


def _formats_of_shifts(frame: pd.DataFrame, measure: figures.Measure) -> dict[str, Format]:
    """Return formats that differ from those of accuracies."""
    scores = [*_SCORES, *(f"{name}{end}" for name in _ENDS for end in ("", ", low", ", high"))]
    changes = ".1%" if measure.changes_in_percent else ".3g"
    own: dict[str, Format] = dict.fromkeys(_CHANGES, changes)
    own |= dict.fromkeys(scores, ".4g")
    numbers = set(frame.select_dtypes("number").columns)
    return {name: form for name, form in own.items() if name in numbers}
