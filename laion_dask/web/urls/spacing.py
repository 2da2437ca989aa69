"""The hosts of rows and a random key for each in, an order of the rows out in which every host is spread evenly.

Rows that stand side by side are asked for side by side: a host that fills a stretch of the work list is hammered there,
and idle elsewhere. Sorting by random keys leaves such stretches by chance, and by (occurrence + offset) / occurrences
too, where many hosts have few rows: so places are counted out here, not drawn.

Hosts with equally many rows form a class, in which they take turns. Two lists of a and b rows are merged evenly: of the
a + b places, the k-th row of the first takes the one at the middle of its k-th share, (2 k + 1) (a + b) / 2 a, and the
second list takes the rest, which are as even. The classes are merged by twos, always the two with the fewest rows
(Huffman's tree). In a window of w rows, one merge gives a list w a / (a + b), rounded up or down. In Huffman's tree a
list is at most as long as the sibling of the one it went into, so what rounding adds shrinks on the way down: a host
with the share s of all rows has fewer than s w + 4 of any w rows that follow each other, at most ceil(s w) + 3.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

EXCESS: Final = 3
"""A window of w rows holds at most ceil(share * w) + EXCESS rows of one host."""


def shuffle_keys(values: Keys, seed: int) -> Keys:
    """Return 64 random bits for each value and seed: SplitMix64 (Steele, Lea, Flood, 2014), a bijection of 64 bits."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(seed % 2**64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def spaced(hosts: npt.NDArray[np.int32], keys: Keys) -> Ints:
    """Return the rows (as numbers from 0) in an order that spreads every host evenly.

    `hosts` (rows,) numbers hosts from 0 without gaps, in any way: the order follows from who shares a host, and from
    `keys` (rows,), which shuffle the rows of a host and the hosts of a class.
    """
    by_host = np.lexsort((keys, hosts))
    sizes = np.bincount(hosts)
    starts = np.cumsum(sizes) - sizes
    # A host's lowest key is as random as any: hosts of one size are put in order by it.
    in_turn = np.lexsort((keys[by_host[starts]], sizes)) if len(hosts) else np.empty(0, np.int64)
    kinds, firsts, members = np.unique(sizes[in_turn], return_index=True, return_counts=True)
    order = np.empty(len(hosts), np.int64)
    merges = _merges([int(size * count) for size, count in zip(kinds, members, strict=True)])
    for size, first, count, path in zip(kinds, firsts, members, merges, strict=True):
        turns = starts[in_turn[first : first + count]] + np.arange(size)[:, np.newaxis]
        order[_places(int(size * count), path)] = by_host[turns.ravel()]
    return order


def _merges(lengths: list[int]) -> Iterator[list[tuple[int, int, bool]]]:
    """Yield for each list its way up Huffman's tree: its rows and all rows of each merge, and whether it goes first."""
    above: dict[int, tuple[int, int, int, bool]] = {}
    heap = [(length, node) for node, length in enumerate(lengths)]
    heapq.heapify(heap)
    for merged in range(len(lengths), 2 * len(lengths) - 1):
        (few, left), (more, right) = heapq.heappop(heap), heapq.heappop(heap)
        above[left] = (merged, few, few + more, True)
        above[right] = (merged, more, few + more, False)
        heapq.heappush(heap, (few + more, merged))
    for start in range(len(lengths)):
        path, node = [], start
        while node in above:
            node, rows, of_rows, leads = above[node]
            path.append((rows, of_rows, leads))
        yield path


def _places(rows: int, path: list[tuple[int, int, bool]]) -> Ints:
    """Return the places that the rows of one list have in the end; 64 bits hold the products below 2**31 rows."""
    places = np.arange(rows, dtype=np.int64)
    for length, total, leads in path:
        places = (2 * places + 1) * total
        # The first list takes the place that its middle falls into; where that is the edge of two, the second list
        # takes the one before, so that no place is taken twice and none is left.
        places = places // (2 * length) if leads else (places - 1) // (2 * length)
    return places
