"""Search for many byte strings at once.

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
_BITS: Final = range(16, 28)
"""Size of the table, as a power of two; 128 million bytes at most."""
_ROOM: Final = 16
"""Places in the table for each entry, as far as its size allows."""
_SMALL: Final = 2_000
"""So many short patterns fit a table of all states, which is the fastest form of the automaton."""


class Patterns:
    """Byte strings, none empty, that are looked for together."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        known = set(patterns)
        self._long = {pattern for pattern in known if len(pattern) >= _LONG}
        self._windows, self._shifts, self._lengths = _windows_of(self._long)
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
        begins, ends = (np.searchsorted(self._windows, found, side) for side in ("left", "right"))
        for at in np.flatnonzero(begins < ends).tolist():
            for entry in range(begins[at], ends[at]):
                start = int(places[at]) * _WINDOW - int(self._shifts[entry])
                end = start + int(self._lengths[entry])
                if start >= 0 and block[start:end] in self._long:
                    yield start, end

    def _hashed(self, windows: np.ndarray) -> np.ndarray:
        return np.asarray((windows * _MULTIPLIER) >> self._down)


def _windows_of(patterns: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the windows of patterns, sorted, with their places in them and the lengths of these.

    The end of an address or text tells more than its beginning, which its neighbours share; so the windows are those of
    the last 15 bytes.
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
