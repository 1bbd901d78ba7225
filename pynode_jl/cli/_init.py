"""``pynode-jl init``: a configuration to begin with, and the schema of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pynode_jl._io import make_folder, write_text
from pynode_jl.cli._console import note, show
from pynode_jl.cli._running import expanded


def init(
    path: Annotated[Path, typer.Argument(callback=expanded, help="The TOML file to write.")] = Path(
        "run.toml"
    ),
    data: Annotated[str, typer.Option(help="A data set, or a file: .csv, .npz.")] = "spheres",
    field: Annotated[
        str | None, typer.Option(help="The field; default: one that suits the data.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print the JSON schema of configurations, for editors, and no file."
        ),
    ] = False,
) -> None:
    """Write a starter configuration: every key, its default, and what it says.

    Of a CSV file the last column becomes the target; change that in what is written.
    """
    from pynode_jl.errors import OutputError
    from pynode_jl.runs import config_schema, starter_toml

    if schema:
        found = config_schema()
        show(lambda: found, json.dumps(found, indent=1))
        return
    text = starter_toml(data, field, path.name)
    if path.exists():
        raise OutputError(
            "path", str(path), "a file that is not there yet", "Take another name, or delete it."
        )
    make_folder(path.parent)
    write_text(path, text)
    show(lambda: {"path": str(path)}, str(path))
    note(f"next: pynode-jl train {path} --out runs/{path.stem}")
