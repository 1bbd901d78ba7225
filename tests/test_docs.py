"""The documents: links that lead somewhere, tables that agree with the code, a README that runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import pynode_jl as pn
from pynode_jl.paper import REPRODUCTIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "benchmarks" / "README.md",
]


DEFINITIONS = ast.FunctionDef | ast.ClassDef


def anchors(document: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_guide_lists_every_reproduction() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    table = guide.partition("## The paper's figures")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(name, row.summary) for name, row in REPRODUCTIONS.items()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_of_the_package_exist(document: Path) -> None:
    """``pn.name`` in text or code is a public name."""
    for name in set(re.findall(r"\bpn\.(\w+)", document.read_text(encoding="utf-8"))):
        assert name in pn.__all__, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in set(
        re.findall(r"`((?:pynode_jl|tests|examples|benchmarks|docs|julia)/[\w./-]+)`", text)
    ):
        assert (ROOT / name).exists(), name


def test_the_walks_through_the_code_name_what_is_there() -> None:
    """``file.py`, `name``: the file defines the function or class."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"`(pynode_jl/[\w/]+\.py)`,\s+`(\w+)`", text)
    assert len(steps) == 30
    for file, name in steps:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
        assert name in defined, f"{file}: {name}"


def test_code_of_the_documents_is_python() -> None:
    for document in DOCUMENTS:
        for block in re.findall(
            r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL
        ):
            ast.parse(block)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_what_exists_is_certified_as_the_guide_says(framework: str, capsys: Any) -> None:
    """The examples of that section run as they stand."""
    pytest.importorskip(framework)
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    section = guide.partition("## Certify what exists")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (block,) = [each for each in blocks if f"pynode_jl.{framework} import" in each]
    exec(compile(block, "guide.md", "exec"), {"__name__": "guide"})
    assert "untrained" in capsys.readouterr().out
