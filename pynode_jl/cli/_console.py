"""The consoles of all commands. Nothing that they print is markup: a run may be named [/red]."""

from __future__ import annotations

from rich.console import Console

console = Console(markup=False, emoji=False)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)
