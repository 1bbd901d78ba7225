"""Find Julia, without starting it, importing juliacall, or downloading anything.

Three places, the first that is set up counts:

- ``PYTHON_JULIACALL_EXE`` and ``PYTHON_JULIACALL_PROJECT``: an executable, and an environment with
  PythonCall and the solvers. juliapkg is not asked: the route for clusters.
- juliapkg's environment of this Python, where `pynode-jl julia install` has resolved it.
- A ``julia`` on the path with the shared environment ``@pynode_jl``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pynode_jl.errors import BackendUnavailableError

EXE, PROJECT = "PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"
SHARED = "pynode_jl"


class Environment(NamedTuple):
    """A Julia and a project of its."""

    exe: str
    project: str


class Discovery(NamedTuple):
    """Whether Julia was found, and what was found or how to install it.

    `exe` and `project` are empty where juliapkg knows them.

    `text` says it in words.
    """

    found: bool
    text: str
    exe: str = ""
    project: str = ""


def discover() -> Discovery:
    """Look for Julia."""
    if importlib.util.find_spec("juliacall") is None:
        return Discovery(False, "juliacall is not installed. pip install 'pynode-jl[julia]'")
    exe, project = os.environ.get(EXE), os.environ.get(PROJECT)
    if exe or project:
        if not exe or not project:
            unset = PROJECT if exe else EXE
            return Discovery(False, f"{unset} is not set: set both or neither. {setup_hint()}")
        if not os.access(exe, os.X_OK):
            return Discovery(False, f"{EXE} = {exe!r} is no executable file. {setup_hint()}")
        if not (Path(project) / "Project.toml").is_file():
            return Discovery(False, f"{PROJECT} = {project!r} has no Project.toml. {setup_hint()}")
        return _checked(exe, project)
    if _resolved_by_juliapkg():
        return Discovery(True, "the environment that juliapkg has resolved")
    shared = environment()
    if shared is not None:
        return _checked(*shared)
    return Discovery(False, f"no Julia environment is set up. {setup_hint()}")


def environment() -> Environment | None:
    """Return the environment that the variables name or, without them, the shared one, if any.

    juliacall need not be installed.
    """
    exe = os.environ.get(EXE) or shutil.which("julia")
    project = os.environ.get(PROJECT) or str(_depot() / "environments" / SHARED)
    if exe is None or not (Path(project) / "Project.toml").is_file():
        return None
    return Environment(exe, project)


def pythoncall_version(project: str | Path) -> str | None:
    """Return the version of PythonCall in an environment's manifest; None if it has none.

    `project` is the environment's folder.
    """
    manifest = _parsed(Path(project) / "Manifest.toml")
    entries = manifest.get("deps", {}).get("PythonCall", [])
    if not entries:
        return None
    entry = entries[0]
    if "path" in entry:
        entry = _parsed(Path(project) / entry["path"] / "Project.toml")
    return str(entry["version"]) if "version" in entry else None


def julia_package() -> Path:
    """Return the folder of the Julia package: beside the sources, or inside an installed wheel."""
    home = Path(__file__).parents[2]
    candidates = (home / "_julia", home.parent / "julia")
    for folder in candidates:
        if (folder / "Project.toml").is_file():
            return folder
    raise BackendUnavailableError(
        f"The Julia package PyNODE is in none of {', '.join(map(str, candidates))}."
        " Install pynode-jl again."
    )


def setup_hint() -> str:
    """Return the commands that set up Julia."""
    return (
        "Run `pynode-jl julia install` (it downloads), or set one up with Julia 1.10 or newer:"
        f' julia --project=@{SHARED} -e \'using Pkg; Pkg.develop(path="{julia_package()}");'
        f' Pkg.add(name="PythonCall", version="{_juliacall_version()}")\', with julia on the path'
        f" or {EXE} and {PROJECT} naming it and its environment"
    )


def _checked(exe: str, project: str) -> Discovery:
    # juliacall refuses a PythonCall of another version, deep inside its start.
    there, here = pythoncall_version(project), _juliacall_version()
    if there is not None and there != here:
        return Discovery(
            False,
            f"juliacall is {here} and PythonCall in {project} is {there}: they must be the same."
            f" pip install juliacall=={there}",
        )
    return Discovery(True, f"{exe}, environment {project}", exe, project)


def _juliacall_version() -> str:
    try:
        return importlib.metadata.version("juliacall")
    except importlib.metadata.PackageNotFoundError:
        return "0.9"


def _depot() -> Path:
    first = os.environ.get("JULIA_DEPOT_PATH", "").split(os.pathsep)[0]
    return Path(first) if first else Path.home() / ".julia"


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _resolved_by_juliapkg() -> bool:
    # juliapkg has no public question for this; an answer that cannot be had is no.
    try:
        from juliapkg.deps import can_skip_resolve

        return bool(can_skip_resolve())
    except Exception:
        return False
