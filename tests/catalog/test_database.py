"""The database as a mirror of files: filled once, resumed when interrupted, the same whatever was there before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from made.versions import tables
from made.versions.catalogs import build, digests, empty, of_host, run, wats

from laion_dask import schema
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import database
from laion_dask.catalog.database import CatalogError

BUCKETS = 4
# What a trigger does in the middle of a load, and what the user is told. The errors are the server's own, but for a
# full disk and exhausted memory, which a test cannot have: the server raises them with their codes.
MISHAPS = {
    "lost connection": (
        "perform pg_terminate_backend(pg_backend_pid())",
        r"PostgreSQL (ended the connection|does not answer): .* Remedy: check .* server.*, then run again",
    ),
    "full disk": (
        "raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'",
        r"PostgreSQL has no disk space left: .*No space left on device.* Remedy: free space .*, then run again",
    ),
    "no memory": (
        "raise exception 'out of memory' using errcode = 'out_of_memory'",
        r"PostgreSQL has no memory left: .* Remedy: use fewer workers or more buckets \(catalog\.buckets\)",
    ),
    "limit": (
        "raise exception 'temporary file size exceeds temp_file_limit' using errcode = 'configuration_limit_exceeded'",
        r"has reached one of its limits: .*temp_file_limit.* Remedy: raise the limit that the message names",
    ),
    "cancelled": ("perform pg_cancel_backend(pg_backend_pid())", r"cancelled a statement: .*Remedy: run again: loaded"),
}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        tables.write(tmp_path / f"{number}.parquet", tables.pairs(*of_host(f"h{number}.example", 400)))
        for number in range(2)
    ]


@pytest.fixture
def fresh(dsn: str) -> Iterator[str]:
    empty(dsn)
    yield dsn
    empty(dsn)


def prepare(dsn: str, buckets: int = 1, removals: tuple[Removal, ...] = ()) -> dict[tuple[int, int], str]:
    return database.prepare(dsn, buckets, removals, wats(tables.pairs({})))


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


# Filled from files


def test_a_dropped_database_is_filled_again_with_the_same_result(fresh: str, tmp_path: Path, files: list[Path]) -> None:
    assert prepare(fresh) == {}
    run(fresh, tmp_path / "first", files, "abc")
    assert prepare(fresh) == {(0, 0): "abc"}
    empty(fresh)
    assert prepare(fresh) == {}
    run(fresh, tmp_path / "second", files, "abc")
    assert prepare(fresh) == {(0, 0): "abc"}
    assert digests(tmp_path / "first") == digests(tmp_path / "second") != {}


def test_what_was_loaded_before_leaves_no_trace(fresh: str, tmp_path: Path, files: list[Path]) -> None:
    prepare(fresh)
    run(fresh, tmp_path / "first", files, "abc")
    run(fresh, tmp_path / "other", files[:1], "def")
    assert prepare(fresh) == {(0, 0): "def"}
    run(fresh, tmp_path / "second", files, "abc")
    assert digests(tmp_path / "first") == digests(tmp_path / "second") != digests(tmp_path / "other")


def test_a_bucket_that_is_loaded_is_not_loaded_again(fresh: str, tmp_path: Path, files: list[Path]) -> None:
    prepare(fresh)
    counts = run(fresh, tmp_path / "first", files, "abc")
    written = ask(fresh, "select distinct xmin::text from laion_dask.pairs")
    assert run(fresh, tmp_path / "second", files, "abc") == counts
    assert ask(fresh, "select distinct xmin::text from laion_dask.pairs") == written
    run(fresh, tmp_path / "third", files, "another digest")
    assert ask(fresh, "select distinct xmin::text from laion_dask.pairs") != written
    assert digests(tmp_path / "first") == digests(tmp_path / "second") == digests(tmp_path / "third")


def test_a_database_that_lies_about_its_rows_is_found_out(fresh: str, tmp_path: Path, files: list[Path]) -> None:
    prepare(fresh)
    run(fresh, tmp_path / "first", files, "abc")
    with psycopg.connect(fresh) as connection:
        connection.execute("delete from laion_dask.pairs where number = 5")
    with pytest.raises(CatalogError, match=r"bucket 0 .* other rows than its files, 800 .* `drop schema laion_dask"):
        run(fresh, tmp_path / "second", files, "abc")


@pytest.mark.parametrize("order", [range(BUCKETS), reversed(range(BUCKETS)), [0, 1, 1, 2, 3, 0, 3, 2]])
def test_buckets_side_by_side_give_the_same_bytes_as_one_after_the_other(
    fresh: str, tmp_path: Path, files: list[Path], order: list[int]
) -> None:
    prepare(fresh, BUCKETS)
    for bucket in range(BUCKETS):
        run(fresh, tmp_path / "serial" / str(bucket), files, "abc", bucket=bucket, buckets=BUCKETS)
    empty(fresh)
    prepare(fresh, BUCKETS)
    tasks = list(enumerate(order))

    def one(task: tuple[int, int]) -> None:
        place, bucket = task
        run(fresh, tmp_path / "parallel" / f"{place}", files, "abc", bucket=bucket, buckets=BUCKETS)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, tasks))
    for place, bucket in tasks:
        parallel, serial = (digests(tmp_path / name) for name in (f"parallel/{place}", f"serial/{bucket}"))
        assert parallel == serial != {}
    assert ask(fresh, "select count(*) from laion_dask.pairs") == [(800,)]


# Interrupted


@pytest.mark.parametrize("mishap", MISHAPS)
def test_an_interrupted_load_leaves_no_half_bucket_and_running_again_resumes(
    fresh: str, tmp_path: Path, files: list[Path], mishap: str
) -> None:
    does, told = MISHAPS[mishap]
    prepare(fresh, 2)
    run(fresh, tmp_path / "expected", files, "abc", buckets=2)
    held = ask(fresh, "select uid, number from laion_dask.pairs order by uid")
    with psycopg.connect(fresh) as connection:
        connection.execute(
            "create function laion_dask.mishap() returns trigger language plpgsql as"
            f" $$ begin if new.number = 300 then {does}; end if; return new; end $$"
        )
        connection.execute(
            "create trigger mishap before insert on laion_dask.pairs_0000 for each row"
            " execute function laion_dask.mishap()"
        )
    with pytest.raises(CatalogError, match=f"(?s){told}") as failed:
        run(fresh, tmp_path / "broken", files, "def", buckets=2)
    assert failed.value.__suppress_context__
    assert not list((tmp_path / "broken").iterdir())
    assert ask(fresh, "select uid, number from laion_dask.pairs order by uid") == held
    assert prepare(fresh, 2) == {(0, 0): "abc"}
    with psycopg.connect(fresh) as connection:
        connection.execute("drop trigger mishap on laion_dask.pairs_0000")
    run(fresh, tmp_path / "again", files, "def", buckets=2)
    assert prepare(fresh, 2) == {(0, 0): "def"}
    assert digests(tmp_path / "again") == digests(tmp_path / "expected")


def test_files_that_cannot_be_read_change_nothing(fresh: str, tmp_path: Path, files: list[Path]) -> None:
    prepare(fresh)
    run(fresh, tmp_path / "before", files, "abc")
    body = bytearray(files[1].read_bytes())
    body[len(body) // 3 : len(body) // 2] = bytes(len(body) // 2 - len(body) // 3)
    files[1].write_bytes(body)
    with pytest.raises((OSError, pa.ArrowInvalid)):
        run(fresh, tmp_path / "broken", files, "def")
    assert prepare(fresh) == {(0, 0): "abc"}
    assert ask(fresh, "select count(*) from laion_dask.pairs") == [(800,)]


# Tables


@pytest.mark.slow
def test_tables_of_another_layout_or_number_of_buckets_are_made_anew(
    fresh: str, tmp_path: Path, files: list[Path]
) -> None:
    prepare(fresh, 256)
    assert ask(fresh, "select count(*) from pg_inherits where inhparent = 'laion_dask.pairs'::regclass") == [(256,)]
    with psycopg.connect(fresh) as connection:
        connection.execute("create table laion_dask.of_the_user (value integer)")
        connection.execute("update laion_dask.layout set digest = 'of an older version'")
    assert prepare(fresh, 1) == {}
    assert ask(fresh, "select count(*) from pg_inherits where inhparent = 'laion_dask.pairs'::regclass") == [(1,)]
    assert ask(fresh, "select to_regclass('laion_dask.of_the_user') is not null") == [(True,)]
    run(fresh, tmp_path / "first", files, "abc")
    assert prepare(fresh, 1) == {(0, 0): "abc"}
    assert prepare(fresh, 2) == {}


def test_tables_of_the_first_version_are_made_anew(fresh: str) -> None:
    with psycopg.connect(fresh) as connection:
        connection.execute("create schema laion_dask")
        connection.execute("create table laion_dask.loads (buckets integer, bucket integer, digest text, pairs bigint)")
        connection.execute("insert into laion_dask.loads values (1, 0, 'abc', 7)")
        connection.execute("create table laion_dask.removals (kind text, value text, reason text)")
        connection.execute("create table laion_dask.pairs (bucket integer, uid text) partition by list (bucket)")
        connection.execute("create table laion_dask.pairs_0000 partition of laion_dask.pairs for values in (0)")
    assert prepare(fresh) == {}


def test_what_a_user_has_built_on_the_tables_is_not_dropped_in_silence(fresh: str) -> None:
    prepare(fresh)
    with psycopg.connect(fresh) as connection:
        connection.execute("create view public.mine as select count(*) from laion_dask.pairs")
    try:
        with pytest.raises(CatalogError, match=r"cannot drop its tables: .*view (public\.)?mine.* Remedy: drop"):
            prepare(fresh, 2)
    finally:
        empty(fresh)
    assert prepare(fresh, 2) == {}


def test_tables_that_an_interruption_left_half_are_made_anew(fresh: str) -> None:
    prepare(fresh, 2)
    with psycopg.connect(fresh) as connection:
        connection.execute("drop table laion_dask.pairs_0001")
        connection.execute("insert into laion_dask.loads values (0, 0, 'abc', 0), (1, 0, 'abc', 0)")
    assert prepare(fresh, 2) == {(0, 0): "abc"}
    with psycopg.connect(fresh) as connection:
        connection.execute("truncate laion_dask.layout")
    assert prepare(fresh, 2) == {}


def test_a_large_ledger_is_loaded_and_each_line_once(fresh: str) -> None:
    lines = [Removal("url", f"https://a.example/{number}.jpg\t\\N", "asked") for number in range(3_000)]
    prepare(fresh, 1, (*lines, *lines))
    assert ask(fresh, "select count(*), count(distinct value) from laion_dask.removals") == [(3_000, 3_000)]
    found = tables.pairs({"url": lines[5].value}, {"url": "https://b.example/"})
    assert build(fresh, found, removals=lines).urls == ["https://b.example/"]


def test_every_column_of_the_vocabulary_can_be_asked_for(fresh: str) -> None:
    prepare(fresh)
    query = "select column_name from information_schema.columns where table_name = 'found' order by ordinal_position"
    assert [name for (name,) in ask(fresh, query)] == schema.PAIRS.names
