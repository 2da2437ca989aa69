"""Crawls that are added: the work list of each crawl depends on itself and on those before, and on nothing later."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables
from made.versions.catalogs import Built, build, of_host

from laion_dask.blocklists import known_lists
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.params.lists import HashList

few = settings(deadline=None, max_examples=15)

CRAWLS = ("CC-MAIN-2024-22", "CC-MAIN-2024-26", "CC-MAIN-2024-30")
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=40)
"""Host and picture of each pair of a crawl; the same pair may come again, in the crawl or in a later one."""
REMOVED = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), max_size=8)


def url(host: int, picture: int) -> str:
    return f"https://h{host}.example/{picture}.jpg"


def crawl(number: int, pairs: list[tuple[int, int]]) -> pa.Table:
    """Return the pairs of one crawl as extraction finds them."""
    rows: list[dict[str, Any]] = [
        {
            "url": url(*pair),
            "host": f"h{pair[0]}.example",
            "text": f"picture {pair[1]}",
            "uid": hashlib.md5(url(*pair).encode()).hexdigest(),
            "crawl": CRAWLS[number],
            "wat": f"{CRAWLS[number]}.wat.gz",
            "wat_order": number * 1_000_000,
            "record_offset": place,
        }
        for place, pair in enumerate(pairs)
    ]
    return tables.pairs(*rows)


def shards(built: Built) -> list[list[dict[str, Any]]]:
    """Return the shards in the order of their numbers, empty ones too."""
    return [table.to_pylist() for of_part in built.work for table in of_part]


def in_database(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        query = "select uid, crawl, record_offset, number from laion_dask.pairs join laion_dask.wats"
        return connection.execute(f'{query} on "order" = wat_order order by uid, number').fetchall()


@pytest.mark.slow
@few
@given(st.lists(PAIRS, min_size=2, max_size=3), st.sampled_from([1, 4]))
def test_a_further_crawl_adds_shards_and_leaves_those_of_the_crawls_before(
    dsn: str, found: list[list[tuple[int, int]]], buckets: int
) -> None:
    crawls = [crawl(number, pairs) for number, pairs in enumerate(found)]
    shape: dict[str, Any] = {"buckets": buckets, "shard_rows": 16}
    earlier = build(dsn, *crawls[:-1], **shape)
    grown = build(dsn, *crawls, fresh=False, **shape)
    assert shards(grown)[: len(shards(earlier))] == shards(earlier)
    held = in_database(dsn)
    at_once = build(dsn, *crawls, **shape)
    assert (shards(at_once), at_once.removed, at_once.counts) == (shards(grown), grown.removed, grown.counts)
    assert in_database(dsn) == held
    at_once.ledger.check("catalog", expected=sum(map(len, found)))
    uids = [row["uid"] for row in grown.rows]
    assert sorted(uids) == sorted({uid for table in crawls for uid in table["uid"].to_pylist()})


@pytest.mark.slow
@few
@given(st.lists(PAIRS, min_size=1, max_size=2), REMOVED)
def test_a_removal_takes_its_pairs_out_and_moves_no_other(
    dsn: str, found: list[list[tuple[int, int]]], gone: list[tuple[int, int]]
) -> None:
    crawls = [crawl(number, pairs) for number, pairs in enumerate(found)]
    removals = [Removal("url", url(*pair), "") for pair in gone]
    removals += [Removal("domain", f"h{host}.example", "") for host, _ in gone[:1]]
    removals += [Removal("uid", hashlib.md5(url(*pair).encode()).hexdigest(), "") for pair in gone[1:2]]
    before = build(dsn, *crawls, buckets=2, shard_rows=16)
    after = build(dsn, *crawls, buckets=2, shard_rows=16, removals=removals, fresh=False)
    out = set(after.removed["uid"].to_pylist())
    assert shards(after) == [[row for row in rows if row["uid"] not in out] for rows in shards(before)]
    assert {row["url"] for rows in shards(before) for row in rows if row["uid"] in out} == {
        row["url"]
        for row in before.rows
        if row["url"] in {url(*pair) for pair in gone} or row["host"] in {f"h{host}.example" for host, _ in gone[:1]}
    }


def test_places_of_a_shard_count_from_zero_and_a_removal_leaves_a_gap(dsn: str) -> None:
    found = tables.pairs(*of_host("a.example", 40))
    whole = shards(build(dsn, found, shard_rows=16))
    assert [[row["place"] for row in rows] for rows in whole] == [[*range(16)], [*range(16)], [*range(8)]]
    gone = whole[1][5]
    after = shards(build(dsn, found, shard_rows=16, removals=[Removal("uid", gone["uid"], "")]))
    assert after[0] == whole[0]
    assert after[1] == [row for row in whole[1] if row != gone]


def test_a_shard_whose_pairs_are_all_removed_keeps_its_number(dsn: str) -> None:
    found = tables.pairs(*of_host("a.example", 40))
    first = shards(build(dsn, found, shard_rows=16))[0]
    removals = [Removal("uid", row["uid"], "") for row in first]
    assert [len(rows) for rows in shards(build(dsn, found, shard_rows=16, removals=removals))] == [0, 16, 8]


def test_what_an_earlier_crawl_has_counts_as_repeated_and_not_as_new(dsn: str) -> None:
    crawls = [crawl(0, [(1, 1), (1, 2), (1, 2)]), crawl(1, [(1, 2), (1, 2), (1, 3), (1, 3)])]
    built = build(dsn, *crawls)
    assert [(counts["new"], counts["repeated"]) for counts in built.counts] == [(2, 0), (1, 1)]
    assert [counts["pairs"]["dropped"]["duplicate_pair"] for counts in built.counts] == [1, 3]
    assert {row["url"]: (row["crawl"], row["seen"]) for row in built.rows} == {
        url(1, 1): (CRAWLS[0], 1),
        url(1, 2): (CRAWLS[0], 2),
        url(1, 3): (CRAWLS[1], 2),
    }


def test_a_crawl_that_is_taken_away_leaves_the_database_and_one_that_changes_is_loaded_again(dsn: str) -> None:
    crawls = [crawl(0, [(1, 1), (1, 2)]), crawl(1, [(2, 1), (1, 2)])]
    alone = build(dsn, crawls[0])
    held = in_database(dsn)
    both = build(dsn, *crawls, fresh=False)
    assert len(in_database(dsn)) == 4
    assert shards(build(dsn, crawls[0], fresh=False)) == shards(alone)
    assert in_database(dsn) == held
    changed = crawl(0, [(1, 1), (3, 3)])
    again = build(dsn, changed, crawls[1], fresh=False)
    assert shards(again) == shards(build(dsn, changed, crawls[1])) != shards(both)


def test_a_listed_address_is_taken_out_once_and_moves_no_other(dsn: str, tmp_path: Path) -> None:
    crawls = [crawl(0, [(1, 1), (1, 2), (2, 5)]), crawl(1, [(1, 2), (1, 2), (4, 4)])]
    (tmp_path / "list.txt").write_text(hashlib.md5(url(1, 2).encode()).hexdigest() + "\n")
    entry = HashList(name="addresses", kind="url_md5", file=str(tmp_path / "list.txt"))
    lists = known_lists.compiled((entry,), tmp_path / "compiled")
    before, after = build(dsn, *crawls), build(dsn, *crawls, lists=lists)
    assert shards(after) == [[row for row in rows if row["url"] != url(1, 2)] for rows in shards(before)]
    assert after.removed["reason"].to_pylist() == ["listed_url"]
    assert [counts["listed"] for counts in after.counts] == [{"addresses": 1}, {"addresses": 0}]
    after.ledger.check("catalog", expected=6)
