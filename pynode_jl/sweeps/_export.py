"""A sweep's results as files for other programs: CSV, JSON or Parquet, by the file's ending."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pandas as pd

from pynode_jl._io import make_folder, user_path, write_bytes
from pynode_jl._validation import choice
from pynode_jl.errors import MissingDependencyError, SweepError
from pynode_jl.sweeps._store import SweepStore

#: What can be exported: a row a run, or a row a run and test solver.
TABLES = ("runs", "swaps")
ENDINGS = (".csv", ".json", ".parquet")


def export(
    store: SweepStore, path: str | Path, *, what: str = "runs", where: Iterable[str] = ()
) -> Path:
    """Write a table of a sweep; the path's ending decides the format.

    Args:
        store: the sweep's results.
        path: of the file: .csv, .json (a list of rows) or .parquet.
        what: "runs" (`SweepStore.table`) or "swaps" (`SweepStore.swaps`).
        where: conditions, as for `SweepStore.table`.

    Returns:
        The path.

    Raises:
        SweepError: another ending, or a condition that is none.
        MissingDependencyError: Parquet without pyarrow.
        OutputError: the file cannot be written.

    Example:
        >>> from pynode_jl.sweeps import SweepStore, export
        >>> store = SweepStore.create(pn.Sweep(grid={"seed": [0, 1]}), "sweeps/new")
        >>> export(store, "new.csv").read_text().count("missing")
        2
    """
    file = user_path("path", path)
    choice("what", what, TABLES)
    if file.suffix.lower() not in ENDINGS:
        raise SweepError(
            "path", str(path), f"a name that ends in {', '.join(ENDINGS)}", "Rename it."
        )
    if file.suffix.lower() == ".parquet":
        _check_parquet()
    table = store.table(where) if what == "runs" else store.swaps(where)
    make_folder(file.parent)
    write_bytes(file, _content(table, file.suffix.lower()))
    return file


def _content(table: pd.DataFrame, ending: str) -> bytes:
    if ending == ".csv":
        return table.to_csv(index=False).encode()
    if ending == ".json":
        return table.to_json(orient="records", indent=1).encode()
    stream = BytesIO()
    plain = table.copy()
    for name in plain.select_dtypes("object"):
        if len({type(value) for value in plain[name].dropna()}) > 1:
            plain[name] = plain[name].astype(str)  # Parquet has one type a column
    plain.to_parquet(stream, index=False)
    return stream.getvalue()


def _check_parquet() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "pyarrow",
            "Parquet",
            "pip install 'pynode-jl[parquet]', or export to a name that ends in .csv.",
        ) from error
