"""Every error that pynode_jl raises on purpose.

An error names the argument, its value, what was expected, and how to fix it. All of them are
`PyNODEError`s, so ``except PyNODEError`` catches what this package refuses and nothing else. Those
that refuse a value are `ValueError`s too, as NumPy and the standard library would have it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
# A table of at most so many names is listed whole.
_SHORT_TABLE = 12


class PyNODEError(Exception):
    """Base of all errors raised on purpose by pynode_jl.

    Example:
        >>> try:
        ...     pn.Solver("Eular", dt=0.5)
        ... except pn.PyNODEError as error:
        ...     print(type(error).__name__)
        UnknownSolverError
    """


class InvalidValueError(PyNODEError, ValueError):
    """An argument has a value that cannot be used.

    Attributes:
        argument, value: which one, and what it was.
        expected: what it should have been, as a noun phrase.
        hint: how to fix it, as a sentence.

    Example:
        >>> raise InvalidValueError("dt", -1.0, "a positive step", "Use dt=1/16.")
        Traceback (most recent call last):
        pynode_jl.errors.InvalidValueError: dt = -1.0: expected a positive step. Use dt=1/16.
    """

    def __init__(self, argument: str, value: object, expected: str, hint: str) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        self.hint = hint
        super().__init__(f"{argument} = {_short(value)}: expected {expected}. {hint}")

    @property
    def allowed(self) -> str:
        """The former name of `expected`."""
        return self.expected

    @property
    def mend(self) -> str:
        """The former name of `hint`."""
        return self.hint


class UnknownNameError(PyNODEError, ValueError):
    """A name that is in no table; the message has the nearest ones that are.

    Attributes:
        kind, name: of what, and which.
        nearest: up to three known names: those of `meant`, or those spelt alike.
    """

    def __init__(
        self,
        kind: str,
        name: object,
        known: Iterable[str],
        meant: Mapping[str, str] = _NOTHING,
        elsewhere: str = "",
    ) -> None:
        """`meant` has the known names that `name` is another name for, each with a remark;
        `elsewhere` says what it is where none of them is meant."""
        self.kind = kind
        self.name = name
        names = list(known)
        alike = nearest_names(name, names) if isinstance(name, str) else ()
        same = [each for each in alike if each.casefold() == str(name).casefold()]
        self.nearest = tuple(dict.fromkeys((*same, *meant, *(() if meant else alike))))[:3]
        if elsewhere and not meant:
            hint = f"{elsewhere}."
        elif self.nearest:
            texts = (
                f"{each} ({meant[each]})" if meant.get(each) else each for each in self.nearest
            )
            hint = f"did you mean {', '.join(texts)}?"
        elif len(names) <= _SHORT_TABLE:
            hint = f"expected {', '.join(names)}."
        else:
            hint = "no similar name."
        super().__init__(f"unknown {kind} {_short(name)}: {hint}{self._listing()}")

    def _listing(self) -> str:
        return ""


class UnknownSolverError(UnknownNameError):
    """No solver of that name is in the catalogue."""

    def _listing(self) -> str:
        return " `pynode-jl solvers` lists them all."


class WrongSolverError(InvalidValueError):
    """A solver is used in a way that its method does not have: no fixed step, no tolerance, ..."""


class WrongProblemError(InvalidValueError):
    """A solver that needs another kind of problem than y' = f(t, y)."""


class BackendLacksSolverError(WrongSolverError):
    """A known solver that the chosen backend cannot run."""


class DataError(InvalidValueError):
    """Data that cannot be used: wrong shape, NaN, labels out of range, a damaged file."""


class DataChangedError(DataError):
    """Data that are not those a model was trained on: another fingerprint (SHA-256)."""

    def __init__(self, name: str, found: str, recorded: str) -> None:
        self.found = found
        self.recorded = recorded
        super().__init__(
            f"data {name!r}, fingerprint",
            found,
            f"{recorded}, of the data that the model was trained on",
            "Restore the data (the file, or the package versions of environment.json), or train a"
            " new run in another folder.",
        )


class ConfigError(InvalidValueError):
    """A configuration that cannot be used: unknown key, wrong type, a missing table."""


class RunFolderError(InvalidValueError):
    """A run folder that is in use, unfinished, damaged, or of another configuration."""


class InUseError(RunFolderError):
    """A folder in which another process is at work."""


class SweepError(InvalidValueError):
    """A sweep that cannot be used: unknown keys, lists of unequal length, a damaged folder."""


class ExecutorLostError(PyNODEError):
    """What executes a sweep has gone: a scheduler that ended, a connection that broke."""


class SolveError(PyNODEError):
    """A solve did not reach its end; `retcode` says why."""

    def __init__(self, retcode: str, message: str) -> None:
        self.retcode = retcode
        super().__init__(f"{retcode}: {message}")


class DivergedError(PyNODEError):
    """Training met a loss or a weight that is not finite; the last good state is kept."""


class OutputError(InvalidValueError):
    """A file or folder that cannot be written: a full disk, a missing right, a folder removed."""


class InputError(InvalidValueError):
    """A file that cannot be read: missing, without the right to, damaged, or no file at all."""


class BackendUnavailableError(PyNODEError):
    """A backend that is not installed or not found."""


class MissingDependencyError(BackendUnavailableError, ImportError):
    """An optional package that is not installed: an `ImportError`, as Python's own is.

    Attributes:
        package: its name.
        hint: how to install it, or what to do without it.
    """

    def __init__(self, package: str, purpose: str, hint: str) -> None:
        self.package = package
        self.hint = hint
        super().__init__(f"{purpose} needs {package}, which is not installed. {hint}")


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return the `count` known names nearest to `name`; those equal but for case come first.

    Example:
        >>> from pynode_jl.errors import nearest_names
        >>> nearest_names("Eular", ["Euler", "Heun", "RK4"])
        ('Euler',)
    """
    table = {k.lower(): k for k in known}
    folded = name.lower()
    hits = [table[folded]] if folded in table else []
    hits += [table[k] for k in difflib.get_close_matches(folded, table, n=count, cutoff=0.55)]
    return tuple(dict.fromkeys(hits))[:count]


def nearest_hint(given: object, known: Iterable[str], otherwise: str) -> str:
    """Return the question whether the name of `known` nearest to `given` was meant.

    Where none is near, and of what is no text, it is `otherwise`.

    Example:
        >>> from pynode_jl.errors import nearest_hint
        >>> nearest_hint("trian", ["data", "train"], "Remove it.")
        'Did you mean train?'
    """
    near = nearest_names(given, known) if isinstance(given, str) else ()
    return f"Did you mean {near[0]}?" if near else otherwise


def _short(value: object) -> str:
    text = repr(value)
    # A path says most at its end: texts have room for one.
    limit = 240 if isinstance(value, str) else 80
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
