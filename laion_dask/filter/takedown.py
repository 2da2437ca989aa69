"""Find the pairs that removals name in tables, and change verdicts without running the stage filter again.

Addresses, hosts and uids are matched by DuckDB, perceptual hashes by their distance. The stage filter matches the kinds
that only a picture tells (`OF_THE_PICTURE`), over all shards at once; the stage catalog has applied the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.filter import part
from laion_dask.images import pdq_index
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, REASONS, RULE_BITS, WITHHELD
from laion_dask.schema.values import PDQ_DISTANCE, PDQ_QUALITY
from laion_dask.storage import duckdb_connection
from laion_dask.web.urls import address_key

OF_THE_PICTURE: Final = ("pdq",)
"""Kinds that are known after the download only, and not checked by filter's rules as md5 and sha256 are."""
REASON: Final = "removed_later"
MATCHES: Final = pa.schema(
    [("table", pa.string()), ("uid", pa.string()), ("kind", pa.string()), ("value", pa.string())]
)
"""A pair that a removal matches: path of its table, and the line of the ledger."""

_KNOWN_CONTENT: Final = tuple(reason for reason in REASONS["filter"] if reason in WITHHELD and reason != REASON)
_OURS: Final = pa.array([KEEP, *REASONS["filter"]], pa.string())
_PLAIN: Final = ("uid", "md5", "sha256")  # kinds with a column of the same name
_BATCH_ROWS: Final = 100_000


def matched(removals: Iterable[Removal], tables: Sequence[Path]) -> pa.Table:
    """Find the pairs that removals match in tables with `uid` and any of `url`, `host`, hashes. Schema MATCHES.

    Kinds without a column are skipped. A pair that several lines match has a row for each; an address is compared by
    its key (`address_key`).
    """
    by_kind: dict[str, set[str]] = {}
    for removal in removals:
        by_kind.setdefault(removal.kind, set()).add(removal.value)
    if not tables or not by_kind:
        return MATCHES.empty_table()
    columns = set(pq.read_schema(tables[0]).names)
    paths = duckdb_connection.names(tables)
    matches = [MATCHES.empty_table()]
    with duckdb_connection.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        matches += [
            _equal(connection, paths, kind, kind, {value: value for value in by_kind[kind]})
            for kind in _PLAIN
            if kind in by_kind and kind in columns
        ]
        if "url" in by_kind and "url" in columns:
            matches += _addressed(connection, paths, by_kind["url"])
        if "domain" in by_kind and "host" in columns:
            hosts = connection.execute(
                "select distinct host from read_parquet($1, hive_partitioning = false)", [paths]
            ).fetchall()
            named = {host: domain_of(host, by_kind["domain"]) for (host,) in hosts if host}
            matches.append(
                _equal(connection, paths, "domain", "host", {host: name for host, name in named.items() if name})
            )
    if "pdq" in by_kind and "pdq" in columns:
        matches += [_alike(path, sorted(by_kind["pdq"])) for path in tables]
    return pa.concat_tables(matches).sort_by([(name, "ascending") for name in MATCHES.names])


def by_shard(matches: pa.Table) -> dict[str, list[str]]:
    """Return the uids of matches, sorted, by the name of their shard."""
    by_name: dict[str, set[str]] = {}
    for table, uid in zip(matches["table"].to_pylist(), matches["uid"].to_pylist(), strict=True):
        by_name.setdefault(Path(table).stem, set()).add(uid)
    return {name: sorted(uids) for name, uids in by_name.items()}


def by_line(matches: pa.Table) -> dict[tuple[str, str], int]:
    """Count the pairs that each line of the ledger matches, by kind and value."""
    counted = matches.group_by(["kind", "value"]).aggregate([("uid", "count_distinct")])
    columns = [counted[name].to_pylist() for name in ("kind", "value", "uid_count_distinct")]
    return {(kind, value): pairs for kind, value, pairs in zip(*columns, strict=True)}


def take_out(
    out: Path,
    *,
    name: str,
    verdicts: Path,
    uids: Sequence[str],
    counts: Sequence[Sequence[Any]],
    bits: Mapping[str, tuple[str, int]],
) -> dict[str, Any]:
    """Give pairs of a judged shard the reason `removed_later`, which takes precedence over other rules.

    Writes and counts as `part.judge` does; `counts` are those of earlier rules, and are counted again without these
    pairs. Pairs on a list of known content keep that reason; pairs dropped before filter stay unchanged.
    """
    table = part.read_file(verdicts)
    reasons, mask = table["reason"], table["rules"].to_numpy()
    matching = pc.is_in(table["uid"], value_set=pa.array(uids, pa.string()))
    ours = pc.and_(matching, pc.is_in(reasons, value_set=_OURS))
    listed = pc.is_in(reasons, value_set=pa.array(_KNOWN_CONTENT))
    taken = pc.and_(ours, pc.invert(listed))
    bit = np.uint64(1 << RULE_BITS[REASON])
    ours_, taken_ = ours.to_numpy(), taken.to_numpy()
    fresh = np.where(taken_, bit, np.where(ours_, mask | bit, mask))
    rules = [*_without(counts, bits, reasons, mask, taken_), [REASON, REASON, int(ours_.sum()), int(taken_.sum())]]
    reasons = pc.if_else(taken, REASON, reasons)
    rows = {**{column: table[column] for column in ("uid", "shard", "split")}, "reason": reasons, "rules": fresh}
    rows["stays"] = pc.if_else(taken, pa.scalar(None, pa.string()), table["stays"])
    part.write_verdicts(pa.table(rows), out / f"{name}.parquet")
    ledger = Ledger()
    # Reasons of earlier stages were counted there.
    ledger.add(reason for reason in reasons.to_pylist() if reason == KEEP or reason in REASONS["filter"])
    return {"pairs": ledger.as_dict(), "verdicts": table.num_rows, "rules": rules}


