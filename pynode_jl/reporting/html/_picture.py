"""Pictures of a report, still or interactive."""

from __future__ import annotations

import base64
import math
import struct
import textwrap
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from matplotlib.figure import Figure

from pynode_jl.errors import InvalidValueError
from pynode_jl.reporting.charts import Chart, Panels
from pynode_jl.reporting.figures import png_bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_CSS_PIXELS = 96  # to an inch
_METRE_INCHES = 39.3701
_LONGEST_LABEL = 100


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure.

    Attributes:
        image: a matplotlib `Figure`, or the bytes of a PNG file.
        alt: what is seen in the picture, for readers who cannot see it; must not be empty.
        caption: the text under it.
        chart: its interactive form, which a page shows in its place; on paper, and where no script
            runs, the image stays.

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
    chart: Chart | Panels | None = None

    @property
    def label(self) -> str:
        """What the region that holds the picture is called."""
        return textwrap.shorten(self.caption or self.alt, _LONGEST_LABEL, placeholder=" ...")

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


def _dots_an_inch(png: bytes) -> float:
    """Return the resolution in a PNG file's pHYs chunk, or that of CSS pixels if it has none."""
    place = png.find(b"pHYs", 0, 1024)
    if place < 0:
        return _CSS_PIXELS
    per_unit, _, unit = struct.unpack(">IIB", png[place + 4 : place + 13])
    dots = per_unit / _METRE_INCHES
    return dots if unit == 1 and math.isfinite(dots) and dots > 0 else _CSS_PIXELS
