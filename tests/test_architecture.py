"""The structure of the sources: layers, circles, private names, file names, lengths, the picture.

`docs/make_architecture.py` reads the imports and has the table of layers. The lists here name what
does not follow a rule yet. They only shrink: a test fails, too, where a row is no longer needed.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from docs_scripts import load_docs_script

architecture = load_docs_script("make_architecture")
MODULES = architecture.modules()
IMPORTS = architecture.imports()
UNIT = architecture.unit

#: File names that several packages have, for one and the same thing.
SHARED_NAMES = {
    "__init__": "the public names of a package",
    "_backend": "a Backend",
    "_fields": "how a backend evaluates vector fields",
    "_module": "the module classes of a front end",
    "_odeint": "the odeint of a front end",
    "_to_trained": "a user's model as a TrainedModel",
    "_verdicts": "certify and swap of a front end",
    "_sentences": "English made from a package's data",
}
MOST_LINES = 500
#: Its docstring apart: a limit must not cost documentation.
MOST_LINES_OF_A_FUNCTION = 80
UNPLACED = {architecture.PACKAGE, "__main__", *architecture.REEXPORTS}


def height(name: str) -> int:
    """The layer of a unit, counted from the bottom."""
    return next(i for i, (_, names) in enumerate(architecture.LAYERS) if name in names)


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def test_the_reader_sees_lazy_imports_and_those_for_types_and_by_name(tmp_path: Path) -> None:
    """What the other tests rest on, on sources whose imports are known."""
    folder = tmp_path / "pynode_jl" / "inner"
    folder.mkdir(parents=True)
    (tmp_path / "pynode_jl" / "__init__.py").touch()
    (folder / "__init__.py").write_text("from pynode_jl.inner._a import made\n")
    (folder / "_a.py").write_text(
        "from importlib import import_module\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from pynode_jl import inner\n"
        "def made():\n"
        "    from . import _b\n"
        "    import pynode_jl.inner._b\n"
        "    return import_module('pynode_jl.inner._b')\n"
    )
    (folder / "_b.py").touch()
    inner, a, b = "pynode_jl.inner", "pynode_jl.inner._a", "pynode_jl.inner._b"
    assert sorted(architecture.imports(tmp_path)) == sorted(
        [(inner, a, "made", False), (a, inner, "", True), *[(a, b, "", False)] * 3]
    )


def test_every_package_stands_in_one_layer() -> None:
    placed = [name for _, names in architecture.LAYERS for name in names]
    assert len(placed) == len(set(placed))
    found = {UNIT(name) for name in MODULES}
    assert found == {*placed, *UNPLACED}


def test_imports_point_to_lower_layers() -> None:
    upward = {
        (each.source, each.target)
        for each in IMPORTS
        if UNIT(each.source) not in UNPLACED
        and UNIT(each.source) != UNIT(each.target)
        and (
            UNIT(each.target) in UNPLACED or height(UNIT(each.target)) >= height(UNIT(each.source))
        )
    }
    assert not upward


@pytest.mark.parametrize("of", ["packages", "modules"])
def test_there_is_no_circle(of: str) -> None:
    """Imports for types apart: they are not made when the program runs."""
    graph: dict[str, set[str]] = defaultdict(set)
    made = {(each.source, each.target) for each in IMPORTS if not each.for_types}
    for source, target in made:
        if of == "packages":
            source, target = UNIT(source), UNIT(target)
        if source != target:
            graph[source].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}")


def test_reexport_modules_only_import() -> None:
    for name in architecture.REEXPORTS:
        for node in tree(f"pynode_jl.{name}").body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            guard = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            public = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            imported = isinstance(node, ast.ImportFrom | ast.Import)
            assert docstring or guard or public or imported, f"{name}: {ast.unparse(node)}"


def test_a_name_of_a_file_means_one_thing() -> None:
    files = defaultdict(list)
    for path in MODULES.values():
        files[path.stem].append(path)
    # Re-export modules have the names of the packages that they stand for.
    repeated = {
        name
        for name, paths in files.items()
        if len(paths) > 1 and name not in architecture.REEXPORTS
    }
    assert repeated == set(SHARED_NAMES)


def test_private_modules_and_names_stay_in_their_package() -> None:
    private = set()
    for each in IMPORTS:
        parts = [*each.target.split("."), *([each.name] if each.name else [])]
        hidden = [i for i, part in enumerate(parts) if part.startswith("_") and part[1:2] != "_"]
        if not hidden:
            continue
        # `a.b._c` is at home in the package `a.b`; a private name of a module in that module's.
        home = parts[: hidden[0]]
        if ".".join(home) in MODULES and MODULES[".".join(home)].stem != "__init__":
            home = home[:-1]
        if each.source.split(".")[: len(home)] != home:
            private.add((each.source, each.target))
    assert not private


def test_no_module_is_long() -> None:
    long = {
        name
        for name, path in MODULES.items()
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert not long


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring apart."""
    lines = (node.end_lineno or 0) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_no_function_is_long() -> None:
    long = {
        f"{name}.{node.name}"
        for name in MODULES
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and length(node) > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_the_picture_is_that_of_the_code() -> None:
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture(), (
        "run: python docs/make_architecture.py"
    )


def test_no_two_boxes_share_a_place() -> None:
    corners = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"', architecture.picture())
    assert len(corners) == len(set(corners)) == len(set(map(UNIT, MODULES)) - UNPLACED)


def test_the_picture_changes_with_an_import(tmp_path: Path) -> None:
    package = tmp_path / "pynode_jl"
    for name in ("cli", "runs"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    before = architecture.picture(tmp_path)
    (package / "cli" / "__init__.py").write_text("import pynode_jl.runs\n")
    assert architecture.picture(tmp_path).count("marker-end") == before.count("marker-end") + 1
