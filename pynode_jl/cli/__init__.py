"""The command line: a file for each command. Nothing is computed here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress

_INTERRUPTED = 130  # as shells have it: 128 + SIGINT
_SHOW_CURSOR = "\x1b[?25h"


def main() -> None:
    """Run ``pynode-jl``; an error of the package becomes one message and exit status 2."""
    # Unless whoever started us has Ctrl-C ignored, as nohup does.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: _leave())
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
        # Julia takes Ctrl-C itself, and Typer makes an exit of its own of it.
        if not any(isinstance(each, KeyboardInterrupt) for each in _causes(end)):
            raise
        _leave()


def _leave() -> None:
    """End at once, from wherever Ctrl-C finds us.

    No exception unwinds: raised in a callback of JAX's garbage collection it would be swallowed,
    and Python would take down what XLA's threads still compute with, which crashes. Files are whole
    at any moment, and the next start removes drafts.
    """
    with suppress(Exception):  # whoever read it has gone, or a print is under way
        sys.stdout.flush()
    with suppress(Exception):
        cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
        text = "stopped; run the same command again to resume from the last checkpoint."
        os.write(2, f"{cursor}\n{text}\n".encode())
    os._exit(_INTERRUPTED)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
