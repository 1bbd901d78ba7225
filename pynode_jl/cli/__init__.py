"""The command line: a file for each command. Nothing is computed here."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``pynode-jl``; an error of the package becomes one message and exit status 2."""
    from rich.console import Console

    from pynode_jl.cli._app import app
    from pynode_jl.errors import PyNODEError

    try:
        app()
    except PyNODEError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "\nstopped; run the same command again to resume from the last checkpoint.",
            file=sys.stderr,
        )
        sys.exit(130)
