"""How objects show themselves: short reprs, views in notebooks, progress.

What a notebook shows of a report is made by `reporting`, which stands above the report's own
package. So a class says only that it has a view (`Viewed`); the package's top names the module that
makes views (`provide`), and that module is loaded when the first one is asked for.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from pynode_jl.errors import InvalidValueError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.progress import Progress

#: Moves a progress bar: how much is done, of how much, and what is to be seen beside it.
Advance: TypeAlias = Callable[[int, int, str], None]

# Longer texts, and longer lists, are cut in a repr.
_TEXT = 60
_ITEMS = 8
_provider = ""


def provide(module: str) -> None:
    """Name the module that has `html(value)` and `figure(value)` of every `Viewed` class."""
    global _provider
    _provider = module


def views() -> ModuleType:
    """Return the module of views; it is imported at the first call."""
    return import_module(_provider)


class Viewed:
    """A class whose objects a notebook shows as HTML."""

    def _repr_html_(self) -> str:
        return str(views().html(self))


class Drawn(Viewed):
    """A class whose objects can also be drawn."""

    def _figure(self, **options: Any) -> Figure:
        figure: Figure = views().figure(self, **options)
        return figure


class ShortRepr:
    """A dataclass whose repr names arrays and tables by their shape, and leaves out defaults."""

    def __repr__(self) -> str:
        parts = []
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            if not each.repr:
                continue
            value = getattr(self, each.name)
            if not _is_default(each, value):
                parts.append(f"{each.name}={short(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is value:
        return True
    plain = (bool, int, float, str, tuple, type(None))
    return isinstance(value, plain) and type(default) is type(value) and bool(default == value)


def short(value: Any) -> str:
    """Return a repr that stays short: of arrays and tables the shape, of lists the beginning.

    Example:
        >>> from pynode_jl._display import short
        >>> short({"w": np.zeros((2, 3))}), short("a" * 100)[-5:]
        ("{'w': array(2, 3)}", "aaa'…")
    """
    if (shape := getattr(value, "shape", None)) is not None and shape != ():
        name = "array" if hasattr(value, "dtype") else type(value).__name__
        return f"{name}({', '.join(map(str, shape))})"
    if isinstance(value, str):
        return repr(value) if len(value) <= _TEXT else f"{value[:_TEXT]!r}…"
    if isinstance(value, Mapping):
        shown = [f"{key!r}: {short(each)}" for key, each in [*value.items()][:_ITEMS]]
        return "{" + ", ".join(shown + ["…"] * (len(value) > _ITEMS)) + "}"
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        shown = [short(each) for each in value[:_ITEMS]] + ["…"] * (len(value) > _ITEMS)
        comma = "," if len(shown) == 1 and isinstance(value, tuple) else ""
        inner = ", ".join(shown) + comma
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)  # without its address, which says nothing
    return repr(value)


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook, which can show more than text."""
    # No kernel without IPython, which is slow to import.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and shell.has_trait("kernel")


@contextmanager
def progress_bar(name: str, shown: bool | None) -> Iterator[Advance | None]:
    """Show a progress bar, and yield what moves it; None where none is shown.

    Args:
        name: what is under way.
        shown: None for a bar in notebooks only.

    Raises:
        InvalidValueError: `shown` is neither true, false nor None.
    """
    if shown is not None and not isinstance(shown, bool):
        raise InvalidValueError("progress", shown, "True, False or None", "Leave it out.")
    if not (in_notebook() if shown is None else shown):
        yield None
    elif in_notebook():
        yield _notebook_bar(name)
    else:
        bar = _terminal_bar()
        with bar:
            task = bar.add_task(name, total=None, seen="")

            def advance(done: int, total: int, seen: str) -> None:
                bar.update(task, completed=done, total=total, seen=seen)

            yield advance


def _notebook_bar(name: str) -> Advance:
    """Return what moves a bar of HTML: one output that is replaced, which a saved notebook keeps.

    rich's bar would need ipywidgets, and would be lost on saving.
    """
    ipython: Any = import_module("IPython.display")

    def page(done: int, total: int, seen: str) -> Any:
        ratio = f"{done:,} of {total:,}" if total else ""
        return ipython.HTML(
            f'<div>{escape(name)} <progress value="{done}" max="{max(total, 1)}"></progress>'
            f" {ratio} <small>{escape(seen)}</small></div>"
        )

    # The first step compiles, which takes seconds.
    handle = ipython.display(page(0, 0, "starting"), display_id=True)

    def advance(done: int, total: int, seen: str) -> None:
        handle.update(page(done, total, seen))

    return advance


def _terminal_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[seen]}", markup=False),
        console=Console(stderr=True),
    )
