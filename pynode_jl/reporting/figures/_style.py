"""The one style of all figures, and the two ways out of here: PNG bytes and files."""

from __future__ import annotations

import functools
import io
import os
import re
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, log10
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator

from pynode_jl._io import make_folder, write_bytes
from pynode_jl.reporting.figures._described import DescribedFigure
from pynode_jl.solvers import step_text as step_text

#: Okabe and Ito's colours, ordered so that neighbours differ in grey too. Yellow is left out: thin
#: lines of it vanish on white. Where more is told apart than there are colours, markers help.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#D55E00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
INK = "#222222"
FAINT = "#8A8A8A"
PNG_DPI = 160
_CSS_PIXELS = 96  # to an inch
_ALIKE = 2.0  # spans of axes that need no word

_STYLE: dict[str, Any] = {
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals accept it
    "text.color": INK,
    "xtick.color": "#555555",
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": "#555555",
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}

# The formulas of the figures here, and those that matplotlib writes at ticks.
_MATHS = re.compile(r"\$(?:[a-z](?:_\d)?|h=10\^\{[^{}$]*\}|\\math(?:default|it)\{[^$]*\})\$")

# A style is global while it is on: threads that draw at once (a Dask worker's) take turns, or one
# would restore what another has set.
_LOCK = threading.RLock()

_P = ParamSpec("_P")


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults with ours over them, and afterwards what was there before."""
    with _LOCK, matplotlib.style.context(["default", _STYLE]):
        yield


def styled(build: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Run the function `build` of a figure under `style`, and lay the figure out once and for all.

    Names of a user's are drawn as they are: a dollar sign in one begins no formula, and what the
    font does not have is written by its number.

    Left to itself a figure lays itself out anew at each drawing, from where the last one left it:
    the second file made of it would differ from the first by hairs.
    """

    @functools.wraps(build)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with style():
            figure = build(*args, **kwargs)
            _take_literally(figure)
            engine = figure.get_layout_engine()
            if engine is not None:
                # A panel of a fixed shape first takes the room that it is given, and only then is
                # it seen what stands out over it.
                shaped = any(ax.get_box_aspect() or ax.get_aspect() != "auto" for ax in figure.axes)
                for _ in range(2 if shaped else 1):
                    engine.execute(figure)
                figure.set_layout_engine("none")
            return figure

    return wrapped


def _take_literally(figure: Figure) -> None:
    for each in figure.findobj(Text):
        assert isinstance(each, Text)
        text = each.get_text()
        if "$" in _MATHS.sub("", text):
            each.set_parse_math(False)
        if not text.isascii():
            each.set_text(drawable(text))


def drawable(text: str) -> str:
    """Return a text with every character that the figures' font lacks written by its number.

    Example:
        >>> from pynode_jl.reporting.figures import drawable
        >>> drawable("\u8bad h=1/16")
        'U+8BAD h=1/16'
    """
    if text.isascii():
        return text
    font = _font()
    return "".join(
        each if each.isascii() or font.get_char_index(ord(each)) else f"U+{ord(each):04X}"
        for each in text
    )


@functools.cache
def _font() -> FT2Font:
    return get_font(findfont(FontProperties(family=_STYLE["font.family"])))


