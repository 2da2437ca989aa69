"""Order rows so that the rows of every host are spread evenly.

Adjacent rows are requested at the same time: a host with many adjacent rows in the work list gets a burst of requests
there, and none elsewhere. Random order leaves such bursts by chance, and so does sorting by (occurrence + offset) /
occurrences, where many hosts have few rows; so this order is computed, not drawn.

Hosts with equally many rows form a class, in which they alternate. Two lists of a and b rows are merged evenly: of the
a + b places, the k-th row of the first list gets the one in the middle of its k-th share, (2 k + 1) (a + b) / 2 a, and
the second list gets the rest, which are as even. Classes are merged in pairs, always the two with the fewest rows
(Huffman's tree). In a window of w rows, one merge gives a list w a / (a + b) rows, rounded up or down. In Huffman's
tree a list is at most as long as the sibling of the one it was merged into, so the effect of rounding shrinks on the
way down: a host with the share s of all rows has fewer than s w + 4 of any w adjacent rows, at most ceil(s w) + 3.
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
"""A window of w rows has at most ceil(share * w) + EXCESS rows of one host."""


def shuffle_keys(values: Keys, seed: int) -> Keys:
    """Return 64 random bits for each value and seed: SplitMix64 (Steele, Lea, Flood, 2014), a bijection of 64 bits."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(seed % 2**64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def spaced(hosts: npt.NDArray[np.int32], keys: Keys) -> Ints:
    """Return the rows (as numbers from 0) in an order that spreads every host evenly.

    `hosts` (rows,) has numbers from 0 without gaps; which host has which number has no effect. `keys` (rows,) shuffle
    the rows of a host, and the hosts of a class.
    """
    by_host = np.lexsort((keys, hosts))
    sizes = np.bincount(hosts)
    starts = np.cumsum(sizes) - sizes
    # Hosts of one size are sorted by their lowest key, which is as random as any.
    shuffled = np.lexsort((keys[by_host[starts]], sizes)) if len(hosts) else np.empty(0, np.int64)
    kinds, firsts, members = np.unique(sizes[shuffled], return_index=True, return_counts=True)
    order = np.empty(len(hosts), np.int64)
    merges = _merges([int(size * count) for size, count in zip(kinds, members, strict=True)])
    for size, first, count, path in zip(kinds, firsts, members, merges, strict=True):
        alternating = starts[shuffled[first : first + count]] + np.arange(size)[:, np.newaxis]
        order[_places(int(size * count), path)] = by_host[alternating.ravel()]
    return order


def _merges(lengths: list[int]) -> Iterator[list[tuple[int, int, bool]]]:
    """Yield for each list its path up Huffman's tree: by merge its rows, all rows, and whether it is the first."""
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
    """Return the final places of the rows of one list; the products fit 64 bits for fewer than 2**31 rows."""
    places = np.arange(rows, dtype=np.int64)
    for length, total, leads in path:
        places = (2 * places + 1) * total
        # The first list gets the place that contains its middle. Where the middle is the border of two places, the
        # second list gets the one before, so that each place is used exactly once.
        places = places // (2 * length) if leads else (places - 1) // (2 * length)
    return places
