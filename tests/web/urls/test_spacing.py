"""Rows of hosts in an order that spreads every host evenly: no window of any length is crowded."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.web.urls.spacing import EXCESS, shuffle_keys, spaced

sizes_of_hosts = st.one_of(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    # One host with half of all rows, and as many with one.
    st.integers(1, 300).map(lambda rows: [rows, *[1] * rows]),
    # All sizes once: no two hosts can take turns.
    st.integers(1, 30).map(lambda most: list(range(1, most + 1))),
    # As unlike as Huffman's tree can be deep.
    st.integers(1, 11).map(lambda most: [2**size for size in range(most)]),
    st.lists(st.sampled_from([1, 1, 1, 2, 3, 5, 8, 13, 21, 144]), min_size=1, max_size=60),
)


def rows_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def keys_of(rows: int, seed: int) -> np.ndarray:
    return shuffle_keys(np.arange(rows, dtype=np.uint64), seed)


def most_in_a_window(order: np.ndarray, width: int) -> Counter[int]:
    """Count the rows of each host in the window of this width that holds most of them."""
    most: Counter[int] = Counter()
    inside: Counter[int] = Counter()
    for place, host in enumerate(order.tolist()):
        inside[host] += 1
        if place >= width:
            inside[int(order[place - width])] -= 1
        most[host] = max(most[host], inside[host])
    return most


@settings(deadline=None, max_examples=300)
@given(sizes_of_hosts, st.integers(0, 2**64 - 1), st.data())
def test_no_window_has_more_rows_of_a_host_than_its_share_and_three(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    hosts = rows_of(sizes)
    order = spaced(hosts, keys_of(len(hosts), seed))
    assert np.array_equal(np.sort(order), np.arange(len(hosts)))
    width = data.draw(st.integers(1, len(hosts)))
    for host, rows in most_in_a_window(hosts[order], width).items():
        assert rows <= math.ceil(width * sizes[host] / len(hosts)) + EXCESS


@pytest.mark.parametrize(
    "sizes",
    [
        [20_000, *[1] * 20_000],
        [30_000, 9_000, *[7] * 100, *[1] * 3_000],
        list(range(1, 250)),
        [max(1, 9_000 // rank) for rank in range(1, 4_000)],
    ],
    ids=["half and singletons", "two large", "all sizes", "Zipf"],
)
def test_in_a_thousand_rows_a_host_has_its_share(sizes: list[int]) -> None:
    hosts = rows_of(sizes)
    order = hosts[spaced(hosts, keys_of(len(hosts), 1))]
    for host, rows in most_in_a_window(order, 1000).items():
        assert rows <= math.ceil(1000 * sizes[host] / len(hosts)) + EXCESS


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_hosts_of_one_size_take_turns(hosts: int, rows: int, seed: int) -> None:
    all_hosts = rows_of([rows] * hosts)
    order = all_hosts[spaced(all_hosts, keys_of(hosts * rows, seed))]
    rounds = [order[start : start + hosts].tolist() for start in range(0, len(order), hosts)]
    assert sorted(rounds[0]) == list(range(hosts))
    assert all(left == right for left, right in itertools.pairwise(rounds))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99), st.randoms())
def test_the_order_follows_from_keys_and_shared_hosts_alone(names: list[int], seed: int, random: object) -> None:
    keys = keys_of(len(names), seed)
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    expected = keys[spaced(np.array([codes[name] for name in names], np.int32), keys)]
    mixed = list(range(len(names)))
    random.shuffle(mixed)  # type: ignore[attr-defined]
    other = {name: code for code, name in enumerate(dict.fromkeys(names[place] for place in mixed))}
    hosts = np.array([other[names[place]] for place in mixed], np.int32)
    assert np.array_equal(keys[mixed][spaced(hosts, keys[mixed])], expected)


def test_no_rows_have_an_order_too() -> None:
    assert spaced(np.empty(0, np.int32), np.empty(0, np.uint64)).tolist() == []


def test_keys_are_those_of_splitmix64() -> None:
    # The first outputs for seed 0 in the reference of Vigna (xoshiro.di.unimi.it/splitmix64.c): state = n * increment.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(shuffle_keys(np.zeros(1, np.uint64), seed)[0]) for seed in (1, 2, 3)] == expected


def test_keys_differ_by_seed_and_never_meet() -> None:
    values = np.arange(100_000, dtype=np.uint64)
    first, second = (shuffle_keys(values, seed) for seed in (-1, 2**40))
    assert len(np.unique(first)) == len(values)
    assert not (first == second).any()
    # As many ones as zeros in each bit, give or take six standard deviations.
    ones = ((first[:, np.newaxis] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).sum(axis=0)
    assert (np.abs(ones.astype(np.int64) - 50_000) < 6 * math.sqrt(100_000 / 4)).all()
