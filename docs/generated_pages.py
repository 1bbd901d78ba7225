"""Write the parts of the reference that are made from the code: keys, commands, solvers, API.

`python docs/generated_pages.py` prints the tables of the configuration. `make docs` writes all into
`docs/reference/generated` and `docs/reference/api`, which git ignores.
"""

from __future__ import annotations

import ast
import csv
import functools
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DOCS = Path(__file__).parent
ROOT = DOCS.parent

#: Public packages and modules, with the heading of each page.
PACKAGES = {
    "pynode_jl": "What most programs need",
    "pynode_jl.solvers": "Solvers, tableaus, the catalogue",
    "pynode_jl.fields": "Vector fields",
    "pynode_jl.models": "Models and their weights",
    "pynode_jl.tasks": "Tasks",
    "pynode_jl.datasets": "Data sets",
    "pynode_jl.backends": "Backends, solutions, optimisers",
    "pynode_jl.backends.julia": "The Julia backend",
    "pynode_jl.training": "Training",
    "pynode_jl.training.step_adaptation": "Step adaptation",
    "pynode_jl.diagnostics": "Swap, verdict, certificate",
    "pynode_jl.runs": "Configurations and run folders",
    "pynode_jl.torch": "The torch front end",
    "pynode_jl.jax": "The JAX front end",
    "pynode_jl.sklearn": "The scikit-learn front end",
    "pynode_jl.dlpack": "Arrays between frameworks",
    "pynode_jl.proportions": "Intervals of shares",
    "pynode_jl.resampling": "Bootstrap intervals",
    "pynode_jl.sweeps": "Sweeps",
    "pynode_jl.paper": "The paper's figures",
    "pynode_jl.reporting.figures": "Figures",
    "pynode_jl.reporting.pages": "Pages",
    "pynode_jl.reporting.html": "HTML blocks",
    "pynode_jl.reporting.notebook": "Views in notebooks",
    "pynode_jl.errors": "Errors",
    "pynode_jl.seeding": "Seeds",
}


def public_names(package: str) -> list[str]:
    """Return the public names of a package: its `__all__`, or what it defines for users.

    Example:
        >>> "swap" in public_names("pynode_jl")
        True
    """
    module = importlib.import_module(package)
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith(("_", "check", "kaiming"))
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == package
    ]


def write(folder: Path) -> None:
    """Write every generated page below `folder`; what did not change keeps its time."""
    pages = {
        folder / "generated" / "configuration.md": configuration(),
        folder / "generated" / "commands.md": commands(),
        folder / "generated" / "solvers.md": solvers(),
        folder / "generated" / "run.schema.json": schema(),
    }
    pages |= {folder / "api" / f"{name}.rst": api(name) for name in PACKAGES}
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    head = list(head)

    def line(cells: Iterable[Any]) -> str:
        texts = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)]) + "\n"


def summary(value: Any) -> str:
    """Return the first sentence of a docstring, on one line."""
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())


