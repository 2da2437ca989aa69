"""Many byte strings looked for at once, however many they are.

Each eighth byte of a file begins a window of eight bytes. Whatever is 15 bytes long has one of these windows inside,
at one of eight places; so all windows of 15 bytes of each pattern are put into a table, and a file is read by numpy,
one number for eight bytes. What is shorter is left to an automaton (Aho and Corasick); such patterns are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import ahocorasick_rs
import numpy as np

_WINDOW: Final = 8
_LONG: Final = 2 * _WINDOW - 1
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
"""Of Fibonacci hashing: spreads neighbouring numbers over the table."""
_BITS: Final = range(16, 25)
"""Size of the table, as a power of two; 16 million bytes at most."""
_ROOM: Final = 32
"""Places in the table for each entry, as far as its size allows."""
_SMALL: Final = 2_000
"""So many short patterns fit a table of all states, which is the fastest form of the automaton."""


class Patterns:
    """Byte strings, none empty, that are looked for together."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        known = set(patterns)
        self._long = {pattern for pattern in known if len(pattern) >= _LONG}
        self._places: dict[int, set[tuple[int, int]]] = {}
        for pattern in self._long:
            # The end of an address or text tells more than its beginning, which its neighbours share.
            first = len(pattern) - _LONG
            for shift in range(first, first + _WINDOW):
                window = int.from_bytes(pattern[shift : shift + _WINDOW], "little")
                self._places.setdefault(window, set()).add((shift, len(pattern)))
        self._windows = np.array(sorted(self._places), np.uint64)
        bits = next((bits for bits in _BITS if 2**bits >= _ROOM * len(self._windows)), _BITS[-1])
        self._down = np.uint64(64 - bits)
        self._table = np.zeros(2**bits, bool)
        self._table[self._hashed(self._windows)] = True
        self._short = sorted(known - self._long)
        kind = ahocorasick_rs.Implementation.DFA if len(self._short) <= _SMALL else None
        self._automaton = (
            ahocorasick_rs.BytesAhoCorasick(self._short, ahocorasick_rs.MatchKind.Standard, kind)
            if self._short
            else None
        )

    def find(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every place where a pattern stands; a long one may come twice."""
        if self._automaton is not None:
            for _, start, end in self._automaton.find_matches_as_indexes(block, overlapping=True):
                yield start, end
        if not self._long or len(block) < _LONG:
            return
        windows = np.frombuffer(block, "<u8", len(block) // _WINDOW)
        places = np.flatnonzero(self._table[self._hashed(windows)])
        if not places.size:
            return
        found = windows[places]
        at = np.searchsorted(self._windows, found)
        at[at == len(self._windows)] = 0
        same = self._windows[at] == found
        for place, window in zip(places[same].tolist(), found[same].tolist(), strict=True):
            for shift, length in self._places[window]:
                start = place * _WINDOW - shift
                if start >= 0 and block[start : start + length] in self._long:
                    yield start, start + length

    def _hashed(self, windows: np.ndarray) -> np.ndarray:
        return np.asarray((windows * _MULTIPLIER) >> self._down)
