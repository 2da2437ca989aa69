"""What is known of removed pairs in, the files that still hold any of it out: tables, tars, archives, pages, whatever.

A trace of a pair is its address, its text, a digest of its image or the image as stored, each only where no pair that
stays has the same; and any value beside its uid in a table. A uid alone is none: it is the name under which versions
say that the pair is gone.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NAMES: Final = frozenset(
    {"uid", "uid_sha256", "key", "slot", "shard", "split", "status", "reason", "rules", "since", "stays", "image"}
)
"""Columns that name a pair, or say what became of it: they stay, so that a version can be verified."""
_ADDRESS: Final = re.compile(rb"https?://[^\s\"'<>\\^`{|}\x00-\x1f]+")
_DIGEST: Final = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")
_NODE: Final = re.compile(rb"[<>\"\n]")
_BLOCK: Final = 1 << 22
_OVERLAP: Final = 1 << 13
"""Longer than any address or text that extraction keeps."""


@dataclass(frozen=True)
class Traces:
    """What must not be found any more."""

    uids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    """md5 and sha256 of images as they came, hex."""
    pictures: frozenset[str] = frozenset()
    """sha256 of images as they are stored, hex."""
    _raw: dict[str, frozenset[bytes]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _values: list[pa.Array] = field(default_factory=list, init=False, compare=False, repr=False)

    def __or__(self, other: Traces) -> Traces:
        """Return what either of two is known by."""
        return Traces(
            self.uids | other.uids,
            self.urls | other.urls,
            self.texts | other.texts,
            self.digests | other.digests,
            self.pictures | other.pictures,
        )

    def values(self) -> pa.Array:
        """Return what a column of a table may hold; made once, as millions of tables are asked for it."""
        if not self._values:
            self._values.append(pa.array(sorted(self.urls | self.texts | self.digests), pa.string()))
        return self._values[0]

    def raw(self, name: str) -> frozenset[bytes]:
        """Return one of the sets as bytes."""
        if name not in self._raw:
            self._raw[name] = frozenset(value.encode() for value in getattr(self, name))
        return self._raw[name]


def found_in(path: Path, traces: Traces) -> str:
    """Say what of the pairs a file holds; empty if nothing."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if head[:4] == b"PAR1":
        return _in_table(path, traces)
    if head[257:262] == b"ustar":
        return _in_tar(path, traces)
    if head[:2] == b"\x1f\x8b":
        with gzip.open(path) as unpacked:
            return _in_bytes(unpacked, traces)
    with path.open("rb") as stream:
        return _in_bytes(stream, traces)


def blanked(table: pa.Table, uids: frozenset[str]) -> pa.Table | None:
    """Return a table in which rows of these uids keep what names them and nothing else; None if none had more.

    Texts become empty, whole numbers 0, others not a number; types and order stay.
    """
    rows = rows_of(table, uids)
    if not rows.any():
        return None
    mask = pa.array(rows)
    changed = False
    for place, column in enumerate(table.schema):
        if column.name in NAMES:
            continue
        empty = _empty(column.type)
        values = pc.if_else(mask, empty, table[column.name])
        changed |= not values.equals(table[column.name]) and not _same(values, table[column.name], rows)
        table = table.set_column(place, column, values.cast(column.type))
    return table if changed else None


def rows_of(table: pa.Table, uids: frozenset[str]) -> np.ndarray:
    """Return bool (rows,): the row's uid is one of them."""
    return np.asarray(pc.is_in(table["uid"], value_set=pa.array(sorted(uids), pa.string())).to_numpy())


def _empty(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar("", kind)
    if pa.types.is_floating(kind):
        return pa.scalar(float("nan"), kind)
    if pa.types.is_boolean(kind):
        return pa.scalar(False, kind)
    if pa.types.is_integer(kind):
        return pa.scalar(0, kind)
    return pa.scalar(None, kind)


def _same(one: pa.ChunkedArray, other: pa.ChunkedArray, rows: np.ndarray) -> bool:
    """Tell whether the chosen rows are equal, NaN being equal to NaN."""
    chosen = pa.array(np.flatnonzero(rows))
    return repr(one.take(chosen).to_pylist()) == repr(other.take(chosen).to_pylist())


def _in_table(path: Path, traces: Traces) -> str:
    with pq.ParquetFile(path) as file:
        columns = file.schema_arrow
        if "uid" in columns.names and set(columns.names) <= NAMES:
            return ""
        for group in range(file.num_row_groups):
            if told := _in_rows(file.read_row_group(group), traces):
                return told
    return ""


def _in_rows(table: pa.Table, traces: Traces) -> str:
    if "uid" in table.column_names and blanked(table, traces.uids) is not None:
        return "rows beside their uid"
    values = traces.values()
    for column in table.schema:
        asked = pa.types.is_string(column.type) and column.name not in NAMES and len(values)
        if asked and pc.any(pc.is_in(table[column.name], value_set=values)).as_py():
            return f"column {column.name}"
    return ""


def _in_tar(path: Path, traces: Traces) -> str:
    with tarfile.open(path, "r|") as members:
        for member in members:
            content = members.extractfile(member)
            if content is None:
                continue
            body, extension = content.read(), member.name.rpartition(".")[2]
            if extension == "json" and _uid(body) in traces.uids:
                return f"member {member.name}"
            if hashlib.sha256(body).hexdigest() in traces.pictures:
                return f"member {member.name}"
    return ""


def _uid(body: bytes) -> str:
    try:
        return str(json.loads(body).get("uid", ""))
    except (ValueError, AttributeError):
        return ""


def _in_bytes(stream: IO[bytes] | gzip.GzipFile, traces: Traces) -> str:
    for block in _blocks(stream):
        if not traces.raw("urls").isdisjoint(_addresses(block)):
            return "an address"
        if not traces.raw("digests").isdisjoint(_DIGEST.findall(block)):
            return "a digest"
        if not traces.texts.isdisjoint(_texts(block)):
            return "a text"
    return ""


def _blocks(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Yield a stream in blocks that overlap, so that nothing is cut in two."""
    before = b""
    while block := stream.read(_BLOCK):
        yield before + block
        before = (before + block)[-_OVERLAP:]


def _addresses(block: bytes) -> Iterator[bytes]:
    for found in _ADDRESS.findall(block):
        yield found
        yield html.unescape(found.decode("utf-8", "replace")).encode()


def _texts(block: bytes) -> Iterator[str]:
    for node in _NODE.split(block):
        if node.strip():
            text = node.decode("utf-8", "replace").strip()
            yield text
            yield html.unescape(text)