def rst(text: str) -> str:
    """Return a docstring's line with the stars of shapes and the bars of norms escaped.

    Example:
        >>> rst("states (n, *state) and |y|")
        'states (n, \\\\*state) and \\\\|y\\\\|'
    """
    parts = re.split(r"(``.*?``|`.*?`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"(?<=[(\s])\*(?=\w+[,)\s])", r"\\*", parts[i])
        if not text.lstrip().startswith(("|", "+")):
            parts[i] = parts[i].replace("|", r"\|")
    return "".join(parts)


@functools.cache
def targets() -> dict[str, str]:
    """Return where a name in single backticks leads: public classes and functions, and methods."""
    found: dict[str, str] = {}
    for package in reversed(PACKAGES):
        module = importlib.import_module(package)
        for name in public_names(package):
            value = getattr(module, name)
            if _documented(value):
                home = _home(package, name, value)
                found |= {name: f"{home}.{name}", f"{package}.{name}": f"{home}.{name}"}
            if inspect.isclass(value):
                for method in vars(value):
                    if not method.startswith("_"):
                        found[f"{name}.{method}"] = f"{home}.{name}.{method}"
    return found


def _home(package: str, name: str, value: Any) -> str:
    top = importlib.import_module("pynode_jl")
    return "pynode_jl" if name in top.__all__ and getattr(top, name) is value else package


# --- The configuration --------------------------------------------------------------------------


def _toml(value: Any) -> str:
    """Return a default as a TOML file has it; empty where there is none to write."""
    import tomli_w

    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "`{}`" if not value else f"`{dict(value)}`"
    try:
        plain = list(value) if isinstance(value, tuple) else value
        return f"`{tomli_w.dumps({'k': plain})[4:].strip()}`".replace("\n", "")
    except (TypeError, ValueError):
        return f"`{value}`"


def _key_rows(properties: Mapping[str, Any], needed: Iterable[str] = ()) -> Iterator[list[str]]:
    """Yield each key of a JSON schema as a row: its name, its default and its meaning."""
    for name, each in properties.items():
        default = "needed" if name in needed else _toml(each.get("default"))
        yield [f"`{name}`", default, each.get("description", "")]


def configuration() -> str:
    """Return the tables of every key that a TOML file may have, with defaults and meanings."""
    from pynode_jl.runs import TABLES, config_schema

    head = ("key", "default", "meaning")
    properties = config_schema()["properties"]
    top = {name: each for name, each in properties.items() if name not in TABLES}
    parts = ["## The top of the file\n", table(head, _key_rows(top))]
    for name, made in TABLES.items():
        held = properties[name]
        parts += [f"## `[{name}]`\n", summary(made), "", table(head, _key_rows(held["properties"]))]
        parts += _cases(name, held)
        if name == "train":
            parts += _cases("train.optimizer", held["properties"]["optimizer"]["anyOf"][1])
    return "\n".join(parts)


def schema() -> str:
    """Return the JSON schema of a TOML file, as ``pynode-jl init --schema`` prints it."""
    from pynode_jl.runs import config_schema

    return json.dumps(config_schema(), indent=1) + "\n"


def _cases(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options that a table has with each name of its maker."""
    for case in schema.get("allOf", ()):
        ((key, value),) = case["if"]["properties"].items()
        yield f'### `[{name}]` with `{key} = "{value["const"]}"`\n'
        yield case["then"].get("description", "")
        yield ""
        rows = list(_key_rows(case["then"]["properties"], case["then"].get("required", ())))
        yield table(("option", "default", "meaning"), rows) if rows else "No options.\n"


# --- The command line ---------------------------------------------------------------------------


def commands() -> str:
    """Return what every command says of itself: arguments, options, defaults."""
    import typer

    from pynode_jl.cli._app import app

    return "\n".join(_command("pynode-jl", typer.main.get_command(app), 1))


def _command(path: str, command: Any, level: int) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    examples = (command.epilog or "").replace("\b", "").replace("Examples:", "").strip("\n")
    if level > 1:
        yield f"{'#' * level} `{path}`\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
    else:
        yield f"{examples}\n"
    rows = [row for each in command.params if (row := _parameter(each))]
    if rows and level > 1:  # of all commands the options are `--version` and completion
        yield table(("argument or option", "default", "meaning"), rows)
    if level > 1 and examples:
        yield f"```\n{textwrap.dedent(examples)}\n```\n"
    for name, each in inner.items():
        if not each.hidden:
            yield from _command(f"{path} {name}", each, level + 1)


def _parameter(parameter: Any) -> tuple[str, str, str] | None:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return None
    names = [*parameter.opts, *parameter.secondary_opts]
    name = ", ".join(f"`{each}`" for each in names)
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    default = parameter.default
    shown = "" if callable(default) or default in (None, [], False) else f"`{default}`"
    return name, "needed" if parameter.required else shown, getattr(parameter, "help", "") or ""


# --- The solvers --------------------------------------------------------------------------------


@functools.cache
def measured_orders(file: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table that `pynode-jl zoo` wrote, by name."""
    with (DOCS / file).open(encoding="utf-8", newline="") as lines:
        return {row["name"]: row for row in csv.DictReader(lines)}


def twins() -> dict[str, tuple[str, ...]]:
    """Return, by solver, the other solvers of the catalogue with its coefficients."""
    import pynode_jl as pn

    groups: dict[Any, list[str]] = {}
    for row in pn.catalogue():
        if row.tableau is not None:
            t = row.tableau
            key = tuple(
                None if x is None else np.asarray(x).tobytes() for x in (t.a, t.b, t.b_error)
            )
            groups.setdefault(key, []).append(row.name)
    return {
        name: tuple(each for each in group if each != name)
        for group in groups.values()
        for name in group
    }


def _two_digits(order: str) -> str:
    return f"{float(order):.2f}" if order else ""


def solvers() -> str:
    """Return the table of the catalogue: one row a solver, those that need no Julia first."""
    import pynode_jl as pn

    same = twins()
    rows = []
    for row in sorted(pn.catalogue(), key=lambda row: "jax" not in row.backends):
        in_jax, in_julia = (
            measured_orders(file).get(row.name, {}) for file in ("zoo_jax.csv", "zoo.csv")
        )
        peers = [f"= {library} {peer}" for library, peer in row.same_as.items()]
        peers += [f"= {each}" for each in same.get(row.name, ())]
        peers += [f"not {library} {peer}" for library, peer in row.near.items()]
        steps = [*["fixed"] * row.fixed_step, *["adaptive"] * row.adaptive]
        notes = ["; ".join(peers) + "." * bool(peers), row.note, in_julia.get("problem", "")]
        notes += [] if row.plain else [f"Solves a {row.problem}."]
        rows.append(
            (
                f"`{row.name}`",
                "" if row.order is None else row.order,
                _two_digits(in_jax.get("measured", "")),
                _two_digits(in_julia.get("measured", "")),
                "" if row.tableau is None else row.tableau.stages,
                row.family,
                ": ".join(filter(None, (", ".join(row.backends), ", ".join(steps)))),
                " ".join(filter(None, notes)),
            )
        )
    head = ("name", "order", "in JAX", "in Julia", "stages", "family", "runs in")
    body = table((*head, "same as, not as; notes"), rows)
    return f":::{{container}} searchable\n\n{body}\n:::\n"


# --- The API ------------------------------------------------------------------------------------


def api(package: str) -> str:
    """Return the page of a package: a table of its names, and each name's docstring."""
    module = importlib.import_module(package)
    lead = rst(summary(module).replace("::", ":"))
    first, rest = PACKAGES[package][:2], PACKAGES[package][2:]
    # "Data sets" begins small after a colon, "HTML blocks" does not.
    title = f"{package}: {first if first.isupper() else first.lower()}{rest}"
    parts = [title, "=" * len(title), "", lead, "", f".. py:module:: {package}", ""]
    parts += [".. list-table::", "   :widths: 30 70", ""]
    own: list[str] = []
    for name in sorted(public_names(package), key=str.casefold):
        value = getattr(module, name)
        home = _home(package, name, value)
        described_as = rst(summary(value)) if _documented(value) else comment(package, name)
        parts += [f"   * - :py:obj:`{name} <{home}.{name}>`", f"     - {described_as}"]
        if home == package:
            own.append(name)
    for name in own:
        parts += ["", *_entry(package, name, getattr(module, name))]
    return "\n".join(parts) + "\n"


def _documented(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _entry(package: str, name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {package}.{name}", "   :members:", "   :show-inheritance:"]
    if inspect.isroutine(value):
        return [f".. autofunction:: {package}.{name}"]
    return [f".. py:data:: {name}", "", f"   {comment(package, name)}"]


@functools.cache
def _comments(package: str) -> dict[str, str]:
    """Return the ``#:`` comments above the assignments of a package's modules, by name."""
    found: dict[str, str] = {}
    folder = ROOT / package.replace(".", "/")
    files = sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in ast.parse(text).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            above = node.lineno - 2
            said: list[str] = []
            while above >= 0 and lines[above].startswith("#: "):
                said.insert(0, lines[above][3:])
                above -= 1
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and said:
                    found[target.id] = " ".join(said)
    return found


def comment(package: str, name: str) -> str:
    """Return what the comment above a constant says, "" where it has none."""
    return _comments(package).get(name, "")


if __name__ == "__main__":
    print(configuration())
