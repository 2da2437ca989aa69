"""Pairs into a real PostgreSQL and out again: unique, cleared of removals, shuffled, hosts spaced apart."""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask import catalog, parts, schema
from laion_dask.catalog import uid_range
from laion_dask.removals import Removal
from laion_dask.verdict import Ledger

# A server for each test would cost seconds; each build begins with an empty database instead.
few = settings(deadline=None, max_examples=10)


@dataclass(frozen=True)
class Built:
    """What the catalog made of all buckets, in their order."""

    counts: list[dict[str, Any]]
    work: list[list[pa.Table]]
    removed: pa.Table

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for shards in self.work for table in shards for row in table.to_pylist()]

    @property
    def urls(self) -> list[str]:
        return [row["url"] for row in self.rows]

    @property
    def ledger(self) -> Ledger:
        return Ledger.total(counts["pairs"] for counts in self.counts)


def empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists laion_dask cascade")


def build(
    dsn: str,
    *found: pa.Table,
    buckets: int = 1,
    shard_rows: int = 10_000,
    seed: int = 7,
    removals: Sequence[Removal] = (),
    fresh: bool = True,
) -> Built:
    if fresh:
        empty(dsn)
    with tempfile.TemporaryDirectory() as folder:
        paths = [tables.write(Path(folder) / f"{place}.parquet", table) for place, table in enumerate(found)]
        digest = parts.digest(*paths, buckets)
        catalog.prepare(dsn, buckets, removals)
        counts, work, removed = [], [], []
        for bucket in range(buckets):
            out = Path(folder) / f"bucket-{bucket}"
            out.mkdir()
            counts.append(
                catalog.catalog(
                    out,
                    bucket=bucket,
                    buckets=buckets,
                    pairs=paths,
                    shard_rows=shard_rows,
                    seed=seed,
                    load_digest=digest,
                    dsn=dsn,
                )
            )
            shards = [pq.read_table(path) for path in sorted((out / "shards").iterdir())]
            work.append([schema.WORK.check(table) for table in shards])
            removed.append(schema.REMOVED.check(pq.read_table(out / "removed.parquet")))
    return Built(counts, work, pa.concat_tables(removed))


def of_host(host: str, times: int) -> list[dict[str, Any]]:
    return [{"host": host, "url": f"https://{host}/{place}.jpg"} for place in range(times)]


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


def test_values_come_back_as_they_went_in(dsn: str) -> None:
    texts = [
        'it\'s "quoted"; drop table x',
        "back\\slash \\N \\x41 {}",
        "a fox 狐 🦊 e\u0301",
        "tab\tand\nline",
        "%s $1",
    ]
    found = tables.pairs(*({"text": text, "language_confidence": 0.1, "split": "multi"} for text in texts))
    (shard,) = build(dsn, found).work[0]
    assert shard.select(schema.PAIRS.names).sort_by("uid").equals(found)


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
        ({"url": "http://a.example/1.jpg", "host": "a.example"}, ""),
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


def test_what_is_removed_is_written_once_and_its_copies_count_as_duplicates(dsn: str) -> None:
    rows = [{"uid": tables.uid(9 - place // 2), "host": "removed.example", "wat_order": place} for place in range(6)]
    built = build(dsn, tables.pairs(*rows), removals=REMOVALS)
    assert built.removed["uid"].to_pylist() == [tables.uid(number) for number in (7, 8, 9)]
    assert built.ledger.as_dict() == {"seen": 6, "kept": 0, "dropped": {"duplicate_pair": 3, "removed_domain": 3}}
    assert built.work == [[]]


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


@few
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 2**31 - 1), st.data())
def test_no_window_is_crowded_by_one_host(dsn: str, sizes: list[int], seed: int, data: st.DataObject) -> None:
    # The n pairs of a host stand at places (k + offset) / n of [0, 1). An interval of length L has at most n L + 1 of
    # them, and at least n' L - 1 of a host with n' pairs. So a window of w rows has w >= N L - H (N rows, H hosts), and
    # of one host at most n (w + H) / N + 1.
    hosts = {f"h{number}.example": size for number, size in enumerate(sizes)}
    found = tables.pairs(*(row for host, size in hosts.items() for row in of_host(host, size)))
    order = [row["host"] for row in build(dsn, found, seed=seed).rows]
    width = data.draw(st.integers(1, len(order)))
    for start in range(len(order) - width + 1):
        for host, times in Counter(order[start : start + width]).items():
            assert times <= math.floor(hosts[host] * (width + len(hosts)) / len(order)) + 1


def test_two_hosts_of_one_size_take_turns(dsn: str) -> None:
    built = build(dsn, tables.pairs(*of_host("a.example", 20), *of_host("b.example", 20)))
    hosts = [row["host"] for row in built.rows]
    assert all(left != right for left, right in itertools.pairwise(hosts))


def test_the_work_list_is_cut_into_shards(dsn: str) -> None:
    found = tables.pairs(*of_host("a.example", 50))
    (shards,) = build(dsn, found, shard_rows=16).work
    assert [shard.num_rows for shard in shards] == [16, 16, 16, 2]
    assert [row for shard in shards for row in shard.to_pylist()] == build(dsn, found).rows


# Counts, over random inputs

places: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    host=st.sampled_from(["a.example", "b.a.example", "removed.example", "notremoved.example"]),
    picture=st.integers(0, 3),
    text=st.sampled_from(["one fox", "two foxes"]),
    wat_order=st.integers(0, 2),
)


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


