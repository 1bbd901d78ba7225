"""The report: everything is in it, nothing outside it is needed, text stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pynode_jl.errors import InvalidValueError, PyNODEError, UnknownNameError
from pynode_jl.reporting.charts import Field, interval_chart, line_chart, point_chart
from pynode_jl.reporting.html import (
    VERDICTS,
    Facts,
    Layer,
    Matrix,
    Picture,
    Section,
    Table,
    Text,
    VerdictCard,
    _write,
    report_html,
    shades,
    vega_script,
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


@pytest.fixture(autouse=True)
def no_vega(monkeypatch):
    """Vega itself takes seconds to put together: `test_vega_itself` does."""
    monkeypatch.setattr(_write, "vega_script", lambda: "window.vegaEmbed = null;")


def page(*blocks):
    return report_html(title="Report", sections=[Section("One", blocks)])


class Tags(HTMLParser):
    """All start tags with their attributes; whether every tag that opens also closes."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.scripts = [], [], "", []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1].get("type", ""), data))
        else:
            self.text += data

    def all(self, name, **wanted):
        return [
            attrs for tag, attrs in self.tags if tag == name and wanted.items() <= attrs.items()
        ]


def chart():
    data = pd.DataFrame({EVIL: [0.5, np.inf], "y.z": [1, 2], "unused": 0, "solver": EVIL})
    names = Field("solver", kind="nominal")
    return line_chart(data, Field(EVIL), Field("y.z"), colour=names, told=[names])


def matrix(name="x", rows=2, columns=3, **more):
    cells = [[f"{i}{j}" for j in range(columns)] for i in range(rows)]
    return Matrix(
        [Layer(name, cells, np.linspace(0, 1, rows * columns).reshape(rows, columns))],
        [f"{name}{i}" for i in range(rows)],
        [f"column {j}" for j in range(columns)],
        (name, "columns"),
        name,
        **more,
    )


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
                Picture(png(), alt="grey", chart=chart()),
                matrix(EVIL),
                Facts({EVIL: EVIL, "seed": 0}, EVIL),
            ],
        ),
        Section("empty"),
        Section("three"),
    ]


def test_all_that_is_given_is_escaped_and_well_formed():
    html = report_html(title=EVIL, subtitle=EVIL, sections=everything(), footer=EVIL)
    parsed = Tags(html)
    assert [attrs.get("type") for attrs in parsed.all("script")] == ["application/json"] * 2 + [
        None
    ] * 2
    assert len(parsed.all("img")) == 2
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    # The matrix: caption, name beside its scale, corner, two columns (it is turned).
    assert parsed.text.count(EVIL) == 18 + 2 * len(VERDICTS) + 5
    assert [attrs["alt"] for attrs in parsed.all("img")] == [EVIL, "grey"]
    for kind, text in parsed.scripts[:2]:
        assert EVIL in json.dumps(json.loads(text), ensure_ascii=False).replace('\\"', '"')
        assert kind == "application/json"


def policy_of(parsed):
    (policy,) = [attrs["content"] for attrs in parsed.all("meta") if attrs.get("http-equiv")]
    return dict(rule.strip().split(" ", 1) for rule in policy.split(";"))


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_page_needs_nothing_from_outside():
    parsed = Tags(report_html(title="Report", sections=everything()))
    for _, attrs in parsed.tags:
        assert "style" not in attrs
        for name in ("src", "href", "srcset", "action", "data"):
            assert attrs.get(name, "#").startswith(("data:image/png;base64,", "#"))
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
    style = parsed.text[parsed.text.index(":root") :]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("blocks", [(), (Text("plain"),), (Table(pd.DataFrame({"a": [1]})),)])
def test_only_its_own_style_and_scripts_are_allowed(blocks):
    """By their hashes: a script or style that anything else brings along is not run."""
    html = page(*blocks, *(everything()[0].blocks if blocks else ()))
    rules = policy_of(Tags(html))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    assert rules["style-src"] == digest(style)
    scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
    assert rules["script-src"] == (" ".join(map(digest, scripts)) or "'none'")
    assert bool(scripts) == bool(blocks)


def test_rows_have_headers_and_regions_that_scroll_have_names():
    frame = pd.DataFrame({"solver": ["RK4", "Euler"], "accuracy": [0.5, 0.75]})
    parsed = Tags(page(Table(frame, caption="Swaps"), Table(frame), matrix(), Picture(png(), "A.")))
    assert len(parsed.all("th", scope="row")) == 2 + 2 + 3
    assert len(parsed.all("th", scope="col")) == 2 + 2 + (1 + 2)
    regions = [a for tag, a in parsed.tags if "scroll" in (a.get("class") or "").split()]
    assert [region["aria-label"] for region in regions] == [
        *("Swaps", "Table of solver, accuracy", "Matrix of x: columns by x", "A."),
    ]
    assert all((r["role"], r["tabindex"]) == ("region", "0") for r in regions)


