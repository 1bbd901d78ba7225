"""Docstrings of public names: each has one, with every argument, its errors, and an example.

The public names are those of the documentation's API pages (`docs/generated_pages.py`). Examples
run, and may use what the example of `pynode_jl.diagnostics` makes: `pn`, `np`, and `model`,
`trained` and `data`, a model of one weight that is tied to its solver.
"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import enum
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from test_docs import generated

import pynode_jl

ROOT = Path(pynode_jl.__file__).parent
SETUP = "pynode_jl.diagnostics"
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE
PACKAGES = tuple(generated.PACKAGES)
#: Those that have no example: layers, which `MLP` and its like have; what only other calls pass
#: around; what trains or measures for seconds.
WITHOUT = {
    "pynode_jl.sweeps.plan",
    *(f"pynode_jl.fields.{name}" for name in ("Activation", "Conv", "Dense")),
    "pynode_jl.reporting.pages.write_matrix_report",
}
#: Their examples would start Julia.
JULIA = ("pynode_jl.backends.julia", "pynode_jl.dlpack.as_julia")


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


def public(package: str) -> dict[str, Any]:
    if package == "pynode_jl.torch":
        pytest.importorskip("torch")
    module = importlib.import_module(package)
    return {f"{package}.{name}": getattr(module, name) for name in generated.public_names(package)}


def callables(package: str) -> Iterator[tuple[str, Any, str]]:
    """Public functions, classes and methods, each with all that says what its arguments are: its
    docstring, those of the methods that it overrides, and of their classes."""
    for name, value in public(package).items():
        if inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ""
        if not inspect.isclass(value) or issubclass(value, Exception | enum.Enum | str):
            continue
        bases = [each for each in value.__mro__ if each.__module__.startswith("pynode_jl")]
        about = "".join(each.__doc__ or "" for each in bases)
        for other in re.findall(r"are those of `(\w+)`", about):
            about += getattr(importlib.import_module(package), other, value).__doc__ or ""
        yield name, value, about
        stored = {each.name for each in dataclasses.fields(value)} if is_dataclass(value) else ()
        for key, held in vars(value).items():
            function = getattr(held, "__func__", held)
            if key.startswith("_") or key in stored or not inspect.isfunction(function):
                continue
            same = [vars(each)[key] for each in bases if key in vars(each)]
            yield f"{name}.{key}", function, about + "".join(each.__doc__ or "" for each in same)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_docstrings(package: str) -> None:
    """Classes, functions, methods, properties; a constant has a comment that begins with ``#:``."""
    without = []
    for name, value in public(package).items():
        if inspect.isclass(value):
            held = [value, *(each for key, each in vars(value).items() if not key.startswith("_"))]
            kinds = (type, property, functools.cached_property, classmethod, staticmethod)
            held = [each for each in held if isinstance(each, kinds) or inspect.isfunction(each)]
            lambdas = [each for each in held if getattr(each, "__name__", "") == "<lambda>"]
            without += [
                f"{name}: {each}" for each in held if not each.__doc__ and each not in lambdas
            ]
        elif inspect.isroutine(value):
            without += [name] if not value.__doc__ else []
        elif not generated.comment(package, name.rpartition(".")[2]):
            without.append(name)
    assert not without


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_name_every_argument(package: str) -> None:
    unnamed = []
    for name, value, text in callables(package):
        if package == "pynode_jl.runs" and name.endswith("Config"):
            continue  # its keys have their meanings in `KEYS`, which test_docs holds complete
        for parameter in inspect.signature(value).parameters.values():
            variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if parameter.name in ("self", "cls") or variable:
                continue
            if not re.search(rf"\b{re.escape(parameter.name)}\b", text):
                unnamed.append(f"{name}({parameter.name})")
    assert not unnamed


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_name_the_errors_that_are_raised(package: str) -> None:
    """Those of ``raise`` in the body itself; `PyNODEError` stands for all."""
    untold = []
    for name, value, text in callables(package):
        if inspect.isclass(value):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                error = getattr(node.exc.func, "id", "")
                if error.endswith("Error") and not re.search(rf"{error}|PyNODEError", text):
                    untold.append(f"{name}: {error}")
    assert not untold


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_an_example(package: str) -> None:
    without = {
        name
        for name, value in public(package).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ != "builtins"  # an alias of str, say
        and not (inspect.isclass(value) and issubclass(value, Exception))
        and not name.startswith(JULIA)
        and ">>>" not in (value.__doc__ or "")
    }
    assert without == {name for name in WITHOUT if name.rpartition(".")[0] == package}


def test_an_example_that_is_wrong_fails() -> None:
    run("right", ">>> 1 + 1\n2\n", {})
    with pytest.raises(AssertionError, match="Expected"):
        run("wrong", ">>> 1 + 1\n3\n", {})
