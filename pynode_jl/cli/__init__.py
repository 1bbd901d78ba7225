"""The command line: a file for each command. Nothing is computed here."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pynode_jl.cli._interrupts import leave, listen


def main() -> None:
    """Run ``pynode-jl``; an error of the package becomes one message and an exit status."""
    listen()
    try:
        from pynode_jl.cli._app import app
        from pynode_jl.cli._commands import ExitCode
        from pynode_jl.cli._console import errors
        from pynode_jl.errors import DivergedError, PyNODEError, SolveError

        try:
            app(prog_name="pynode-jl")
        except PyNODEError as error:
            errors.print(f"{type(error).__name__}: ", style="bold red", end="")
            errors.print(str(error), soft_wrap=True)
            failed = isinstance(error, DivergedError | SolveError)
            sys.exit(int(ExitCode.FAILED if failed else ExitCode.REFUSED))
    except (KeyboardInterrupt, SystemExit) as end:
        # Julia takes Ctrl-C itself, and Typer makes an exit of its own of it.
        if not any(isinstance(each, KeyboardInterrupt) for each in _causes(end)):
            raise
        leave()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