# Buckets


@given(st.integers(0, 2**128 - 1), st.integers(0, 12))
def test_every_uid_falls_into_the_bucket_of_its_first_bits_and_no_other(number: int, bits: int) -> None:
    uid, buckets = f"{number:032x}", 1 << bits
    bucket = number >> (128 - bits)
    first, after = uid_range(bucket, buckets)
    assert first <= uid < after
    if bucket + 1 < buckets:
        assert after == uid_range(bucket + 1, buckets)[0]


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


# The database as a mirror of the files


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        tables.write(tmp_path / f"{number}.parquet", tables.pairs(*of_host(f"h{number}.example", 400)))
        for number in range(2)
    ]


def load(dsn: str, out: Path, files: list[Path], digest: str) -> dict[str, Any]:
    out.mkdir()
    return catalog.catalog(out, bucket=0, buckets=1, pairs=files, shard_rows=100, seed=7, load_digest=digest, dsn=dsn)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }


def test_a_dropped_database_is_filled_again_with_the_same_result(dsn: str, tmp_path: Path, files: list[Path]) -> None:
    empty(dsn)
    assert catalog.prepare(dsn, 1, []) == {}
    load(dsn, tmp_path / "first", files, "abc")
    assert catalog.prepare(dsn, 1, []) == {0: "abc"}
    empty(dsn)
    assert catalog.prepare(dsn, 1, []) == {}
    load(dsn, tmp_path / "second", files, "abc")
    assert catalog.prepare(dsn, 1, []) == {0: "abc"}
    assert digests(tmp_path / "first") == digests(tmp_path / "second") != {}


def test_a_bucket_that_is_loaded_is_not_read_again(dsn: str, tmp_path: Path, files: list[Path]) -> None:
    empty(dsn)
    catalog.prepare(dsn, 1, [])
    counts = load(dsn, tmp_path / "first", files, "abc")
    assert load(dsn, tmp_path / "second", [tmp_path / "not there.parquet"], "abc") == counts
    # The driver wraps what its source of rows raises.
    with pytest.raises(adbc_driver_manager.OperationalError, match="not there"):
        load(dsn, tmp_path / "third", [tmp_path / "not there.parquet"], "another digest")


def test_an_interrupted_load_leaves_no_half_bucket(dsn: str, tmp_path: Path, files: list[Path]) -> None:
    empty(dsn)
    catalog.prepare(dsn, 1, [])
    before = load(dsn, tmp_path / "before", files, "abc")
    body = bytearray(files[1].read_bytes())
    body[len(body) // 3 : len(body) // 2] = bytes(len(body) // 2 - len(body) // 3)
    files[1].write_bytes(body)
    # While the rows of the first file are on their way.
    with pytest.raises(adbc_driver_manager.OperationalError, match="IO"):
        load(dsn, tmp_path / "broken", files, "def")
    assert not list((tmp_path / "broken").iterdir())
    assert catalog.prepare(dsn, 1, []) == {0: "abc"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from laion_dask.pairs").fetchone() == (before["pairs"]["seen"],)


def test_no_pairs_at_all_give_an_empty_work_list(dsn: str) -> None:
    built = build(dsn, buckets=2)
    assert (built.ledger.as_dict(), built.work) == ({"seen": 0, "kept": 0, "dropped": {}}, [[], []])
