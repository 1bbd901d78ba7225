"""The examples in docstrings: each one runs and gives what it says; every public name has one.

They may use what the example of `pynode_jl.diagnostics` makes: `pn`, `np`, and `model`, `trained`
and `data`, a model of one weight that is tied to its solver.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pynode_jl

ROOT = Path(pynode_jl.__file__).parent
SETUP = "pynode_jl.diagnostics"
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE
#: Packages whose public functions and classes have an example each.
PACKAGES = (
    "pynode_jl",
    "pynode_jl.backends",
    "pynode_jl.datasets",
    "pynode_jl.diagnostics",
    "pynode_jl.jax",
    "pynode_jl.paper",
    "pynode_jl.reporting.figures",
    "pynode_jl.reporting.html",
    "pynode_jl.reporting.notebook",
    "pynode_jl.reporting.pages",
    "pynode_jl.runs",
    "pynode_jl.sklearn",
    "pynode_jl.solvers",
    "pynode_jl.torch",
    "pynode_jl.training",
    "pynode_jl.training.step_adaptation",
)
#: Those that have none: it would need a trained run, more than a second.
WITHOUT = {"pynode_jl.reporting.pages.write_matrix_report"}


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, qualified name and text of every docstring with an example, read from the sources."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes: list[tuple[str, Any]] = [("", tree)]
        while nodes:
            name, node = nodes.pop()
            text = ast.get_docstring(node) or ""
            if ">>>" in text:
                yield module, name, text
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                    nodes.append((f"{name}.{inner.name}".lstrip("."), inner))


EXAMPLES = {f"{module}:{name}": text for module, name, text in examples()}


def run(name: str, text: str, scope: dict[str, Any]) -> None:
    """Run the example of a docstring; what it prints must be what it says."""
    test = doctest.DocTestParser().get_doctest(text, scope, name, name, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=told.append, clear_globs=False)
    scope.update(test.globs)
    assert not told, "".join(told)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    run(SETUP, importlib.import_module(SETUP).__doc__ or "", scope)
    return scope


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_give_what_they_say(
    name: str, made: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for framework in ("torch", "juliacall"):
        if framework.removesuffix("call") in name:
            pytest.importorskip(framework)
    if "onnx" in name:
        pytest.importorskip("onnx")
    module = importlib.import_module(name.partition(":")[0])
    monkeypatch.chdir(tmp_path)
    run(name, EXAMPLES[name], {**vars(module), **made})


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_an_example(package: str) -> None:
    if package == "pynode_jl.torch":
        pytest.importorskip("torch")
    module = importlib.import_module(package)
    without = {
        f"{package}.{name}"
        for name in module.__all__
        for value in [getattr(module, name)]
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ != "builtins"  # an alias of str, say
        and ">>>" not in (value.__doc__ or "")
    }
    assert without == {name for name in WITHOUT if name.rpartition(".")[0] == package}


def test_an_example_that_is_wrong_fails() -> None:
    run("right", ">>> 1 + 1\n2\n", {})
    with pytest.raises(AssertionError, match="Expected"):
        run("wrong", ">>> 1 + 1\n3\n", {})
