"""A cache for the threads of a process, limited in size and age: cachetools' TTLCache behind a lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from cachetools import TTLCache

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def _one(_: object) -> int:
    return 1


class SharedCache(Generic[Key, Value]):
    """Values for at most `ttl_s` seconds and `max_size` in all, where `size_of` measures a value (default: 1 each).

    The least recently used values are dropped first; a value larger than `max_size` is not cached.
    """

    def __init__(
        self,
        max_size: int,
        ttl_s: float,
        size_of: Callable[[Value], int] = _one,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache: TTLCache[Key, Value] = TTLCache(max_size, ttl_s, clock, size_of)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._cache)

    def get(self, key: Key) -> Value | None:
        """Return the cached value of a key, or None."""
        with self._lock:
            return self._cache.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Cache a value from now on, in place of an earlier one."""
        with self._lock:
            self._cache.pop(key, None)
            with suppress(ValueError):
                self._cache[key] = value
