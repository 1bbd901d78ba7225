"""How numbers are written on pages: one format for a column, wherever a table has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_SHARES = (
    *("accuracy", "test_accuracy", "low", "high", "lowest", "highest", "margin"),
    *("flips_low", "flips_high", "class_low", "flips of the ODE", "largest drop"),
    *(f"{name}{end}" for name in ("as trained", "as an ODE") for end in ("", ", low", ", high")),
)

#: By column, a format as `format` takes it. Columns without one are shown as `html.Table` does.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_SHARES, ".1%"),
        "damage": "+.1%",
        "worst damage": "+.1%",
        "p_value": ".2g",
        "logit_distance": ".2g",
        "seconds": ".3f",
        "spread": ".3f",
        "state_error": ".1e",
        "statistic": ".2%",
    }
)


def formats_for(columns: Iterable[object], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the formats of those `columns` that have one; `own` formats come first.

    Example:
        >>> formats_for(["label", "accuracy", "flips"], {"flips": ".0%"})
        {'accuracy': '.1%', 'flips': '.0%'}
    """
    known = {**FORMATS, **(own or {})}
    return {column: known[column] for column in map(str, columns) if column in known}
