"""Find stored pictures that still contain metadata: EXIF, GPS, XMP, IPTC, comments, profiles.

`images` stores none; this is an independent check of the written files. JPEG, PNG and WebP are parsed by their
structure (ITU T.81 annex B, PNG 5.3, RFC 9649 section 2.3), so that compressed pixels are not mistaken for a signature;
other files are searched for the signatures of metadata.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

_JPEG: Final = b"\xff\xd8\xff"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SEGMENTS: Final = {
    b"Exif\0": "EXIF", b"http://ns.adobe.com/xap": "XMP", b"http://ns.adobe.com/xmp": "XMP",
    b"ICC_PROFILE\0": "a color profile", b"Photoshop 3.0\0": "IPTC", b"MPF\0": "further pictures",
    b"JP\0": "JUMBF", b"JUMBF": "JUMBF", b"Adobe": "",
}  # fmt: skip
"""Prefixes of a JPEG's application segments, and their kinds; Adobe's only declares the color transform."""
_CHUNKS: Final = {
    b"eXIf": "EXIF", b"EXIF": "EXIF", b"XMP ": "XMP", b"iCCP": "a color profile", b"ICCP": "a color profile",
    b"iTXt": "a text", b"tEXt": "a text", b"zTXt": "a text", b"tIME": "a time", b"caBX": "C2PA", b"C2PA": "C2PA",
}  # fmt: skip
_ITEMS: Final = {b"Exif": "EXIF", b"application/rdf+xml": "XMP", b"prof": "a color profile", b"rICC": "a color profile"}
# Too long to occur in compressed data by chance: a match of six random bytes occurs once in 280 terabytes.
_MARKS: Final = {
    b"Exif\0\0": "EXIF", b"<x:xmpmeta": "XMP", b"<x:xapmeta": "XMP", b"W5M0MpCehiHzreSzNTczkc9d": "XMP",
    b"XMP DataXMP": "XMP", b"http://ns.adobe.com/xap/1.0/\0": "XMP", b"Photoshop 3.0\0": "IPTC",
    b"Raw profile type ": "a text",
}  # fmt: skip
_RDF: Final = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
"""The only signature of some XMP packets; SVG figures of the report have it too."""
_TIFF: Final = (b"II*\0", b"MM\0*")
_EMBEDDED: Final = re.compile(rb"data:image/(?:jpeg|png|webp|avif|gif|tiff);base64,([A-Za-z0-9+/=\s]+)")
ARCHIVES: Final = (".warc.gz", ".warc.zst", ".warc", ".cdxj")
"""Contain responses as received, by design: listed, but not searched."""


@dataclass(frozen=True, slots=True)
class MetadataFinding:
    """A picture or another file with metadata; `place` is a member, a row or a byte offset in the file."""

    file: str
    place: str
    what: str


@dataclass(frozen=True, slots=True)
class MetadataScan:
    """Number of searched files and pictures, and the findings; `archives` were not searched."""

    files: int
    pictures: int
    archives: tuple[str, ...]
    found: tuple[MetadataFinding, ...]


def of_picture(body: bytes) -> list[str]:
    """Return the kinds of metadata in a picture, each once; empty for a clean picture, or for other data."""
    if body.startswith(_JPEG):
        found = list(_in_jpeg(body))
    elif body.startswith(_PNG):
        found = list(_in_chunks(body, 8, ">I4s", after=4, padded=False))
    elif body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        end = 8 + struct.unpack_from("<I", body, 4)[0]
        found = [*_in_chunks(body[:end], 12, "<4sI", after=0, padded=True), *_after(body[end:])]
    elif body[4:8] == b"ftyp":
        found = list(_in_boxes(body))
    else:
        found = [what for mark, what in _MARKS.items() if mark in body]
        found += ["XMP"] if is_picture(body) and _RDF in body else []
        # A TIFF consists of the same tags as EXIF; this project writes no TIFF.
        found += ["EXIF"] if body.startswith(_TIFF) else []
    return list(dict.fromkeys(found))


def _in_jpeg(body: bytes) -> Iterator[str]:
    place = 2
    while place + 4 <= len(body) and body[place] == 0xFF:
        marker = body[place + 1]
        if marker == 0xFF:
            place += 1  # fill bytes
            continue
        (length,) = struct.unpack_from(">H", body, place + 2)
        if marker == 0xFE:
            yield "a comment"
        if 0xE1 <= marker <= 0xEF:
            data = body[place + 4 : place + 2 + length]
            name = next((what for start, what in _SEGMENTS.items() if data.startswith(start)), "another segment")
            if name:
                yield name
        if marker == 0xDA:
            # After the scans: a second picture, or appended data.
            end = body.find(b"\xff\xd9", place)
            yield from _after(body[end + 2 :] if end >= 0 else b"")
            yield from (what for mark, what in [*_MARKS.items(), (_RDF, "XMP")] if mark in body[place:])
            return
        place += 2 + length


def _in_chunks(body: bytes, place: int, form: str, *, after: int, padded: bool) -> Iterator[str]:
    """Yield the kinds of metadata chunks of PNG or RIFF; `after` is the size of the checksum after each chunk."""
    while place + 8 <= len(body):
        one, other = struct.unpack_from(form, body, place)
        kind, length = (other, one) if isinstance(one, int) else (one, other)
        if kind in _CHUNKS:
            yield _CHUNKS[kind]
        place += 8 + length + after + (length % 2 if padded else 0)
        if kind == b"IEND":
            break
    yield from _after(body[place:])


def _in_boxes(body: bytes) -> Iterator[str]:
    """Return kinds of metadata among the items of an AVIF or HEIF (ISO 23008-12), from its top-level `meta` box."""
    place = 0
    while place + 8 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, place)
        if kind == b"meta":
            inside = body[place : place + length]
            yield from (what for mark, what in _ITEMS.items() if mark in inside)
        place += max(length, 8) if length else len(body)


def _after(body: bytes) -> Iterator[str]:
    if body.strip(b"\0"):
        yield "bytes after its end"


def scan(*paths: Path) -> MetadataScan:
    """Search files, and all files of folders, for pictures with metadata: single ones, or in tars, tables and pages.

    Holds one file, or one member of a tar, in memory.
    """
    files = pictures = 0
    archives, found = [], []
    for path in paths:
        for file in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
            files += 1
            if file.name.endswith(ARCHIVES):
                archives.append(str(file))
                continue
            for place, body in _bodies(file):
                pictures += is_picture(body)
                found += [MetadataFinding(str(file), place, what) for what in of_picture(body)]
    return MetadataScan(files, pictures, tuple(archives), tuple(found))


def is_picture(body: bytes) -> bool:
    """Tell whether bytes begin with the signature of a picture that browsers show."""
    return body.startswith((_JPEG, _PNG, b"GIF8", *_TIFF)) or body[8:12] == b"WEBP" or body[4:12] == b"ftypavif"


def _bodies(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a file's content, its tar members or table cells, and pictures embedded in a page, each with its place."""
    with file.open("rb") as stream:
        head = stream.read(512)
    if head[257:262] == b"ustar":
        with tarfile.open(file, "r|") as members:
            for member in members:
                content = members.extractfile(member)
                if content is not None:
                    yield member.name, content.read()
        return
    if head[:4] == b"PAR1":
        yield from _in_table(file)
        return
    body = gzip.decompress(file.read_bytes()) if head[:2] == b"\x1f\x8b" else file.read_bytes()
    yield "", body
    for inside in _EMBEDDED.finditer(body):
        try:
            yield f"byte {inside.start()}", base64.b64decode(inside[1])
        except binascii.Error:
            continue  # truncated, or not base64


def _in_table(file: Path) -> Iterator[tuple[str, bytes]]:
    with pq.ParquetFile(file) as table:
        names = [
            one.name for one in table.schema_arrow if pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type)
        ]
        for batch in table.iter_batches(1_000, columns=names) if names else ():
            for name in names:
                for row, body in enumerate(batch[name].to_pylist()):
                    if body:
                        yield f"{name}, row {row} of a batch", body
