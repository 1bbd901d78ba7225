"""The results of a run's swaps: a table and a verdict, by the settings of the swap.

The last swap's are in the run's folder itself. Every swap's are in a folder of its own settings, in
``swaps``: one does not write over another's. A result belongs to the weights that it was made of.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pandas as pd

from pynode_jl._io import (
    digest,
    floats_of_names,
    make_folder,
    named_floats,
    read_bytes,
    read_json,
    write_bytes,
    write_json,
)
from pynode_jl.diagnostics import ReferenceCost, SwapReport, Verdict, columns_of
from pynode_jl.errors import InputError, RunFolderError
from pynode_jl.runs._canonical import plain
from pynode_jl.runs._checkpoint import read_number, require
from pynode_jl.runs._config import SwapConfig
from pynode_jl.training import Trained, arrays_digest

TABLE, VERDICT = "swap.csv", "verdict.json"


def save_swap(folder: Path, settings: SwapConfig, report: SwapReport, trained: Trained) -> None:
    """Write a swap's table and verdict.

    Raises:
        OutputError: they cannot be written.
    """
    table = report.table.to_csv(index=False).encode()
    found = {
        **named_floats(report.to_dict()),
        "data": trained.fingerprint,
        "weights": arrays_digest(trained.weights),
        "swap": _settings(settings),
        "table": digest(table),
    }
    for place in (make_folder(swap_folder(folder, settings)), folder):
        write_bytes(place / TABLE, table)
        write_json(place / VERDICT, found)


def load_swap(folder: Path, settings: SwapConfig, trained: Trained) -> SwapReport:
    """Read the results of a swap: of these settings, or, if there are none, of the last one.

    Raises:
        RunFolderError: there are none, they are damaged, or are of other weights.
    """
    own = swap_folder(folder, settings)
    place = own if (own / VERDICT).exists() else folder
    try:
        values, content = read_json(place / VERDICT), read_bytes(place / TABLE)
        require(values.get("table", digest(content)) == digest(content), f"{TABLE} has changed")
        weights = arrays_digest(trained.weights)
        require(values.get("weights", weights) == weights, "it is of other weights")
        values = floats_of_names(values)
        ode, table = values["ode"], pd.read_csv(io.BytesIO(content), converters={"reason": str})
        if "reason" not in table:  # version 0.1
            table["reason"] = ""
        wanted = columns_of(trained.model.task.comparison)
        require(list(table) == list(wanted), f"{TABLE} has the columns {list(table)}")
        return SwapReport(
            table,
            read_number(values["trained"]),
            math.nan if ode is None else read_number(ode),
            math.nan if values["chance"] is None else read_number(values["chance"]),
            Verdict.from_dict(values["verdict"]),
            cost=ReferenceCost.from_dict(values["reference"]),
        )
    except Exception as error:  # what a damaged file causes is open-ended
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}."
        raise RunFolderError(
            "folder",
            str(place),
            "a run with its swap table",
            f"{said} `pynode-jl swap` makes one. (Verdicts of version 0.1 followed another rule:"
            " make them anew.)",
        ) from error


def _settings(settings: SwapConfig) -> dict[str, Any]:
    return {name: plain(value) for name, value in vars(settings).items()}


def swap_folder(folder: Path, settings: SwapConfig) -> Path:
    """Return the folder, in a run's own, of the swap with these settings."""
    text = repr(sorted(_settings(settings).items()))
    return folder / "swaps" / digest(text.encode())[:12]
