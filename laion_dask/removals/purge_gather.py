"""Collect the values that identify removed pairs, without those that a remaining pair has too."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.filter import takedown
from laion_dask.removals.purge_versions import Tables
from laion_dask.removals.traces import trace_forms, trace_rows, trace_tables
from laion_dask.removals.traces.trace_patterns import Patterns
from laion_dask.removals.traces.trace_search import Search
from laion_dask.removals.traces.trace_values import Traces
from laion_dask.schema.reasons import WITHHELD
from laion_dask.storage import shards

_COLUMNS: Final = {
    "url": "urls",
    "final_url": "urls",
    "text": "texts",
    "caption": "texts",
    "md5": "digests",
    "sha256": "digests",
    "pdq": "digests",
}
_IN_LEDGER: Final = {"url": "urls", "domain": "domains", "md5": "digests", "sha256": "digests", "pdq": "digests"}
_COMMON: Final = 1000
"""A text that is part of more kept texts than this is not searched for: it does not identify a pair."""


def removed(ledger: Sequence[Removal], tables: Tables) -> frozenset[str]:
    """Return the uids of all pairs that the ledger or a list of known content removes from any version."""
    uids = {line.value for line in ledger if line.kind == "uid"}
    for paths in _alike(tables.pairs):
        uids.update(takedown.matched(ledger, paths)["uid"].to_pylist())
    now: set[str] = set()
    for path in tables.verdicts:
        now.update(pq.read_table(path, columns=["uid"])["uid"].to_pylist())
        uids.update(_withheld(path))
    # A pair that a list withheld in an older version counts unless the current version has its own verdict on it.
    for path in tables.old_verdicts:
        uids.update(_withheld(path) - now)
    return frozenset(uids)


def gather(uids: frozenset[str], tables: Tables, ledger: Sequence[Removal] = ()) -> Traces:
    """Collect the traces of removed pairs: from their rows, their pictures and the ledger."""
    sets: dict[str, set[str]] = {name: set() for name in ("urls", "texts", "digests", "domains")}
    for line in ledger:
        if line.kind in _IN_LEDGER:
            sets[_IN_LEDGER[line.kind]].add(line.value)
    for table in _rows(tables.pairs, uids, goes=True):
        for name in set(table.column_names) & _COLUMNS.keys():
            values = trace_tables.strings(table[name])
            sets[_COLUMNS[name]].update([] if values is None else pc.unique(values.drop_null()).to_pylist())
    sets["texts"] = {text for text in map(str.strip, sets["texts"]) if len(text) >= trace_forms.MIN_TEXT}
    sets["urls"].discard("")
    sets["digests"].discard("")
    pictures, bodies = _pictures(tables.shards, uids)
    traces = Traces(uids, **{name: frozenset(values) for name, values in sets.items()})
    return _alone(traces, tables.pairs) | Traces(pictures=pictures, bodies=bodies)


def _alone(found: Traces, tables: Sequence[Path]) -> Traces:
    """Return the traces that no remaining pair shares, and the remaining pairs' values that contain a trace."""
    search = Search(found)
    shared: set[str] = set()
    containing: set[str] = set()
    inside: Counter[bytes] = Counter()
    for table in _rows(tables, found.uids, goes=False):
        for batch in table.select([name for name in table.column_names if name not in trace_rows.NAMES]).to_batches():
            for _, lines, own in trace_tables.pieces(batch):
                for line, trace, kind in () if own else search.values(lines):
                    value = line.decode("utf-8", "surrogateescape")
                    if value in found.urls or value in found.texts or value in found.digests:
                        shared.add(value)
                    elif value not in containing:
                        inside[trace] += kind in {trace_forms.Kind.TEXT, trace_forms.Kind.WORD}
                        containing.add(value)
    common = {trace for trace, count in inside.items() if count > _COMMON}
    texts = {text for text in found.texts if common.isdisjoint(trace_forms.encodings(text))} if common else found.texts
    return Traces(
        found.uids,
        found.urls - shared,
        frozenset(texts) - shared,
        found.digests - shared,
        domains=found.domains,
        kept=frozenset(containing),
    )


def _pictures(shards_: Iterable[tuple[Path, Path]], uids: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return digests and samples of the stored pictures of these pairs, without those that remaining pairs share."""
    pictures = [(tar, keys_of(table, uids)) for table, tar in shards_]
    removed: dict[str, str] = {}
    for tar, keys in pictures:
        for key, body in shards.read_shard(tar) if keys else ():
            if key in keys:
                removed[hashlib.sha256(body).hexdigest()] = trace_forms.sample_of(body)
    # Any tar may have a shared picture; only matches are kept in memory.
    samples = {bytes.fromhex(sample): sample for sample in removed.values() if sample}
    patterns = Patterns(samples)
    shared: set[str] = set()
    for tar, keys in pictures if removed else ():
        for key, body in shards.read_shard(tar):
            if key in keys:
                continue
            digest = hashlib.sha256(body).hexdigest()
            if digest in removed:
                shared.update({digest, removed[digest]})
            shared.update(samples[body[start:end]] for start, end in patterns.find(body))
    return frozenset(removed) - shared, frozenset(samples.values()) - shared


def keys_of(table: Path, uids: frozenset[str]) -> set[str]:
    """Return the keys of these pairs in a shard."""
    rows = pq.read_table(table, columns=["uid", "key"])
    return set(rows.filter(pa.array(trace_rows.rows_of(rows, uids)))["key"].to_pylist())


def _rows(tables: Iterable[Path], uids: frozenset[str], *, goes: bool) -> Iterator[pa.Table]:
    for path in tables:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                rows = trace_rows.rows_of(table, uids)
                yield table.filter(pa.array(rows if goes else ~rows))


def _withheld(verdicts: Path) -> set[str]:
    table = pq.read_table(verdicts, columns=["uid", "reason"])
    return set(table.filter(pc.is_in(table["reason"], value_set=pa.array(WITHHELD)))["uid"].to_pylist())


def _alike(tables: Iterable[Path]) -> list[list[Path]]:
    """Group tables by their columns, so that each group can be matched together."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in tables:
        groups.setdefault(tuple(pq.read_schema(path).names), []).append(path)
    return list(groups.values())
