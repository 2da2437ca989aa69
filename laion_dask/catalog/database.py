"""Open the catalog's PostgreSQL and its tables; write one bucket in one transaction.

`laion_dask.pairs` has a row for every extracted pair and a partition for every bucket, whose rows are numbered in the
order of the crawls; `loads` has the digest of each loaded wave of a bucket, the pairs of one crawl. `removals` and
`wats` are small tables for all buckets; the view `found` has the pairs with all columns of schema.PAIRS.
docs/citus.md describes it on several machines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask import schema
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import connections, copy_binary, postgres, removed_pairs
from laion_dask.catalog.connections import CatalogError
from laion_dask.storage import files

# Buckets run in parallel already: parallel workers for one of them would wait for a core, and their plans sort.
_PER_TRANSACTION: Final = (
    "set local work_mem = '128MB'",
    "set local jit = off",
    "set local max_parallel_workers_per_gather = 0",
    # A new bucket has no statistics, so plans would sort it; a hash join takes half the time.
    "set local enable_mergejoin = off",
)
_SQL_TYPES: Final = {
    pa.string(): 'text collate "C"',
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
}
_LOADS: Final = "bucket integer, wave integer, digest text not null, pairs bigint not null"
# Columns kept in `wats`: names of 100 bytes and more, which 100,000 rows share.
_OF_WAT: Final = ("crawl", "wat")
_PARTITIONS_AT_ONCE: Final = 100  # each takes three locks of the about 6,400 that a server has by default


Ints = npt.NDArray[np.int64]
Item = TypeVar("Item")


def _stored() -> list[tuple[str, str]]:
    """List name and SQL type of the columns of `laion_dask.pairs`, widest fixed types first: so none needs padding."""
    widths = {"bigint": 0, "integer": 1, "real": 1, "smallint": 2}
    columns = [
        (column.name, _SQL_TYPES[column.type])
        for column in schema.PAIRS.columns
        if column.name not in {"uid", *_OF_WAT}
    ]
    columns.sort(key=lambda column: widths.get(column[1], 3))
    return [("uid", "uuid"), ("bucket", "integer"), ("number", "integer"), *columns]


def _statements() -> list[str]:
    columns = ", ".join(f'"{name}" {kind} not null' for name, kind in _stored())
    expressions = {name: f'pairs."{name}"' for name, _ in _stored()}
    expressions |= {name: f'wats."{name}"' for name in _OF_WAT} | {"uid": "replace(pairs.uid::text, '-', '')"}
    chosen = ", ".join(f'{expressions[name]} as "{name}"' for name in schema.PAIRS.names)
    joined = 'left join laion_dask.wats on wats."order" = pairs.wat_order'
    return [
        "create table laion_dask.layout (digest text not null)",
        f"create table laion_dask.loads ({_LOADS}, primary key (bucket, wave))",
        removed_pairs.TABLE,
        'create table laion_dask.wats ("order" integer primary key, crawl text not null, wat text not null)',
        f"create table laion_dask.pairs ({columns}) partition by list (bucket)",
        f"create view laion_dask.found as select {chosen} from laion_dask.pairs {joined}",
    ]


@contextlib.contextmanager
def server(dsn: str | None, folder: Path) -> Iterator[str]:
    """Yield the DSN of a PostgreSQL: the given one as it is, or an embedded server with its data in `folder`."""
    if dsn:
        yield dsn
        return
    with contextlib.ExitStack() as started:
        try:
            embedded = started.enter_context(postgres.serve(folder))
        except postgres.ServerError as error:
            raise CatalogError(str(error)) from error
        yield embedded


def prepare(
    dsn: str, buckets: int, removals: Sequence[Removal], wats: pa.Table, waves: int = 1
) -> dict[tuple[int, int], str]:
    """Create the tables, load removals and WATs, and return the digest of each loaded wave of a bucket.

    `wats` has `order`, `crawl` and `wat` of schema.READS. Tables of another layout or number of buckets are dropped and
    created again, since their rows come from files; so are the rows of all but the first `waves` waves. Keys of the
    result: bucket and wave. Raises `CatalogError`.
    """
    with connections.connected(dsn, autocommit=True) as connection:
        connection.execute("set client_min_messages = warning")
        if connection.execute("select to_regnamespace('laion_dask')").fetchone() != (None,):
            _drop_other_layout(connection, _layout(buckets))
        else:
            connection.execute("create schema laion_dask")
        _make_missing(connection, buckets)
        with connection.transaction(), connection.cursor() as cursor:
            connection.execute("truncate laion_dask.removals, laion_dask.wats")
            removed_pairs.fill(cursor, removals)
            with cursor.copy("copy laion_dask.wats from stdin") as copy:
                for row in zip(*(wats[name].to_pylist() for name in ("order", *_OF_WAT)), strict=True):
                    copy.write_row(row)
        connection.execute("analyze laion_dask.removals")
        further = "select distinct bucket from laion_dask.loads where wave >= %s"
        for (bucket,) in connection.execute(further, (waves,)).fetchall():
            with connection.transaction(), connection.cursor() as cursor:
                _keep_waves(cursor, bucket, waves)
        loads = connection.execute("select bucket, wave, digest from laion_dask.loads").fetchall()
        return {(bucket, wave): digest for bucket, wave, digest in loads}


def _layout(buckets: int) -> str:
    return files.digest(_statements(), buckets)


def _drop_other_layout(connection: Any, layout: str) -> None:  # noqa: ANN401 - a driver's connection
    """Drop our tables, and nothing else in the schema, unless they have this layout."""
    if connection.execute("select to_regclass('laion_dask.layout')").fetchone() != (None,) and connection.execute(
        "select digest from laion_dask.layout"
    ).fetchall() == [(layout,)]:
        return
    connection.execute("drop view if exists laion_dask.found")
    for batch in _in_batches(_partitions(connection)):
        connection.execute(f"drop table {', '.join(f'laion_dask.{name}' for name in batch)}")
    connection.execute("drop table if exists laion_dask.layout, laion_dask.pairs, laion_dask.loads")
    connection.execute("drop table if exists laion_dask.removals, laion_dask.wats")


def _make_missing(connection: Any, buckets: int) -> None:  # noqa: ANN401 - a driver's connection
    """Create what is missing; the layout is recorded last, so that tables of an interrupted run are created again."""
    noted = connection.execute("select to_regclass('laion_dask.layout')").fetchone() != (None,)
    if not noted:
        connection.execute("; ".join(_statements()))
    existing = set(_partitions(connection))
    missing = [bucket for bucket in range(buckets) if _table(bucket) not in existing]
    for batch in _in_batches(missing):
        with connection.transaction():
            connection.execute("delete from laion_dask.loads where bucket = any(%s)", (batch,))
            for bucket in batch:
                connection.execute(
                    f"create table laion_dask.{_table(bucket)} partition of laion_dask.pairs for values in ({bucket})"
                )
    if not noted:
        connection.execute("insert into laion_dask.layout values (%s)", (_layout(buckets),))


def _partitions(connection: Any) -> list[str]:  # noqa: ANN401 - a driver's connection
    rows = connection.execute(
        "select relname from pg_class where relnamespace = 'laion_dask'::regnamespace"
        " and relname ~ '^pairs_[0-9]{4,}$' order by relname"
    ).fetchall()
    return [name for (name,) in rows]


def _in_batches(items: list[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), _PARTITIONS_AT_ONCE):
        yield items[start : start + _PARTITIONS_AT_ONCE]


def _table(bucket: int) -> str:
    return f"pairs_{bucket:04d}"


@contextlib.contextmanager
def opened(dsn: str, bucket: int) -> Iterator[Any]:
    """Yield a cursor for one bucket; the block is one transaction.

    An advisory lock makes a second task for the same bucket wait, in any run. Raises `CatalogError`.
    """
    with connections.connected(dsn) as connection, connection.cursor(binary=True) as cursor:
        for statement in _PER_TRANSACTION:
            cursor.execute(statement)
        # The first key is this project's: "LAIO" in ASCII.
        cursor.execute("select pg_advisory_xact_lock(%s, %s)", (0x4C41494F, bucket))
        yield cursor


@contextlib.contextmanager
def transaction(dsn: str) -> Iterator[Any]:
    """Yield a cursor; the block is one transaction. Raises `CatalogError`."""
    with connections.connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("set local client_min_messages = warning")
        yield cursor


@dataclass(frozen=True, slots=True)
class Span:
    """The numbers of the rows of one wave of a bucket: `first` up to `first + rows`."""

    first: int
    rows: int

    def of(self, table: str) -> str:
        """Return the rows of the wave as a subquery of a bucket's table."""
        return f"(select * from {table} where number >= {self.first} and number < {self.first + self.rows}) of_wave"


