"""WAT files in, real, cut, damaged or hostile: every record out that can be read, and a word for all that is none."""

from __future__ import annotations

import gzip
import json
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from made.crawls.wat_bytes import READERS, image, members, page_json, record, wats
from made.processes import programs

from laion_dask.extract.wat import gzip_members, wat_damage
from laion_dask.extract.wat.blocks import StoredFile, TransferError
from laion_dask.extract.wat.wat_records import Damage, Reading, UnreadableWatError, WatRecord, records

PAGES = tuple(record(page_json([image(url=f"{i}.jpg")])) for i in range(5))
BODY_BYTES = len(page_json([image(url="0.jpg")]))


def read(content: bytes, folder: Path, reader: str = "fastwarc") -> tuple[list[WatRecord | Damage], Reading]:
    """Read bytes as a WAT."""
    path = folder / "x.warc.wat.gz"
    path.write_bytes(content)
    reading = Reading()
    items = list(records(str(path), reader, reading))
    assert reading.bytes == reading.size == len(content), "every byte is read"
    return items, reading


def told(items: list[WatRecord | Damage]) -> list[str]:
    """Return a word for each: the number of the page, `cut` or `other` for a record, the reason of damage."""
    return [item.reason if isinstance(item, Damage) else _name(item) for item in items]


def _name(item: WatRecord) -> str:
    whole = [page.partition(b"\r\n\r\n")[2][:-4] for page in PAGES]
    if item.body in whole:
        return str(whole.index(item.body))
    return "cut" if len(item.body) < item.declared or item.declared < 0 else "other"


def flip(content: bytes, place: int) -> bytes:
    """Change one byte."""
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


def test_both_readers_give_equal_records_on_every_real_and_malformed_file(shared_data: Path) -> None:
    warcs = [path for folder in ("warc_real", "warc_malformed") for path in (shared_data / folder).iterdir()]
    paths = [*wats(shared_data), *(path for path in warcs if path.suffix != ".json")]
    assert len(paths) == 26 + 3 + 27
    for path in paths:
        fast, reference = Reading(), Reading()
        assert list(records(str(path), "fastwarc", fast)) == list(records(str(path), "warcio", reference)), path.name
        assert fast.sha256 == reference.sha256 != "", path.name


def test_good_files_are_read_by_fastwarc_alone_and_whole(shared_data: Path) -> None:
    notes = json.loads((shared_data / "wat_expected.json").read_text())["files"]
    for name, expected in notes.items():
        reading = Reading()
        items = list(records(str(shared_data / name), "fastwarc", reading))
        assert (reading.fallback, reading.reader) == (False, "fastwarc"), name
        assert len(items) == sum(expected["records"].values()), name
        assert all(isinstance(item, WatRecord) and len(item.body) == item.declared for item in items), name


def test_damaged_warcs_give_at_least_what_warcio_alone_gets_from_them(shared_data: Path) -> None:
    expected = json.loads((shared_data / "warc_malformed" / "expected_warcio.json").read_text())["files"]
    for name, what in expected.items():
        # ARC is an older format and no WAT.
        if ".arc" in name:
            continue
        items = list(records(str(shared_data / "warc_malformed" / name), "fastwarc", Reading()))
        assert len(items) >= what["records"], name


def test_lf_line_ends_and_lengths_beyond_the_body_are_mended(shared_data: Path) -> None:
    paths = sorted((shared_data / "wat_malformed" / "toimik").iterdir())
    assert len(paths) == 5
    for path in paths:
        reading = Reading()
        (item,) = records(str(path), "fastwarc", reading)
        assert isinstance(item, WatRecord)
        assert item.mended == "lf_line_ends"
        assert json.loads(item.body)
        assert (reading.fallback, reading.reader) == (True, "warcio")


GZIPPED = [gzip.compress(page, mtime=0) for page in PAGES]
START = len(GZIPPED[0])
LF = [page.replace(b"\r\n", b"\n") for page in PAGES]
HUGE = record(b"", length=10**9)


