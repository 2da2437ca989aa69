"""Write and read shards in img2dataset's layout: a tar of pictures, a Parquet table and counts.

A tar has `<key>.jpg`, `<key>.txt` and `<key>.json` in sequence for each success, in the order of the rows; with other
values of `download.encode`, pictures have other extensions. The same rows give the same bytes: no times, no owners,
JSON keys sorted.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema

SUCCESS: Final = "success"
FAILED_TO_DOWNLOAD: Final = "failed_to_download"
FAILED_TO_RESIZE: Final = "failed_to_resize"

SIZES: Final = "sizes.json"

_ROW_GROUP_ROWS: Final = 1_000
_INDEX: Final = pa.schema(
    [
        ("key", pa.string()),
        ("extension", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("digest", pa.string()),
    ]
)
_TEXTS: Final = frozenset({"txt", "json"})  # every other member is a picture


class ShardError(Exception):
    """A shard cannot be written or read."""


class ShardWriter:
    """A context manager that writes one shard: `<name>.tar` row by row, then `<name>_stats.json` and `<name>.parquet`.

    The table is written last, if the block ends without an error: a folder without it has no complete shard. Its
    columns are those of `schema.IMAGES` by default. With `index`, the places of the pictures in the tar are written
    beside it (`picture_index`), so that a picture can be read without the others.
    """

    def __init__(self, out: Path, name: str, columns: pa.Schema | None = None, *, index: bool = False) -> None:
        self._out = out
        self._index: list[dict[str, Any]] | None = [] if index else None
        self._name = name
        self._columns = columns or schema.IMAGES.schema
        self._rows: list[Mapping[str, Any]] = []
        self._tar = (out / f"{name}.tar").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._tar:
            # End of the archive: two empty blocks, padded to a record.
            end = self._tar.tell() + 2 * tarfile.BLOCKSIZE
            self._tar.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
        if kind is None:
            self._finish()

    def add(self, row: Mapping[str, Any], picture: bytes, extension: str = "jpg") -> None:
        """Add an attempt, and for a success its picture; values without a column are dropped."""
        row = {name: row[name] for name in self._columns.names}
        self._rows.append(row)
        if row["status"] != SUCCESS:
            return
        if not picture:
            raise ShardError(f"row {row['key']} is a success without an image: a bug of the caller")
        self._members(
            (f"{row['key']}.{extension}", picture),
            (f"{row['key']}.txt", row["caption"].encode()),
            (f"{row['key']}.json", _json(row)),
        )

    def adopt(self, row: Mapping[str, Any], members: Iterable[tuple[str, bytes]]) -> None:
        """Copy an attempt from another shard, with its files; see `read_members`."""
        self._rows.append(row)
        self._members(*members)

    def _members(self, *members: tuple[str, bytes]) -> None:
        pieces: list[bytes] = []
        for name, content in members:
            # A fresh TarInfo has time, uid and gid zero, no names, and mode 0644.
            member = tarfile.TarInfo(name)
            member.size = len(content)
            head = member.tobuf(tarfile.USTAR_FORMAT)
            key, _, extension = name.rpartition(".")
            if self._index is not None and extension not in _TEXTS:
                at = self._tar.tell() + sum(map(len, pieces)) + len(head)
                about = {"key": key, "extension": extension, "offset": at, "bytes": len(content)}
                self._index.append({**about, "digest": picture_digest(content)})
            pieces += head, content, bytes(-len(content) % tarfile.BLOCKSIZE)
        # TarFile.addfile would write each piece separately, and keep all members in memory.
        self._tar.write(b"".join(pieces))

    def _finish(self) -> None:
        if self._index is not None:
            path = picture_index(self._out / f"{self._name}.parquet")
            path.parent.mkdir()
            pq.write_table(pa.Table.from_pylist(self._index, schema=_INDEX), path, compression="zstd")
        stats = json.dumps(counts(self._rows), indent=2, sort_keys=True)
        (self._out / f"{self._name}_stats.json").write_text(f"{stats}\n", encoding="utf-8")
        table = pa.Table.from_pylist(self._rows, schema=self._columns)
        pq.write_table(
            table,
            self._out / f"{self._name}.parquet",
            compression="zstd",
            row_group_size=_ROW_GROUP_ROWS,
            version="2.6",
        )


def _json(row: Mapping[str, Any]) -> bytes:
    # Further columns of a table may have types without a JSON form, such as dates: these are written as text.
    return json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode()


def picture_index(table: Path) -> Path:
    """Return the path of the index of a shard's pictures, by the path of its table; see `ShardWriter`."""
    return table.parent / "pictures" / table.name