def is_loaded(cursor: Any, bucket: int, wave: int, digest: str) -> bool:  # noqa: ANN401 - a driver's cursor
    """Say whether a wave of a bucket is loaded from the pairs with this digest."""
    query = "select digest from laion_dask.loads where bucket = %s and wave = %s"
    return bool(cursor.execute(query, (bucket, wave)).fetchone() == (digest,))


def load(cursor: Any, bucket: int, wave: int, rows: pa.Table, digest: str) -> None:  # noqa: ANN401 - a driver's cursor
    """Load the rows of a wave of a bucket, after those of the waves before; what was loaded after these is removed.

    `rows` has the columns of schema.PAIRS, with `uid` as 16 bytes, and `number`: their place in the fixed order of the
    wave, from 0. The database counts on from the waves before.
    """
    first = _keep_waves(cursor, bucket, wave)
    numbered = rows.set_column(
        rows.column_names.index("number"), "number", pc.add(rows["number"], pa.scalar(first, pa.int32()))
    )
    numbered = numbered.append_column("bucket", pa.repeat(pa.scalar(bucket, pa.int32()), rows.num_rows))
    names = [name for name, _ in _stored()]
    chosen = ", ".join(f'"{name}"' for name in names)
    with cursor.copy(f"copy laion_dask.{_table(bucket)} ({chosen}) from stdin (format binary)") as copy:
        for block in copy_binary.blocks(numbered.select(names)):
            copy.write(block)
    cursor.execute("insert into laion_dask.loads values (%s, %s, %s, %s)", (bucket, wave, digest, rows.num_rows))


