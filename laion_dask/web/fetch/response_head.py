"""Accept a repeated Content-Length as browsers do, which aiohttp's parser refuses.

Equal lengths, in two lines or in a list, count as one (RFC 9112, 6.3; Fetch, "extract a length"). aiohttp's parser
refuses them, so they are merged into one line before it reads them; lengths that differ stay, and are refused.
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
_KEPT_BYTES: Final = 16


class _Handler(ResponseHandler):
    """aiohttp's protocol for one connection, which edits the lines of each response head first."""

    _in_head = False
    _lines = 0
    _begun = b""
    """The beginning of the current line, as far as it has been passed on."""
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
        """Return the received bytes without the lines that repeat a length."""
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
                    self._begun = (self._begun + line)[:_KEPT_BYTES]
                return bytes(out)
            out += self._line(line) if not self._begun else line + ended
            self._end_line((self._begun + line)[:_KEPT_BYTES])
            rest = behind
        return bytes(out) + rest

    def _line(self, line: bytes) -> bytes:
        """Return a whole line of a head, or nothing where it repeats a length."""
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
            is_interim = self._status.startswith(b"1") and self._status != b"101"
            self._next_head()
            # After an interim response (1xx) another head follows, with lengths of its own.
            self._in_head = is_interim
            return
        self._lines += 1
        self._begun = b""


def _may_be_length(line: bytes) -> bool:
    lower = line[: len(_LENGTH)].lower()
    return len(line) <= _MAX_LINE_BYTES and lower == _LENGTH[: len(lower)]


def _handler(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Handler(loop)


class Connector(aiohttp.TCPConnector):
    """An aiohttp connector whose connections accept a repeated Content-Length."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - as aiohttp takes them
        super().__init__(**given)
        self._factory = functools.partial(_handler, loop=self._loop)
