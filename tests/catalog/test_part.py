"""Pairs into a real PostgreSQL and out again: unique, cleared of removals, shuffled, hosts spaced apart."""

from __future__ import annotations

import hashlib
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables
from made.versions.catalogs import build, of_host

from laion_dask import schema
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import pair_files, part
from laion_dask.catalog.database import CatalogError
from laion_dask.web.urls import spacing

# A server for each test would cost seconds; each build begins with an empty database instead.
few = settings(deadline=None, max_examples=10)


# Equal pairs


def test_of_equal_pairs_the_first_of_the_crawl_stays(dsn: str) -> None:
    same = {"url": "https://a.example/1.jpg", "host": "a.example", "text": "the same text"}
    places = [(1, 0, 0), (0, 900, 0), (0, 100, 7), (0, 100, 3), (2, 0, 0)]
    rows = [
        {
            **same,
            "wat_order": wat,
            "record_offset": offset,
            "link_index": link,
            "page_url": f"https://{number}.example/",
        }
        for number, (wat, offset, link) in enumerate(places)
    ]
    built = build(dsn, tables.pairs(*rows[:2]), tables.pairs(*rows[2:]))
    (row,) = built.rows
    assert (row["wat_order"], row["record_offset"], row["link_index"]) == (0, 100, 3)
    assert row["page_url"] == "https://3.example/"
    assert row["seen"] == 5
    assert built.ledger.as_dict() == {"seen": 5, "kept": 1, "dropped": {"duplicate_pair": 4}}


def test_another_text_or_address_is_another_pair(dsn: str) -> None:
    rows = [{"url": "https://a.example/1.jpg", "text": "one"}, {"url": "https://a.example/1.jpg", "text": "two"}]
    built = build(dsn, tables.pairs(*rows, {"url": "https://a.example/2.jpg", "text": "two"}))
    assert len(built.rows) == 3
    assert {row["seen"] for row in built.rows} == {1}


