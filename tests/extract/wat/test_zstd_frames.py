"""WATs packed with zstd in, whole, cut or damaged: every record out that can be read, with its place."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from made.crawls.wat_bytes import READERS, image, page_json, read, record

from laion_dask.extract.wat import zstd_frames
from laion_dask.extract.wat.blocks import StoredFile

LINKS = [image(f"caption {random.Random(7).getrandbits(64):x}", f"{number}.jpg") for number in range(40)]
RECORDS = [record(page_json([image(f"caption number {number}", f"{number}.jpg"), *LINKS])) for number in range(120)]
TEXT = b"".join(RECORDS)
SKIPPABLE = b"\x5e\x2a\x4d\x18\x05\x00\x00\x00table"


def frame(data: bytes) -> bytes:
    """Return one frame that says its size."""
    return pa.Codec("zstd").compress(data).to_pybytes()


def stream(data: bytes) -> bytes:
    """Return one frame that does not say its size, as a stream is packed."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


def in_pieces(data: bytes, size: int, pack: Callable[[bytes], bytes] = frame) -> list[bytes]:
    """Return frames that cut the records anywhere."""
    return [pack(data[start : start + size]) for start in range(0, len(data), size)]


PACKED = {
    "one frame": frame(TEXT),
    "one frame without its size": stream(TEXT),
    "a frame for each record": b"".join(map(frame, RECORDS)),
    "a frame without its size for each record": b"".join(map(stream, RECORDS)),
    "frames that cut records": b"".join(in_pieces(TEXT, 9_973)),
    "frames of a few bytes": b"".join(in_pieces(TEXT, 61)),
    "frames without data between": b"".join(map(frame, [b"", *RECORDS[:60], b"", b"", *RECORDS[60:], b""])),
    "skippable frames before, between and behind": SKIPPABLE.join([b"", *in_pieces(TEXT, 50_000), b""]),
    "the last record in a frame of its own": frame(b"".join(RECORDS[:-1])) + frame(RECORDS[-1]),
}


def written(folder: Path, data: bytes) -> Path:
    """Write a WAT."""
    path = folder / "x.warc.wat.zst"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_every_record_is_read_the_last_one_too(packed: bytes, reader: str, tmp_path: Path) -> None:
    pages, tally = read(written(tmp_path, packed), reader)
    assert [page.images[0].alt for page in pages] == [f"caption number {number}" for number in range(len(RECORDS))]
    assert (tally.as_dict()["dropped"], tally.error, dict(tally.mended)) == ({}, "", {})
    assert tally.reading.bytes == len(packed)


@pytest.mark.slow
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_a_record_is_placed_at_the_frame_in_which_it_begins(packed: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, packed)
    pages, _ = read(path)
    with contextlib.closing(StoredFile(str(path))) as stored:
        for page in pages[::10]:
            frames = zstd_frames.Frames(stored, page.offset)
            unpacked = b"".join(iter(frames.more, b""))
            assert page.images[0].alt.encode() in unpacked
            assert zstd_frames.begins(packed[page.offset : page.offset + 4])
    offsets = [page.offset for page in pages]
    assert offsets == sorted(offsets)
    if "each record" in next(name for name, value in PACKED.items() if value is packed):
        assert len(set(offsets)) == len(offsets)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("one frame", range(1, len(RECORDS))),
        ("a frame for each record", range(1, 2)),
        ("a frame without its size for each record", range(1, 2)),
        ("frames that cut records", range(1, 12)),
        ("the last record in a frame of its own", range(1, 2)),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 9, 40])
def test_a_tail_that_is_cut_is_told_and_what_was_whole_is_kept(
    name: str, lost: range, cut: int, reader: str, tmp_path: Path
) -> None:
    pages, tally = read(written(tmp_path, PACKED[name][:-cut]), reader)
    assert len(RECORDS) - len(pages) in lost
    assert [page.images[0].alt for page in pages] == [f"caption number {number}" for number in range(len(pages))]
    assert tally.dropped["truncated"] == 1
    assert any(defect.reason == "truncated" for defect in tally.defects)


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_frame_costs_only_itself(reader: str, tmp_path: Path) -> None:
    frames = [frame(one) for one in RECORDS]
    frames[50] = frames[50][:30] + bytes([frames[50][30] ^ 0x55]) + frames[50][31:]
    # The codec of pyarrow writes no checksum, so that a flipped byte may show in the record's text alone.
    frames[70] = frames[70][:-40] + b"\xff" * 40
    frames[90] = frames[90][:20]
    pages, tally = read(written(tmp_path, b"".join(frames)), reader)
    found = [page.images[0].alt for page in pages]
    expected = [f"caption number {number}" for number in range(len(RECORDS)) if number not in {50, 70, 90, 91}]
    assert [alt for alt in found if alt in expected] == expected
    assert 2 <= tally.losses <= 6


def test_frames_that_cut_records_lose_few_of_them_where_one_frame_is_damaged(tmp_path: Path) -> None:
    frames = in_pieces(TEXT, 9_973)
    frames[10] = frames[10][:-40] + b"\xff" * 40
    pages, tally = read(written(tmp_path, b"".join(frames)))
    alts = [page.images[0].alt for page in pages]
    assert len(alts) == len(set(alts))
    assert len(RECORDS) - 8 <= len(alts) < len(RECORDS)
    assert tally.losses


def test_a_frame_that_needs_a_dictionary_is_told_with_the_remedy(tmp_path: Path) -> None:
    plain = stream(RECORDS[0])
    assert plain[4] & 3 == 0
    with_dictionary = plain[:4] + bytes([plain[4] | 1]) + plain[5:6] + b"\x07" + plain[6:]
    _, tally = read(written(tmp_path, with_dictionary + frame(RECORDS[1])))
    assert "Remedy: unpack the file" in " ".join(defect.detail for defect in tally.defects)


@pytest.mark.parametrize("reader", READERS)
def test_a_file_packed_with_lz4_is_refused_instead_of_read_in_part(reader: str, tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as packed:
        packed.write(TEXT)
    pages, tally = read(written(tmp_path, sink.getvalue().to_pybytes()), reader)
    assert (pages, dict(tally.dropped)) == ([], {"wat_unreadable": 1})
    assert "Remedy: pack it with gzip or zstd" in tally.error


def test_bytes_that_are_no_frame_never_stop_the_reader(tmp_path: Path) -> None:
    random_ = random.Random(3)
    for _ in range(300):
        data = bytearray(b"".join(in_pieces(TEXT[:60_000], 20_000)))
        for _ in range(random_.randrange(1, 12)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        pages, tally = read(written(tmp_path, bytes(data[: random_.randrange(4, len(data))])))
        assert tally.as_dict()["kept"] == len(pages)
