"""When two results are equal: what neither of them could measure does not tell them apart."""

from __future__ import annotations

from typing import Any


class NanEqual:
    """A frozen dataclass (``eq=False``) in which nan equals nan.

    The comparison that Python makes of a dataclass took one nan object as equal to itself up to
    3.12, and takes none as equal since.
    """

    def __eq__(self, other: object) -> bool:
        return self._known() == other._known() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._known())

    def _known(self) -> tuple[Any, ...]:
        return tuple("nan" if value != value else value for value in vars(self).values())