def in_database(dsn: str) -> pa.Table:
    """Return all pairs that the database holds, as extraction found them."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(f"select {', '.join(schema.PAIRS.names)} from laion_dask.found").fetchall()
    columns = zip(*rows, strict=True) if rows else [[]] * len(schema.PAIRS.names)
    return (
        pa.table([pa.array(column) for column in columns], names=schema.PAIRS.names)
        .cast(schema.PAIRS.schema)
        .sort_by("uid")
    )


def test_values_come_back_as_they_went_in(dsn: str) -> None:
    texts = [
        'it\'s "quoted"; drop table x',
        "back\\slash \\N \\x41 {}",
        "a fox 狐 🦊 e\u0301",
        "tab\tand\nline",
        "%s $1",
    ]
    counts = {"emails": 1, "phones": 2, "cards": 3, "accounts": 4, "ips": 32_767}
    values = {"language_confidence": 0.1, "split": "multi", "record_offset": 2**40, "page_signals": "noai", **counts}
    found = tables.pairs(*({"text": text, **values} for text in texts))
    (shard,) = build(dsn, found).work[0]
    assert shard.select(schema.PAIRS.names).sort_by("uid").equals(found)
    assert in_database(dsn).equals(found)


# Removals

REMOVALS = [
    Removal("url", "https://a.example/1.jpg", ""),
    Removal("domain", "removed.example", ""),
    Removal("domain", "xn--bcher-kva.example", ""),
    Removal("uid", tables.uid(77), ""),
    Removal("sha256", "0" * 64, "of an image: matched after the download"),
]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"url": "https://a.example/1.jpg", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example/1.jpg?again", "host": "a.example"}, ""),
        ({"url": "http://a.example/1.jpg", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example/1.jpg#top", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example/1.jpg?", "host": "a.example"}, "removed_url"),
        ({"url": "http://me:word@a.example:80/x/../1.jpg?#top", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example./%31.jpg", "host": "a.example."}, "removed_url"),
        ({"url": "HTTPS://A.Example/1.jpg", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example/1%2Ejpg", "host": "a.example"}, "removed_url"),
        ({"url": "https://a.example:8080/1.jpg", "host": "a.example"}, ""),
        ({"url": "https://a.example/1.JPG", "host": "a.example"}, ""),
        ({"url": "https://www.a.example/1.jpg", "host": "www.a.example"}, ""),
        ({"host": "removed.example"}, "removed_domain"),
        ({"host": "img.eu.removed.example"}, "removed_domain"),
        ({"host": "img.removed.example."}, "removed_domain"),
        ({"host": "notremoved.example"}, ""),
        ({"host": "removed.example.org"}, ""),
        ({"host": "xn--bcher-kva.example"}, "removed_domain"),
        ({"uid": tables.uid(77)}, "removed_uid"),
        ({"uid": tables.uid(78)}, ""),
        ({"host": "removed.example", "uid": tables.uid(77)}, "removed_domain"),
        ({"url": "https://a.example/1.jpg", "host": "a.example", "uid": tables.uid(77)}, "removed_url"),
    ],
)
def test_a_removal_takes_out_its_pairs_and_no_others(dsn: str, row: dict[str, Any], reason: str) -> None:
    other = {"url": "https://other.example/x.jpg", "host": "other.example"}
    built = build(dsn, tables.pairs({"split": "nolang", **row}, other), removals=REMOVALS)
    removed = built.removed.to_pylist()
    assert [(gone["split"], gone["reason"]) for gone in removed] == ([("nolang", reason)] if reason else [])
    assert len(built.rows) == (1 if reason else 2)
    assert built.ledger.dropped == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    "written", ["http://a.example./%7e1.jpg#x", "https://u@a.example:443/~1.jpg?", "//a.example/~1.jpg"]
)
def test_a_removal_means_the_same_in_whatever_way_the_ledger_writes_it(dsn: str, written: str) -> None:
    found = tables.pairs({"url": "https://a.example/~1.jpg", "host": "a.example"})
    assert build(dsn, found, removals=[Removal("url", written, "")]).ledger.dropped == {"removed_url": 1}


@pytest.mark.parametrize("url", ["http://0xc0.513/1.jpg", "http://3221225985./1.jpg", "https://192.0.2.1:80/1.jpg"])
def test_a_removal_by_an_ip_address_means_every_spelling_of_it(dsn: str, url: str) -> None:
    found = tables.pairs({"url": url, "host": url.split("/")[2]})
    assert build(dsn, found, removals=[Removal("url", "https://192.0.2.1/1.jpg", "")]).ledger.dropped == {
        "removed_url": 1
    }


@pytest.mark.parametrize("chars", [2_600, 2_705, 100_000])
def test_a_removal_may_name_an_address_or_a_domain_of_any_length(dsn: str, chars: int) -> None:
    # Of hex digits without repetition: PostgreSQL would make an entry of its index small again.
    name = "".join(hashlib.sha256(str(place).encode()).hexdigest() for place in range(chars // 64 + 1))[:chars]
    url = f"https://a.example/{name}"
    rows = [{"url": url, "host": "a.example"}, {"url": f"{url}y", "host": "a.example"}]
    lines = [Removal("url", url, ""), Removal("url", f"{url}z", ""), Removal("domain", f"{'y.' * chars}example", "")]
    built = build(dsn, tables.pairs(*rows), removals=lines)
    assert built.urls == [f"{url}y"]
    assert built.ledger.dropped == {"removed_url": 1}


def test_a_name_of_one_label_takes_out_all_below_it(dsn: str) -> None:
    hosts = ["intranet", "a.intranet", "b.a.intranet.", "intranet.example", "aintranet"]
    found = tables.pairs(*({"host": host, "url": f"https://{host}/1.jpg"} for host in hosts))
    built = build(dsn, found, removals=[Removal("domain", name, "") for name in ("intranet", "other.example")])
    assert sorted(row["host"] for row in built.rows) == ["aintranet", "intranet.example"]
    assert built.ledger.dropped == {"removed_domain": 3}


def test_what_is_removed_is_written_once_and_its_copies_count_as_duplicates(dsn: str) -> None:
    rows = [{"uid": tables.uid(9 - place // 2), "host": "removed.example", "wat_order": place} for place in range(6)]
    built = build(dsn, tables.pairs(*rows), removals=REMOVALS)
    assert built.removed["uid"].to_pylist() == [tables.uid(number) for number in (7, 8, 9)]
    assert built.ledger.as_dict() == {"seen": 6, "kept": 0, "dropped": {"duplicate_pair": 3, "removed_domain": 3}}
    assert built.rows == []


def test_a_removal_that_is_taken_back_brings_the_pair_back(dsn: str) -> None:
    found = tables.pairs({"host": "removed.example"})
    assert not build(dsn, found, removals=REMOVALS).rows
    assert len(build(dsn, found, fresh=False).rows) == 1


# The shuffle


def test_the_shuffle_is_a_permutation_that_follows_from_the_seed(dsn: str) -> None:
    rows = [row for number in range(6) for row in of_host(f"h{number}.example", 8)]
    found = tables.pairs(*rows)
    first, again, other = (build(dsn, found, seed=seed).urls for seed in (7, 7, 8))
    assert first == again
    assert sorted(first) == sorted(other) == sorted(row["url"] for row in rows)
    assert first != other
    assert first != sorted(first)


def test_the_order_does_not_depend_on_the_order_of_files_or_of_loading(dsn: str) -> None:
    rows = [row for number in range(4) for row in of_host(f"h{number}.example", 5)]
    whole = build(dsn, tables.pairs(*rows)).urls
    halves = build(dsn, tables.pairs(*rows[11:]), tables.pairs(*rows[:11])).urls
    assert whole == halves


def most_above_share(dsn: str, sizes: list[int], width: int, seed: int = 7) -> int:
    """Build one bucket of hosts with so many pairs; return by how much the fullest window exceeds a host's share."""
    found = tables.pairs(*(row for number, size in enumerate(sizes) for row in of_host(f"h{number}.example", size)))
    (shards,) = build(dsn, found, seed=seed).work
    order = np.array([int(host[1:-8]) for shard in shards for host in shard["host"].to_pylist()])
    assert len(order) == sum(sizes)
    most = -len(order)
    for host, size in enumerate(sizes):
        places = np.flatnonzero(order == host)
        inside = np.arange(1, size + 1) - np.searchsorted(places, places - width, side="right")
        most = max(most, int(inside.max()) - math.ceil(min(width, len(order)) * size / len(order)))
    return most


