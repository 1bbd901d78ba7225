"""Ctrl-C: state is kept, a line says how to go on, and the process ends without unwinding."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_INTERRUPTED = 130  # `ExitCode.INTERRUPTED`; its module imports what Ctrl-C may meet
_SHOW_CURSOR = "\x1b[?25h"
_RESUME = "Stopped. Run the same command again to resume from the last checkpoint."
_WAIT = "Stopping once state is kept. Press Ctrl-C again to stop at once."


class _State:
    """Where the command stands."""

    checkpoints = False  # it keeps some
    training = False  # it keeps one where it is asked to stop
    asked = False


def listen() -> None:
    """Take Ctrl-C, unless whoever started us has it ignored, as nohup does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: _interrupted())


@contextmanager
def training() -> Iterator[None]:
    """While it lasts Ctrl-C is a request, which `stop_if_asked` grants."""
    _State.checkpoints = _State.training = True
    try:
        yield
    finally:
        _State.training = False


def keeps_checkpoints() -> None:
    """Have whoever ends the command told that it goes on from there."""
    _State.checkpoints = True


def stop_if_asked() -> None:
    """End the training if Ctrl-C was pressed: whoever trains keeps its state.

    Raises:
        KeyboardInterrupt: it was.
    """
    if _State.asked:
        raise KeyboardInterrupt


def leave() -> None:
    """End at once, from wherever Ctrl-C finds us.

    No exception unwinds: raised in a callback of JAX's garbage collection it would be swallowed,
    and Python would take down what XLA's threads still compute with, which crashes. Files are whole
    at any moment, and the next start removes drafts.
    """
    with suppress(Exception):  # whoever read it has gone, or a print is under way
        sys.stdout.flush()
    _say(_RESUME if _State.checkpoints else "Stopped.")
    os._exit(_INTERRUPTED)


def _interrupted() -> None:
    if not _State.training or _State.asked:
        leave()
    _State.asked = True
    _say(_WAIT)


def _say(text: str) -> None:
    # No print: the signal may have come amid one.
    with suppress(Exception):
        cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
        os.write(2, f"{cursor}\n{text}\n".encode())
