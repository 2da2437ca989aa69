"""Read a damaged WAT record by record, and find the next record after the damage.

For input that the fast reader rejects: decompresses gzip members one at a time and zstd frames as one stream, parses
headers with warcio, and searches for the next record after damage. Only damaged records are lost; time is linear in the
file's size.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator
from typing import Final, NamedTuple

from laion_dask.extract.wat import zstd_frames
from laion_dask.extract.wat.blocks import StoredFile
from laion_dask.extract.wat.gzip_members import (
    BLANK,
    CHUNK_BYTES,
    GZIP_MAGIC,
    MAX_SKIP_BYTES,
    OVERLAP,
    TASTE,
    VERSION_LINE,
    GzipMember,
    Window,
    reader,
    unpacks_to_record,
)

MAX_RECORD_BYTES: Final = 64 * 2**20
"""A record that declares more is skipped, to protect the worker's memory; real ones have up to a few MB."""

MAX_HEADER_BYTES: Final = 32 * 2**10
"""Longer record headers are rejected, as in FastWARC."""

MAX_RESUMPTIONS: Final = 10_000
"""Limit of searches for the next record in one WAT; a file with more damage is no WAT."""

_SCAN: Final = 2**20
_MAX_JOINED: Final = 8
_LENGTH: Final = re.compile(r"\+?[0-9]{1,99}")
# Possible starts of a record: a gzip member with deflate and known flags, a zstd frame, or a version line.
_MEMBER: Final = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]|" + re.escape(zstd_frames.FRAME_MAGIC))
_START: Final = re.compile(_MEMBER.pattern + rb"|" + VERSION_LINE.pattern)


class WatRecord(NamedTuple):
    """One WARC record of a WAT."""

    offset: int
    """Offset in the stored file, bytes; that of its gzip member if there is one."""
    type: str
    """WARC-Type; empty if missing."""
    declared: int
    """Content-Length, bytes; -1 if missing."""
    body: bytes
    """Shorter than declared if the record ends early."""
    date: str
    """WARC-Date of this record: when the extractor wrote it (in files of 2014: when the page was fetched)."""
    mended: str = ""
    """`lf_line_ends` if the header's lines end without a carriage return."""


class Damage(NamedTuple):
    """Bytes that are no record; reading continues after them."""

    offset: int
    """Their offset in the stored file, bytes."""
    reason: str
    """bad_gzip, bad_record, truncated or too_large."""
    detail: str
    """Description of what was found."""


Packed = GzipMember | zstd_frames.Frames
_Steps = Generator[WatRecord | Damage, None, int]