@pytest.mark.slow
@few
@given(
    st.one_of(
        st.lists(st.integers(1, 60), min_size=1, max_size=12),
        st.integers(1, 200).map(lambda rows: [rows, *[1] * rows]),
        st.integers(1, 25).map(lambda most: list(range(1, most + 1))),
    ),
    st.integers(0, 2**31 - 1),
    st.integers(1, 400),
)
def test_no_window_is_crowded_by_one_host(dsn: str, sizes: list[int], seed: int, width: int) -> None:
    assert most_above_share(dsn, sizes, width, seed) <= spacing.EXCESS


@pytest.mark.parametrize(
    "sizes",
    [[3_000, *[1] * 3_000], [2_000, 500, *[7] * 100, *[1] * 800], [max(1, 900 // rank) for rank in range(1, 700)]],
    ids=["half and singletons", "two large", "Zipf"],
)
def test_in_a_thousand_rows_a_host_has_its_share(dsn: str, sizes: list[int]) -> None:
    assert most_above_share(dsn, sizes, 1000) <= spacing.EXCESS


def test_across_the_seam_of_two_buckets_a_window_has_the_shares_of_both(dsn: str) -> None:
    sizes = [600, 200, *[1] * 600]
    found = tables.pairs(*(row for number, size in enumerate(sizes) for row in of_host(f"h{number}.example", size)))
    first, second = build(dsn, found, buckets=2).work
    ends = [[host for shard in shards for host in shard["host"].to_pylist()] for shards in (first, second)]
    for before in range(0, 401, 20):
        for name in ("h0.example", "h1.example"):
            allowed = [
                math.ceil(rows * end.count(name) / len(end)) + spacing.EXCESS
                for end, rows in zip(ends, (before, 400 - before), strict=True)
            ]
            window = [*ends[0][len(ends[0]) - before :], *ends[1][: 400 - before]]
            assert window.count(name) <= sum(allowed)


def test_two_hosts_of_one_size_take_turns(dsn: str) -> None:
    built = build(dsn, tables.pairs(*of_host("a.example", 20), *of_host("b.example", 20)))
    hosts = [row["host"] for row in built.rows]
    assert all(left != right for left, right in itertools.pairwise(hosts))


def test_the_work_list_is_cut_into_shards(dsn: str) -> None:
    found = tables.pairs(*of_host("a.example", 50))
    (shards,) = build(dsn, found, shard_rows=16).work
    assert [shard.num_rows for shard in shards] == [16, 16, 16, 2]
    assert [row["uid"] for shard in shards for row in shard.to_pylist()] == [
        row["uid"] for row in build(dsn, found).rows
    ]
    assert [shard["place"].to_pylist() for shard in shards] == [[*range(16)], [*range(16)], [*range(16)], [0, 1]]


# Counts, over random inputs

places: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    host=st.sampled_from(["a.example", "b.a.example", "removed.example", "notremoved.example"]),
    picture=st.integers(0, 3),
    text=st.sampled_from(["one fox", "two foxes"]),
    wat_order=st.integers(0, 2),
)


@pytest.mark.slow
@few
@given(st.lists(places, max_size=40), st.sampled_from([1, 4]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_nothing_vanishes(dsn: str, found: list[dict[str, Any]], buckets: int, files: int, seed: int) -> None:
    rows = []
    for place, pair in enumerate(found):
        url = f"https://{pair['host']}/{pair.pop('picture')}.jpg"
        rows.append({**pair, "url": url, "record_offset": place, "link_index": place % 3})
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["wat_order"], row["record_offset"], row["link_index"])):
        first.setdefault((row["url"], row["text"]), row)
    gone = [row for row in first.values() if row["host"] == "removed.example" or row["url"] == REMOVALS[0].value]
    pages = [tables.pairs(*rows[number::files]) for number in range(files)]
    built = build(dsn, *pages, buckets=buckets, seed=seed, shard_rows=16, removals=REMOVALS)
    built.ledger.check("catalog", expected=len(rows))
    assert built.ledger.dropped["duplicate_pair"] == len(rows) - len(first)
    assert built.ledger.kept == len(first) - len(gone) == len(built.rows)
    assert built.removed.num_rows == len(gone)
    for row in built.rows:
        expected = first[row["url"], row["text"]]
        assert {name: row[name] for name in expected} == expected
        assert row["seen"] == sum((row["url"], row["text"]) == (other["url"], other["text"]) for other in rows)


@pytest.mark.parametrize("uid", ["0" * 31, "0" * 33, "G" * 32, "A" * 32])
def test_a_uid_that_is_none_is_refused(tmp_path: Path, uid: str) -> None:
    path = tables.write(tmp_path / "0.parquet", tables.pairs({"uid": uid}))
    with pytest.raises(CatalogError, match=r"a uid is not 32 hex digits\. Remedy: run the stage extract again"):
        part.uid_bytes(pair_files.read([path], 0, 1)["uid"])


def test_a_character_that_text_in_the_database_cannot_hold_stays_in_the_work_list(dsn: str) -> None:
    found = tables.pairs({"text": "a\0b", "page_signals": "c\0d"}, {"text": "plain"})
    (shard,) = build(dsn, found).work[0]
    assert shard.select(schema.PAIRS.names).sort_by("uid").equals(found)
    assert sorted(in_database(dsn)["text"].to_pylist()) == ["a\ufffdb", "plain"]


def test_another_number_of_buckets_gives_the_same_pairs(dsn: str) -> None:
    rows = [row for number in range(5) for row in of_host(f"h{number}.example", 9)]
    two = build(dsn, tables.pairs(*rows), buckets=2)
    eight = build(dsn, tables.pairs(*rows), buckets=8, fresh=False)
    assert sorted(two.urls) == sorted(eight.urls)
    assert two.ledger == eight.ledger
    for bucket, shards in enumerate(eight.work):
        assert all(int(row["uid"][0], 16) // 2 == bucket for shard in shards for row in shard.to_pylist())
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*), count(distinct bucket) from laion_dask.pairs").fetchone() == (45, 8)


def test_no_pairs_at_all_give_an_empty_work_list(dsn: str) -> None:
    built = build(dsn, buckets=2)
    assert (built.ledger.as_dict(), built.work) == ({"seen": 0, "kept": 0, "dropped": {}}, [])


def test_pairs_of_several_crawls_are_one_list_and_the_earlier_crawl_wins(dsn: str) -> None:
    same = {"url": "https://a.example/1.jpg", "text": "the same text"}
    old = tables.pairs({**same, "crawl": "CC-MAIN-2014-35", "wat": "old.wat.gz", "wat_order": 0, "record_offset": 900})
    new = tables.pairs({**same, "crawl": "CC-MAIN-2024-22", "wat": "new.wat.gz", "wat_order": 1, "record_offset": 100})
    for found in ([old, new], [new, old]):
        (row,) = build(dsn, *found).rows
        assert (row["crawl"], row["wat"], row["seen"]) == ("CC-MAIN-2014-35", "old.wat.gz", 1)
        assert sorted(in_database(dsn)["crawl"].to_pylist()) == ["CC-MAIN-2014-35", "CC-MAIN-2024-22"]
