"""Parse the HTTP answer in a WARC record: status, headers, and the body without chunked transfer coding.

Writers differ: HTTP/2 has no reason phrase, header lines may be folded or contain any byte, and a chunked body may be
stored with or without its chunks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from laion_dask.web.warc.warc_files import escaped, unfold

_STATUS: Final = re.compile(rb"(?i:HTTP/\d(?:\.\d+)?|h[23])[ \t]+(\d{3})(?:[ \t]+([^\r\n]*))?\r?\n")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LOCATION: Final = b"location"


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP answer with its body in its content codings; `whole` is false where the chunks end early."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True

    def header(self, name: str) -> str:
        """Return the first header of a lower-case name; empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")


def parse(block: bytes) -> Message | None:
    """Parse an answer, after interim ones (1xx); None where the bytes are no answer."""
    first = _STATUS.match(block)
    while first is not None and first[1].startswith(b"1"):
        first = _STATUS.match(block, _behind(block, first.end()))
    if first is None or int(first[1]) < 200:
        return None
    begin = _behind(block, first.end())
    lines = [
        _with_ascii_location(line) for line in block[first.end() : begin].splitlines(keepends=True) if line.strip()
    ]
    headers = tuple((name, value) for name, value in unfold(lines) if _TOKEN.fullmatch(name))
    body, whole = _without_chunks(headers, block[begin:])
    return Message(int(first[1]), (first[2] or b"").decode("latin-1").strip(), headers, body, whole)


def status(block: bytes) -> int:
    """Return the status of the first answer, interim ones included; 0 where the bytes are no answer."""
    found = _STATUS.match(block)
    return int(found[1]) if found else 0


def _behind(block: bytes, start: int) -> int:
    """Return the end of the headers that begin at `start`, after their empty line."""
    if block[start : start + 1] == b"\n" or block[start : start + 2] == b"\r\n":
        return block.index(b"\n", start) + 1
    ends = re.compile(rb"\n\r?\n").search(block, start - 1)
    return ends.end() if ends else len(block)


def _with_ascii_location(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name + colon + location(value).encode() if name.strip().lower() == _LOCATION else line


def location(value: bytes) -> str:
    """Return a Location header as browsers request it: each byte that is not ASCII is percent-encoded.

    As in WPT, fetch/api/redirect/redirect-location-escape: a Latin-1 page leads to `/caf%E9`.
    """
    return escaped(value)


def _without_chunks(headers: tuple[tuple[str, str], ...], body: bytes) -> tuple[bytes, bool]:
    """Remove the chunks of a body; some writers store it without them, and with a header that says chunked."""
    coded = any(name.lower() == "transfer-encoding" and "chunked" in value.lower() for name, value in headers)
    if not coded or not (chunk := _CHUNK.match(body)):
        return body, True
    out = bytearray()
    place = 0
    while chunk := _CHUNK.match(body, place):
        begin, size = chunk.end(), int(chunk[1], 16)
        if not size:
            return bytes(out), True
        place = begin + size
        gap = 2 if body[place : place + 2] == b"\r\n" else 1 if body[place : place + 1] == b"\n" else 0
        if not gap and place < len(body):
            # At the beginning, the supposed chunk header was part of the body; after other chunks, the body is damaged.
            return (bytes(out), False) if out else (body, True)
        out += body[begin:place]
        place += gap
    return bytes(out), False
