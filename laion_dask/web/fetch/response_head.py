"""Read heads of answers as browsers do where aiohttp's parser is stricter: a Content-Length that is said twice.

Equal lengths, as two lines or as a list, are one length (RFC 9112, 6.3; Fetch, "extract a length"). The parser refuses
both, so they are made one line before it sees them; lengths that differ it gets as they came, and refuses.
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

_LENGTH: Final = b"content-length:"
_LIST: Final = re.compile(rb"[ \t]*([0-9]+)(?:[ \t]*,[ \t]*\1)*[ \t]*\r?")
_MAX_LINE_BYTES: Final = 1_024
# A status line begins with HTTP/1.1 and three digits.
_STATUS: Final = slice(9, 12)
_TASTE_BYTES: Final = 16


class _Handler(ResponseHandler):
    """aiohttp's reader of one connection, with the lines of each head looked at first."""

    _in_head = False
    _lines = 0
    _begun = b""
    """How the line that is being received began, as far as it was passed on."""
    _held = b""
    _status = b""
    _length: bytes | None = None

    def set_response_params(self, **given: Any) -> None:  # noqa: ANN401 - as they come from aiohttp
        self._next_head()
        super().set_response_params(**given)

    def _next_head(self) -> None:
        self._in_head, self._lines, self._begun, self._held, self._length = True, 0, b"", b"", None

    def data_received(self, data: bytes) -> None:
        if data and self._in_head and self._parser is not None:
            data = self._head(data)
            if not data:
                self._reschedule_timeout()
                return
        super().data_received(data)

    def _head(self, data: bytes) -> bytes:
        """Return what the parser is to see of what came: all but the lines that say a length again."""
        out = bytearray()
        rest = self._held + data
        self._held = b""
        while rest and self._in_head:
            line, ended, behind = rest.partition(b"\n")
            if not ended:
                if not self._begun and _may_be_length(line):
                    self._held = line
                else:
                    out += line
                    self._begun = (self._begun + line)[:_TASTE_BYTES]
                return bytes(out)
            out += self._line(line) if not self._begun else line + ended
            self._end_line((self._begun + line)[:_TASTE_BYTES])
            rest = behind
        return bytes(out) + rest

    def _line(self, line: bytes) -> bytes:
        """Return a whole line of a head, or nothing where it says a length again."""
        if not self._lines or line[: len(_LENGTH)].lower() != _LENGTH:
            return line + b"\n"
        found = _LIST.fullmatch(line[len(_LENGTH) :])
        if found is None:
            return line + b"\n"
        again, self._length = self._length == found[1], found[1] if self._length is None else self._length
        return b"" if again else b"Content-Length: " + found[1] + b"\r\n"

    def _end_line(self, began: bytes) -> None:
        if not self._lines:
            self._status = began[_STATUS]
        elif began in {b"", b"\r"}:
            informs = self._status.startswith(b"1") and self._status != b"101"
            self._next_head()
            # Another head follows one of 1xx, whose lengths are its own.
            self._in_head = informs
            return
        self._lines += 1
        self._begun = b""


def _may_be_length(line: bytes) -> bool:
    lower = line[: len(_LENGTH)].lower()
    return len(line) <= _MAX_LINE_BYTES and lower == _LENGTH[: len(lower)]


def _handler(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Handler(loop)


class Connector(aiohttp.TCPConnector):
    """A connector whose connections read heads so."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - as aiohttp takes them
        super().__init__(**given)
        self._factory = functools.partial(_handler, loop=self._loop)
