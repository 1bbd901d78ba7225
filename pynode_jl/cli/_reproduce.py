"""``pynode-jl reproduce``: the paper's figures and tables, a command for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from pynode_jl.cli._commands import add_command, new_app
from pynode_jl.cli._console import note, show, stderr
from pynode_jl.cli._running import expanded, keep_earlier, writable
from pynode_jl.paper import REPRODUCTIONS

app = new_app("Make a figure or table of the paper (Ott et al, 2021), from runs of our own.")


_Out = Annotated[
    Path,
    typer.Option(
        callback=expanded, help="Folder for the figures; trained runs go to its folder runs."
    ),
]
_Seeds = Annotated[int, typer.Option(help="Seeds behind each mean.")]
_Full = Annotated[
    bool, typer.Option("--full", help="The paper's protocol: hours instead of minutes.")
]
_Backend = Annotated[str, typer.Option(help="auto, jax or julia.")]
_Criterion = Annotated[
    str, typer.Option(help="flips, three-points, or ten-points: the paper's for its Table 1.")
]


def _command(name: str) -> Callable[..., None]:
    def figure(
        out: _Out = Path("runs/reproduce"),
        seeds: _Seeds = 2,
        full: _Full = False,
        backend: _Backend = "auto",
    ) -> None:
        _make(name, out, seeds, full, backend)

    def table(
        out: _Out = Path("runs/reproduce"),
        seeds: _Seeds = 2,
        full: _Full = False,
        backend: _Backend = "auto",
        criterion: _Criterion = "flips",
    ) -> None:
        _make(name, out, seeds, full, backend, criterion)

    return table if name.startswith("table1") else figure


def _make(
    name: str, out: Path, seeds: int, full: bool, backend: str, criterion: str = "flips"
) -> None:
    from pynode_jl.cli._progress import training_bar
    from pynode_jl.paper import ReproductionContext, make

    begun = time.monotonic()
    bar = partial(training_bar, stderr)
    context = ReproductionContext(
        out, seeds, full, backend, bar, cast(Any, criterion)
    )  # checked there
    writable(context.folder)
    result = make(name, context)
    # A figure's parts have letters after its name.
    numbers = result.numbers.to_csv(index=False)
    keep_earlier(out / f"{name}.csv", numbers, f"{name}.*", f"{name}[a-z].*")
    paths = context.publish(name, result)
    show(
        lambda: {
            "name": name,
            "caption": result.caption,
            "numbers": result.numbers,
            "files": [str(path) for path in paths],
        },
        result.caption,
        *map(str, paths),
    )
    note(f"{time.monotonic() - begun:.0f} s")


for _name, _row in REPRODUCTIONS.items():
    _function = _command(_name)
    _function.__doc__ = _row.summary
    add_command(app, _function, f"pynode-jl reproduce {_name} --seeds 5", name=_name)
