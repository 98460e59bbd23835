"""A mapping that forgets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps the `limit` entries that were used last."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of the key, which now counts as used."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: K, value: V) -> int:
        """Keep the value; returns how many others had to go."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) <= self._limit:
            return 0
        self._entries.popitem(last=False)
        return 1

    def drop(self, key: K) -> None:
        """Forget the key, if it is known."""
        self._entries.pop(key, None)

    def drop_where(self, condition: Callable[[V], bool]) -> None:
        """Forget all values of which the condition holds."""
        for key in [key for key, value in self._entries.items() if condition(value)]:
            del self._entries[key]

    def drop_if_same(self, key: K, value: V) -> None:
        """Forget the key unless it holds another value by now."""
        if self._entries.get(key) is value:
            del self._entries[key]

    def values(self) -> list[V]:
        """All values, those first that were used longest ago."""
        return list(self._entries.values())
