"""Load a version into the catalog's history: the verdict on each pair, and where it was found.

The tables of the schema `laion_dask_history` mirror tracked files: a version is loaded once, by the digest of its
manifest, and one command loads it again. For a pair that was removed or is on a list of known content, the database has
no address, text or page: only the digests that find it, and the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.catalog import copy_binary
from laion_dask.release import manifest
from laion_dask.schema.reasons import RULE_BITS, WITHHELD
from laion_dask.schema.values import PDQ_DISTANCE
from laion_dask.storage import duckdb_connection
from laion_dask.storage.files import sha256
from laion_dask.storage.uids import to_bytes
from laion_dask.web.urls import address_key

_FATES: Final = {
    "uid": "uuid", "version": "integer", "shard": "integer", "rules": "bigint", "split": "text", "reason": "text",
    "since": "text", "address_sha256": "text", "md5": "text", "sha256": "text", "pdq": "text", "evidence": "text",
}  # fmt: skip
_FOUND: Final = {
    "uid": "uuid", "version": "integer", "record_offset": "bigint", "crawl": "text", "wat": "text", "page_url": "text",
    "page_date": "text", "text": "text", "url": "text",
}  # fmt: skip
_INDEXED: Final = ("uid", "address_sha256", "md5", "sha256")
# Columns of an attempt that `why` shows, besides all columns of scores and verdicts.
_ATTEMPT_COLUMNS: Final = (
    *("status", "error_message", "http_status", "server_date", "final_url", "content_type"),
    *("rights", "rights_signal", "rights_evidence", "rights_source", "rights_time", "page_signals"),
    *("format", "bytes", "original_width", "original_height", "pdq_quality", "language", "language_confidence"),
    *("license", "seen", "key", "host"),
)
_KNOWN: Final = frozenset({"uid", "shard", "split", "reason", "rules", "filename"})


class HistoryError(Exception):
    """A version cannot be loaded; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class VersionTables:
    """The tables of one version: the available outs of its stages."""

    name: str
    data: Path

    def of(self, stage: str, pattern: str = "*.parquet") -> list[str]:
        """Return the paths of a stage's tables, in order."""
        return [str(path) for path in sorted((self.data / stage).glob(pattern))]

    def key(self) -> str:
        """Return the digest of the manifest, which identifies the version."""
        path = self.data / "release" / manifest.NAME
        if not path.is_file() or not self.of("filter"):
            raise HistoryError(
                f"{self.data} has no release with its verdicts. Remedy: `make repro`, or name a revision"
            )
        return sha256(path)


def make(cursor: Any) -> None:  # noqa: ANN401 - a driver's cursor
    """Create missing tables; those of an earlier layout are dropped first, since their rows come from files."""
    cursor.execute("create schema if not exists laion_dask_history")
    columns = cursor.execute(
        "select column_name from information_schema.columns where table_schema = 'laion_dask_history'"
        " and table_name = 'fates'"
    ).fetchall()
    if columns and {name for (name,) in columns} != set(_FATES):
        cursor.execute("drop table laion_dask_history.versions, laion_dask_history.fates, laion_dask_history.found")
    cursor.execute(
        "create table if not exists laion_dask_history.versions"
        " (version integer primary key, key text not null unique, name text not null, label text not null,"
        " rules text not null, limits text not null)"
    )
    for table, columns in (("fates", _FATES), ("found", _FOUND)):
        collated = {name: f'{kind} collate "C"' if kind == "text" else kind for name, kind in columns.items()}
        typed = ", ".join(f'"{name}" {kind} not null' for name, kind in collated.items())
        cursor.execute(f"create table if not exists laion_dask_history.{table} ({typed})")
    for column in _INDEXED:
        cursor.execute(f"create index if not exists fates_{column} on laion_dask_history.fates ({column})")
    cursor.execute("create index if not exists found_uid on laion_dask_history.found (uid)")


def load(cursor: Any, files: VersionTables) -> bool:  # noqa: ANN401 - a driver's cursor
    """Load a version unless it is loaded already, in the caller's transaction; return whether it was loaded."""
    key = files.key()
    make(cursor)
    cursor.execute("lock table laion_dask_history.versions in exclusive mode")
    if cursor.execute("select from laion_dask_history.versions where key = %s", (key,)).fetchone() is not None:
        return False
    (number,) = cursor.execute("select coalesce(max(version), 0) + 1 from laion_dask_history.versions").fetchone()
    released = manifest.read(files.data / "release")
    label = str(released.get("version", ""))
    # The bit of each rule, and the limits of scores.
    rules = json.dumps((released.get("counts") or {}).get("filter", {}).get("rules", {}))
    limits = json.dumps((released.get("parameters") or {}).get("filter", {}))
    row = (number, key, files.name, label, rules, limits)
    cursor.execute("insert into laion_dask_history.versions values (%s, %s, %s, %s, %s, %s)", row)
    with duckdb_connection.connect() as connection:
        hidden = _fates(connection, files)
        for table, columns, query in (("fates", _FATES, _FATES_QUERY), ("found", _FOUND, _found(files, hidden))):
            if query:
                _copy(cursor, table, columns, connection.sql(query).to_arrow_reader(100_000), number)
    return True


