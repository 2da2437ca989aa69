"""Search for many byte strings at once.

Every eighth byte of a file begins a window of eight bytes, and any 15 bytes contain one whole window, at one of eight
offsets. So a hash table has the eight windows in 15 bytes of each pattern, and numpy looks up a file's windows as
64-bit integers. Shorter patterns, which are few, are found by an Aho-Corasick automaton.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import ahocorasick_rs
import numpy as np

_WINDOW: Final = 8
_LONG: Final = 2 * _WINDOW - 1
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
"""Constant of Fibonacci hashing, which spreads neighbouring numbers over the table."""
_BITS: Final = range(16, 28)
"""Size of the table, as a power of two; 128 million bytes at most."""
_ROOM: Final = 16
"""Slots of the table for each entry, as far as its size allows."""
_SMALL: Final = 2_000
"""Up to so many short patterns the automaton is a DFA, its fastest form, which takes the most memory."""


class Patterns:
    """Non-empty byte strings that are searched for together."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        unique = set(patterns)
        self._long = {pattern for pattern in unique if len(pattern) >= _LONG}
        self._windows, self._shifts, self._lengths = _windows_of(self._long)
        bits = next((bits for bits in _BITS if 2**bits >= _ROOM * len(self._windows)), _BITS[-1])
        self._down = np.uint64(64 - bits)
        self._table = np.zeros(2**bits, bool)
        self._table[self._hashed(self._windows)] = True
        self._short = sorted(unique - self._long)
        kind = ahocorasick_rs.Implementation.DFA if len(self._short) <= _SMALL else None
        self._automaton = (
            ahocorasick_rs.BytesAhoCorasick(self._short, ahocorasick_rs.MatchKind.Standard, kind)
            if self._short
            else None
        )

    def find(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every match of a pattern; a match of a long one may be repeated."""
        if self._automaton is not None:
            for _, start, end in self._automaton.find_matches_as_indexes(block, overlapping=True):
                yield start, end
        if not self._long or len(block) < _LONG:
            return
        windows = np.frombuffer(block, "<u8", len(block) // _WINDOW)
        places = np.flatnonzero(self._table[self._hashed(windows)])
        if not places.size:
            return
        candidates = windows[places]
        begins, ends = (np.searchsorted(self._windows, candidates, side) for side in ("left", "right"))
        for at in np.flatnonzero(begins < ends).tolist():
            for entry in range(begins[at], ends[at]):
                start = int(places[at]) * _WINDOW - int(self._shifts[entry])
                end = start + int(self._lengths[entry])
                if start >= 0 and block[start:end] in self._long:
                    yield start, end

    def _hashed(self, windows: np.ndarray) -> np.ndarray:
        return np.asarray((windows * _MULTIPLIER) >> self._down)


def _windows_of(patterns: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the windows of patterns, sorted, with the offset of each and the length of its pattern.

    They are taken from the last 15 bytes: addresses and texts share their beginning more often than their end.
    """
    by_length: dict[int, list[bytes]] = {}
    for pattern in patterns:
        by_length.setdefault(len(pattern), []).append(pattern)
    entries = [(np.empty(0, np.uint64), 0, 0)]
    for length, group in by_length.items():
        signs = np.frombuffer(b"".join(group), np.uint8).reshape(-1, length)
        for shift in range(length - _LONG, length - _LONG + _WINDOW):
            windows = np.ascontiguousarray(signs[:, shift : shift + _WINDOW]).view("<u8").ravel()
            entries.append((np.unique(windows), shift, length))
    windows = np.concatenate([windows for windows, _, _ in entries])
    order = np.argsort(windows, kind="stable")
    sizes = [len(windows) for windows, _, _ in entries]
    shifts, lengths = (np.repeat([entry[at] for entry in entries], sizes).astype(np.int32) for at in (1, 2))
    return windows[order], shifts[order], lengths[order]