def test_columns_are_sorted_as_what_they_hold():
    frame = pd.DataFrame(
        {
            "solver": ["2D", "RK4"],
            "flips": ["12 of 1000 (0.5 to 2%)", None],
            "share": ["+1,234.5%", "12%"],
            "h": ["1/16", "2"],
            "nf": [1, 2],
            "none": [None, None],
        }
    )
    assert Table(frame).sorted_as_numbers == [False, True, True, True, True, False]


def test_a_still_page_says_how_to_make_it_answer(monkeypatch):
    monkeypatch.setattr(_write, "vega_script", lambda: None)
    still = page(Picture(png(), "grey", chart=chart()))
    assert "pynode-jl[pages]" in still
    assert "<script" not in still
    assert 'class="interactive"' not in still
    assert "pynode-jl[pages]" not in page(Picture(png(), "grey"))


def test_a_chart_has_what_it_draws_and_no_more():
    text = json.loads(chart().to_json("what is seen"))
    assert text["data"]["values"] == [
        {EVIL: 0.5, "y.z": 1, "solver": EVIL},
        {EVIL: None, "y.z": 2, "solver": EVIL},
    ]
    assert text["description"] == "what is seen"
    line = text["layer"][0]["encoding"]
    assert line["y"]["field"] == "y\\.z"  # a dot would be a path
    assert line["tooltip"] == [{"field": "solver", "type": "nominal", "title": "solver"}]


def test_failed_solves_are_crosses_and_no_values():
    data = pd.DataFrame({"h": [1.0, 2.0], "y": [0.9, 0.0], "own": [True, False], "bad": [0, 1]})
    made = line_chart(data, Field("h"), Field("y"), own="own", failed="bad", level=0.5)
    assert made.data["y"].tolist()[0] == 0.9
    assert np.isnan(made.data["y"].tolist()[1])
    marks = [layer["mark"]["type"] for layer in made.spec["layer"]]
    assert marks == ["line", "rule", "point", "point"]


@pytest.mark.parametrize(
    "make",
    [
        lambda data: line_chart(data, Field("x"), Field("no")),
        lambda data: line_chart(data, Field("x"), Field("x"), own="no"),
        lambda data: point_chart(data, Field("no"), Field("x")),
        lambda data: interval_chart(data, Field("x"), Field("x"), low="x", high="no"),
    ],
)
def test_charts_of_columns_that_are_not_there_are_refused(make):
    with pytest.raises(InvalidValueError, match="a column 'no'"):
        make(pd.DataFrame({"x": [1.0]}))


def test_a_matrix_is_longer_than_wide():
    wide = matrix(own=[[0, 0, 1], [0, 0, 0]], failed=[[0, 0, 0], [1, 0, 0]])
    assert (list(wide.rows), list(wide.columns)) == (
        ["column 0", "column 1", "column 2"],
        ["x0", "x1"],
    )
    shown = [[(cell.text, cell.classes) for cell in row.cells] for row in wide.cells()]
    assert shown == [
        [("00", "l0"), ("\N{MULTIPLICATION X}", "l12 failed")],
        [("01", "l4"), ("11", "l16")],
        [("02", "l8 own"), ("12", "l20")],
    ]
    given = json.loads(wide.to_json())
    assert given["sides"] == ["columns", "x"]
    assert given["layers"][0]["levels"] == [[0, 12], [4, 16], [8, 20]]
    assert given["orders"] == [{"name": "as given", "rows": [0, 1, 2], "columns": [0, 1]}]


def test_shades_go_from_worst_to_best_and_have_none_for_what_is_missing():
    assert shades([0.0, 0.5, 1.0, 2.0], 0.0, 1.0).tolist() == [0.0, 0.5, 1.0, 1.0]
    assert np.isnan(shades([np.nan], 0.0, 1.0)).all()
    assert Layer("x", [["a", ""]], [[1.0, np.nan]]).levels == [[20, -1]]


@pytest.mark.slow
def test_vega_itself():
    """It comes from vl-convert, names what the page calls, and ends no script element."""
    pytest.importorskip("vl_convert")
    script = vega_script()
    assert "window.vegaEmbed" in script
    assert "</script" not in script
    assert len(script) < 1.2e6


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
        (lambda: Matrix([], [], []), InvalidValueError, "layers = 0"),
        (lambda: Matrix([Layer("x", [["a"]], [[1]])], ["a"], ["b", "c"]), InvalidValueError, "1 r"),
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
