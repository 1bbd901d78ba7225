"""Tables: CSV files and pandas' frames, from named columns to states and targets."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pynode_jl._io import read_text, user_path
from pynode_jl._validation import flag, items
from pynode_jl.errors import DataError, InputError, InvalidValueError, nearest_names

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

#: One column, or several: names, or numbers where a file has no header.
Columns: TypeAlias = Hashable | Sequence[Hashable]
_OTHERWISE = (
    "Decimal commas, marks of gaps and other encodings: read the file by pandas.read_csv, and pass"
    " its frame to Dataset.from_frame."
)
# So many columns are listed in a message.
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers of the features (n, d) and their names; the target's column or columns."""

    x: NDArray[np.float64]
    y: Any
    features: tuple[Hashable, ...]


def read_csv(argument: str, path: object, separator: str, header: bool) -> pd.DataFrame:
    """Read a CSV file in UTF-8 (or UTF-16 with its mark) whose first row has the columns' names.

    Without a `header` columns are numbered from 0.

    Raises:
        InvalidValueError: an argument that is not allowed.
        DataError: no such file, no table, another separator, or numbers where the names should be.
    """
    import pandas as pd

    if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
        raise InvalidValueError(
            "separator", separator, "one character", 'Use separator=",", ";" or "\\t".'
        )
    header = flag("header", header)
    file = user_path(argument, path)
    try:
        content = read_text(file)
    except InputError as cause:
        found = isinstance(cause.__cause__, UnicodeDecodeError)
        hint = f"{_OTHERWISE} {cause.hint}" if found else cause.hint
        raise DataError(argument, str(file), cause.expected, hint) from cause
    try:
        first = next(filter(None, csv.reader(io.StringIO(content), delimiter=separator)), [])
        _check_first(argument, str(file), first, separator, header)
        with warnings.catch_warnings():
            # Rows longer than the first: pandas would cut them off, and warn.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(content),
                sep=separator,
                header=0 if header else None,
                index_col=False,
                skipinitialspace=True,
            )
    except DataError:
        raise
    except (ValueError, csv.Error, pd.errors.ParserWarning) as cause:
        text = "a readable CSV file in UTF-8, each row as long as the first"
        raise DataError(argument, str(file), text, f"{_OTHERWISE} {cause}") from cause


def csv_columns(path: str | os.PathLike[str], separator: str = ",") -> tuple[str, ...]:
    """Return the names of a CSV file's columns.

    Args:
        path: the file, whose first row is the names.
        separator: between columns.

    Raises:
        DataError: no such file, or no table with names.

    Example:
        >>> from pathlib import Path
        >>> from pynode_jl.datasets import csv_columns
        >>> _ = Path("plums.csv").write_text("length,kind\\n1.5,plum\\n")
        >>> csv_columns("plums.csv")
        ('length', 'kind')
    """
    return tuple(map(str, read_csv("path", path, separator, header=True).columns))


