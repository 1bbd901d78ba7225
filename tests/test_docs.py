"""The documents: links that lead somewhere, code that runs, tables that agree with the code.

A Python block runs after those above it on its page, in an empty folder. One that takes long, or
needs a Julia or a GPU, has a comment above it that says why, and where it runs::

    <!-- not run: it needs a Julia; tests/backends/julia has it -->

The cells of tutorials run when `make docs` builds the site, which also follows its links.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from docs_scripts import load_docs_script

import pynode_jl as pn
from pynode_jl.paper import REPRODUCTIONS

ROOT = Path(__file__).parents[1]
#: Written by `make docs`.
MADE = ("docs/_build", "docs/reference/api", "docs/reference/generated")
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(
        path
        for path in sorted(ROOT.glob("docs/**/*.md"))
        if not path.relative_to(ROOT).as_posix().startswith(MADE)
    ),
    ROOT / "benchmarks" / "README.md",
]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)
DEFINITIONS = ast.FunctionDef | ast.ClassDef


class Block(NamedTuple):
    """A fenced block: its language, its text, and why it is not run, if it is not."""

    language: str
    text: str
    not_run: str
    line: int


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    fences = r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)$"
    for found in re.finditer(fences, text, re.MULTILINE | re.DOTALL):
        above = text[: found.start()].rstrip().rpartition("\n")[2]
        marked = re.fullmatch(r"<!-- not run: (.+) -->", above)
        line = text.count("\n", 0, found.start()) + 2
        why = marked[1] if marked else ""
        yield Block(found["language"].strip(), found["text"], why, line)


generated = load_docs_script("generated_pages")


def anchors(document: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@each_document
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_reproduction_is_listed() -> None:
    page = (ROOT / "docs/how_to/reproduce_the_paper.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(name, row.summary) for name, row in REPRODUCTIONS.items()]


@each_document
def test_names_of_the_package_exist(document: Path) -> None:
    """``pn.name`` in text or code is a public name."""
    for name in set(re.findall(r"\bpn\.(\w+)", document.read_text(encoding="utf-8"))):
        assert name in pn.__all__, name


@each_document
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in set(
        re.findall(r"`((?:pynode_jl|tests|examples|benchmarks|docs|julia)/[\w./-]+)`", text)
    ):
        assert (ROOT / name).exists() or name.startswith(MADE), name


def test_the_walks_through_the_code_name_what_is_there() -> None:
    """``file.py`, `name``: the file defines the function or class."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"`(pynode_jl/[\w/]+\.py)`,\s+`(\w+)`", text)
    assert len(steps) == 30
    for file, name in steps:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
        assert name in defined, f"{file}: {name}"


@each_document
def test_code_can_be_read(document: Path) -> None:
    """Also that of blocks that are not run, and of the tutorials' cells."""
    for block in blocks(document):
        if block.language == "python" or block.language.startswith("{code-cell}"):
            ast.parse(re.sub(r"^:tags:.*\n", "", block.text))


@each_document
def test_every_block_says_what_it_is_or_is_a_command(document: Path) -> None:
    known = {"python", "toml", "yaml", "julia", "console", "text", "csv", "json", ""}
    for block in blocks(document):
        assert block.language in known or block.language.startswith("{"), block


#: The README's second block is a sketch; docs/how_to/certify_what_exists.md has the whole.
SKETCHES = {"README.md": ("certify(field, head, images",)}
#: It trains for half a minute.
LONG = ("README.md",)


def runnable(document: Path) -> list[Block]:
    sketches = SKETCHES.get(document.relative_to(ROOT).as_posix(), ())
    return [
        block
        for block in blocks(document)
        if block.language == "python"
        and not block.not_run
        and not any(sketch in block.text for sketch in sketches)
    ]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(page, id=name, marks=pytest.mark.long if name in LONG else pytest.mark.slow)
        for page in DOCUMENTS
        for name in [page.relative_to(ROOT).as_posix()]
        if runnable(page)
    ],
)
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"__name__": "page", "pn": pn}
    for block in runnable(document):
        source = "\n" * (block.line - 1) + block.text
        exec(compile(source, str(document), "exec"), scope)


@each_document
def test_configurations_are_read(document: Path) -> None:
    for block in blocks(document):
        if block.language == "toml" and not block.not_run:
            values = tomllib.loads(block.text)
            is_sweep = not {"grid", "zip", "points"}.isdisjoint(values)
            (pn.Sweep if is_sweep else pn.Config).from_dict(values)


#: What ends a command in a shell.
ENDS = {"&&", "||", "|", ">", ";"}


def commands(document: Path) -> Iterator[list[str]]:
    """The arguments of each ``pynode-jl`` in a block of commands and what they print."""
    for block in blocks(document):
        if block.language in ("", "text", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if not re.match(r"(\$ )?(.* && )?pynode-jl ", line):
                    continue
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while "pynode-jl" in words:
                    words = words[words.index("pynode-jl") + 1 :]
                    ends = [i for i, word in enumerate(words) if word in ENDS]
                    yield words[: ends[0]] if ends else words


@each_document
def test_commands_exist_with_their_options(document: Path) -> None:
    import typer

    from pynode_jl.cli._app import app

    # click's, of which newer typers have a copy of their own.
    usage_error: Any = typer.BadParameter.__base__
    for words in commands(document):
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        try:
            known = command.context_class(command, resilient_parsing=True)
            command.make_parser(known).parse_args(rest)
        except usage_error as error:
            pytest.fail(f"pynode-jl {' '.join(words)}: {error.format_message()}")


def test_every_key_of_a_configuration_has_a_meaning() -> None:
    """The reference is made of the classes that read the file; a row without words is no help."""
    rows = re.findall(r"^\| (`\w+`) \| (.*) \| (.*) \|$", generated.configuration(), re.MULTILINE)
    assert len(rows) > 100
    assert not [key for key, _, meaning in rows if not meaning.strip()]


def test_the_catalogue_has_a_row_for_every_solver() -> None:
    """What runs without Julia comes first: the table begins with what most readers can use."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \| .*\|$", generated.solvers(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(row.name for row in pn.catalogue())
    in_jax = ["jax" in runs for _, runs in rows]
    assert sum(in_jax) == 156
    assert in_jax == sorted(in_jax, reverse=True)


def test_every_command_is_in_the_reference() -> None:
    import typer

    from pynode_jl.cli._app import app

    page = generated.commands()
    command: Any = typer.main.get_command(app)
    for name, each in command.commands.items():
        assert each.hidden or f"`pynode-jl {name}`" in page


def test_values_of_a_package_have_its_name_once() -> None:
    """The page names the package first: with it again no link would find them."""
    names = re.findall(
        r"^\.\. py:data:: (.*)$", generated.api("pynode_jl.diagnostics"), re.MULTILINE
    )
    assert "CRITERIA" in names
    assert not [name for name in names if "." in name]


def test_titles_of_packages_keep_their_capitals() -> None:
    titles = [
        generated.api(name).partition("\n")[0]
        for name in ("pynode_jl.reporting.html", "pynode_jl.datasets")
    ]
    assert titles == ["pynode_jl.reporting.html: HTML blocks", "pynode_jl.datasets: data sets"]


def test_the_citation_is_of_this_version_and_names_the_papers_address() -> None:
    """One version in the package's file, one address in its metadata: how to cite says the same."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [pn.__version__]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"url: {project['urls']['Paper']}" in citation