def lying(page: bytes, length: int | str) -> bytes:
    """Give a record another Content-Length."""
    return page.replace(f"Content-Length: {BODY_BYTES}".encode(), f"Content-Length: {length}".encode(), 1)


CASES: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", []),
    "blank lines": (b"\r\n\r\n", []),
    "good": (b"".join(GZIPPED), list("01234")),
    "good, not packed": (b"".join(PAGES), list("01234")),
    "one gzip stream over all": (gzip.compress(b"".join(PAGES), mtime=0), list("01234")),
    "two records in a member": (gzip.compress(PAGES[0] + PAGES[1]) + GZIPPED[2] + GZIPPED[3], list("0123")),
    "members that are empty": (gzip.compress(b"") + GZIPPED[0] + gzip.compress(b"") + GZIPPED[1], list("01")),
    "no blank lines behind records": (b"".join(gzip.compress(page[:-4]) for page in PAGES), list("01234")),
    "a record over two members": (members(PAGES[0][:250], PAGES[0][250:], PAGES[1]), ["0", "1"]),
    "bad deflate": (flip(b"".join(GZIPPED), START + 60), ["0", "bad_gzip", "2", "3", "4"]),
    "bad deflate at first": (flip(b"".join(GZIPPED), 60), ["bad_gzip", "1", "2", "3", "4"]),
    "wrong checksum": (flip(b"".join(GZIPPED), 2 * START - 6), ["0", "1", "bad_gzip", "2", "3", "4"]),
    "wrong size": (flip(b"".join(GZIPPED), 2 * START - 1), ["0", "1", "bad_gzip", "2", "3", "4"]),
    "no magic": (flip(b"".join(GZIPPED), START), ["0", "bad_record", "2", "3", "4"]),
    "garbage between members": (GZIPPED[0] + b"garbage\n" * 9 + GZIPPED[1], ["0", "bad_record", "1"]),
    "garbage that looks packed": (GZIPPED[0] + b"\x1f\x8b\x08\0" * 9 + GZIPPED[1], ["0", "bad_gzip", "1"]),
    "garbage at first": (b"garbage\n" * 9 + GZIPPED[1], ["bad_record", "1"]),
    "garbage at last": (GZIPPED[0] + b"garbage\n" * 9, ["0", "bad_record"]),
    "garbage, not packed": (PAGES[0] + b"garbage\n" * 9 + PAGES[1] + PAGES[2], ["0", "bad_record", "1", "2"]),
    "a member of something else": (GZIPPED[0] + gzip.compress(b"hello" * 99) + GZIPPED[1], ["0", "bad_record", "1"]),
    "a packed member": (GZIPPED[0] + gzip.compress(GZIPPED[1]) + GZIPPED[2], ["0", "bad_record", "2"]),
    "cut in a body": (b"".join(GZIPPED)[: START + 200], ["0", "cut"]),
    "cut in a header": (b"".join(PAGES)[: len(PAGES[0]) + 60], ["0", "truncated"]),
    "cut in a trailer": (b"".join(GZIPPED)[: 2 * START - 3], ["0", "1", "truncated"]),
    "cut in a gzip header": (b"".join(GZIPPED)[: START + 5], ["0", "truncated"]),
    "LF": (b"".join(LF), list("01234")),
    "LF in members": (members(*LF), list("01234")),
    "LF among others": (members(PAGES[0], LF[1], PAGES[2]), list("012")),
    "LF, length beyond the file": (lying(LF[0], BODY_BYTES + 40), ["cut"]),
    "LF, length into the next": (lying(LF[0], BODY_BYTES + 40) + LF[1] + LF[2], list("012")),
    "length into the next": (lying(PAGES[0], BODY_BYTES + 40) + PAGES[1] + PAGES[2], list("012")),
    "length beyond the member": (members(lying(PAGES[0], BODY_BYTES + 40), PAGES[1]), ["cut", "1"]),
    "length too small": (members(lying(PAGES[0], 20), PAGES[1]), ["other", "bad_record", "1"]),
    "length too small, not packed": (lying(PAGES[0], 20) + PAGES[1], ["other", "bad_record", "1"]),
    "length that is none": (members(lying(PAGES[0], "many"), PAGES[1]), ["cut", "1"]),
    "no length": (members(PAGES[0], PAGES[1].replace(b"Content-Length", b"X", 1), PAGES[2]), ["0", "cut", "2"]),
    "length below zero, not packed": (lying(PAGES[0], -5) + PAGES[1], ["cut", "1"]),
    "length of exabytes": (members(lying(PAGES[0], 10**18), PAGES[1]), ["too_large", "1"]),
    "length of exabytes, not packed": (lying(PAGES[0], 10**30) + PAGES[1] + PAGES[2], ["too_large", "1", "2"]),
    "no type": (members(PAGES[0].replace(b"WARC-Type", b"X", 1), PAGES[1]), ["0", "1"]),
    "endless header": (b"WARC/1.0\r\n" + b"a: b\r\n" * 9999 + PAGES[1], ["bad_record", "1"]),
    "zeros": (bytes(5000), ["bad_record"]),
    "a page of HTML": (b"<html><body>SlowDown</body></html>", ["bad_record"]),
}


