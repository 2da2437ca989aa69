"""The bytes of a picture in, what its XMP packets say out: PLUS data mining, TDM reservation, a manifest elsewhere.

Packets are found by scanning (XMP specification, part 3, 1.1): they lie as plain text in JPEG, PNG, WEBP, TIFF, AVIF
and GIF, in one piece but for JPEG's extended XMP and what PNG has compressed; those two are unpacked first.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

Property = Literal["data_mining", "tdm_reservation", "tdm_policy", "provenance"]

_MARKS: Final = (b"DataMining", b"ns/tdmrep", b"provenance")
_DATA_MINING_IN_UTF_16: Final = "DataMining".encode("utf-16-le")[:-1]  # little and big end alike
_RDF_SPACE: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# A packet names RDF or, if it is broken there, has the id of its wrapper (XMP, part 1, 7.3.2). The longer what is
# searched for, the larger are the steps of the search.
_PACKET: Final = (_RDF_SPACE.encode(), b"W5M0MpCehiHzreSzNTczkc9d")

# A file of 20 MB may hold a tree of gigabytes, or unpack to them: longer packets are read by their words.
_MAX_PACKETS: Final = 64
_MAX_TREE_BYTES: Final = 2_000_000
_MAX_UNPACKED_BYTES: Final = 16_000_000

_RDF: Final = f"{{{_RDF_SPACE}}}"
_PROPERTIES: Final[dict[str, tuple[str, Property]]] = {
    # Local name -> how its namespace begins, and what it is. IPTC Photo Metadata Standard 2023.1; TDMRep, metadata in
    # PDF (its namespace is written with and without its last character); C2PA 2.1, 11.4 (remote manifests).
    "DataMining": ("http://ns.useplus.org/ldf/xmp/", "data_mining"),
    "reservation": ("http://www.w3.org/ns/tdmrep", "tdm_reservation"),
    "tdm-reservation": ("http://www.w3.org/ns/tdmrep", "tdm_reservation"),
    "policy": ("http://www.w3.org/ns/tdmrep", "tdm_policy"),
    "tdm-policy": ("http://www.w3.org/ns/tdmrep", "tdm_policy"),
    "provenance": ("http://purl.org/dc/terms/", "provenance"),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One property that a packet sets, and its value as written; None where it is there and cannot be read."""

    property: Property
    value: str | None


def statements(body: bytes) -> list[Statement]:
    """Return what the packets of a picture say, in their order; a few searches where they say nothing.

    Never raises: a packet that is no XML is read by its words, and what remains unread is a statement without value.
    """
    found: list[Statement] = []
    for text in _texts(body):
        if any(mark in text for mark in _PACKET) and any(mark in text for mark in _MARKS):
            for packet in _packets(text):
                found += _read(packet)
        if _DATA_MINING_IN_UTF_16 in text:
            found.append(Statement("data_mining", None))
    return found


_START: Final = re.compile(rb"<\?xpacket begin|<((?:[\w.-]+:)?(?:xmpmeta|xapmeta|RDF))[\s>]")


def _packets(text: bytes) -> Iterator[bytes]:
    """Yield packets from their first element to their last; one that does not end runs to the end of the text."""
    place = 0
    for _ in range(_MAX_PACKETS):
        start = _START.search(text, place)
        if start is None:
            return
        closing = b"</" + start[1] + b">" if start[1] else b"<?xpacket end"
        end = text.find(closing, start.end())
        place = len(text) if end < 0 else end + len(closing)
        yield text[start.start() : end if end >= 0 and not start[1] else place]


def _read(packet: bytes) -> Iterator[Statement]:
    if not any(mark in packet for mark in _MARKS):
        return
    if len(packet) > _MAX_TREE_BYTES:
        yield from _damaged(packet)
        return
    try:
        # The packet's own header is no XML where a writer left its byte order mark out or doubled it.
        root = fromstring(re.sub(rb"^<\?xpacket[^>]*\?>", b"", packet).strip(b"\0 \t\r\n"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        yield from _damaged(packet)
        return
    for element in root.iter():
        yield from _named(element.tag, element)
        for name, value in element.attrib.items():
            yield from _named(name, value)


def _named(name: str, holder: Element | str) -> Iterator[Statement]:
    space, _, local = name.removeprefix("{").partition("}")
    beginning, kind = _PROPERTIES.get(local, ("", None))
    if kind is None or not space.startswith(beginning):
        return
    value = holder if isinstance(holder, str) else "".join(holder.itertext()) or holder.get(f"{_RDF}resource", "")
    yield Statement(kind, value.strip())


def _damaged(packet: bytes) -> Iterator[Statement]:
    # A reservation that can be understood counts, however its XML is broken.
    words = re.findall(rb"DMI-[A-Z-]+", packet) if b"DataMining" in packet else []
    for word in words:
        yield Statement("data_mining", word.decode("ascii"))
    if b"DataMining" in packet and not words:
        yield Statement("data_mining", None)
    if b"ns/tdmrep" in packet and b"reservation" in packet:
        yield Statement("tdm_reservation", None)


# --- what does not lie in the file as plain text ---------------------------------------------------------------------

_EXTENSION: Final = b"http://ns.adobe.com/xmp/extension/\0"


def _texts(body: bytes) -> Iterator[bytes]:
    """Yield the file as it is, and what has to be unpacked to be read."""
    if body.startswith(b"\xff\xd8\xff") and _EXTENSION in body:
        yield from _extended(body)
        return
    yield body
    if body.startswith(b"\x89PNG\r\n\x1a\n") and (b"iTXt" in body or b"zTXt" in body or b"tEXt" in body):
        yield from _png_texts(body)


def _extended(body: bytes) -> Iterator[bytes]:
    """Yield a JPEG without the pieces of extended XMP, and these put together (XMP specification, part 3, 1.1.3.1)."""
    pieces: dict[bytes, dict[int, bytes]] = {}
    others: list[bytes] = []
    place = 2
    while place + 4 <= len(body) and body[place] == 0xFF and body[place + 1] != 0xDA:
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


def _png_texts(body: bytes) -> Iterator[bytes]:
    """Yield the compressed XMP of a PNG, and the profiles that ImageMagick writes as hexadecimal digits."""
    place, left = 8, _MAX_UNPACKED_BYTES
    while place + 8 <= len(body) and left > 0:
        length, kind = struct.unpack_from(">I4s", body, place)
        data = body[place + 8 : place + 8 + length] if kind in {b"iTXt", b"zTXt", b"tEXt"} else b""
        keyword, _, rest = data.partition(b"\0")
        if keyword == b"XML:com.adobe.xmp" and rest[:1] == b"\x01":
            text = _inflated(rest[2:].split(b"\0", 2)[-1], left)
        elif keyword in {b"Raw profile type xmp", b"Raw profile type APP1"}:
            digits = _inflated(rest[1:], left) if kind == b"zTXt" else rest
            text = _from_digits(digits)
        else:
            text = b""  # lies in the file as it is, or is no XMP
        yield text
        left -= len(text)
        place += 12 + length


def _inflated(data: bytes, max_bytes: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, max_bytes)
    except zlib.error:
        return b""


def _from_digits(text: bytes) -> bytes:
    digits = re.sub(rb"\s", b"", b"".join(text.split(b"\n")[3:]))
    return bytes.fromhex(digits.decode("ascii")) if re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", digits) else b""