def _keep_waves(cursor: Any, bucket: int, waves: int) -> int:  # noqa: ANN401 - a driver's cursor
    """Remove the rows of a bucket that belong to none of its first waves, and return how many rows stay."""
    table = f"laion_dask.{_table(bucket)}"
    query = "select coalesce(sum(pairs), 0)::bigint from laion_dask.loads where bucket = %s and wave < %s"
    (first,) = cursor.execute(query, (bucket, waves)).fetchone()
    if first:
        cursor.execute(f"delete from {table} where number >= %s", (first,))
    else:
        cursor.execute(f"truncate {table}")
    cursor.execute("delete from laion_dask.loads where bucket = %s and wave >= %s", (bucket, waves))
    return int(first)


def span(cursor: Any, bucket: int, wave: int) -> Span:  # noqa: ANN401 - a driver's cursor
    """Return the numbers of the rows of a loaded wave."""
    query = "select wave, pairs from laion_dask.loads where bucket = %s and wave <= %s"
    pairs = dict(cursor.execute(query, (bucket, wave)).fetchall())
    own = int(pairs.pop(wave))
    return Span(int(sum(pairs.values())), own)


def held(cursor: Any, bucket: int, of: Span) -> int:  # noqa: ANN401 - a driver's cursor
    """Count the rows of a wave of a bucket."""
    (rows,) = cursor.execute(f"select count(*) from {of.of(f'laion_dask.{_table(bucket)}')}").fetchone()
    return int(rows)


def copies(cursor: Any, bucket: int, of: Span) -> Ints:  # noqa: ANN401 - a driver's cursor
    """Return `number` of each pair of a wave that repeats one, and that of the first one with its uid: (copies, 2)."""
    # Most pairs of a crawl occur once; only the others are sent. Later waves may be loaded already.
    table = f"laion_dask.{_table(bucket)}"
    until = f"number < {of.first + of.rows}"
    again = f"select uid, min(number) as first from {table} where {until} group by uid having count(*) > 1"
    rows = cursor.execute(
        f"select number, first from {table} join ({again}) again using (uid)"
        f" where number > first and number >= {of.first} and {until}"
    ).fetchall()
    return np.array(rows, np.int64).reshape(-1, 2)


def removed(cursor: Any, bucket: int, kinds: Sequence[str], of: Span) -> Ints:  # noqa: ANN401 - a driver's cursor
    """Return `removed_pairs.named` of a wave of a bucket."""
    return removed_pairs.named(cursor, of.of(f"laion_dask.{_table(bucket)}"), kinds)