class CarefulReader:
    """Reads a WAT in units: a gzip member, a run of zstd frames, or an uncompressed record.

    Limits repeated reading to four times the file's size, so that time stays linear; beyond that, damage may cost
    records after it too.
    """

    def __init__(self, stored: StoredFile) -> None:
        self._stored = stored
        self._budget = 4 * stored.size + CHUNK_BYTES
        self._resumed = 0

    def unit(self, at: int) -> _Steps:
        """Yield the records and damage of the unit at `at`; return the offset of the next unit or the file's size."""
        if self._stored.exactly(at, 2) == GZIP_MAGIC:
            return (yield from self._packed(GzipMember(self._stored, at)))
        if zstd_frames.begins(self._stored.exactly(at, 4)):
            return (yield from self._packed(zstd_frames.Frames(self._stored, at)))
        return (yield from self._plain(at))

    def has_one_record(self, at: int) -> bool:
        """Tell whether the gzip member at `at` contains exactly one record; always true for uncompressed data.

        False for zstd: FastWARC gives wrong offsets in a frame of several records, and loses records cut by a frame.
        """
        if zstd_frames.begins(self._stored.exactly(at, 4)):
            return False
        if self._stored.exactly(at, 2) != GZIP_MAGIC:
            return True
        window = Window(GzipMember(self._stored, at).more)
        item, _ = self._record(window, at)
        return isinstance(item, WatRecord) and not window.skip_blank()

    def _plain(self, at: int) -> _Steps:
        window = Window(reader(self._stored, at))
        if not window.skip_blank():
            return self._stored.size
        place = at + window.passed
        if window.peek(2) == GZIP_MAGIC or zstd_frames.begins(window.peek(4)):
            return place
        item, found = self._record(window, place)
        if found:
            yield item
            window.skip_blank()
            return at + window.passed
        resume_at = self._find(at + window.passed, _START)
        yield _with_length(item, resume_at - place)
        return (yield from self._resume(resume_at))

    def _packed(self, member: Packed) -> _Steps:
        at = member.start
        window = Window(member.more)
        reported = False
        found = True
        while found and window.skip_blank():
            at = member.place_of(window.passed)
            item, found = self._record(window, at)
            if isinstance(item, WatRecord) and len(item.body) < item.declared:
                item, member, window = self._joined(item, member, window)
                at = member.start
            before = window.passed
            if not found:
                found = window.skip_to_line()
                self._resumed += found
            lost = isinstance(item, Damage) or len(item.body) < item.declared
            if lost and member.problem == "bad_gzip" and not window.peek(1):
                break
            if window.passed - before > MAX_SKIP_BYTES:
                item = Damage(at, "too_large", "what is packed here unpacks to more bytes than a record can have")
            yield _with_length(item, window.passed - before)
            reported = lost
            if self._resumed > MAX_RESUMPTIONS:
                return (yield from self._resume(at))
        if member.problem and not (member.problem == "truncated" and reported):
            yield Damage(at, member.problem, member.detail)
        if member.end is not None and not member.problem:
            return member.end
        if member.problem == "truncated":
            return self._stored.size
        # The next member may begin before the point where decompression failed, or ended by chance.
        repeated = member.position - member.begun
        start = member.begun + 1 if repeated <= self._budget else member.position
        self._budget -= repeated
        return (yield from self._resume(self._find(start, _MEMBER, member.end)))

    def _joined(self, record: WatRecord, member: Packed, window: Window) -> tuple[WatRecord, Packed, Window]:
        """Complete the body of a record from the following members; return it unchanged if they lack the rest.

        Some writers begin a new member after the HTTP header; FastWARC reads on across members.
        """
        body, last, rest = record.body, member, window
        for _ in range(_MAX_JOINED):
            if last.problem or last.end is None or self._stored.exactly(last.end, 2) != GZIP_MAGIC:
                break
            last = GzipMember(self._stored, last.end)
            rest = Window(last.more)
            if rest.peek(5) == b"WARC/":
                break
            body += rest.take(record.declared - len(body))
            if len(body) == record.declared:
                return record._replace(body=body), last, rest
        return record, member, window

    def _record(self, window: Window, place: int) -> tuple[WatRecord | Damage, bool]:
        """Return the record or damage at the window's next byte, and whether a record may follow it."""
        head = window.peek(MAX_HEADER_BYTES)
        version = VERSION_LINE.match(head)
        if version is None:
            window.skip(1)
            cut = b"WARC/1.0\r\n".startswith(head) or head == GZIP_MAGIC[:1]
            return Damage(place, "truncated" if cut else "bad_record", f"no WARC record: {head[:40]!r}"), False
        # Without this cut, a header that does not end before the next one would be parsed repeatedly.
        following = VERSION_LINE.search(head, version.end())
        kind, length, date, size = _header(head[: following.start()] if following else head)
        if not size:
            window.skip(version.end())
            cut = following is None and len(head) < MAX_HEADER_BYTES
            return Damage(place, "truncated" if cut else "bad_record", f"header without end: {head[:40]!r}"), False
        mended = "" if b"\r\n" in head[:size] else "lf_line_ends"
        window.skip(size)
        if length < 0:
            return WatRecord(place, kind, length, b"", date, mended), False
        if length > MAX_RECORD_BYTES:
            return Damage(place, "too_large", f"the record declares {length} bytes"), False
        body = self._body(window, length)
        return WatRecord(place, kind, length, body, date, mended), True

    def _body(self, window: Window, length: int) -> bytes:
        """Return the body; shorter than `length` if a record begins inside it because the length is wrong."""
        body = window.take(length)
        following = window.peek(CHUNK_BYTES).lstrip(BLANK)
        if following.startswith(b"WARC/") or (not following and len(body) == length):
            return body
        inside = VERSION_LINE.search(body)
        if inside is None or len(body) - inside.start() > self._budget:
            return body
        self._budget -= len(body) - inside.start()
        window.put_back(body[inside.start() :])
        return body[: inside.start()].rstrip(BLANK)

    def _resume(self, place: int) -> _Steps:
        self._resumed += 1
        if self._resumed <= MAX_RESUMPTIONS or place >= self._stored.size:
            return place
        yield Damage(place, "bad_record", f"given up: damaged in {MAX_RESUMPTIONS} places before")
        return self._stored.size

    def _find(self, start: int, what: re.Pattern[bytes], end: int | None = None) -> int:
        """Return the offset of the first record from `start` on; `end`, or the file's end, if there is none."""
        end = self._stored.size if end is None else end
        while start < end:
            data = self._stored.exactly(start, _SCAN)
            for match in what.finditer(data):
                place = start + match.start()
                if self._is_start(match.group(), place):
                    return min(place, end)
            start += _SCAN - OVERLAP if len(data) == _SCAN else _SCAN
        return end

    def _is_start(self, mark: bytes, place: int) -> bool:
        """Tell whether a record, a member or a frame really begins at a signature."""
        if mark.startswith(GZIP_MAGIC):
            return unpacks_to_record(self._stored.exactly(place, TASTE))
        return mark != zstd_frames.FRAME_MAGIC or zstd_frames.is_frame(
            self._stored.exactly(place, zstd_frames.TASTE_BYTES)
        )


def _header(head: bytes) -> tuple[str, int, str, int]:
    """Return type, length, date and size of a record header as warcio parses it; the size is 0 if it has no end."""
    from warcio.statusandheaders import StatusAndHeadersParser  # noqa: PLC0415 - only doubtful records need it

    stream = io.BytesIO(head)
    header = StatusAndHeadersParser(["WARC/"]).parse(stream)
    size = stream.tell()
    if head[:size].rpartition(b"\n")[2] or head[: size - 1].rpartition(b"\n")[2].strip():
        return "", -1, "", 0
    values = [(header.get_header(name) or "").strip() for name in ("WARC-Type", "Content-Length", "WARC-Date")]
    length = int(values[1]) if _LENGTH.fullmatch(values[1]) else -1
    return values[0], length, values[2], size


def _with_length(item: WatRecord | Damage, length: int) -> WatRecord | Damage:
    return item._replace(detail=f"{item.detail}; {length} bytes skipped") if isinstance(item, Damage) else item