class ShownFigure(DescribedFigure):
    """A figure that a notebook shows by itself.

    matplotlib tells a notebook how to show figures when pyplot is imported; here it never is.
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int | str]]:
        width, height = (round(inches * _CSS_PIXELS) for inches in self.get_size_inches())
        said = {"alt": self.description.alt} if self.description.alt else {}
        return png_bytes(self), {"width": width, "height": height, **said}


def new_figure(width: float, height: float) -> ShownFigure:
    """Return an empty figure of that size in inches, which lays itself out."""
    return ShownFigure(figsize=(width, height), layout="constrained")


def grid_shape(panels: int, most_columns: int) -> tuple[int, int]:
    """Return rows and columns for that many panels, as even as `most_columns` lets them be."""
    rows = ceil(panels / most_columns)
    return rows, ceil(panels / rows)


def title(ax: Axes, text: str, width: float, size: float = 9.5) -> None:
    """Set a title over `ax`, broken into lines that fit `width` inches."""
    characters = max(8, int(width * 72 / (0.66 * size)))  # 0.66 em: a bold letter's mean width
    lines = [textwrap.fill(line, characters) for line in text.splitlines()]
    ax.set_title("\n".join(lines), fontsize=size)


def percent(value: float) -> str:
    """Return a share in percent with one decimal, with none if it is 0 or 100: "98.6", "100"."""
    text = f"{100 * value:.1f}"
    return text[:-2] if text in ("0.0", "100.0", "-0.0") else text


def percent_axis() -> FuncFormatter:
    """Return tick labels for shares: "50 %"."""
    return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")


def log_locator(low: float, high: float) -> LogLocator:
    """Return ticks of a logarithmic axis: the more decades, the fewer in each."""
    decades = log10(high / low) if 0 < low < high else 1.0
    subs = (1.0, 2.0, 5.0) if decades <= 2 else (1.0, 3.0) if decades <= 3 else (1.0,)
    return LogLocator(subs=subs, numticks=8)


def say_ranges(figure: Figure, axes: Iterable[Axes]) -> None:
    """Say above a figure's legend that its panels' axes differ by more than a factor, if so."""
    listed = list(axes)
    across = _ranges([float(np.ptp(ax.get_xlim())) for ax in listed])
    up = _ranges([float(np.ptp(ax.get_ylim())) for ax in listed])
    if across or up:
        spans = across if across == up else ", ".join(
            f"{span} {way}" for span, way in ((across, "across"), (up, "up")) if span
        )  # fmt: skip
        note = f"The panels' axes differ: they span {spans}."
        # As a part of the legend it has room of its own: a label of the figure would lie under it.
        legend = figure.legends[-1]
        legend.set_title(note)
        legend.get_title().set_fontsize(8.5)


def _ranges(spans: Sequence[float]) -> str:
    """Return "0.5 to 870" of spans that differ; "" of those that are alike."""
    if max(spans) <= _ALIKE * min(spans):
        return ""
    # Twice: 870, and not 8.7e+02.
    return " to ".join(f"{float(f'{each:.2g}'):g}" for each in (min(spans), max(spans)))


def class_colour(label: int) -> str:
    """Return the colour of a class; -1, no class at all, is grey."""
    return FAINT if label < 0 else COLOURS[label % (len(COLOURS) - 1)]


def tint(colour: str, strength: float) -> tuple[float, float, float]:
    """Return `colour` mixed with white: strength 1 is the colour, 0 is white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def png_bytes(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """Return the figure as the bytes of a PNG file, without date or version in it.

    `dpi` is the resolution.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.figures import png_bytes
        >>> png_bytes(Figure((2, 1)))[:4]
        b'\x89PNG'
    """
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path_without_suffix: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the figure as PNG (160 dots an inch) and as vector PDF.

    The bytes depend on the figure alone: no date, no version. Missing folders are created.

    Args:
        figure: what to write.
        path_without_suffix: where; ``.png`` and ``.pdf`` are appended (a name with dots, such as
            ``h=0.5``, stays whole).

    Returns:
        The two paths, PNG first.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.figures import save
        >>> [path.name for path in save(Figure((2, 1)), "empty")]
        ['empty.png', 'empty.pdf']
    """
    base = Path(path_without_suffix)
    png, pdf = base.with_name(base.name + ".png"), base.with_name(base.name + ".pdf")
    make_folder(base.parent)
    write_bytes(png, png_bytes(figure))
    buffer = io.BytesIO()
    with style():
        figure.savefig(
            buffer,
            format="pdf",
            metadata={"CreationDate": None, "Creator": None, "Producer": None},
        )
    write_bytes(pdf, buffer.getvalue())
    return png, pdf
