"""Read one exchange of an index out of its WARC file, or copy its records as they are written into another archive."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO, Final

from warcio.archiveiterator import ArchiveIterator

from laion_dask.web.archive import warc_exchange
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.warc import cdxj, recorded, warc_files
from laion_dask.web.warc.cdxj import Entry

MOST_BYTES: Final = 256 * 2**20
"""So much is decoded of one body of another crawler's file, where no limit is given."""


def read(entry: Entry, most: int = MOST_BYTES) -> Exchange:
    """Read one exchange; `ArchiveError` where the file does not hold what the index says.

    Of another crawler's body at most `most` bytes are decoded; a longer one counts as not recorded in full.
    """
    try:
        record = warc_files.header(entry.path, entry.offset)
        if record is not None and not recorded.is_ours(record):
            found = recorded.read(recorded.RecordPlace(entry.path, entry.offset, entry.payload))
            if found is not None:
                return warc_exchange.foreign(entry.url, record.get("warc-date"), found, most)
            raise _damaged(entry)
        with entry.path.open("rb") as stream:
            stream.seek(entry.offset)
            ours = next(iter(ArchiveIterator(stream)), None)
            exchanged = warc_exchange.read(ours) if ours is not None else None
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
    """Return the records of an exchange as gzip members, and their entry.

    Those of this project are copied as they are. What another crawler wrote may not be packed, or may have its body
    elsewhere: it is written anew, complete in one record, and without a request, of which nothing is known.
    """
    source.seek(entry.offset)
    records = source.read(entry.span)
    if entry.asker and records.startswith(warc_files.GZIP_MAGIC):
        return entry, records
    if entry.asker:
        pieces = [records[: entry.length], records[entry.length :]]
        packed = [warc_exchange.pack(piece, 6) for piece in pieces if piece]
        return replace(entry, length=len(packed[0]), span=sum(map(len, packed))), b"".join(packed)
    found = read(entry)
    member = warc_exchange.write(found, entry.place, "")
    size = len(member.record)
    return replace(entry, digest=member.digest, block=member.block, length=size, span=size, payload=None), member.record
