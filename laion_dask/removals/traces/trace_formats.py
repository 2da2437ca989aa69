"""Recognize the kind of a file by its first bytes, and which kinds cannot be opened."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 1024

_BY_MAGIC: Final = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow stream"),
    (b"ORC", "orc"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"]\x00\x00", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"SQLite format 3\x00", "sqlite"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"%PDF-", "pdf"),
    (b"WARC/", "warc"),
)

OPAQUE: Final = (
    (b"PARE", "an encrypted Parquet file"),
    (b"FEA1", "a Feather file of the first version"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x9d", "packed by compress"),
    (b"\x02\x21\x4c\x18", "packed by an old LZ4"),
    (b"!<arch>\n", "an archive of ar"),
    (b"070701", "an archive of cpio"),
    (b"070702", "an archive of cpio"),
    (b"070707", "an archive of cpio"),
    (b"xar!", "a xar archive"),
    (b"\xed\xab\xee\xdb", "a package of RPM"),
    (b"LZIP", "packed by lzip"),
    (b"\x89LZO", "packed by lzop"),
    (b"\xff\x06\x00\x00sNaPpY", "packed by Snappy"),
    (b"MSCF", "a cabinet archive"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"Obj\x01", "an Avro file"),
    (b"PACK\x00\x00\x00", "a pack of Git objects"),
    (b"# v2 git bundle", "a bundle of Git objects"),
    (b"# v3 git bundle", "a bundle of Git objects"),
    (b"hsqs", "a SquashFS image"),
    (b"Salted__", "encrypted by OpenSSL"),
    (b"age-encryption.org/", "encrypted by age"),
    (b"-----BEGIN AGE ENCRYPTED", "encrypted by age"),
    (b"-----BEGIN PGP MESSAGE", "encrypted by PGP"),
    (b"LUKS\xba\xbe", "an encrypted disk"),
)
"""Kinds whose content cannot be read: such a file is reported, and nothing is proved about it."""

GUESSED: Final = {
    "arrow stream": (".arrows", ".arrow"),
    "lzma": (".lzma",),
    "orc": (".orc",),
    "zlib": (".zz", ".zlib"),
}
"""Kinds whose first bytes other files may have too, with the extensions that make them certain."""

_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""Magic of a skippable frame of zstd or LZ4, behind a byte 0x50 to 0x5f."""
_TAR_BLOCK: Final = 512
_ZIP_END_BYTES: Final = 22
TAIL_BYTES: Final = (1 << 16) + _ZIP_END_BYTES
"""Last bytes of a file that may have a zip's end record: its comment may be 64 KiB long."""


def kind_of(head: bytes, name: str, tail: bytes = b"") -> str:
    """Return the kind of a file by its first bytes, and its last ones if given; empty for other bytes or text."""
    kind = next((kind for magic, kind in _BY_MAGIC if head.startswith(magic)), "")
    if kind:
        return kind
    tests = (
        ("bzip2", head[:3] == b"BZh" and head[4:10] in {b"1AY&SY", b"\x17rE8P\x90"}),
        ("zstd", head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F),
        ("duckdb", head[8:12] == b"DUCK"),
        ("tar", _is_tar(head)),
        ("zip", _ends_as_zip(tail)),  # with other bytes before its first member, or behind its last
        ("brotli", name.endswith(".br")),
        ("zlib", head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0 and not head[1] & 0x20),
    )
    return next((kind for kind, is_one in tests if is_one), "")


def opaque(head: bytes) -> str:
    """Return the format of a file that cannot be read; empty for all others."""
    return next((what for magic, what in OPAQUE if head.startswith(magic)), "")


def _ends_as_zip(tail: bytes) -> bool:
    """Tell whether a zip's end record is here, with a comment or anything else behind it."""
    at = tail.rfind(b"PK\x05\x06")
    record = tail[at : at + _ZIP_END_BYTES] if at >= 0 else b""
    # One disk, with all members, and at least one member.
    return len(record) == _ZIP_END_BYTES and not any(record[4:8]) and record[8:10] == record[10:12] != b"\0\0"


def _is_tar(head: bytes) -> bool:
    """Tell whether the bytes are the header of a tar member, by its checksum: old tars have no magic."""
    block = head[:_TAR_BLOCK]
    written = block[148:156].strip(b" \0")
    if len(block) < _TAR_BLOCK or not written or not all(48 <= byte < 56 for byte in written):
        return False
    return int(written, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])
