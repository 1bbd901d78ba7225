"""Ctrl-C, SIGTERM, SIGHUP: state is kept, a line says how to go on, nothing unwinds."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Of Ctrl-C; of a scheduler, `kill` or `timeout`; of a terminal that is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"
_RESUME = "Stopped. Run the same command again to resume from the last checkpoint."
_AT_ONCE = "Stopped. Run the same command again to resume from a checkpoint, if any."
_WAIT = "Stopping once state is kept. Press Ctrl-C again to stop at once."
_WAIT_OTHER = "Stopping once state is kept. Another signal stops at once."


class _State:
    """Where the command stands."""

    checkpoints = False  # it keeps some
    training = False  # it keeps one where it is asked to stop
    asked: int | None = None  # the signal that asked for an end
    at_once = False  # that was asked for: before the state was kept


def listen() -> None:
    """Take these signals, unless whoever started us has one ignored, as nohup does."""
    # First registered, last called: the work is done, and what is left is Python's own end, which
    # gives the signals back to the system. One that came then would kill it without a word.
    atexit.register(_ignore)
    for each in _SIGNALS:
        if signal.getsignal(each) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(each, lambda number, _: _interrupted(number))


@contextmanager
def training() -> Iterator[None]:
    """While it lasts a signal is a request, which `stop_if_asked` grants."""
    _State.training = True
    try:
        yield
    finally:
        _State.training = False
    if _State.asked is not None:  # after the last chunk; all is kept
        leave()


def keeps_checkpoints() -> None:
    """Have whoever ends the command told that it goes on from there."""
    _State.checkpoints = True


def stop_if_asked() -> None:
    """End the training if that was asked for: whoever trains keeps its state.

    Raises:
        KeyboardInterrupt: it was.
    """
    if _State.asked is not None:
        raise KeyboardInterrupt


def leave() -> None:
    """End at once, from wherever a signal finds us; the status is 128 and the signal's number.

    No exception unwinds: raised in a callback of JAX's garbage collection it would be swallowed,
    and Python would take down what XLA's threads still compute with, which crashes. Files are whole
    at any moment, and the next start removes drafts.
    """
    with suppress(Exception):  # whoever read it has gone, or a print is under way
        sys.stdout.flush()
    if _State.at_once:  # a checkpoint may just have been written
        _say(_AT_ONCE)
    else:
        _say(_RESUME if _State.checkpoints else "Stopped.")
    # They would end by themselves, once they have started.
    processes = sys.modules.get("multiprocessing")
    with suppress(Exception):
        for worker in processes.active_children() if processes else ():
            worker.kill()
    # Without one it was a KeyboardInterrupt that Julia or Typer raised.
    os._exit(128 + (_State.asked or signal.SIGINT))


def _ignore() -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def _interrupted(number: int) -> None:
    again, _State.asked = _State.asked is not None, number
    _State.at_once = again and _State.training
    if again or not _State.training:
        leave()
    _say(_WAIT if number == signal.SIGINT else _WAIT_OTHER)


def _say(text: str) -> None:
    # No print: the signal may have come amid one.
    with suppress(Exception):
        cursor = _SHOW_CURSOR if sys.stderr.isatty() else ""
        os.write(2, f"{cursor}\n{text}\n".encode())
