"""Read opt-outs in the XMP packets of a picture: PLUS data mining, TDM reservation, address of a remote manifest.

Packets are found by scanning (XMP specification, part 3, 1.1): they are plain text in JPEG, PNG, WEBP, TIFF, AVIF and
GIF, and contiguous except for JPEG's extended XMP and compressed chunks of PNG; those two are unpacked first.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

Property = Literal["data_mining", "tdm_reservation", "tdm_policy", "provenance"]

_MARKS: Final = (b"DataMining", b"ns/tdmrep", b"provenance")
_DATA_MINING_IN_UTF_16: Final = "DataMining".encode("utf-16-le")[:-1]  # little and big end alike
_RDF_SPACE: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# A packet has RDF's namespace or, if that is damaged, the id of its wrapper (XMP, part 1, 7.3.2). Long needles are
# faster to search for.
_PACKET: Final = (_RDF_SPACE.encode(), b"W5M0MpCehiHzreSzNTczkc9d")

# A file of 20 MB may contain millions of elements, or unpack to them: beyond these limits, packets are searched for
# words and not parsed.
_MAX_PACKETS: Final = 64
_MAX_PARSED_BYTES: Final = 4_000_000  # of all packets of a picture together
_MAX_UNPACKED_BYTES: Final = 16_000_000
_MAX_SEGMENTS: Final = 4_096  # of a JPEG's head; extended XMP of 20 MB takes 320

# Limits for one picture: distinct statements, characters of a value, and properties that are open at once.
_MAX_STATEMENTS: Final = 256
_MAX_VALUE_CHARS: Final = 1_000
_MAX_OPEN: Final = 8
_STEP_BYTES: Final = 65_536

_RDF: Final = f"{{{_RDF_SPACE}}}"
_PROPERTIES: Final[dict[str, tuple[str, Property]]] = {
    # Local name -> beginning of its namespace, and the property. IPTC Photo Metadata Standard 2023.1; TDMRep, metadata
    # in PDF (its namespace occurs with and without the last character); C2PA 2.1, 11.4 (remote manifests).
    "DataMining": ("http://ns.useplus.org/ldf/xmp/", "data_mining"),
    "reservation": ("http://www.w3.org/ns/tdmrep", "tdm_reservation"),
    "tdm-reservation": ("http://www.w3.org/ns/tdmrep", "tdm_reservation"),
    "policy": ("http://www.w3.org/ns/tdmrep", "tdm_policy"),
    "tdm-policy": ("http://www.w3.org/ns/tdmrep", "tdm_policy"),
    "provenance": ("http://purl.org/dc/terms/", "provenance"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One property of a packet, and its value as written; None where the value cannot be read."""

    property: Property
    value: str | None


def statements(body: bytes) -> list[Statement]:
    """Return the distinct statements of a picture's packets in order; a picture without any costs only a few searches.

    Never raises: a packet that is no XML is searched for words, and an unreadable property is a statement without
    value. Time and memory are linear in the bytes of the picture and of its unpacked parts, which are limited.
    """
    found: dict[Statement, None] = {}
    left = _MAX_PARSED_BYTES
    for text in _texts(body):
        if text is None or _DATA_MINING_IN_UTF_16 in text:
            found[Statement("data_mining", None)] = None
        if text and any(mark in text for mark in _PACKET) and any(mark in text for mark in _MARKS):
            for packet, whole in _packets(text):
                read = _read(packet) if whole and len(packet) <= left else _damaged(packet)
                left -= len(packet) if whole else 0
                for statement in read:
                    if len(found) >= _MAX_STATEMENTS:
                        # Too many: one statement without value represents the rest.
                        found[Statement(statement.property, None)] = None
                    else:
                        found[statement] = None
    return list(found)


_START: Final = re.compile(rb"<\?xpacket begin|<((?:[\w.-]+:)?(?:xmpmeta|xapmeta|RDF))[\s>]")