_FATES_QUERY: Final = "select * from fates"


def versions(cursor: Any) -> int:  # noqa: ANN401 - a driver's cursor
    """Count the versions that are loaded."""
    (number,) = cursor.execute("select count(*) from laion_dask_history.versions").fetchone()
    return int(number)


def _copy(
    cursor: Any,  # noqa: ANN401 - a driver's cursor
    table: str,
    columns: Mapping[str, str],
    batches: Iterator[pa.RecordBatch],
    version: int,
) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    for batch in batches:
        rows = _typed(pa.Table.from_batches([batch]), columns, version)
        with cursor.copy(f"copy laion_dask_history.{table} ({names}) from stdin (format binary)") as copy:
            for block in copy_binary.blocks(rows):
                copy.write(block)


_ARROW: Final = {"integer": pa.int32(), "bigint": pa.int64(), "text": pa.string()}


def _typed(rows: pa.Table, columns: Mapping[str, str], version: int) -> pa.Table:
    """Return the columns in the types for COPY: uid as 16 bytes, addresses as their digest, no missing values."""
    typed = {}
    for name, kind in columns.items():
        if name == "uid":
            raw = to_bytes(rows["uid"]).tobytes()
            typed[name] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), rows.num_rows, [None, pa.py_buffer(raw)])
        elif name == "address_sha256":
            typed[name] = pa.array([address_digest(url) for url in rows[name].to_pylist()], pa.string())
        elif name == "version":
            typed[name] = pa.repeat(pa.scalar(version, pa.int32()), rows.num_rows)
        else:
            typed[name] = rows[name].cast(_ARROW[kind]).combine_chunks()
    return pa.table(typed)


def address_digest(url: str) -> str:
    """Return the digest of an address, the same for every spelling, hex; empty for an empty address."""
    return hashlib.sha256(address_key.key(url).encode("utf-8", "surrogatepass")).hexdigest() if url else ""


def _fates(connection: Any, files: VersionTables) -> str:  # noqa: ANN401 - DuckDB's connection
    """Create the temporary table `fates`; return a query for the uids of hidden pairs."""
    verdicts = files.of("filter")
    columns = pq.read_schema(verdicts[0]).names
    rules = "rules::bigint" if "rules" in columns else "0::bigint"
    hidden = f"(v.reason in ({', '.join(map(_quoted, WITHHELD))})"
    hidden += f" or ({rules.replace('rules', 'v.rules')} >> {RULE_BITS['removed_later']}) & 1 = 1)"
    images, scores = files.of("download"), files.of("score")
    in_images = set(pq.read_schema(images[0]).names) if images else set()
    attempt = ", ".join(f"'{name}', i.{name}" for name in _ATTEMPT_COLUMNS if name in in_images)
    scored = _pairs("s", pq.read_schema(scores[0])) if scores else ""
    judged = _pairs("v", pq.read_schema(verdicts[0]))
    pieces = ", ".join(piece for piece in (attempt, scored, judged) if piece)
    connection.execute(f"create temp view v as select * from {_rows(verdicts, 'union_by_name = true')}")
    joins, picture = "", dict.fromkeys(("url", "md5", "sha256", "pdq"), "''")
    if images:
        connection.execute(f"create temp view i as select * from {_rows(images)}")
        joins += " left join i using (uid)"
        picture = {name: f"coalesce(i.{name}, '')" for name in picture}
    if scores:
        connection.execute(f"create temp view s as select * from {_rows(scores)}")
        joins += " left join s using (uid)"
    pairs = files.of("extract", "pairs/*.parquet")
    if pairs:
        connection.execute(f"create temp view p as select uid, any_value(url) as url from {_rows(pairs)} group by uid")
        joins += " left join p using (uid)"
        picture["url"] = f"coalesce(nullif({picture['url']}, ''), p.url, '')"
    since = "''"
    tombstones = files.data / "release" / "tombstones.parquet"
    if tombstones.is_file() and "since" in pq.read_schema(tombstones).names:
        connection.execute(f"create temp view t as select * from {_rows([str(tombstones)])}")
        joins += " left join t on t.uid_sha256 = sha256(v.uid)"
        since = "coalesce(t.since, '')"
    connection.execute(
        f"create temp table fates as select v.uid, v.shard, {rules.replace('rules', 'v.rules')} as rules, v.split,"
        f" v.reason, {since} as since,"
        f" {picture['url']} as address_sha256,"
        f" {picture['md5']} as md5, {picture['sha256']} as sha256, {picture['pdq']} as pdq,"
        f" case when {hidden} then '' else json_object({pieces})::varchar end as evidence, {hidden} as hidden"
        f" from v{joins}"
    )
    return "select uid from fates where hidden"


