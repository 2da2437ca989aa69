"""WARC files are read to their end however they are packed, or refused with the file, the byte and a remedy."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import pytest
from made.crawls import warcs
from made.crawls.warcs import PACKED, by_record, record, response
from warcio.archiveiterator import ArchiveIterator

from laion_dask.web.warc import warc_files
from laion_dask.web.warc.warc_files import WarcFile, WarcFileError

BODIES = [bytes([65 + number]) * (1 + 90 * number) for number in range(6)]
RECORDS = [
    record("warcinfo", None, b"software: test\r\n"),
    *(response(f"http://a.example/{number}", body) for number, body in enumerate(BODIES)),
]


def found(file: WarcFile) -> list[tuple[str, bytes]]:
    """Return the target and block of every record, read from the place that it was found at."""
    listed = []
    for one in file.records():
        read = warc_files.read(one.path, one.offset)
        assert read is not None
        assert read[1].startswith(one.head)
        assert len(read[1]) == one.block_bytes
        listed.append((one.get("warc-target-uri"), read[1]))
    return listed


def expected() -> list[tuple[str, bytes]]:
    """Return the same as warcio reads it."""
    return [
        (one.rec_headers.get_header("WARC-Target-URI") or "", one.raw_stream.read())
        for one in ArchiveIterator(io.BytesIO(warcs.plain(RECORDS)), no_record_parse=True)
    ]


@pytest.mark.parametrize("name", PACKED)
def test_however_a_file_is_packed_each_record_is_found_and_read_from_its_place_twice(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKED[name](RECORDS))
    file = WarcFile(tmp_path / name, tmp_path / "scratch")
    assert found(file) == found(file) == expected()
    unpacked = name not in {"plain.warc", "by_record.warc.gz"}
    assert (tmp_path / "scratch").exists() == unpacked


def attempt(path: Path, scratch: Path) -> tuple[list[tuple[str, bytes]], str]:
    """Return what a file holds, or why it is refused."""
    try:
        return found(WarcFile(path, scratch)), ""
    except WarcFileError as error:
        return [], str(error)


@pytest.mark.parametrize("name", PACKED)
def test_a_file_that_is_cut_anywhere_is_refused_or_ends_with_a_record(name: str, tmp_path: Path) -> None:
    data = PACKED[name](RECORDS)
    path = tmp_path / name
    whole = 0
    for end in [*range(1, len(data), 61), len(data) - 1, len(data) - 5]:
        path.write_bytes(data[:end])
        listed, remedy = attempt(path, tmp_path / "scratch")
        if "truncate -s" in remedy:
            # Cut where it says, it can be read.
            place = int(remedy.partition("truncate -s ")[2].partition(" ")[0])
            path.write_bytes(data[:place])
            listed, remedy = attempt(path, tmp_path / "scratch")
            assert (listed, remedy) == (expected()[: len(listed)], "")
        elif not remedy:
            whole += 1
            assert listed == expected()[: len(listed)]
    assert whole < 8


def lf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


FOLDED = (
    b"WARC/1.0\r\nwarc-type:response\r\nWARC-Target-URI: http://a.example/\r\n one\r\nX-Odd\r\n"
    b"X-L: caf\xe9\r\nContent-Length: 2\r\n\r\nok\r\n\r\n"
)


@pytest.mark.parametrize(
    ("data", "blocks"),
    [
        (lf(record("resource", "http://a.example/", b"ok")), [b"ok"]),
        (lf(record("resource", "http://a.example/", b"ok")) * 2, [b"ok", b"ok"]),
        (FOLDED, [b"ok"]),
        (record("resource", "http://a.example/", b"ok", version="0.18"), [b"ok"]),
        (record("resource", "http://a.example/", b"ok")[:-4], [b"ok"]),
        (record("resource", "http://a.example/", b"ok")[:-2] + RECORDS[0], [b"ok", b"software: test\r\n"]),
        (record("resource", "http://a.example/", b"ok") + b"\r\n\r\n" + RECORDS[0], [b"ok", b"software: test\r\n"]),
        (record("resource", "http://a.example/", b""), [b""]),
        (b"", []),
    ],
)
def test_what_writers_do_differently_is_read(data: bytes, blocks: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(data)
    assert [block for _, block in found(WarcFile(tmp_path / "a.warc", tmp_path / "s"))] == blocks


def test_header_lines_are_unfolded_and_may_hold_bytes_of_latin_1(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(FOLDED)
    (one,) = WarcFile(tmp_path / "a.warc", tmp_path / "s").records()
    assert (one.kind, one.get("warc-target-uri"), one.get("x-l")) == ("response", "http://a.example/ one", "café")


GOOD = record("resource", "http://a.example/", b"abc\x82")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            record("resource", "http://b.example/", b"abc\x82", length=3),
            "does not end where its Content-Length of 3 says",
        ),
        (
            record("resource", "http://b.example/", b"abc\x82", length=5),
            "does not end where its Content-Length of 5 says",
        ),
        (
            record("resource", "http://b.example/", b"abc\n", length=3),
            "does not end where its Content-Length of 3 says",
        ),
        (record("resource", "http://b.example/", b"abc\x82", length=7), "does not end where"),
        (record("resource", "http://b.example/", b"abc", length=400), "ends early"),
        (record("resource", "http://b.example/", b"abc").replace(b"Content-Length: 3\r\n", b""), "Content-Length ''"),
        (record("resource", "http://b.example/", b"abc").replace(b"Length: 3", b"Length: -3"), "Content-Length '-3'"),
        (record("resource", "http://b.example/", b"abc").replace(b"Length: 3", b"Length: 3 4"), "Content-Length '3 4'"),
        # Behind a record it makes that one's end wrong; in a gzip member it stands alone.
        (b"<html>no record</html>\r\n", "(does not end where its Content-Length of 4|does not begin as one of a WARC)"),
        (b"WARC is no version\r\n", "does not begin as one of a WARC file"),
        (b"WARC/1.1", "does not begin as one of a WARC file"),
    ],
)
@pytest.mark.parametrize("pack", [warcs.plain, warcs.whole, warcs.by_record, warcs.zstd])
def test_a_file_that_cannot_be_indexed_in_full_is_refused_with_the_byte_and_a_remedy(
    second: bytes, message: str, pack: warcs.Pack, tmp_path: Path
) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(pack([GOOD, second, RECORDS[1]]))
    with pytest.raises(WarcFileError, match="Remedy: ") as error:
        list(WarcFile(path, tmp_path / "s").records())
    assert re.search(message, str(error.value))
    assert "a.warc: " in str(error.value)
    assert "at byte " in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain 76\n1 0 InternetArchive\n", "an ARC file"),
        (gzip.compress(b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain 76\n"), "an ARC file"),
        (gzip.compress(b"<html>"), "does not begin as one of a WARC file"),
        (b"PK\x03\x04", "does not begin as one of a WARC file"),
        (b"\x28\xb5\x2f\xfd garbage", "cannot be unpacked to their end"),
        (by_record([GOOD]) + b"garbage behind", "the gzip member at byte"),
    ],
)
def test_what_is_no_warc_file_is_refused_with_a_remedy(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(data)
    with pytest.raises(WarcFileError, match="Remedy: ") as error:
        list(WarcFile(tmp_path / "a.warc.gz", tmp_path / "s").records())
    assert message in str(error.value)


def test_what_does_not_lie_at_a_place_any_more_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(by_record(RECORDS))
    places = [one.offset for one in WarcFile(path, tmp_path / "s").records()]
    path.write_bytes(path.read_bytes()[: places[-1] + 40])
    assert warc_files.read(path, places[0]) is not None
    assert warc_files.read(path, places[-1]) is None
    assert warc_files.read(path, places[1] + 1) is None
    assert warc_files.header(path, places[1] + 1) is None


def test_a_damaged_record_in_a_member_of_its_own_costs_no_disk(tmp_path: Path) -> None:
    bad = record("resource", "http://b.example/", b"abc\x82", length=3)
    (tmp_path / "a.warc.gz").write_bytes(by_record([GOOD, bad, *RECORDS]))
    place = len(by_record([GOOD]))
    with pytest.raises(WarcFileError, match=f"the record at byte {place} does not end"):
        list(WarcFile(tmp_path / "a.warc.gz", tmp_path / "s").records())
    assert not (tmp_path / "s").exists()