def picture_digest(content: bytes) -> str:
    """Return the digest of a stored picture, as the index has it: BLAKE2b of 16 bytes, hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def key(name: str, place: int, shard_rows: int) -> str:
    """Return the key of a row by img2dataset's rule: the shard's number, then the zero-padded row.

    `shard_rows` is the size of full shards, so that all keys of a set have one length (img2dataset: `compute_key`).
    """
    digits = math.ceil(math.log10(shard_rows)) if shard_rows > 1 else 0
    return f"{int(name) * 10**digits + place:0{len(name) + digits}d}"


def place(name: str, key: str) -> int:
    """Return the place in the shard that a key of it has."""
    return int(key[len(name) :] or 0)


def write_sizes(out: Path) -> None:
    """Write `SIZES`, the number of images in each tar of a folder, which open_clip and DataComp read.

    Raises `ShardError` if shard numbers have a gap, at which readers that look for the last shard would silently stop.
    """
    found = sorted(out.glob("*_stats.json"))
    names = [path.name.removesuffix("_stats.json") for path in found]
    if [int(name) for name in names] != list(range(len(names))) or len({len(name) for name in names}) > 1:
        raise ShardError(f"{out}: shards are not numbered from 0 without a gap: {', '.join(names[:9])}")
    sizes = {
        f"{name}.tar": json.loads(path.read_text(encoding="utf-8"))["successes"]
        for name, path in zip(names, found, strict=True)
    }
    (out / SIZES).write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")


def counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count attempts under img2dataset's names; `status_dict` counts success and each error message."""
    status: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for row in rows:
        status[row["status"]] += 1
        messages[row["error_message"] or SUCCESS] += 1
    return {
        "count": status.total(),
        "successes": status[SUCCESS],
        FAILED_TO_DOWNLOAD: status[FAILED_TO_DOWNLOAD],
        FAILED_TO_RESIZE: status[FAILED_TO_RESIZE],
        "status_dict": dict(sorted(messages.items())),
    }


def write_shard(out: Path, name: str, rows: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write a shard from (row of `schema.IMAGES`, JPEG or empty bytes) in order."""
    with ShardWriter(out, name) as shard:
        for row, jpg in rows:
            shard.add(row, jpg)


def read_shard(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (key, bytes of the picture) of a shard in order, in one sequential pass.

    Raises `ShardError` if the tar is missing or damaged.
    """
    try:
        with tar.open("rb") as file:
            for name, size in _plain_members(file):
                key, _, extension = name.rpartition(".")
                body = file.read(size)
                if len(body) + len(file.read(-size % tarfile.BLOCKSIZE)) < size + -size % tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
                if extension not in _TEXTS:
                    yield key, body
            if file.peek(1) or not file.tell():
                with tarfile.open(fileobj=file, mode="r|") as members:
                    for member in members:
                        key, _, extension = member.name.rpartition(".")
                        content = members.extractfile(member) if extension not in _TEXTS else None
                        if content is not None:
                            yield key, content.read()
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f"{tar} cannot be read: {error}. Remedy: remove its shard and run download again") from error


def _plain_members(file: io.BufferedReader) -> Iterator[tuple[str, int]]:
    """Yield (name, size) of members while they are plain USTAR files, with the file positioned at their content.

    img2dataset, webdataset and this module write such members. `tarfile` needs 60 us for each, as long as decoding a
    small picture. Ends at the first other member, with the file positioned at its header, for `tarfile` to continue.
    """
    while True:
        at = file.tell()
        header = file.read(tarfile.BLOCKSIZE)
        kind, prefix = header[156:157], header[345:346]
        # The checksum is the sum of all bytes, with its own bytes taken as spaces (POSIX 1003.1, ustar).
        if len(header) == tarfile.BLOCKSIZE and kind == tarfile.REGTYPE and prefix == b"\0":
            name, size, total = header[:100].rstrip(b"\0"), header[124:136], header[148:156].strip(b" \0")
            plain = size[:11].isdigit() and total.isdigit()
            if plain and int(total, 8) == sum(header) - sum(header[148:156]) + 8 * ord(" "):
                yield name.decode("utf-8", "surrogateescape"), int(size[:11], 8)
                continue
        file.seek(at)
        return


def read_members(tar: Path) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Yield (key, its files as (name, bytes)) of a shard in order; memory holds the files of one key.

    Raises `ShardError` if the tar is missing or damaged.
    """
    try:
        with tarfile.open(tar, "r|") as members:
            files = ((member.name, members.extractfile(member)) for member in members)
            contents = ((name, content.read()) for name, content in files if content is not None)
            for key, found in groupby(contents, key=lambda file: file[0].partition(".")[0]):
                yield key, list(found)
    except (OSError, tarfile.TarError) as error:
        raise ShardError(f"{tar} cannot be read: {error}. Remedy: remove its shard and run download again") from error


def read_rows(parquet: Path) -> pa.Table:
    """Read a shard's table, checked against `schema.IMAGES`."""
    return schema.IMAGES.check(pq.read_table(parquet))
