"""Read one exchange of an index from its WARC file, or copy its records into another archive."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO, Final

from warcio.archiveiterator import ArchiveIterator

from laion_dask.web.archive import warc_exchange
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.warc import cdxj, recorded, warc_files
from laion_dask.web.warc.cdxj import Entry

MAX_BYTES: Final = 256 * 2**20
"""How many bytes of a body from another crawler's file are decoded, where no limit is given."""


def read(entry: Entry, max_bytes: int = MAX_BYTES) -> Exchange:
    """Read one exchange; `ArchiveError` where the file does not have it where the index says.

    Of another crawler's body at most `max_bytes` are decoded; a longer one counts as not recorded in full.
    """
    try:
        record = warc_files.header(entry.path, entry.offset)
        if record is not None and not recorded.is_ours(record):
            answer = recorded.read(recorded.RecordPlace(entry.path, entry.offset, entry.payload))
            if answer is not None:
                return warc_exchange.foreign(entry.url, record.get("warc-date"), answer, max_bytes)
            raise _damaged(entry)
        with entry.path.open("rb") as stream:
            stream.seek(entry.offset)
            own_record = next(iter(ArchiveIterator(stream)), None)
            exchanged = warc_exchange.read(own_record) if own_record is not None else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(entry) from error
    if exchanged is None:
        raise _damaged(entry)
    return exchanged


def _damaged(entry: Entry) -> cdxj.ArchiveError:
    return cdxj.ArchiveError(
        f"{entry.path} holds no exchange at {entry.offset}. Remedy: restore the file, or remove the .cdxj beside it"
    )


def copied(entry: Entry, source: BinaryIO) -> tuple[Entry, bytes]:
    """Return the records of an exchange as gzip members, and their index entry.

    Records of this project are copied unchanged. Those of another crawler may be uncompressed, or have their body in
    another record: they are rewritten as one complete record, without a request, because the request is unknown.
    """
    source.seek(entry.offset)
    records = source.read(entry.span)
    if entry.asker and records.startswith(warc_files.GZIP_MAGIC):
        return entry, records
    if entry.asker:
        pieces = [records[: entry.length], records[entry.length :]]
        packed = [warc_exchange.pack(piece, 6) for piece in pieces if piece]
        return replace(entry, length=len(packed[0]), span=sum(map(len, packed))), b"".join(packed)
    exchanged = read(entry)
    member = warc_exchange.write(exchanged, entry.place, "")
    size = len(member.record)
    return replace(entry, digest=member.digest, block=member.block, length=size, span=size, payload=None), member.record
