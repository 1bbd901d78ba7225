"""The index of a sweep's results: a copy, in SQLite, of what the runs' folders hold.

The folders are the truth; the index lists and filters them quickly. It can be made anew from them
at any time, and is where it is damaged or of another version. SQLite and not DuckDB: several
processes may write to it at once (WAL mode; a DuckDB file has one writing process), a killed
process leaves it whole, rows come one by one, and Python brings it.

Only the process that schedules a sweep writes to it, on its own machine: WAL mode does not work
between machines, and workers of a cluster write folders alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from pynode_jl._io import locked
from pynode_jl.errors import OutputError, SweepError, nearest_names
from pynode_jl.sweeps._result_files import METRICS, TIMES

_T = TypeVar("_T")

#: Raised with each change of the table: an index of another version is made anew.
_VERSION = 3
_OWN = {
    "key": "TEXT UNIQUE",
    "state": "TEXT",
    **METRICS,
    **TIMES,
    "failure": "TEXT",
    "error": "TEXT",
    "attempts": "INTEGER",
    "finished": "TEXT",
    "host": "TEXT",
    "settings": "TEXT",
}
_COLUMNS = ", ".join(f'"{name}" {kind}' for name, kind in _OWN.items())
_NAMES = ", ".join(f'"{name}"' for name in _OWN)
_CREATE = (
    f"CREATE TABLE results (id INTEGER PRIMARY KEY, {_COLUMNS})",
    # Which runs a sweep has, in their order: to make them out of its axes takes longer. By id, as
    # to find 100,000 rows by their keys takes longer than to read them.
    "CREATE TABLE members (sweep TEXT, number INTEGER, id INTEGER, PRIMARY KEY (sweep, number))"
    " WITHOUT ROWID",
)
_WAIT = 30.0  # seconds for another process's write
#: Said by SQLite of what is not the file's fault: a new one would not help.
_OUTSIDE = ("locked", "full", "readonly", "unable to open")
OPERATORS = ("!=", "<=", ">=", "=", "<", ">")


class Condition(NamedTuple):
    """A filter: a column or a dotted key, one of `OPERATORS`, and a value."""

    key: str
    operator: str
    value: Any


class Index:
    """The index of the sweep in a folder.

    Args:
        folder: the sweep's.
        rows: gives every row anew, from the runs' folders.
    """

    def __init__(self, folder: Path, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self.path = folder / "index.sqlite"
        self._rows = rows
        self._connection: sqlite3.Connection | None = None
        self._file = 0
        self._held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the connection: to open and close it for each row takes longer than to write."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._close()

    def put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, each in place of the one with its key.

        Raises:
            OutputError: they cannot be written.
        """
        made = [_values(row) for row in rows]
        self._with(lambda connection: _insert(connection, made))

    def table(
        self,
        keys: Mapping[str, Any],
        where: Sequence[Condition] = (),
        sweep: str = "",
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Return the rows that fulfil every condition.

        Args:
            keys: dotted keys to give a column each, with their defaults.
            where: the conditions.
            sweep: whose runs to look among (`put_members`), in their order; "" for all.
            limit: the most rows.

        Raises:
            OutputError: the index cannot be opened.
        """
        tests, values = list[str](), list[Any]()
        for key, operator, value in where:
            if key in _OWN:
                tests.append(f'"{key}" {operator} ?')
                values.append(value)
            else:
                tests.append(f"{_SETTING} {operator} ?")
                values += [_path(key), _plain(keys.get(key)), _plain(value)]
        query, order = f"SELECT {_NAMES} FROM results", "id"
        if sweep:
            query += " JOIN members USING (id)"
            tests.append("sweep = ?")
            values.append(sweep)
            order = "number"
        if tests:
            query += f" WHERE {' AND '.join(tests)}"
        query += f" ORDER BY {order}" + ("" if limit is None else f" LIMIT {int(limit)}")

        def read(connection: sqlite3.Connection) -> pd.DataFrame:
            found = connection.execute(query, values).fetchall()
            settings = _read_settings(row[-1] for row in found)
            table = pd.DataFrame(found, columns=list(_OWN)).drop(columns="settings")
            for place, (key, default) in enumerate(keys.items(), 2):
                plain = _plain(default)
                column = [plain if each.get(key) is None else each[key] for each in settings]
                table.insert(place, key, column)
            return table

        return self._with(read)

    def put_members(self, sweep: str, keys: Sequence[str]) -> None:
        """Write which runs, of those with a row, a sweep has.

        Raises:
            OutputError: it cannot be written.
        """
        rows = [(sweep, number, key) for number, key in enumerate(keys)]
        insert = 'INSERT INTO members SELECT ?, ?, id FROM results WHERE "key" = ?'

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("DELETE FROM members WHERE sweep = ?", (sweep,))
                connection.executemany(insert, rows)

        self._with(write)

    def counts(self, sweep: str) -> dict[str | None, int]:
        """Return the number of a sweep's runs by state: of None for those without a row."""
        query = (
            "SELECT state, count(*) FROM members LEFT JOIN results USING (id) WHERE sweep = ?"
            " GROUP BY state"
        )

        def read(connection: sqlite3.Connection) -> dict[str | None, int]:
            return dict(connection.execute(query, (sweep,)).fetchall())

        return self._with(read)

    def unfinished(self, sweep: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return a sweep's runs without a result: key, state, settings."""
        query = (
            'SELECT "key", state, settings FROM members JOIN results USING (id)'
            " WHERE sweep = ? AND state != 'done'"
        )

        def read(connection: sqlite3.Connection) -> list[tuple[str, str, dict[str, Any]]]:
            found = connection.execute(query, (sweep,)).fetchall()
            settings = _read_settings(row[2] for row in found)
            return [
                (key, state, each) for (key, state, _), each in zip(found, settings, strict=True)
            ]

        return self._with(read)

    def rebuild(self) -> int:
        """Make the index anew from the runs' folders; return the number of rows.

        Raises:
            OutputError: it cannot be written.
        """
        rows = [_values(row) for row in self._rows()]
        with locked(self.path.with_name(".index.lock"), _WAIT, "an index that nobody makes anew"):
            self._close()
            try:
                for end in ("", "-wal", "-shm", "-journal"):
                    self.path.with_name(self.path.name + end).unlink(missing_ok=True)
                _insert(self._opened(), rows)
                if not self._held:
                    self._close()
            except (OSError, sqlite3.Error) as error:
                self._close()
                raise self._unwritable(error) from error
        return len(rows)

    def _with(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do some work on the connection; on a damaged index, once more on a new one."""
        if not self.path.exists():
            self.rebuild()
        for last in (False, True):
            try:
                found = work(self._opened())
                if not self._held:
                    self._close()
                return found
            except (OSError, sqlite3.Error) as error:
                self._close()
                said = str(error).lower()
                if last or any(each in said for each in _OUTSIDE):
                    raise self._unwritable(error) from error
                self.rebuild()
        raise AssertionError("unreachable")

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, a new one where another process has made the index anew."""
        if self._connection is not None and self.path.stat().st_ino == self._file:
            return self._connection
        self._close()
        self._connection = _connected(self.path)
        self._file = self.path.stat().st_ino
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _unwritable(self, error: Exception) -> OutputError:
        hint = f"{error}. The runs' folders have all that it has."
        return OutputError("index", str(self.path), "an index that can be written", hint)


def _connected(path: Path) -> sqlite3.Connection:
    """Open an index, or make an empty one."""
    connection = sqlite3.connect(path, timeout=_WAIT)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A power failure may cost the last rows: the folders have them.
        connection.execute("PRAGMA synchronous=NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                # Another process may have made it since.
                if not connection.execute("PRAGMA user_version").fetchone()[0]:
                    for statement in _CREATE:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={_VERSION}")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
    except BaseException:
        connection.close()
        raise
    return connection


_SETTING = "coalesce(json_extract(settings, ?), ?)"


def conditions(texts: Iterable[str], known: Sequence[str]) -> list[Condition]:
    """Read filters as the command line has them: ``seed<3``, ``train.solver=Euler:dt=1/4``.

    Raises:
        SweepError: a text that is none, or an unknown key.
    """
    found = []
    names = [*(name for name in _OWN if name != "settings"), *known]
    for text in texts:
        places = [(text.find(each), -len(each), each) for each in OPERATORS if each in text]
        if not places:
            hint = "Write seed=0, score>=0.9 or train.solver=Euler:dt=1/4, say."
            raise SweepError("where", text, f"a key, one of {' '.join(OPERATORS)}, a value", hint)
        operator = min(places)[2]
        key, value = (part.strip() for part in text.split(operator, 1))
        if key not in names:
            near = nearest_names(key, names)
            hint = f"Did you mean {', '.join(near)}?" if near else "Leave it out."
            raise SweepError("where", key, f"one of {', '.join(names)}", hint)
        found.append(Condition(key, operator, _number(value)))
    return found


def _number(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return {"true": 1, "false": 0}.get(text, text)


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(_OWN))
    new = ", ".join(f'"{name}" = excluded."{name}"' for name in _OWN)
    statement = f"INSERT INTO results ({_NAMES}) VALUES ({marks})"
    with connection:  # a row keeps its id
        connection.executemany(f'{statement} ON CONFLICT ("key") DO UPDATE SET {new}', rows)


def _values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    values = {name: row.get(name) for name in _OWN}
    values["settings"] = json.dumps({key: _plain(each) for key, each in row["settings"].items()})
    return tuple(values.values())


def _read_settings(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Read all texts at once, which is quicker than one by one, or by SQLite."""
    try:
        found: list[dict[str, Any]] = json.loads(f"[{','.join(texts)}]")
    except (ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"settings: {error}") from error
    return found


def _plain(value: Any) -> Any:
    """Return a setting as SQLite compares it: what is no number is a text."""
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, (int, float, str)):
        return value
    return json.dumps(value)


def _path(key: str) -> str:
    name = key.replace('"', "")
    return f'$."{name}"'
