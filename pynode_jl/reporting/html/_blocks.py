"""The blocks of a report: plain data. `template` names the file that shows a block."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from pynode_jl.errors import UnknownNameError
from pynode_jl.reporting.html._matrix_block import Matrix
from pynode_jl.reporting.html._picture import Picture
from pynode_jl.reporting.html._table import Table

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


@dataclass(frozen=True)
class Text:
    """Paragraphs, set apart by blank lines.

    `text` is plain: nothing in it is markup.

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


@dataclass(frozen=True)
class Facts:
    """Names and values: versions, seed, command line.

    Attributes:
        items: by name, a value: line breaks are kept, a mapping's or list's items have lines.
        caption: a heading over them.
        prose: the values are sentences, set like text and not like code.

    Example:
        >>> from pynode_jl.reporting.html import Facts
        >>> Facts({"seed": 0, "steps": {"coarse": 0.5, "fine": None}}, "Settings").shown
        {'seed': '0', 'steps': 'coarse: 0.5\\nfine: none'}
    """

    template: ClassVar[str] = "facts.html"

    items: Mapping[str, object]
    caption: str = ""
    prose: bool = False

    @property
    def shown(self) -> dict[str, str]:
        """The values as texts."""
        return {name: fact_text(value) for name, value in self.items.items()}


#: What a section holds.
Block: TypeAlias = Text | VerdictCard | Table | Picture | Matrix | Facts


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    `blocks` are texts, tables, figures and the like, in their order.

    Example:
        >>> from pynode_jl.reporting.html import Section, Text
        >>> Section("Results", [Text("None yet.")]).title
        'Results'
    """

    title: str
    blocks: Sequence[Block] = ()


def fact_text(value: object) -> str:
    """Return a value for a reader: no quotes, braces or brackets of Python's.

    Example:
        >>> from pynode_jl.reporting.html import fact_text
        >>> fact_text([0.1 + 0.2, None, True])
        '0.3, none, yes'
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_in_a_line(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        nested = any(isinstance(each, Mapping | list | tuple) for each in value)
        return ("\n" if nested else ", ").join(map(_in_a_line, value)) or "none"
    return str(value)


def _in_a_line(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_a_line(each)}" for name, each in value.items())
    return fact_text(value).replace("\n", "; ")
