"""The index beside a comparison of all with all: the same pairs, whatever the hashes and the distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.images import pdq_index


def planted(seed: int, rows: int, copies: int, most: int) -> np.ndarray:
    """Return random hashes and copies of some with up to so many bits turned."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (rows, 256), dtype=np.uint8)
    again = bits[rng.integers(0, rows, copies)] if rows else bits
    for row in again:
        row[rng.choice(256, int(rng.integers(0, most + 1)), replace=False)] ^= 1
    return np.packbits(np.concatenate([bits, again]), axis=1)


def all_with_all(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    one, other = (np.unpackbits(side, axis=1).astype(np.float32) for side in (hashes, others))
    return (one.sum(1)[:, None] + other.sum(1)[None] - 2 * one @ other.T).astype(int)


def found(hashes: np.ndarray, radius: int) -> dict[tuple[int, int], int]:
    pairs = {}
    for band in range(pdq_index.BANDS):
        some = pdq_index.within(hashes, radius, band, 1_000)
        assert some.crowded == 0
        for left, right, distance in zip(some.left, some.right, some.distance, strict=True):
            pairs[int(left), int(right)] = int(distance)
    return pairs


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 60), st.integers(0, 31), st.integers(0, 45))
def test_all_bands_together_find_every_pair_and_no_other(
    seed: int, rows: int, copies: int, radius: int, most: int
) -> None:
    hashes = planted(seed, rows, copies, most)
    far = all_with_all(hashes, hashes)
    left, right = np.nonzero(np.triu(far <= radius, 1))
    expected = {(int(a), int(b)): int(far[a, b]) for a, b in zip(left, right, strict=True)}
    assert found(hashes, radius) == expected


@pytest.mark.parametrize("radius", [0, 7, 15, 16, 31])
def test_bits_that_differ_are_found_wherever_they_lie(radius: int) -> None:
    rng = np.random.default_rng(radius)
    base = rng.integers(0, 2, 256, dtype=np.uint8)
    spread = np.linspace(0, 255, max(radius, 1)).astype(int)[:radius]
    # At the beginning, at the end, spread evenly, and one too many.
    rows = [base, *(base.copy() for _ in range(4))]
    for row, places in zip(
        rows[1:], [slice(0, radius), slice(256 - radius, 256), spread, slice(0, radius + 1)], strict=True
    ):
        row[places] ^= 1
    pairs = found(np.packbits(np.stack(rows), axis=1), radius)
    assert [pairs.get((0, place)) for place in range(1, 5)] == [radius, radius, radius, None]


def test_a_crowd_is_compared_with_its_first_members_only_and_counted() -> None:
    hashes = planted(3, 1, 40, 3)
    some = pdq_index.within(hashes, 31, 0, 1_000, crowd=4)
    assert some.crowded >= 1
    assert len(some.left) < 40 * 20
    everything = found(hashes, 31)
    for left, right in zip(some.left, some.right, strict=True):
        assert (left, right) in everything


def test_of_many_neighbours_a_band_gives_the_nearest_first_ones() -> None:
    hashes = planted(3, 1, 40, 3)
    every = pdq_index.within(hashes, 31, 0, 1_000)
    some = pdq_index.within(hashes, 31, 0, 2)
    expected = []
    for right in np.unique(every.right):
        mine = every.right == right
        expected += sorted(zip(every.distance[mine], every.left[mine], strict=True))[:2]
    assert list(zip(some.distance, some.left, strict=True)) == expected


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 31))
def test_the_nearest_of_others_is_found_within_the_distance(seed: int, rows: int, radius: int) -> None:
    hashes = planted(seed, rows, 30, 45)
    one, other = hashes[:rows], hashes[rows:]
    nearest = all_with_all(one, other).min(axis=1)
    assert np.array_equal(
        pdq_index.nearest(one, other, radius), np.where(nearest <= radius, nearest, np.nan), equal_nan=True
    )


def test_without_others_nothing_is_near() -> None:
    hashes = planted(1, 3, 0, 0)
    assert np.isnan(pdq_index.nearest(hashes, hashes[:0], 31)).all()
    assert len(pdq_index.nearest(hashes[:0], hashes, 31)) == 0


@pytest.mark.parametrize("radius", [-1, 32])
def test_a_distance_that_the_index_does_not_answer_for_is_refused(radius: int) -> None:
    with pytest.raises(ValueError, match=f"a distance of {radius} bits is refused"):
        pdq_index.within(planted(1, 3, 0, 0), radius, 0, 9)


def test_hex_digits_become_bytes() -> None:
    assert pdq_index.unpack(["00" * 31 + "ff", "0f" * 32]).tolist() == [[0] * 31 + [255], [15] * 32]
    assert pdq_index.unpack([]).shape == (0, 32)
