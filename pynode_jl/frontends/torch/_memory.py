"""What is remembered of modules: a bounded number of them, and nothing of one that is gone."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ModuleMemory(Generic[T]):
    """One value for each of the last `most` objects asked about, by identity.

    A `WeakKeyDictionary` would hash them, and compare them by a user's `__eq__`. A value must not
    hold its object, or neither is ever let go.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self._make, self._most = make, most
        self._entries: OrderedDict[int, tuple[weakref.ref[object], T]] = OrderedDict()

    def of(self, owner: object) -> T:
        """Return the value of `owner`, which is made if there is none."""
        key = id(owner)
        entry = self._entries.get(key)
        if entry is not None and entry[0]() is owner:
            return entry[1]
        entries = self._entries

        def forget(gone: weakref.ref[object]) -> None:
            held = entries.get(key)
            if held is not None and held[0] is gone:
                entries.pop(key, None)

        value = self._make()
        entries[key] = (weakref.ref(owner, forget), value)
        while len(entries) > self._most:
            entries.popitem(last=False)
        return value