def _check_first(argument: str, file: str, first: list[str], separator: str, header: bool) -> None:
    """Refuse a first row that shows another separator, or that has no names, or one twice."""
    if len(first) == 1:
        other = next((each for each in ";\t,| " if each != separator and each in first[0]), None)
        if other is not None:
            raise DataError(
                "separator",
                separator,
                f"the character between the columns of {file}",
                f"Its first row is {first[0][:60]!r}: try separator={other!r}.",
            )
    if not header:
        return
    if first and all(map(_is_number, first)):
        raise DataError(
            argument,
            file,
            "a first row with the names of the columns",
            f"It is {', '.join(first[:_SHOWN])}: pass header=False, and name columns by their"
            " numbers from 0.",
        )
    names = [name.strip() for name in first if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            argument, file, "different names of columns", f"Rename one {twice[0]!r}: it is twice."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_frame(argument: str, frame: object) -> None:
    """Refuse what is no frame of pandas.

    Raises:
        InvalidValueError: it is none.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        hint = "Use Dataset.from_arrays for arrays, Dataset.from_csv for a file."
        raise InvalidValueError(argument, type(frame).__name__, "a pandas.DataFrame", hint)


def columns_of(
    argument: str,
    frame: pd.DataFrame,
    target: Columns | None,
    features: Columns | None,
    *,
    numeric: bool = False,
) -> Table:
    """Return the named columns of a frame; without `features` all but the target's, in order.

    Args:
        argument: what the frame is called.
        frame: one example a row.
        target, features: names of columns.
        numeric: whether the targets must be numbers.

    Raises:
        InvalidValueError: `target` or `features` that name no columns, or one twice.
        DataError: no rows, two columns of one name, features that are no numbers or are missing.
    """
    targets = [] if target is None else _named("target", target, _names(argument, frame))
    chosen = feature_names(argument, frame, targets, features)
    x = np.stack([numbers_of(frame[name], name, "feature") for name in chosen], axis=1)
    y: Any = None
    if targets and numeric:
        y = np.stack([numbers_of(frame[name], name, "target") for name in targets], axis=1)
    elif targets:
        for name in targets:
            refuse_missing(frame[name], name, "target")
        y = frame[targets] if len(targets) > 1 else frame[targets[0]]
    return Table(x, y, tuple(chosen))


def feature_names(
    argument: str, frame: pd.DataFrame, apart: Sequence[Hashable], features: Columns | None
) -> list[Hashable]:
    """Return the names of the features; by default all columns but those that stand `apart`.

    Raises:
        InvalidValueError: `features` that name no columns, one twice, or one that stands apart.
        DataError: no rows, two columns of one name, one without a name.
    """
    names = _names(argument, frame)
    if features is None:
        chosen = [name for name in names if name not in apart]
        _refuse_index(argument, chosen)
    else:
        chosen = _named("features", features, names)
        if both := [name for name in chosen if name in apart]:
            raise InvalidValueError(
                "features",
                features,
                f"columns other than {', '.join(map(repr, apart))}",
                f"Leave out {both[0]!r}.",
            )
    if not chosen:
        raise InvalidValueError(
            "features", features, "one column or more beside the others", _listing(names)
        )
    return chosen


def known_column(argument: str, column: Hashable, frame_argument: str, frame: pd.DataFrame) -> Any:
    """Return the name of one column of a frame.

    Raises:
        InvalidValueError: it is none.
    """
    names = _names(frame_argument, frame)
    found = _named(argument, column, names)
    if len(found) != 1:
        raise InvalidValueError(argument, column, "the name of one column", _listing(names))
    return found[0]


def _names(argument: str, frame: pd.DataFrame) -> list[Hashable]:
    names: list[Hashable] = list(frame.columns)
    if not len(frame) or not names:
        raise DataError(f"{argument}.shape", frame.shape, "rows and columns", "Give some rows.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"{argument}.columns", twice[0], "different names", "Rename one of the columns."
        )
    return names


def _refuse_index(argument: str, names: Sequence[Hashable]) -> None:
    """Refuse pandas' own index, written as a column without a name: it is no measured feature."""
    for name in names:
        if isinstance(name, str) and (not name.strip() or name.startswith("Unnamed: ")):
            raise DataError(
                f"{argument}.columns",
                name,
                "columns that have names",
                "One without a name is mostly the index that pandas writes, no feature. List the"
                " features: features=[...]; or write the file with index=False.",
            )


def _named(argument: str, given: Columns, names: list[Hashable]) -> list[Hashable]:
    try:
        one = given in names
    except (TypeError, ValueError):  # a list, an array
        one = False
    hint = _listing(names)
    if one or isinstance(given, str):
        wanted: list[Any] = [given]
    else:
        wanted = items(argument, given, "the name of a column, or several", hint)
    for each in wanted:
        try:
            known = not isinstance(each, bool) and each in names
        except (TypeError, ValueError):
            known = False
        if not known:
            near = nearest_names(str(each), [str(name) for name in names])
            hint = f"Did you mean {near[0]!r}? {hint}" if near else hint
            raise InvalidValueError(argument, each, "the name of a column", hint)
    if not wanted or len(set(wanted)) < len(wanted):
        raise InvalidValueError(argument, given, "names of columns, each once", hint)
    return wanted


def _listing(names: Sequence[Hashable]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"The columns are {', '.join(map(repr, names[:_SHOWN]))}{more}."


def numbers_of(
    column: pd.Series[Any], name: Hashable, role: str, *, missing: bool = False
) -> NDArray[np.float64]:
    """Return a column as float64.

    Args:
        column: its values.
        name: what it is called.
        role: what it is: a feature, a target, a state or a time.
        missing: whether gaps are NaN; else they are refused.

    Raises:
        DataError: a text, a date or a gap, named by its row (from 0).
    """
    import pandas as pd

    if not missing:
        refuse_missing(column, name, role)
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64, na_value=np.nan)
    # Texts that are numbers count as these; dates do not.
    values = pd.to_numeric(column.astype("object"), errors="coerce").to_numpy(np.float64)
    given = column.notna().to_numpy()
    bad = given & (np.isnan(values) | (column.dtype.kind in "mMc"))
    if bad.any():
        row = int(bad.argmax())
        hint = f"Name other columns, or encode this one first (pandas.get_dummies). {_OTHERWISE}"
        if column.dtype.kind in "mM":
            hint = "Give seconds, say: (dates - dates.min()).dt.total_seconds()."
        raise DataError(
            f"column {name!r}, row {row}",
            column.iloc[row],
            f"a number, as a {role} is",
            f"{int(bad.sum())} of {len(column)} rows have none. {hint}",
        )
    return values


def refuse_missing(column: pd.Series[Any], name: Hashable, role: str) -> None:
    """Refuse a column with gaps.

    Raises:
        DataError: it has some; the first is named by its row (from 0).
    """
    gaps = column.isna().to_numpy()
    if gaps.any():
        raise DataError(
            f"column {name!r}, row {int(gaps.argmax())}",
            None,
            f"a value, since it is a {role}",
            f"{int(gaps.sum())} of {len(gaps)} rows have none. Drop them"
            f" (frame.dropna(subset=[{name!r}])), or fill them.",
        )
