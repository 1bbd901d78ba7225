"""How numbers are written on pages: one format for a column, wherever a table has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

#: As `format` takes it, or a function from value to text.
Format: TypeAlias = str | Callable[[Any], str]

_SHARES = (
    *("accuracy", "test_accuracy", "low", "high", "lowest", "highest", "margin"),
    *("flips_low", "flips_high", "class_low", "flips of the ODE"),
    *(f"{name}{end}" for name in ("as trained", "as an ODE") for end in ("", ", low", ", high")),
)


def points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign.

    Example:
        >>> from pynode_jl.reporting.formats import points
        >>> points(0.031), points(-0.4)
        ('+3.1 points', '-40.0 points')
    """
    return f"{100 * share:+.1f} points"


def counted(number: int, noun: str) -> str:
    """Return a count with its noun: "1 run", "2 runs".

    `number` is how many there are.

    Example:
        >>> from pynode_jl.reporting.formats import counted
        >>> counted(1, "run"), counted(2, "run"), counted(2, "test solve")
        ('1 run', '2 runs', '2 test solves')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a time: "8.4 s", "0:51:08" in hours, minutes and seconds; "?" where it is not known.

    Example:
        >>> from pynode_jl.reporting.formats import duration
        >>> duration(8.42), duration(3068), duration(float("nan"))
        ('8.4 s', '0:51:08', '?')
    """
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


#: By column, a format as `format` takes it. Columns without one are shown as `html.Table` does.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        **dict.fromkeys(_SHARES, ".1%"),
        **dict.fromkeys(("damage", "worst damage", "drop", "largest drop"), points),
        "p_value": ".2g",
        "logit_distance": ".2g",
        "seconds": ".3f",
        "spread": ".3f",
        "state_error": ".1e",
        "statistic": ".2%",
    }
)


def formats_for(frame: pd.DataFrame, own: Mapping[str, Format] | None = None) -> dict[str, Format]:
    """Return the formats of the columns of numbers that have one, and `own`, which come first.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"label": ["Euler"], "accuracy": [0.5], "flips": [0.25]})
        >>> formats_for(frame, {"flips": ".0%"})
        {'accuracy': '.1%', 'flips': '.0%'}
    """
    known: dict[str, Format] = {
        column: FORMATS[column]
        for column in frame.select_dtypes("number").columns
        if column in FORMATS
    }
    return known | dict(own or {})
