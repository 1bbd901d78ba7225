"""The Julia of this process: where it is found, how it is started. The only importer of juliacall.

Two routes, neither of which downloads anything:

- ``PYTHON_JULIACALL_EXE`` and ``PYTHON_JULIACALL_PROJECT`` name a Julia and an environment that has
  PythonCall and the solvers. The route for clusters: juliapkg is not asked.
- Otherwise juliapkg's environment, if it is resolved already.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pynode_jl
from pynode_jl.errors import BackendUnavailableError

LEAST_VERSION = (1, 10)
#: Julia is not to be entered by two threads at once, and a call gives Python's lock away.
LOCK = threading.RLock()

_EXE, _PROJECT = "PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"
_THREADS, _SIGNALS = "PYTHON_JULIACALL_THREADS", "PYTHON_JULIACALL_HANDLE_SIGNALS"


class Discovery(NamedTuple):
    """Whether a Julia is at hand, and what was found or what mends it."""

    found: bool
    text: str


def discover() -> Discovery:
    """Look for a Julia without starting it, importing juliacall, or downloading anything."""
    if importlib.util.find_spec("juliacall") is None:
        return Discovery(False, "juliacall is not installed. pip install 'pynode-jl[julia]'")
    exe, project = os.environ.get(_EXE), os.environ.get(_PROJECT)
    if exe or project:
        if not exe or not project:
            unset = _PROJECT if exe else _EXE
            return Discovery(False, f"{unset} is not set: set both or neither. {_mend()}")
        if not os.access(exe, os.X_OK):
            return Discovery(False, f"{_EXE} = {exe!r} is no executable file. {_mend()}")
        if not (Path(project) / "Project.toml").is_file():
            return Discovery(False, f"{_PROJECT} = {project!r} has no Project.toml. {_mend()}")
        return Discovery(True, f"{exe}, environment {project}")
    if _resolved_by_juliapkg():
        return Discovery(True, "the environment that juliapkg has resolved")
    return Discovery(False, f"no Julia environment is set up. {_mend()}")


def julia_package() -> Path:
    """The folder of the Julia package: beside the sources, or inside an installed wheel."""
    home = Path(pynode_jl.__file__).parent
    candidates = (home / "_julia", home.parent / "julia")
    for folder in candidates:
        if (folder / "Project.toml").is_file():
            return folder
    raise BackendUnavailableError(
        f"The Julia package PyNODE is in none of {', '.join(map(str, candidates))}."
        " Install pynode-jl again."
    )


@cache
def julia() -> Any:
    """Julia's `Main`, started on first use, with PyNODE loaded. A failed start is tried again.

    Raises:
        BackendUnavailableError: no Julia, a broken one, or an old one; Julia's error is the cause.
    """
    discovery = discover()
    if not discovery.found:
        raise BackendUnavailableError(f"backend = 'julia': {discovery.text}")
    # With one thread Julia needs no signal of its own, and Ctrl-C stays Python's: it raises
    # KeyboardInterrupt when Julia returns. Several threads need SIGSEGV for Julia's safepoints.
    threads = os.environ.get(_THREADS, os.environ.get("JULIA_NUM_THREADS", "1"))
    os.environ.setdefault(_SIGNALS, "no" if threads == "1" else "yes")
    with LOCK, warnings.catch_warnings():
        # It warns when torch came first; tests start it in both orders.
        warnings.filterwarnings("ignore", "torch was imported before juliacall")
        try:
            import juliacall
        except Exception as error:
            raise BackendUnavailableError(
                f"backend = 'julia': Julia did not start ({discovery.text}): {error}. {_mend()}"
            ) from error
        main = juliacall.Main
        version = main.VERSION
        if (version.major, version.minor) < LEAST_VERSION:
            raise BackendUnavailableError(
                f"backend = 'julia': this is Julia {version} ({discovery.text}); it takes"
                f" {'.'.join(map(str, LEAST_VERSION))} or newer. Install one (juliaup.org)."
            )
        try:
            main.seval(_LOAD)(str(julia_package()))
        except juliacall.JuliaError as error:
            raise BackendUnavailableError(
                f"backend = 'julia': PyNODE does not load in {discovery.text}. {_mend()}"
            ) from error
        return main


# An environment that has PyNODE gives its own; elsewhere it is found by its folder, and its
# dependencies in the environment.
_LOAD = """
function (folder)
    isnothing(Base.identify_package("PyNODE")) && push!(LOAD_PATH, String(folder))
    Core.eval(Main, :(import PyNODE))
    return nothing
end
"""


def call(function: Any, *arguments: Any) -> Any:
    """A Julia function's result; other Python threads run meanwhile."""
    with LOCK:
        return function._jl_call_nogil(*arguments)


def julia_error() -> type[Exception]:
    """The class of the exceptions that Julia code raises."""
    import juliacall

    error: type[Exception] = juliacall.JuliaError
    return error


def versions() -> dict[str, str]:
    """Versions of Julia, juliacall and the solvers, of the running Julia."""
    main = julia()
    core = main.seval("string(pkgversion(Base.require(Main.PyNODE, :OrdinaryDiffEqCore)))")
    return {
        "julia": str(main.VERSION),
        "juliacall": importlib.metadata.version("juliacall"),
        "OrdinaryDiffEqCore": str(core),
    }


def _resolved_by_juliapkg() -> bool:
    # juliapkg has no public question for this; an answer that cannot be had is no.
    try:
        from juliapkg.deps import can_skip_resolve

        return bool(can_skip_resolve())
    except Exception:
        return False


def _mend() -> str:
    return (
        "Set one up with Julia 1.10 or newer: julia --project=DIR -e 'using Pkg;"
        f' Pkg.develop(path="{julia_package()}"); Pkg.add("PythonCall")\''
        f", then export {_EXE}=/path/to/julia {_PROJECT}=DIR"
    )
