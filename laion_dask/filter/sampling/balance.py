"""Balance pairs over a list of entries that their texts contain: MetaCLIP's curation (arXiv 2309.16671).

facebookresearch/MetaCLIP, metaclip/substr_matching.py: commas, full stops, semicolons, colons, question and exclamation
marks and backticks get spaces around them, tabs and line breaks become spaces, and an entry matches between spaces,
in its own case. metaclip/balancing.py: a pair stays if at least one of its entries is sampled; an entry that n pairs
have is sampled for each of them with probability t / max(n, t).

There the random numbers are drawn in the order of the rows; here they are a hash of seed, uid and entry, so that the
order of the rows has no effect.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ahocorasick_rs
import numpy as np
import pyarrow as pa

from laion_dask.storage import strict_rows

_SPACED: Final = {ord(mark): f" {mark} " for mark in ",.;:?!`"} | {ord(blank): " " for blank in "\t\n\r"}
_UINT64: Final = (1 << 64) - 1
_MIX: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_TWO_53: Final = 1 << 53


class EntriesError(Exception):
    """A file of entries or words cannot be read; the message has the file and the remedy."""


def read_entries(path: Path) -> list[str]:
    """Read entries: a JSON list, or a text file with one a line. Raises `EntriesError`."""
    try:
        if path.suffix == ".json":
            raw = json.loads(path.read_text(encoding="utf-8-sig"))
        else:
            raw = [entry for _, entry in strict_rows.values(path, comment="")]
    except strict_rows.RowsError as error:
        raise EntriesError(str(error)) from None
    except (OSError, ValueError) as error:
        raise EntriesError(f"{path} cannot be read: {error}. Remedy: entries one a line, or a JSON list") from error
    if not isinstance(raw, list) or not all(isinstance(entry, str) for entry in raw):
        raise EntriesError(f"{path} is not a list of texts. Remedy: entries one a line, or a JSON list of strings")
    entries = list(dict.fromkeys(entry.strip() for entry in raw if entry.strip()))
    if not entries:
        raise EntriesError(f"{path} has no entries. Remedy: entries one a line, or a JSON list")
    return entries


class Matcher:
    """Finds the entries in a text, between spaces; several hundred thousand entries in one pass."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = ahocorasick_rs.AhoCorasick([f" {self._spaced(entry).strip()} " for entry in entries])

    @classmethod
    def of_patterns(cls, patterns: Sequence[str]) -> Matcher:
        """Return a matcher that finds these strings as they are, in texts with spaces around marks."""
        matcher = cls(())
        matcher._entries = ahocorasick_rs.AhoCorasick(list(patterns))
        return matcher

    @staticmethod
    def _spaced(text: str) -> str:
        return f" {text} ".translate(_SPACED)

    def find(self, texts: Sequence[str]) -> pa.ListArray:
        """Return the indices of the entries in each text, without duplicates, sorted: list of int32 (texts,)."""
        find = self._entries.find_matches_as_indexes
        places = [sorted({entry for entry, _, _ in find(self._spaced(text), overlapping=True)}) for text in texts]
        return pa.array(places, pa.list_(pa.int32()))


@functools.lru_cache(maxsize=4)
def matcher(path: Path, digest: str) -> Matcher:  # noqa: ARG001 - a changed file has another digest
    """Return the matcher of a file of entries, cached by path and `digest`, that of the file's content."""
    return Matcher(read_entries(path))


def chances(counts: np.ndarray, t: int) -> np.ndarray:
    """Return t / max(n, t) for the number of pairs of each entry, 1 for one without pairs: float64 (entries,)."""
    return np.asarray(np.where(counts > t, t / np.maximum(counts, 1), 1), np.float64)


def falls(
    uids: np.ndarray, found: pa.ListArray, probabilities: np.ndarray, seed: int, first: np.ndarray | None = None
) -> np.ndarray:
    """Return bool (rows,): whether at least one entry of the pair is sampled, so that the pair stays.

    `uids` (rows,) come from `uid_sets.halves`, `found` from `Matcher.find`. `first` (rows,) is the place in
    `probabilities` of the first entry of the list that a row was searched with; None: of one list.
    """
    lengths = np.diff(found.offsets.to_numpy())
    rows = np.repeat(np.arange(len(uids)), lengths)
    entries = found.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    start = np.uint64((seed * _MIX[0]) & _UINT64)
    draws = mixed(mixed(mixed(uids["f0"][rows] ^ start) ^ uids["f1"][rows]) ^ entries.astype(np.uint64))
    keep = np.zeros(len(uids), bool)
    places = entries if first is None else entries + first[rows]
    keep[rows[(draws >> np.uint64(11)) / _TWO_53 < probabilities[places]]] = True
    return keep


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Hash numbers with splitmix64's finalizer, uint64 (rows,)."""
    with np.errstate(over="ignore"):
        bits = numbers.astype(np.uint64) + np.uint64(_MIX[0])
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_MIX[1])
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_MIX[2])
        return np.asarray(bits ^ (bits >> np.uint64(31)), np.uint64)
