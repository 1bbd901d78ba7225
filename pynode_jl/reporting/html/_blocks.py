"""The blocks of a report: plain data. `template` names the file that shows a block."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

from pynode_jl.errors import InvalidValueError, UnknownNameError
from pynode_jl.reporting.figures import png_bytes

VerdictKind: TypeAlias = Literal[
    "valid", "tied", "undecided", "untrained", "overfitted", "non-finite", "failed"
]

#: The kinds of verdict, each with the sign that says it without colour.
VERDICTS: Mapping[VerdictKind, str] = {
    "valid": "✓",
    "tied": "✗",
    "undecided": "?",
    "untrained": "○",
    "overfitted": "○",
    "non-finite": "!",
    "failed": "!",
}

_MISSING = "\N{EN DASH}"
_PNG = b"\x89PNG\r\n\x1a\n"
_CSS_PIXELS = 96  # to an inch
_METRE_INCHES = 39.3701


@dataclass(frozen=True)
class Text:
    """Paragraphs, set apart by blank lines.

    Example:
        >>> from pynode_jl.reporting.html import Text
        >>> Text("One paragraph." + 2 * chr(10) + "Another.").paragraphs
        ['One paragraph.', 'Another.']
    """

    template: ClassVar[str] = "text.html"

    text: str

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs that are not empty."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]


@dataclass(frozen=True)
class VerdictCard:
    """A verdict on one model.

    Attributes:
        kind: one of `VERDICTS`.
        headline: the verdict in a few words.
        text: what it rests on; paragraphs are set apart by blank lines.

    Raises:
        UnknownNameError: another kind.

    Example:
        >>> from pynode_jl.reporting.html import VerdictCard
        >>> VerdictCard("tied", "Tied to its solver").sign
        '✗'
    """

    template: ClassVar[str] = "verdict.html"

    kind: VerdictKind
    headline: str
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in VERDICTS:
            raise UnknownNameError("verdict kind", self.kind, VERDICTS)

    @property
    def sign(self) -> str:
        """The sign that says the kind without colour."""
        return VERDICTS[self.kind]

    @property
    def paragraphs(self) -> list[str]:
        """The text's paragraphs."""
        return Text(self.text).paragraphs


class Cell(NamedTuple):
    """A table's cell as it is shown."""

    text: str
    number: bool


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers and names. Its index is not shown: reset it if it should be.

    Attributes:
        frame: the rows; columns are shown in its order.
        formats: by column, a format such as ".3f" or ".1%", or a function from value to text.
            Other floats are shown with four significant digits, whatever is missing as a dash.
        headers: by column, a heading other than its name.
        caption: what the table shows.
        folded: closed at first, with the caption to open it by; for long tables.

    Raises:
        InvalidValueError: `formats` or `headers` of a column that the table does not have.

    Example:
        >>> import pandas as pd
        >>> from pynode_jl.reporting.html import Table
        >>> table = Table(pd.DataFrame({"accuracy": [0.987]}), {"accuracy": ".1%"})
        >>> table.rows[0][0].text
        '98.7%'
    """

    template: ClassVar[str] = "table.html"

    frame: pd.DataFrame
    formats: Mapping[str, str | Callable[[Any], str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        columns = list(self.frame.columns)
        for argument, given in (("formats", self.formats), ("headers", self.headers)):
            unknown = [column for column in given if column not in columns]
            if unknown:
                raise InvalidValueError(
                    argument,
                    unknown[0],
                    f"columns of the table: {', '.join(map(str, columns))}",
                    f"Remove {unknown[0]!r}, or add the column.",
                )

    @property
    def heading(self) -> list[Cell]:
        """The heading of each column, with whether numbers stand under it."""
        return [
            Cell(str(self.headers.get(column, column)), self._numeric(place))
            for place, column in enumerate(self.frame.columns)
        ]

    @property
    def rows(self) -> list[list[Cell]]:
        """The cells, row by row."""
        # Column by column: a row of a DataFrame has one type for all, which turns 12 into 12.0.
        columns = [
            [Cell(self._shown(column, value), self._numeric(place)) for value in values]
            for place, (column, values) in enumerate(self.frame.items())
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _numeric(self, place: int) -> bool:
        dtype = self.frame.dtypes.iloc[place]
        return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)

    def _shown(self, column: Any, value: Any) -> str:
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return _MISSING
        form = self.formats.get(column)
        if callable(form):
            return form(value)
        if form is not None:
            return format(value, form)
        if pd.api.types.is_bool(value):
            return "yes" if value else "no"
        if pd.api.types.is_float(value):
            return format(value, ".4g")
        return str(value)


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure.

    Attributes:
        image: a matplotlib `Figure`, or the bytes of a PNG file.
        alt: what the picture shows, for readers who cannot see it; must not be empty.
        caption: the text under it.

    Raises:
        InvalidValueError: no `alt`, or bytes that are no PNG file.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from pynode_jl.reporting.html import Picture
        >>> Picture(Figure((2, 1)), "an empty figure").encoded().width
        192
    """

    template: ClassVar[str] = "picture.html"

    image: Figure | bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise InvalidValueError(
                "alt",
                self.alt,
                "a sentence",
                "Say what the picture shows, for readers who cannot see it.",
            )
        if not isinstance(self.image, Figure) and not self.image.startswith(_PNG):
            raise InvalidValueError(
                "image", self.image[:8], "a Figure or a PNG file's bytes", "Convert it to PNG."
            )

    def encoded(self) -> EncodedPicture:
        """Draw the picture, if it is a `Figure`; return a data URI and its size in CSS pixels."""
        png = png_bytes(self.image) if isinstance(self.image, Figure) else self.image
        width, height = struct.unpack(">II", png[16:24])
        scale = _CSS_PIXELS / _dots_an_inch(png)
        uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        return EncodedPicture(uri, round(width * scale), round(height * scale))


class EncodedPicture(NamedTuple):
    """A PNG as a data URI, and its size in CSS pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Facts:
    """Names and values: versions, seed, command line.

    Attributes:
        items: by name, a value; it is shown as `str` writes it, line breaks kept.
        caption: a heading over them.
        prose: the values are sentences, set like text and not like code.

    Example:
        >>> from pynode_jl.reporting.html import Facts
        >>> Facts({"seed": 0, "solver": "Euler h=1/2"}, "Settings").caption
        'Settings'
    """

    template: ClassVar[str] = "facts.html"

    items: Mapping[str, object]
    caption: str = ""
    prose: bool = False


Block: TypeAlias = Text | VerdictCard | Table | Picture | Facts


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Example:
        >>> from pynode_jl.reporting.html import Section, Text
        >>> Section("Results", [Text("None yet.")]).title
        'Results'
    """

    title: str
    blocks: Sequence[Block] = ()


def _dots_an_inch(png: bytes) -> float:
    """Return the resolution in a PNG file's pHYs chunk, or that of CSS pixels if it has none."""
    place = png.find(b"pHYs", 0, 1024)
    if place < 0:
        return _CSS_PIXELS
    per_unit, _, unit = struct.unpack(">IIB", png[place + 4 : place + 13])
    dots = per_unit / _METRE_INCHES
    return dots if unit == 1 and math.isfinite(dots) and dots > 0 else _CSS_PIXELS
