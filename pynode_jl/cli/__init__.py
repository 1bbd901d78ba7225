"""The command line: a file for each command. Nothing is computed here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

_INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def main() -> None:
    """Run ``pynode-jl``; an error of the package becomes one message and exit status 2."""
    try:
        from pynode_jl.cli._app import app
        from pynode_jl.cli._console import stderr
        from pynode_jl.errors import PyNODEError

        try:
            app()
        except PyNODEError as error:
            stderr.print(f"{type(error).__name__}: ", style="bold red", end="")
            stderr.print(str(error), soft_wrap=True)
            sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer makes an exit of its own of Ctrl-C.
        if not any(isinstance(each, KeyboardInterrupt) for each in _causes(end)):
            raise
        _leave()


def _leave() -> None:
    """End after Ctrl-C, at once: XLA's threads may still compute, and crash where Python takes down
    what they use."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(
        "\nstopped; run the same command again to resume from the last checkpoint.",
        file=sys.stderr,
    )
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # who read it has gone
            stream.flush()
    os._exit(_INTERRUPTED)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