def _found(files: VersionTables, gone: str) -> str:
    pairs = files.of("extract", "pairs/*.parquet")
    if not pairs:
        return ""
    return (
        f"select uid, record_offset, crawl, wat, page_url, page_date, text, url from {_rows(pairs)}"
        f" where uid in (select uid from fates) and uid not in ({gone})"
    )


def _pairs(alias: str, columns: pa.Schema) -> str:
    """Return SQL for the other columns as arguments of json_object; NaN becomes null, since JSON has no NaN."""
    arguments = []
    for field in columns:
        if field.name in _KNOWN:
            continue
        value = f'{alias}."{field.name}"'
        if pa.types.is_floating(field.type):
            value = f"case when isfinite({value}) then {value} end"
        arguments.append(f"{_quoted(field.name)}, {value}")
    return ", ".join(arguments)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _rows(paths: Sequence[str], *options: str) -> str:
    files = "[" + ", ".join(map(_quoted, duckdb_connection.names(paths))) + "]"
    return f"read_parquet({', '.join((files, *options))}, hive_partitioning = false)"


def find(cursor: Any, what: Mapping[str, Any]) -> list[str]:  # noqa: ANN401 - a driver's cursor
    """Return the uids that match a `uid`, a `url`, or an image's `sha256`, `md5` and `pdq` (64 hex digits)."""
    conditions, values = [], []
    for name in ("uid", "md5", "sha256"):
        if name in what:
            conditions.append(f"{name} = %s{'::uuid' if name == 'uid' else ''}")
            values.append(what[name])
    if "url" in what:
        conditions.append("address_sha256 = %s")
        values.append(address_digest(str(what["url"])))
    if "pdq" in what:
        conditions.append("(pdq <> '' and bit_count(('x' || pdq)::bit(256) # ('x' || %s)::bit(256)) <= %s)")
        values += [what["pdq"], PDQ_DISTANCE]
    rows = cursor.execute(
        "select distinct replace(uid::text, '-', '') from laion_dask_history.fates"
        f" where {' or '.join(conditions)} order by 1",
        values,
    ).fetchall()
    return [uid for (uid,) in rows]


def fates(cursor: Any, uid: str) -> list[dict[str, Any]]:  # noqa: ANN401 - a driver's cursor
    """Return each version's row for a pair, in the order of loading; in versions without it the reason is None."""
    own = [name for name in _FATES if name not in {"uid", "version"}]
    names = ("name", "label", "named", "limits", *own)
    chosen = ", ".join(f"fates.{name}" for name in own)
    rows = cursor.execute(
        f"select name, label, versions.rules, limits, {chosen}"
        " from laion_dask_history.versions"
        " left join laion_dask_history.fates on fates.version = versions.version and uid = %s::uuid"
        " order by versions.version",
        (uid,),
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def found(cursor: Any, uid: str) -> list[dict[str, Any]]:  # noqa: ANN401 - a driver's cursor
    """Return where a pair was found, without duplicates: crawl, WAT, offset, page, date, text and address."""
    names = [name for name in _FOUND if name not in {"uid", "version"}]
    rows = cursor.execute(
        f"select distinct {', '.join(names)} from laion_dask_history.found where uid = %s::uuid"
        " order by page_date, crawl, wat, record_offset",
        (uid,),
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def forget(cursor: Any, uids: Sequence[str]) -> int:  # noqa: ANN401 - a driver's cursor
    """Blank all values of pairs but reason and uid in the history; return the number of changed rows."""
    make(cursor)
    uid_list = list(uids)
    blanked = cursor.execute(
        "update laion_dask_history.fates set evidence = '', address_sha256 = '', md5 = '', sha256 = '', pdq = ''"
        " where uid = any(%s::uuid[]) and evidence || address_sha256 || md5 || sha256 || pdq <> ''",
        (uid_list,),
    ).rowcount
    deleted = cursor.execute("delete from laion_dask_history.found where uid = any(%s::uuid[])", (uid_list,)).rowcount
    return int(blanked) + int(deleted)
