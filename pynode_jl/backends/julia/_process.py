"""The Julia of this process: how it is started and called. The only importer of juliacall."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import threading
import warnings
from functools import cache
from typing import Any

from pynode_jl.backends._forks import check_fork
from pynode_jl.backends.julia._discovery import EXE, PROJECT, discover, julia_package, setup_hint
from pynode_jl.errors import BackendUnavailableError

LEAST_VERSION = (1, 10)
#: What gradients other than "discrete", Lux layers and the GPU need in the Julia environment.
OPTIONAL_PACKAGES = (
    "ComponentArrays",
    "DiffEqFlux",
    "Lux",
    "LuxCUDA",
    "SciMLSensitivity",
    "Zygote",
)
#: Julia is not to be entered by two threads at once, and a call gives Python's lock away.
LOCK = threading.RLock()

_THREADS, _SIGNALS = "PYTHON_JULIACALL_THREADS", "PYTHON_JULIACALL_HANDLE_SIGNALS"


def julia() -> Any:
    """Julia's `Main`, started on first use, with PyNODE loaded. A failed start is tried again.

    Raises:
        BackendUnavailableError: no Julia, a broken one, or an old one; Julia's error is the cause.
            Or this process was forked from one in which Julia ran.
    """
    check_fork("julia")
    return _started()


@cache
def _started() -> Any:
    discovery = discover()
    if not discovery.found:
        raise BackendUnavailableError(f"backend = 'julia': {discovery.text}")
    if discovery.exe:
        os.environ[EXE], os.environ[PROJECT] = discovery.exe, discovery.project
    # With one thread Julia needs no signal of its own. Several need SIGSEGV for its safepoints.
    threads = os.environ.get(_THREADS, os.environ.get("JULIA_NUM_THREADS", "1"))
    os.environ.setdefault(_SIGNALS, "no" if threads == "1" else "yes")
    interrupt = signal.getsignal(signal.SIGINT)
    with LOCK, warnings.catch_warnings():
        # It warns when torch came first; tests start it in both orders.
        warnings.filterwarnings("ignore", "torch was imported before juliacall")
        try:
            import juliacall
        except Exception as error:
            reason = _no_julia(discovery.exe) or f"{error}."
            raise BackendUnavailableError(
                f"backend = 'julia': Julia did not start ({discovery.text}): {reason}"
                f" {setup_hint()}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            # With several threads Julia blocks SIGINT and waits for it: Ctrl-C would be thrown into
            # whatever Julia runs, or end the process. It stays Python's.
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            signal.signal(signal.SIGINT, interrupt)
        main = juliacall.Main
        version = main.VERSION
        if (version.major, version.minor) < LEAST_VERSION:
            raise BackendUnavailableError(
                f"backend = 'julia': this is Julia {version} ({discovery.text}); it takes"
                f" {'.'.join(map(str, LEAST_VERSION))} or newer. Install one (juliaup.org)."
            )
        try:
            main.seval(LOAD)(str(julia_package()))
        except juliacall.JuliaError as error:
            raise BackendUnavailableError(
                f"backend = 'julia': PyNODE does not load in {discovery.text}. {setup_hint()}"
            ) from error
        return main


def _no_julia(exe: str) -> str | None:
    """Return the output of an executable that is not Julia; None if it is, or if none is named."""
    if not exe:
        return None
    try:
        done = subprocess.run(
            [exe, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
        said = (done.stdout or done.stderr).strip().partition("\n")[0]
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        said = str(error)
    if said.startswith("julia version"):
        return None
    return f"{exe} is no Julia: to --version it answers {said[:80]!r}. Name another in {EXE}."


# An environment that has PyNODE gives its own; elsewhere it is found by its folder, and its
# dependencies in the environment.
LOAD = """
function (folder)
    isnothing(Base.identify_package("PyNODE")) && push!(LOAD_PATH, String(folder))
    Core.eval(Main, :(import PyNODE))
    return nothing
end
"""


def call(function: Any, *arguments: Any) -> Any:
    """Call a Julia function and return its result; other Python threads run meanwhile."""
    check_fork("julia")
    with LOCK:
        return function._jl_call_nogil(*arguments)


@cache
def array_at() -> Any:
    """Julia's `ArrayAt`, looked up once: a look-up is a call into Julia."""
    return julia().PyNODE.ArrayAt


def call_holding_the_lock(function: Any, *arguments: Any) -> Any:
    """Call a Julia function that itself calls Python, and return its result."""
    check_fork("julia")
    with LOCK:
        return function(*arguments)


def need(feature: str) -> None:
    """Load the Julia packages of a feature: "lux", "adjoint", "node" or "gpu".

    Raises:
        BackendUnavailableError: the Julia environment lacks one of them, or it does not load.
    """
    try:
        _loaded(feature)
    except julia_error() as error:
        text = first_line(error).removeprefix("ArgumentError: ")
        raise BackendUnavailableError(f"backend = 'julia': {text}") from error


def first_line(error: Exception) -> str:
    """Return the text of a Julia error without the trace: its first line and what it announces."""
    # PythonCall makes a TypeError, "Julia: ...", of a call that no method takes.
    said = str(error).removeprefix("Julia: ").partition("\nStacktrace:")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return " ".join([first, *lines[1:4]]) if first.endswith(":") else first


@cache
def _loaded(feature: str) -> None:
    julia().PyNODE.need(feature)


def julia_error() -> type[Exception]:
    """Return the class of the exceptions that Julia code raises."""
    import juliacall

    error: type[Exception] = juliacall.JuliaError
    return error


def versions() -> dict[str, str]:
    """Versions of Julia, juliacall and the packages that it loads; "" for one not there."""
    main = julia()
    return {
        "julia": str(main.VERSION),
        "juliacall": importlib.metadata.version("juliacall"),
        "OrdinaryDiffEqCore": str(main.PyNODE.core_version()),
        **{name: str(main.PyNODE.package_version(name)) for name in OPTIONAL_PACKAGES},
    }