@pytest.mark.parametrize("name", CASES)
def test_damage_costs_only_itself(name: str, tmp_path: Path) -> None:
    content, expected = CASES[name]
    fast, _ = read(content, tmp_path)
    assert told(fast) == expected
    assert read(content, tmp_path, "warcio")[0] == fast
    places = [item.offset for item in fast]
    assert places == sorted(places)
    assert all(0 <= place <= len(content) for place in places)


def test_offsets_are_those_of_the_file_as_stored(tmp_path: Path) -> None:
    tables: list[tuple[bytes, Callable[[bytes], int]]] = [
        (b"".join(GZIPPED), lambda page: len(gzip.compress(page, mtime=0))),
        (b"".join(PAGES), len),
        (flip(b"".join(GZIPPED), 60), lambda page: len(gzip.compress(page, mtime=0))),
        (flip(b"".join(PAGES), 3), len),
    ]
    for content, size in tables:
        starts = [sum(size(page) for page in PAGES[:i]) for i in range(5)]
        for reader in READERS:
            assert [item.offset for item in read(content, tmp_path, reader)[0]] == starts


def test_a_record_has_its_type_length_body_and_date(tmp_path: Path) -> None:
    content = members(record(b"{}", kind="warcinfo", date="2013-12-31T00:00:00Z"), record(b"[1]"), record(b""))
    for reader in READERS:
        first, second, third = read(content, tmp_path, reader)[0]
        assert first == WatRecord(0, "warcinfo", 2, b"{}", "2013-12-31T00:00:00Z", "")
        assert second[1:] == ("metadata", 3, b"[1]", "2024-05-31T01:17:49Z", "")
        assert third[1:4] == ("metadata", 0, b"")


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_a_wat_cut_anywhere_keeps_what_came_before(tmp_path: Path, packed: bool) -> None:  # noqa: FBT001
    parts = GZIPPED if packed else list(PAGES)
    whole = b"".join(parts)
    for cut in range(1, len(whole), 7):
        fast, _ = read(whole[:cut], tmp_path)
        complete = sum(sum(map(len, parts[: i + 1])) <= cut for i in range(5))
        assert told(fast)[:complete] == list("01234")[:complete]
        assert read(whole[:cut], tmp_path, "warcio")[0] == fast
        rest = told(fast)[complete:]
        # Between the end of the body and that of its record nothing but line ends and the trailer is missing.
        assert rest in ([], ["cut"], ["truncated"], [str(complete)], [str(complete), "truncated"])


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_a_flipped_byte_costs_one_record_at_most(tmp_path: Path, packed: bool) -> None:  # noqa: FBT001
    parts = GZIPPED if packed else list(PAGES)
    whole, start, end = b"".join(parts), len(parts[0]) + len(parts[1]), sum(map(len, parts[:3]))
    for place in range(start, end, 3):
        for reader in READERS:
            words = told(read(flip(whole, place), tmp_path, reader)[0])
            assert [words[:2], words[-2:]] == [["0", "1"], ["3", "4"]], (place, reader, words)
            assert 4 <= len(words) <= 6


