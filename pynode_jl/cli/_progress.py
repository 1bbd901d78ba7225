"""Progress bars for training and for a swap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from pynode_jl.cli._interrupts import keeps_checkpoints, stop_if_asked, training
from pynode_jl.diagnostics import score_text

if TYPE_CHECKING:
    from pynode_jl.backends import Array
    from pynode_jl.tasks import Task
    from pynode_jl.training import Trained

# Columns of a terminal that has room for a bar; what stands beside a name, without one and with it.
_WIDE = 90
_BESIDE, _BESIDE_BAR = 56, 86
_SHORTEST = 14


@contextmanager
def training_bar(console: Console, name: str) -> Iterator[Callable[[Trained], None]]:
    """Show a bar that `on_chunk` moves: iterations, loss, the batch's score, evaluations.

    Raises:
        KeyboardInterrupt: from `on_chunk`, after Ctrl-C; `Run.train` keeps the state.
    """
    with training(), _bar(console) as progress:
        task = progress.add_task(_fitting(name, console), total=None, seen="compiling")

        def show(trained: Trained) -> None:
            history, done = trained.history, trained.state.iteration
            seen = "compiling"
            if len(history):
                last = slice(-trained.recipe.chunk, None)
                score = task_score(trained.model.task, history.accuracy[last])
                seen = f"loss {history.loss[last].mean():.3f}  {score}"
                if console.width >= _WIDE:
                    seen += f"  nf {history.nf[-1]}"
            progress.update(task, completed=done, total=trained.recipe.iterations, seen=seen)
            if done:
                keeps_checkpoints()
            stop_if_asked()

        yield show


def task_score(task: Task, scores: Array) -> str:
    """Return the mean score of batches with its name: "accuracy 98.6%", "RMSE 0.0123"."""
    score = score_text(task.score(scores), task.metric)
    return f"accuracy {score}" if task.metric == "accuracy" else score


@contextmanager
def swap_bar(console: Console, name: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar that `on_solve` moves: solves done, and the current one."""
    with _bar(console) as progress:
        task = progress.add_task(_fitting(name, console), total=None, seen="")

        def show(number: int, total: int, label: str) -> None:
            progress.update(task, completed=number - 1, total=total, seen=label)

        yield show
        total = progress.tasks[task].total
        progress.update(task, completed=total or 0, seen="")


@contextmanager
def counting_bar(console: Console, name: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar that each call moves by one, with what was done last."""
    with _bar(console) as progress:
        task = progress.add_task(name, total=total, seen="")

        def show(seen: str) -> None:
            progress.update(task, advance=1, seen=seen)

        yield show


def _fitting(name: str, console: Console) -> str:
    """Return a name that leaves room for what is said beside it; what is cut is in its middle."""
    room = max(_SHORTEST, console.width - (_BESIDE_BAR if console.width >= _WIDE else _BESIDE))
    if len(name) <= room:
        return name
    begin = (room - 1) // 2
    return f"{name[:begin]}\N{HORIZONTAL ELLIPSIS}{name[begin + 1 - room :]}"


class LateProgress(Progress):
    """Progress that is shown once it moves: what is refused before is told alone."""

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last that was shown, if anything was."""
        if self.live.is_started:
            self.stop()

    def update(self, *arguments: Any, **changes: Any) -> None:
        """Show it, moved."""
        self.start()
        super().update(*arguments, **changes)


def _bar(console: Console) -> Progress:
    """Return what shows progress, in 50 columns if there are no more."""
    wide = console.width >= _WIDE
    return LateProgress(
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=24)] if wide else []),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[seen]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
        # Results in a pipe stay there, though progress is on a terminal.
        redirect_stdout=sys.stdout.isatty(),
    )
