"""What all commands share: how they are registered, their exit status, their common options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import wraps
from typing import Annotated, Any

import typer

from pynode_jl.cli._console import set_output


class ExitCode(IntEnum):
    """The exit status of a command."""

    DONE = 0
    FAILED = 1  # it was tried, and failed: training diverged, `doctor` found something missing
    REFUSED = 2  # a wrong argument, value, file or folder
    TIED = 3  # with --check
    UNDECIDED = 4  # with --check
    NO_VERDICT = 5  # with --check: untrained, overfitted, not finite, failed
    INTERRUPTED = 130  # as shells have it: 128 + SIGINT; 143 by SIGTERM, 129 by SIGHUP


_OUTPUT = (
    (
        "as_json",
        Annotated[bool, typer.Option("--json", help="Print results as JSON on standard output.")],
    ),
    (
        "quiet",
        Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")],
    ),
)
#: Of a command's ``--check``.
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Exit with status 3 if tied to its solver, 4 if undecided, 5 if there is no verdict"
        " (untrained, overfitted, not finite, failed).",
    ),
]


def new_app(text: str) -> typer.Typer:
    """Return an empty group of commands; they are listed in the order in which they are added."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        # Boxes of the help would be cut in a pipe and at 80 columns.
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add_command(
    app: typer.Typer, function: Callable[..., None], *examples: str, name: str | None = None
) -> None:
    """Add a command to a group.

    Args:
        app: the group.
        function: what it does; the docstring is its help.
        examples: command lines, shown at the end of its help.
        name: its name, if not the function's.
    """
    summary = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    app.command(name, short_help=summary, epilog=examples_text(examples))(with_output(function))


def examples_text(examples: Sequence[str]) -> str:
    """Return examples as a part of a help text that is not wrapped."""
    head = "Example:" if len(examples) == 1 else "Examples:"
    return "\n".join(("\b", head, *(f"  {each}" for each in examples)))


def with_output(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes ``--json`` and ``--quiet`` too."""

    @wraps(function)
    def run(*args: Any, as_json: bool = False, quiet: bool = False, **kwargs: Any) -> None:
        set_output(as_json, quiet)
        function(*args, **kwargs)

    signature = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in _OUTPUT
    ]
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return run


def exit_by_verdict(kinds: Iterable[str]) -> None:
    """End the command with the status of the worst verdict, if that is not "valid"."""
    found = set(kinds)
    others = found - {"valid", "tied", "undecided"}
    for code, present in (
        (ExitCode.TIED, "tied" in found),
        (ExitCode.NO_VERDICT, bool(others)),
        (ExitCode.UNDECIDED, "undecided" in found),
    ):
        if present:
            raise typer.Exit(int(code))
