"""WARC files as bytes, for tests: records of any kind, well made or not, and ways to pack them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence

from fastwarc.stream_io import ZstdWriter, zstd_train_dictionary_from_samples

Pack = Callable[[Sequence[bytes]], bytes]
IDENTICAL = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"


def record(
    kind: str,
    url: str | bytes | None,
    block: bytes,
    *fields: str | bytes,
    length: int | None = None,
    version: str = "1.1",
) -> bytes:
    """Return a record; `fields` are further lines of its header, `length` a Content-Length that is not the block's."""
    lines: list[str | bytes] = [f"WARC/{version}", f"WARC-Type: {kind}", "WARC-Date: 2024-05-06T07:08:09Z", *fields]
    if url is not None:
        lines.append(b"WARC-Target-URI: " + (url if isinstance(url, bytes) else url.encode()))
    lines.append(f"Content-Length: {len(block) if length is None else length}")
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return b"\r\n".join([*raw, b"", b""]) + block + b"\r\n\r\n"


def answer(body: bytes, *headers: str | bytes, status: str = "HTTP/1.1 200 OK") -> bytes:
    """Return an HTTP answer."""
    lines = [line if isinstance(line, bytes) else line.encode() for line in (status, *headers)]
    return b"\r\n".join([*lines, b"", b""]) + body


def response(url: str | bytes, body: bytes, *headers: str | bytes, fields: Sequence[str] = ()) -> bytes:
    """Return a response record."""
    return record("response", url, answer(body, *headers), *fields)


def plain(records: Sequence[bytes]) -> bytes:
    return b"".join(records)


def by_record(records: Sequence[bytes]) -> bytes:
    """Pack each record as a gzip member, as WARC 1.1 recommends (annex A)."""
    return b"".join(gzip.compress(one, mtime=0) for one in records)


def whole(records: Sequence[bytes]) -> bytes:
    """Pack all records as one gzip member."""
    return gzip.compress(b"".join(records), mtime=0)


def first_alone(records: Sequence[bytes]) -> bytes:
    """Pack the first record as a gzip member of its own, and all others as one."""
    return by_record(records[:1]) + whole(records[1:])


def in_blocks(records: Sequence[bytes]) -> bytes:
    """Pack all records in gzip members of 100 bytes each, as bgzip does with larger ones."""
    data = b"".join(records)
    return b"".join(gzip.compress(data[at : at + 100], mtime=0) for at in range(0, len(data), 100))


def zstd(records: Sequence[bytes]) -> bytes:
    return _zstd(records, None, compressed=False)


def zstd_with_dictionary(records: Sequence[bytes]) -> bytes:
    """Pack each record with a dictionary that stands in a skippable frame at the start, as Internet Archive does."""
    return _zstd(records, _dictionary(), compressed=False)


def zstd_with_packed_dictionary(records: Sequence[bytes]) -> bytes:
    return _zstd(records, _dictionary(), compressed=True)


def _dictionary() -> bytes:
    samples = [record("response", f"http://{n}.example/{n * 7919}", json.dumps([n] * 20).encode()) for n in range(200)]
    return zstd_train_dictionary_from_samples(samples, 4_000)


def _zstd(records: Sequence[bytes], dictionary: bytes | None, *, compressed: bool) -> bytes:
    out = io.BytesIO()
    writer = ZstdWriter(out, dictionary=dictionary, compress_dictionary_frame=compressed)
    for one in records:
        writer.write(one)
        writer.finish()
    writer.close()
    return out.getvalue()


PACKED = {
    "plain.warc": plain,
    "by_record.warc.gz": by_record,
    "whole.warc.gz": whole,
    "first_alone.warc.gz": first_alone,
    "in_blocks.warc.gz": in_blocks,
    "zstd.warc.zst": zstd,
    "zstd_with_dictionary.warc.zst": zstd_with_dictionary,
    "zstd_with_packed_dictionary.warc.zst": zstd_with_packed_dictionary,
}
"""Names of files, and how their records are packed."""
