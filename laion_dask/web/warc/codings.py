"""Decode the content codings of a body piece by piece, within a size limit, as browsers do.

As in the Fetch standard ("handle content codings"), codings are decoded in reverse order; if one of them is unknown,
the bytes stay unchanged. `x-gzip` is gzip (RFC 9110, 8.4.1.3); deflate occurs with and without zlib's frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import brotli

_PIECE_BYTES: Final = 64 * 1024
_SAMPLE_BYTES: Final = 2**20
# Codings may be applied repeatedly, but more than this is an attack or an error.
_MAX_CODINGS: Final = 8
# Each gzip member takes time, and an empty one has only 20 bytes: their number is limited by what they contain.
_FREE_MEMBERS: Final = 100
_MEMBER_BYTES: Final = 256
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class CodingError(ValueError):
    """The bytes are not in the coding that the headers name."""


def names(headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the codings that headers name, in the order in which they were applied, without `identity`."""
    values = (value for name, value in headers if name.lower() == "content-encoding")
    found = (word.strip().lower() for value in values for word in value.split(","))
    return tuple(word for word in found if word not in {"", "identity"})


class _Decoder(Protocol):
    """Decodes one coding, at most `_PIECE_BYTES` a call; with `more`, a call without bytes returns more.

    `ended`: the end of the coding was reached; `left`: bytes follow that end.
    """

    more: bool
    ended: bool
    left: bool

    def feed(self, data: bytes) -> bytes: ...

    def finish(self, most: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._unzip = zlib.decompressobj(31)
        self._members = self._given = 0
        self._left = b""
        self.more = self.ended = self.left = False

    def feed(self, data: bytes) -> bytes:
        self._left += data
        if self._unzip.eof and self._left.startswith(_GZIP_MAGIC):
            self._members += 1
            if self._members > _FREE_MEMBERS and self._members * _MEMBER_BYTES > self._given:
                raise CodingError("gzip members that hold next to nothing")
            self._unzip = zlib.decompressobj(31)
        if self._unzip.eof:
            # Bytes after the last member are ignored, as by gzip and browsers.
            self.more = False
            return b""
        piece = self._unzip.decompress(self._left, _PIECE_BYTES)
        self._left = self._unzip.unused_data if self._unzip.eof else self._unzip.unconsumed_tail
        self.more = bool(self._left) or len(piece) == _PIECE_BYTES
        self.ended = self._unzip.eof
        self._given += len(piece)
        return piece

    def finish(self, most: int) -> bytes:
        del most
        return b""


class _Deflate:
    def __init__(self) -> None:
        self._unzip: zlib._Decompress | None = None
        self._left = b""
        self.more = self.ended = self.left = False

    def feed(self, data: bytes) -> bytes:
        self._left += data
        if self._unzip is None:
            if len(self._left) < 2:
                return b""
            # RFC 1950, 2.2: method 8, and the two bytes are a multiple of 31.
            framed = self._left[0] & 15 == 8 and int.from_bytes(self._left[:2], "big") % 31 == 0
            self._unzip = zlib.decompressobj(15 if framed else -15)
        piece = self._unzip.decompress(self._left, _PIECE_BYTES)
        self._left = self._unzip.unconsumed_tail
        self.ended, self.left = self._unzip.eof, bool(self._unzip.unused_data)
        self.more = not self.ended and (bool(self._left) or len(piece) == _PIECE_BYTES)
        return piece

    def finish(self, most: int) -> bytes:
        del most
        return b""


class _Brotli:
    def __init__(self) -> None:
        self._unpack = brotli.Decompressor()
        self._left = b""
        self.more = self.ended = self.left = False

    def feed(self, data: bytes) -> bytes:
        self._left += data
        if self._unpack.is_finished():
            self.more, self.left = False, self.left or bool(data)
            return b""
        given = b""
        if self._unpack.can_accept_more_data():
            given, self._left = self._left, b""
        piece: bytes = self._unpack.process(given, output_buffer_limit=_PIECE_BYTES)
        self.ended = bool(self._unpack.is_finished())
        self.more = not self.ended and (
            not self._unpack.can_accept_more_data() or bool(self._left) or len(piece) >= _PIECE_BYTES
        )
        return piece

    def finish(self, most: int) -> bytes:
        del most
        return b""


class _Zstd:
    """Decodes at the end: Arrow's reader needs all bytes, and zstd is rare, since requests do not accept it."""

    def __init__(self) -> None:
        self._packed = bytearray()
        self.more = self.ended = self.left = False

    def feed(self, data: bytes) -> bytes:
        self._packed += data
        if not _ZSTD_MAGIC.startswith(self._packed[: len(_ZSTD_MAGIC)]):
            raise CodingError("zstd")
        return b""

    def finish(self, most: int) -> bytes:
        import pyarrow as pa  # noqa: PLC0415 - slow to import and rarely needed

        if not self._packed:
            return b""
        out = bytearray()
        try:
            with pa.CompressedInputStream(pa.BufferReader(bytes(self._packed)), "zstd") as stream:
                while len(out) < most and (piece := stream.read(min(_PIECE_BYTES, most - len(out)))):
                    out += piece
        except (OSError, pa.ArrowException) as error:
            raise CodingError("zstd") from error
        self.ended = True
        return bytes(out)


_STAGES: Final[dict[str, type[_Gzip | _Deflate | _Brotli | _Zstd]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
ACCEPTED: Final = "gzip, deflate, br"
"""The value of Accept-Encoding; zstd is decoded where a host sends it anyway."""


class BodyDecoder:
    """Decodes a body up to `most` bytes: `feed` pieces, then `finish`; `CodingError` for bytes in another coding."""

    def __init__(self, codings: Sequence[str], most: int) -> None:
        known = len(codings) <= _MAX_CODINGS and all(name in _STAGES for name in codings)
        self._stages: list[_Decoder] = [_STAGES[name]() for name in reversed(codings)] if known else []
        self._most = most
        # Without this limit, encoded bytes that decode to nothing could come for ever.
        self._most_packed = most + most // 16 + _PIECE_BYTES
        self._packed = 0
        self.body = bytearray()

    @property
    def full(self) -> bool:
        """The body exceeds the limit, decoded or encoded."""
        return len(self.body) > self._most or self._packed > self._most_packed

    @property
    def ended(self) -> bool:
        """Every coding has ended, and no bytes follow."""
        return all(stage.ended for stage in self._stages) and not self.left

    @property
    def cut_first(self) -> bool:
        """The coding that was applied last has not ended."""
        return bool(self._stages) and not self._stages[0].ended

    @property
    def left(self) -> bool:
        """Bytes follow the end of a coding."""
        return any(stage.left for stage in self._stages)

    def feed(self, data: bytes) -> None:
        """Decode `data` and add it to `body`; stop one piece after the limit."""
        self._packed += len(data)
        try:
            self._decode(0, data)
        except (zlib.error, brotli.error) as error:
            raise CodingError(str(error)) from error

    def finish(self) -> None:
        """Decode what is left. A cut body gives the part before the cut, as in browsers."""
        try:
            for level, stage in enumerate(self._stages):
                if (last := stage.finish(self._most + 1)) and not self.full:
                    self._decode(level + 1, last)
        except (zlib.error, brotli.error) as error:
            raise CodingError(str(error)) from error

    def _decode(self, level: int, data: bytes) -> None:
        if level == len(self._stages):
            self.body += data
            return
        stage = self._stages[level]
        piece = stage.feed(data)
        while True:
            if piece:
                self._decode(level + 1, piece)
            if self.full or not stage.more:
                return
            piece = stage.feed(b"")


def remaining(codings: Sequence[str], body: bytes) -> tuple[str, ...]:
    """Return the codings that a recorded body still has: archives often store bodies decoded with the old header.

    Decoding starts with the last coding, so the first ones are left. If a coding is unknown, all are returned.
    """
    if not all(name in _STAGES for name in codings):
        return tuple(codings)
    for count in range(len(codings), 0, -1):
        if _is_coded(codings[:count], body):
            return tuple(codings[:count])
    return ()


def _is_coded(codings: Sequence[str], body: bytes) -> bool:
    """Whether a body is in these codings: up to 1 MiB of it can be decoded, and it ends where they end.

    Brotli and raw deflate have no magic number, so other bytes may look like the beginning of a body in these.
    """
    decoder = BodyDecoder(codings, _SAMPLE_BYTES)
    try:
        for begin in range(0, len(body), _PIECE_BYTES):
            decoder.feed(body[begin : begin + _PIECE_BYTES])
            if decoder.full:
                # Zstd is decoded at the end; here its magic number has been checked.
                return len(decoder.body) > _SAMPLE_BYTES or "zstd" in codings
        decoder.finish()
    except CodingError:
        return False
    # A gzip body that was cut still has its magic number.
    return decoder.ended or (decoder.cut_first and codings[-1] in {"gzip", "x-gzip"} and body.startswith(_GZIP_MAGIC))
