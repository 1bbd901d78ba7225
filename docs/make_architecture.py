"""Draw docs/architecture.svg from the imports that the sources of pynode_jl make.

    python docs/make_architecture.py

`LAYERS` is the one table of layers; `tests/test_architecture.py` holds the code against it, and the
committed picture against the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGE = "pynode_jl"

#: From the bottom up: what a layer is, and its packages and modules. Imports go to lower layers.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("errors", ("errors", "_version")),
    ("arguments, files", ("_validation", "_io", "_display")),
    ("seeds, intervals", ("seeding", "proportions")),
    ("resampling", ("resampling",)),
    ("plain data", ("fields", "solvers", "tasks")),
    ("the model, data", ("models", "datasets")),
    ("numerics", ("backends",)),
    ("training", ("training", "dlpack")),
    ("verdicts", ("diagnostics",)),
    ("front ends", ("frontends",)),
    ("runs", ("runs",)),
    ("figures, pages", ("reporting",)),
    ("sweeps", ("sweeps",)),
    ("the paper", ("paper",)),
    ("commands", ("cli",)),
)
#: Import paths of former versions, or short ones: nothing but imports, of no layer.
REEXPORTS = (
    *("adaptation", "analysis", "experiments", "figures", "report", "reproduce"),
    *("torch", "jax", "sklearn"),
)


class Import(NamedTuple):
    """One import: module `source` needs module `target`, and of it the name `name`, if one.

    Attributes:
        for_types: stands under ``if TYPE_CHECKING``.
    """

    source: str
    target: str
    name: str = ""
    for_types: bool = False


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the file of each module of the package, by dotted name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> list[Import]:
    """Return every import of one module of the package by another, read from the sources.

    Those inside functions count too, and so does a text that is a module's name, in a module that
    calls `importlib.import_module`.
    """
    known = modules(root)
    return [each for name, path in known.items() for each in _imports_of(name, path, known)]


def _imports_of(source: str, path: Path, known: Mapping[str, Path]) -> Iterable[Import]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    by_name = "import_module" in text
    package = source if path.stem == "__init__" else source.rpartition(".")[0]
    for node in ast.walk(tree):
        types = id(node) in for_types
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: 1 - node.level or None]
                base = ".".join([*above, base] if base else above)
            if base.split(".")[0] == PACKAGE:
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield (
                        Import(source, inner, "", types)
                        if inner in known
                        else Import(source, base, alias.name, types)
                    )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield Import(source, alias.name, "", types)
        elif by_name and isinstance(node, ast.Constant) and node.value in known:
            yield Import(source, str(node.value))


def unit(module: str) -> str:
    """Return the package or module of the top level that a module belongs to."""
    return module.split(".")[1] if "." in module else PACKAGE


def layered_imports(found: Iterable[Import]) -> set[tuple[str, str]]:
    """Return the pairs (importer, imported) of the units that stand in `LAYERS`."""
    placed = {name for _, names in LAYERS for name in names}
    pairs = {(unit(each.source), unit(each.target)) for each in found if not each.for_types}
    return {(a, b) for a, b in pairs if a != b and {a, b} <= placed}


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return `pairs` less those that a chain of the others implies."""
    below: dict[str, set[str]] = {}
    for a, b in pairs:
        below.setdefault(a, set()).add(b)

    def reaches(start: str, goal: str) -> bool:
        return any(step == goal or reaches(step, goal) for step in below.get(start, ()))

    return {
        (a, b) for a, b in pairs if not any(reaches(other, b) for other in below[a] if other != b)
    }


# Columns of boxes: an arrow past a layer needs that layer's column of its target to be free.
_COLUMNS = {
    **dict.fromkeys(("frontends", "dlpack", "models", "fields", "seeding"), 0),
    "datasets": 2,
    "tasks": 2,
    "proportions": 3,
    "_version": 3,
    "_io": 4,
    "_display": 5,
}
_MIDDLE = 1  # the column of all others
_WIDTH, _LEFT, _COLUMN, _BOX, _ROW, _HEIGHT = 1102, 170, 156, 138, 76, 44
_INK, _FAINT = "#222222", "#8A8A8A"
_FILLS = ("#EEF3F8", "#DCE8F3")


def picture(root: Path = ROOT) -> str:
    """Return the SVG: a box for each package, an arrow for each import that no others imply."""
    names = modules(root)
    present = {unit(name) for name in names}
    rows = [
        (title, [name for name in units if name in present]) for title, units in reversed(LAYERS)
    ]
    places: dict[str, tuple[float, float]] = {}
    parts: list[str] = []
    for i, (title, units) in enumerate(rows):
        top = 20 + i * _ROW
        parts.append(
            f'<text x="16" y="{top + 27}" font-size="12.5" fill="{_FAINT}">{escape(title)}</text>'
        )
        for name in units:
            places[name] = (_LEFT + _COLUMNS.get(name, _MIDDLE) * _COLUMN, top)
    boxes = [_box(name, *place, _subpackages(name, names)) for name, place in places.items()]
    arrows = [
        _arrow(places[a], places[b]) for a, b in sorted(reduced(layered_imports(imports(root))))
    ]
    height = 20 + len(rows) * _ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
            f' width="{_WIDTH}" height="{height}" font-family="DejaVu Sans, sans-serif">',
            "<title>The packages of pynode_jl: each imports from those below it</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"'
            f' markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{_FAINT}"/></marker>'
            "</defs>",
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            *parts,
            *arrows,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _subpackages(name: str, names: Mapping[str, Path]) -> list[str]:
    inner = f"{PACKAGE}.{name}."
    return [
        module.removeprefix(inner)
        for module, path in names.items()
        if module.startswith(inner) and path.stem == "__init__" and "." not in module[len(inner) :]
    ]


def _box(name: str, x: float, y: float, inner: list[str]) -> str:
    middle = x + _BOX / 2
    lower = " · ".join(inner)
    text = f'<text x="{middle:g}" y="{y + (20 if inner else 27):g}" font-size="14" {_CENTRED}>'
    text += f"{escape(name)}</text>"
    if inner:
        text += f'<text x="{middle:g}" y="{y + 36:g}" font-size="10.5" {_CENTRED}>'
        text += f"{escape(lower)}</text>"
    fill = _FILLS[bool(inner)]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX}" height="{_HEIGHT}" rx="6" fill="{fill}"'
        f' stroke="#9DB4CB"/>{text}'
    )


_CENTRED = f'text-anchor="middle" fill="{_INK}"'


def _arrow(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """Draw from a box to the column of a lower one, in the first gap, and down that column."""
    x0, x1 = upper[0] + _BOX / 2, lower[0] + _BOX / 2
    y0, turned = upper[1] + _HEIGHT, upper[1] + _ROW
    middle = (y0 + turned) / 2
    return (
        f'<path d="M{x0:g},{y0:g} C{x0:g},{middle:g} {x1:g},{middle:g} {x1:g},{turned - 6:g}'
        f' L{x1:g},{lower[1] - 1:g}" fill="none" stroke="{_FAINT}" stroke-width="1.1"'
        ' marker-end="url(#tip)"/>'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE}: {len(reduced(layered_imports(imports())))} arrows")