MEASURE = """
import resource, sys
from laion_dask.extract.wat.wat_records import Damage, Reading, records
list(records(sys.argv[2], "fastwarc", Reading()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for reader in ("fastwarc", "warcio"):
    for item in records(sys.argv[1], reader, Reading()):
        print(item.reason if isinstance(item, Damage) else item.type)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_bomb_costs_neither_memory_nor_much_time(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bombs = {
        "zeros": b"".join([*(packer.compress(bytes(10**6)) for _ in range(1000)), packer.flush()]),
        "a record of many zeros": gzip.compress(
            record(b"", length=10**9)[:-4] + bytes(gzip_members.MAX_SKIP_BYTES + 9**8), 9
        ),
    }
    good = tmp_path / "good.wat.gz"
    good.write_bytes(b"".join(GZIPPED))
    for name, bomb in bombs.items():
        assert len(bomb) < 1_100_000
        path = tmp_path / "bomb.wat.gz"
        path.write_bytes(GZIPPED[0] + bomb + GZIPPED[1])
        command = [sys.executable, "-c", MEASURE, str(path), str(good)]
        *items, grown_mib = programs.finished(command, check=True).stdout.split()
        assert items == ["metadata", "too_large", "metadata"] * 2, name
        assert int(grown_mib) < 32


def test_beyond_its_limit_of_resumptions_the_rest_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wat_damage, "MAX_RESUMPTIONS", 3)
    content = b"".join(b"garbage\n" + page for page in GZIPPED)
    for reader in READERS:
        words = told(read(content, tmp_path, reader)[0])
        assert words == ["bad_record", "0", "bad_record", "1", "bad_record", "2", "bad_record", "bad_record"]


@pytest.mark.slow
def test_time_grows_with_the_file_however_it_is_damaged(tmp_path: Path) -> None:
    # Each of these begins a member, or claims a body, that reaches to the end of the file.
    stored_block = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\0\xff\xff\0\0WARC/1.0\r\n"
    claims = b"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: 60000000\r\n\r\n"
    for piece in (stored_block, claims, b"\x1f\x8b\x08\0", b"\nWARC/1.", b"\x1f\x8b\x08\x08" + b"\1" * 9):
        content = piece * (500_000 // len(piece))
        for reader in READERS:
            began = time.process_time()
            read(content, tmp_path, reader)
            assert time.process_time() - began < 15, (piece, reader)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for location in (str(tmp_path / "nowhere"), str(tmp_path), "memory://nowhere.warc.wat.gz", "no-such://x", "a\0b"):
        with pytest.raises(UnreadableWatError, match=r"\w"):
            list(records(location, "fastwarc", Reading()))


@pytest.mark.parametrize("reader", READERS)
def test_an_error_in_the_middle_never_passes_for_the_end(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(b"".join(GZIPPED))
    give = StoredFile.at

    def broken(stored: StoredFile, offset: int, count: int) -> bytes:
        if offset + count > 2 * START:
            count = 2 * START - offset
        if count <= 0:
            raise TransferError("connection lost")
        return give(stored, offset, count)

    monkeypatch.setattr(StoredFile, "at", broken)
    reading = Reading()
    with pytest.raises(TransferError, match="connection lost"):
        list(records(str(path), reader, reading))
    assert reading.sha256 == ""