def _packets(text: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield packets from first to last element, each with True; one without an end extends to the end of the text.

    Beyond the limit of packets, the rest of the text follows as one piece, with False.
    """
    place = 0
    for _ in range(_MAX_PACKETS):
        start = _START.search(text, place)
        if start is None:
            return
        closing = b"</" + start[1] + b">" if start[1] else b"<?xpacket end"
        end = text.find(closing, start.end())
        place = len(text) if end < 0 else end + len(closing)
        yield text[start.start() : end if end >= 0 and not start[1] else place], True
    if place < len(text):
        yield text[place:], False


def _read(packet: bytes) -> list[Statement]:
    if not any(mark in packet for mark in _MARKS):
        return []
    properties = _Properties()
    parser = DefusedXMLParser(target=properties, forbid_dtd=True)
    try:
        # The packet header is invalid XML where its byte order mark is missing or doubled.
        parser.feed(re.sub(rb"^<\?xpacket[^>]*\?>", b"", packet).strip(b"\0 \t\r\n"))
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return _damaged(packet)
    return list(properties.found)


class _Properties:
    """The target of an XML parser that collects the wanted properties without building a tree."""

    def __init__(self) -> None:
        self.found: dict[Statement, None] = {}
        self._open: list[_Open] = []
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        self._depth += 1
        for name, value in attributes.items():
            if (kind := _kind(name)) is not None:
                self._add(kind, value.strip())
        if (kind := _kind(tag)) is None:
            return
        if len(self._open) < _MAX_OPEN:
            self._open.append(_Open(kind, self._depth, attributes.get(f"{_RDF}resource", "")))
        else:
            # No valid property contains others that deep.
            self._add(kind, None)

    def data(self, text: str) -> None:
        """Add text to every property that is open."""
        for holder in self._open:
            if (room := _MAX_VALUE_CHARS - holder.chars) > 0:
                holder.pieces.append(text[:room])
                holder.chars += len(text)

    def end(self, _: str) -> None:
        """Close an element."""
        if self._open and self._open[-1].depth == self._depth:
            holder = self._open.pop()
            self._add(holder.kind, ("".join(holder.pieces) or holder.resource).strip())
        self._depth -= 1

    def close(self) -> None:
        """End the document."""

    def _add(self, kind: Property, value: str | None) -> None:
        kept = value[:_MAX_VALUE_CHARS] if value is not None and len(self.found) < _MAX_STATEMENTS else None
        self.found[Statement(kind, kept)] = None


@dataclass(slots=True)
class _Open:
    """A property whose element is open: its depth, and its text so far."""

    kind: Property
    depth: int
    resource: str
    pieces: list[str] = field(default_factory=list)
    chars: int = 0


def _kind(name: str) -> Property | None:
    space, _, local = name.removeprefix("{").partition("}")
    beginning, kind = _PROPERTIES.get(local, ("", None))
    return kind if kind is not None and space.startswith(beginning) else None


def _damaged(packet: bytes) -> list[Statement]:
    """Search a damaged packet for words: a reservation that can be understood counts in spite of broken XML."""
    found: dict[Statement, None] = {}
    if b"DataMining" in packet:
        # A refusal is the strictest value, so it is enough; without one, the first words represent all.
        refusal = _REFUSAL.search(packet)
        words = [refusal] if refusal else islice(_WORD.finditer(packet), _MAX_WORDS)
        found.update(dict.fromkeys(Statement("data_mining", word[0].decode("ascii")) for word in words))
        if not found:
            found[Statement("data_mining", None)] = None
    if b"ns/tdmrep" in packet and b"reservation" in packet:
        found[Statement("tdm_reservation", None)] = None
    return list(found)


_REFUSAL: Final = re.compile(rb"DMI-PROHIBITED[A-Z-]{0,60}")
_WORD: Final = re.compile(rb"DMI-[A-Z-]{1,60}")
_MAX_WORDS: Final = 1_000


# --- packets that are not plain text in the file ---------------------------------------------------------------------

_EXTENSION: Final = b"http://ns.adobe.com/xmp/extension/\0"


def _texts(body: bytes) -> Iterator[bytes | None]:
    """Yield the file itself and its unpacked parts; None for a part beyond the limit of unpacked bytes."""
    if body.startswith(b"\xff\xd8\xff") and _EXTENSION in body:
        yield from _extended(body)
        return
    yield body
    if body.startswith(b"\x89PNG\r\n\x1a\n") and (b"iTXt" in body or b"zTXt" in body or b"tEXt" in body):
        yield from _png_texts(body)


def _extended(body: bytes) -> Iterator[bytes]:
    """Yield a JPEG without the pieces of extended XMP, and these joined (XMP specification, part 3, 1.1.3.1)."""
    pieces: dict[bytes, dict[int, bytes]] = {}
    others: list[bytes] = []
    place = 2
    for _ in range(_MAX_SEGMENTS):
        if place + 4 > len(body) or body[place] != 0xFF or body[place + 1] == 0xDA:
            break
        (length,) = struct.unpack_from(">H", body, place + 2)
        data = body[place + 4 : place + 2 + length]
        if body[place + 1] == 0xE1 and data.startswith(_EXTENSION) and len(data) >= len(_EXTENSION) + 40:
            head = len(_EXTENSION)
            (offset,) = struct.unpack_from(">I", data, head + 36)
            pieces.setdefault(data[head : head + 32], {})[offset] = data[head + 40 :]
        else:
            others.append(data)
        place += 2 + length
    yield b"\0".join([*others, body[place:]])
    for parts in pieces.values():
        yield b"".join(parts[offset] for offset in sorted(parts))


def _png_texts(body: bytes) -> Iterator[bytes | None]:
    """Yield the compressed XMP of a PNG, and the profiles that ImageMagick writes as hexadecimal digits."""
    place, left = 8, _MAX_UNPACKED_BYTES
    while place + 8 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, place)
        if kind in _PNG_TEXTS:
            keyword, _, rest = body[place + 8 : place + 8 + length].partition(b"\0")
            packed = _packed(keyword, kind, rest)
            if packed is not None and left <= 0:
                yield None
                return
            if packed is not None:
                text = _inflated(packed, left)
                left -= len(text)
                yield _from_digits(text) if keyword in _PNG_PROFILES else text
            elif keyword in _PNG_PROFILES:
                yield _from_digits(rest[:_MAX_UNPACKED_BYTES])
        place += 12 + length


_PNG_TEXTS: Final = frozenset({b"iTXt", b"zTXt", b"tEXt"})
_PNG_PROFILES: Final = frozenset({b"Raw profile type xmp", b"Raw profile type APP1"})


def _packed(keyword: bytes, kind: bytes, rest: bytes) -> bytes | None:
    """Return the compressed bytes of a text chunk that may be XMP; None where it is not compressed."""
    if keyword == b"XML:com.adobe.xmp" and rest[:1] == b"\x01":
        return rest[2:].split(b"\0", 2)[-1]
    return rest[1:] if keyword in _PNG_PROFILES and kind == b"zTXt" else None


def _inflated(data: bytes, max_bytes: int) -> bytes:
    """Unpack in steps, as far as possible; the bytes before an error count as unpacked."""
    unpacking, pieces, left = zlib.decompressobj(), list[bytes](), max_bytes
    try:
        while left > 0 and data and not unpacking.eof:
            piece = unpacking.decompress(data, min(left, _STEP_BYTES))
            data = unpacking.unconsumed_tail
            pieces.append(piece)
            left -= len(piece)
            if not piece:
                break
    except zlib.error:
        pass
    return b"".join(pieces)


def _from_digits(text: bytes) -> bytes:
    """Return the bytes of hexadecimal digits, which follow a line end, the profile's name and its length."""
    digits = text.split(b"\n", 3)[-1]
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""
