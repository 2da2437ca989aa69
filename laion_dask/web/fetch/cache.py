"""Keys and answers in, the same answers out for a while: a cache with limits of number, weight and age, for threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """At most `entries` answers, each for `seconds`; where there are more, the one used longest ago goes.

    So it does where all together weigh more than `heaviest`: what a stranger sends may be large.
    """

    def __init__(
        self,
        entries: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        heaviest: int | None = None,
    ) -> None:
        self._limit = entries
        self._seconds = seconds
        self._clock = clock
        self._heaviest = heaviest
        self._weight = 0
        self._entries: OrderedDict[Key, tuple[float, Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return what is remembered, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if self._clock() >= entry[0]:
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def put(self, key: Key, value: Value, weight: int = 0) -> None:
        """Remember an answer from now on; one that weighs too much alone is not kept."""
        with self._lock:
            if key in self._entries:
                self._drop(key)
            self._entries[key] = (self._clock() + self._seconds, value, weight)
            self._weight += weight
            while len(self._entries) > self._limit or (self._heaviest is not None and self._weight > self._heaviest):
                self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        self._weight -= self._entries.pop(key)[2]