def _without(
    counts: Sequence[Sequence[Any]],
    bits: Mapping[str, tuple[str, int]],
    reasons: pa.ChunkedArray,
    mask: np.ndarray,
    taken: np.ndarray,
) -> Iterator[list[Any]]:
    """Subtract the rows that are taken out from the counts of earlier rules."""
    unclaimed = taken.copy()
    for name, reason, own, first in counts:
        hit = taken & ((mask >> np.uint64(bits[name][1])) & np.uint64(1)).astype(bool)
        # Of rules that share a reason, the first that drops the row gave the reason.
        claimed = unclaimed & hit & pc.equal(reasons, reason).to_numpy()
        unclaimed &= ~claimed
        yield [name, reason, own - int(hit.sum()), first - int(claimed.sum())]


def _equal(
    connection: duckdb.DuckDBPyConnection, paths: list[str], kind: str, column: str, values: Mapping[str, str]
) -> pa.Table:
    """Find rows whose column has one of the values; `values` maps each to the ledger's value."""
    connection.register("wanted", pa.table({"wanted": list(values), "value": list(values.values())}))
    rows = connection.sql(
        f"select filename as \"table\", uid, '{kind}' as kind, value"
        " from read_parquet($1, filename = true, hive_partitioning = false) rows"
        f" join wanted on rows.{column} = wanted.wanted",
        params=[paths],
    ).to_arrow_table()
    connection.unregister("wanted")
    return rows.cast(MATCHES)


def _addressed(connection: duckdb.DuckDBPyConnection, paths: list[str], values: set[str]) -> Iterator[pa.Table]:
    """Find rows whose address has the same key as one of the ledger's, among its hosts and addresses without one."""
    of_key: dict[bytes, list[str]] = {}
    for value in sorted(values):
        of_key.setdefault(address_key.digest(value), []).append(value)
    hosts = sorted({"", *map(address_key.host, values)})  # empty: an address without a plain host
    connection.register("hosts", pa.table({"host": pa.array(hosts, pa.string())}))
    likely = connection.sql(
        "select filename, uid, url from read_parquet($1, filename = true, hive_partitioning = false)"
        " where rtrim(regexp_extract(url, $2, 1), '.') in (select host from hosts)"
        " or regexp_matches(rtrim(regexp_extract(url, $2, 1), '.'), $3)",
        params=[paths, address_key.PLAIN_HOST, address_key.NUMBER_HOST],
    )
    for batch in likely.to_arrow_reader(_BATCH_ROWS):
        tables_, uids, urls = (column.to_pylist() for column in batch.columns)
        ledger_values = [of_key.get(address_key.digest(url), ()) for url in urls]
        rows = [(row, value) for row, values_ in enumerate(ledger_values) for value in values_]
        columns = [[tables_[row] for row, _ in rows], [uids[row] for row, _ in rows], ["url"] * len(rows)]
        yield pa.table([*columns, [value for _, value in rows]], schema=MATCHES)
    connection.unregister("hosts")


def domain_of(host: str, domains: set[str]) -> str:
    """Return the longest domain of a ledger that a host belongs to; empty if none."""
    labels = host.rstrip(".").split(".")
    return next((name for at in range(len(labels)) if (name := ".".join(labels[at:])) in domains), "")


def _alike(path: Path, wanted: Sequence[str]) -> pa.Table:
    """Find rows whose perceptual hash is within PDQ_DISTANCE of one of a ledger, with the nearest one."""
    table = pq.read_table(path, columns=["uid", "pdq", "pdq_quality"])
    sharp = pc.and_(pc.is_valid(table["pdq"]), pc.fill_null(pc.greater_equal(table["pdq_quality"], PDQ_QUALITY), False))
    table = table.filter(sharp)
    rows, entries = pdq_index.unpack(table["pdq"].to_pylist()), pdq_index.unpack(list(wanted))
    hits = np.flatnonzero(pdq_index.nearest(rows, entries, PDQ_DISTANCE) <= PDQ_DISTANCE)
    uids = table["uid"].take(pa.array(hits)).to_pylist()
    values = [wanted[int(np.bitwise_count(rows[row] ^ entries).sum(axis=1, dtype=np.int64).argmin())] for row in hits]
    return pa.table({"table": [str(path)] * len(hits), "uid": uids, "kind": ["pdq"] * len(hits), "value": values}).cast(
        MATCHES
    )
