"""The report: everything is in it, nothing outside it is needed, text stays text."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pynode_jl.errors import InvalidValueError, PyNODEError, UnknownNameError
from pynode_jl.reporting.html import (
    VERDICTS,
    Facts,
    Picture,
    Section,
    Table,
    Text,
    VerdictCard,
    report_html,
    write_report,
)

EVIL = '<script>alert("x")</script> & \'"><img src=http://evil.example/x onerror=1>'


def figure():
    made = Figure(figsize=(3, 2))
    made.subplots().plot([0, 1], [1, 0])
    return made


def png(width=4, height=3):
    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"\0" * (height * (width + 1))))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


def page(*blocks):
    return report_html(title="Report", sections=[Section("One", blocks)])


class Tags(HTMLParser):
    """All start tags with their attributes; whether every tag that opens also closes."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def everything():
    frame = pd.DataFrame({EVIL: [EVIL], "accuracy": [0.98765]})
    return [
        Section(
            EVIL,
            [
                Text(EVIL),
                *[VerdictCard(kind, EVIL, EVIL) for kind in VERDICTS],
                Table(frame, {"accuracy": ".3f"}, {"accuracy": EVIL}, EVIL),
                Table(frame, caption=EVIL, folded=True),
                Picture(figure(), alt=EVIL, caption=EVIL),
                Picture(png(), alt="grey"),
                Facts({EVIL: EVIL, "seed": 0}, EVIL),
            ],
        ),
        Section("empty"),
        Section("three"),
    ]


def test_all_that_is_given_is_escaped_and_well_formed():
    html = report_html(title=EVIL, subtitle=EVIL, sections=everything(), footer=EVIL)
    parsed = Tags(html)
    kinds = {tag for tag, _ in parsed.tags}
    assert "script" not in kinds
    assert sum(tag == "img" for tag, _ in parsed.tags) == 2
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    assert parsed.text.count(EVIL) == 18 + 2 * len(VERDICTS)
    assert [a["alt"] for tag, a in parsed.tags if tag == "img"] == [EVIL, "grey"]


def test_page_needs_nothing_from_outside():
    parsed = Tags(report_html(title="Report", sections=everything()))
    for _, attrs in parsed.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attrs.get(name, "#").startswith(("data:image/png;base64,", "#"))
    assert not {"link", "script", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    style = parsed.text[parsed.text.index(":root") :]
    assert "url(" not in style
    assert "@import" not in style
    policy = [a["content"] for _, a in parsed.tags if a.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_links_of_the_contents_lead_to_sections():
    parsed = Tags(report_html(title="Report", sections=everything()))
    ids = {attrs["id"] for _, attrs in parsed.tags if "id" in attrs}
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert len(links) == 3
    assert {link.removeprefix("#") for link in links} == ids
    assert "<nav" not in page(Text("short"))


def test_table_holds_all_its_numbers():
    values = np.random.default_rng(0).random((7, 3))
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    text = Tags(page(Table(frame, {"a": ".6f", "b": lambda value: f"<{value:.2e}>"}))).text
    for a, b, c in values:
        assert f"{a:.6f}" in text
        assert f"<{b:.2e}>" in text
        assert f"{c:.4g}" in text


def test_cells_by_type():
    frame = pd.DataFrame(
        {
            "name": ["RK4", None],
            "nf": [12, 10**7],
            "finer": [True, False],
            "error": [1.23456e-5, np.nan],
        }
    )
    table = Table(frame, {"error": ".1e"}, {"nf": "evaluations"})
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["RK4", "12", "yes", "1.2e-05"],
        ["\N{EN DASH}", "10000000", "no", "\N{EN DASH}"],
    ]
    assert [tuple(cell) for cell in table.heading] == [
        ("name", False),
        ("evaluations", True),
        ("finer", False),
        ("error", True),
    ]


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"a": []})])
def test_empty_tables(frame):
    assert "no rows" in Tags(page(Table(frame, folded=True))).text


def test_columns_of_one_name_are_kept_apart():
    frame = pd.DataFrame([[1, "x"]], columns=["a", "a"])
    assert [[tuple(cell) for cell in row] for row in Table(frame).rows] == [
        [("1", True), ("x", False)]
    ]


def test_pictures_are_the_bytes_given_at_their_size_on_paper():
    parsed = Tags(page(Picture(png(), alt="grey"), Picture(figure(), alt="line")))
    given, drawn = (attrs for tag, attrs in parsed.tags if tag == "img")
    assert base64.b64decode(given["src"].partition(",")[2]) == png()
    assert (given["width"], given["height"]) == ("4", "3")
    assert (drawn["width"], drawn["height"]) == ("288", "192")  # 3 by 2 inches


def test_text_and_verdict():
    parsed = Tags(page(Text("one\n\n\n two \n"), VerdictCard("tied", "A ResNet", "It breaks.")))
    assert re.search(r"one\s+two", parsed.text)
    assert sum(tag == "p" for tag, _ in parsed.tags) == 4
    assert "✗" in parsed.text
    assert any("verdict tied" in (attrs.get("class") or "") for _, attrs in parsed.tags)


def test_file_is_written_whole_twice_the_same_and_alone(tmp_path):
    path = tmp_path / "new" / "report.html"
    made = write_report(path, title="Report", sections=everything())
    first = path.read_bytes()
    assert made == path
    assert first.decode() == report_html(title="Report", sections=everything())
    write_report(str(path), title="Report", sections=everything())
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: VerdictCard("tide", "x"), UnknownNameError, "did you mean tied"),
        (lambda: Picture(b"GIF89a", alt="x"), InvalidValueError, "image = b'GIF89a'"),
        (lambda: Picture(png(), alt=" "), InvalidValueError, "alt = ' '"),
        (lambda: Table(pd.DataFrame({"a": [1]}), {"b": ".1f"}), InvalidValueError, "formats = 'b'"),
        (lambda: Table(pd.DataFrame({"a": [1]}), {}, {"b": "B"}), InvalidValueError, "headers"),
        (lambda: page("plain"), InvalidValueError, r"sections\[0\].blocks\[0\]"),
        (lambda: report_html(title=" ", sections=[]), InvalidValueError, "title = ' '"),
    ],
)
def test_what_cannot_be_shown_is_refused(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert isinstance(caught.value, PyNODEError)


def test_a_failed_write_leaves_the_old_report(tmp_path):
    path = write_report(tmp_path / "report.html", title="Old", sections=[])
    with pytest.raises(InvalidValueError):
        write_report(path, title="", sections=[])
    assert "Old" in path.read_text(encoding="utf-8")
