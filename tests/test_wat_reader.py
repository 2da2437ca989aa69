"""WAT files in, real, cut, damaged or remote: every record out that can be read, every loss counted."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from wat_bytes import READERS, image, members, page_json, read, record, wats

from laion_dask import wat_reader
from laion_dask.wat import Page


def test_both_readers_give_equal_pages_and_counts_on_every_wat(shared_data: Path) -> None:
    paths = wats(shared_data)
    assert len(paths) == 26
    for path in paths:
        fast, reference = read(path, "fastwarc"), read(path, "warcio")
        assert fast[0] == reference[0], path.name
        assert fast[1].as_dict() == reference[1].as_dict(), path.name
        assert fast[1].error == reference[1].error, path.name


def test_records_are_as_many_as_the_data_notes_say(shared_data: Path) -> None:
    notes = json.loads((shared_data / "wat_expected.json").read_text())["files"]
    golden = json.loads((shared_data / "golden_cc2dataset" / "expected.json").read_text())["files"]
    notes |= {f"golden_cc2dataset/{name}": expected for name, expected in golden.items()}
    for name, expected in notes.items():
        _, tally = read(shared_data / name)
        counted = sum(count for kind, count in expected["records"].items() if kind != "unparsable_json")
        broken = expected["records"].get("unparsable_json", 0)
        assert tally.seen == counted, name
        assert tally.dropped["bad_json"] + tally.dropped["truncated"] == broken, name
        assert tally.dropped["damaged"] + tally.dropped["wat_unreadable"] == 0, name


def test_malformed_wats_give_no_page_and_a_counted_reason(shared_data: Path) -> None:
    expected = json.loads((shared_data / "wat_malformed" / "expected_warcio.json").read_text())["files"]
    for name, what in expected.items():
        pages, tally = read(shared_data / "wat_malformed" / name)
        assert (pages, tally.dropped, tally.seen) == ([], {"no_html": 1}, what["records"]), name
        assert tally.fallback == 1, "LF line ends are read by warcio"


def test_damaged_warcs_are_read_without_a_crash_and_records_before_the_damage_are_kept(shared_data: Path) -> None:
    expected = json.loads((shared_data / "warc_malformed" / "expected_warcio.json").read_text())["files"]
    for name, what in expected.items():
        # ARC is an older format and no WAT. In the last file warcio's mixed mode takes plain text for ARC records.
        no_wat = ".arc" in name or name == "WarcProtocol__incorrect_content_length.warc"
        for reader in READERS:
            pages, tally = read(shared_data / "warc_malformed" / name, reader)
            assert (pages, tally.kept) == ([], 0), "none of them is a WAT"
            assert tally.as_dict()["seen"] >= (1 if no_wat else what["records"]), (name, reader)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("compress", [True, False])
def test_a_wat_cut_anywhere_keeps_what_came_before_and_counts_the_loss(
    tmp_path: Path,
    reader: str,
    compress: bool,  # noqa: FBT001
) -> None:
    records = [record(b"", "warcinfo"), *(record(page_json([image(url=f"{i}.jpg")])) for i in range(3))]
    whole = members(*records) if compress else b"".join(records)
    ends = [len(members(*records[: i + 1]) if compress else b"".join(records[: i + 1])) for i in range(4)]
    path = tmp_path / "x.warc.wat.gz"
    for cut in range(1, len(whole), 7):
        path.write_bytes(whole[:cut])
        pages, tally = read(path, reader)
        complete = sum(end <= cut for end in ends)
        tally.as_dict()
        assert max(0, complete - 1) <= len(pages) <= min(3, complete)
        assert tally.seen in {complete, complete + 1}
        assert tally.dropped.total() >= 1


@pytest.mark.parametrize("reader", READERS)
def test_a_flipped_byte_costs_what_follows_it_and_is_counted(tmp_path: Path, reader: str) -> None:
    records = [record(b"", "warcinfo"), *(record(page_json([image(url=f"{i}.jpg")])) for i in range(3))]
    whole, first_two = members(*records), len(members(*records[:2]))
    path = tmp_path / "x.warc.wat.gz"
    for place in range(first_two, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        pages, tally = read(path, reader)
        tally.as_dict()
        assert len(pages) >= 1
        lost = tally.dropped["damaged"] + tally.dropped["truncated"] + tally.dropped["bad_json"]
        assert len(pages) + lost >= 2, "a loss in the last gzip trailer costs nothing"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "holds no WARC record"),
        (b"hello world\n" * 100, "ArchiveLoadFailed"),
        (b"\0" * 5000, "ArchiveLoadFailed"),
        (gzip.compress(b"no record at all", mtime=0), "ArchiveLoadFailed"),
        (b"<html><body>SlowDown</body></html>", "ArchiveLoadFailed"),
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_wat_counts_as_one_unreadable_wat(tmp_path: Path, content: bytes, error: str, reader: str) -> None:
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(content)
    pages, tally = read(path, reader)
    assert pages == []
    assert tally.as_dict() == {"seen": 1, "kept": 0, "dropped": {"wat_unreadable": 1}}
    assert error in tally.error


@pytest.mark.parametrize("location", ["/nowhere/x.warc.wat.gz", "/tmp", "memory://nowhere.warc.wat.gz", "no-such://x"])  # noqa: S108
def test_a_missing_wat_counts_as_unreadable(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wat_reader, "RETRY_WAITS_S", ())
    _, tally = read(location)
    assert tally.as_dict() == {"seen": 1, "kept": 0, "dropped": {"wat_unreadable": 1}}
    assert tally.error


def test_lf_line_ends_and_wrong_lengths_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    good = record(page_json([image()])).replace(b"\r\n", b"\n")
    longer = record(page_json([image()]), length=len(page_json([image()])) + 40).replace(b"\r\n", b"\n")
    shorter = record(page_json([image()]), length=20).replace(b"\r\n", b"\n")
    table = {
        "good, twice": (good + good, 2, {}),
        "length beyond the file": (longer, 1, {}),
        "length into the next record": (longer + good, 1, {"damaged": 1}),
        "length too small": (shorter + good, 1, {"bad_json": 1}),
    }
    for name, (content, kept, dropped) in table.items():
        (tmp_path / "x.wat").write_bytes(content)
        fast, reference = read(tmp_path / "x.wat"), read(tmp_path / "x.wat", "warcio")
        assert fast[0] == reference[0], name
        assert (len(fast[0]), dict(fast[1].dropped)) == (kept, dropped), name
        assert fast[1].dropped == reference[1].dropped, name


def test_offsets_are_those_of_the_file_as_stored(tmp_path: Path) -> None:
    records = [record(b"", "warcinfo"), record(page_json([image()])), record(b"{}"), record(page_json([image()]))]
    for content, size in ((members(*records), lambda item: len(members(item))), (b"".join(records), len)):
        (tmp_path / "x.wat").write_bytes(content)
        starts = [sum(size(item) for item in records[:i]) for i in (1, 3)]
        for reader in READERS:
            assert [page.offset for page in read(tmp_path / "x.wat", reader)[0]] == starts


class _Quiet(http.server.SimpleHTTPRequestHandler):
    failures = 0

    def do_GET(self) -> None:
        if type(self).failures > 0:
            type(self).failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder on loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def test_a_wat_over_http_is_read_as_a_local_one_and_a_failure_is_tried_again(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wat_reader, "RETRY_WAITS_S", (0.0,))
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(members(*(record(page_json([image(url=f"{i}.jpg")])) for i in range(5))))
    local = read(path)
    for reader in READERS:
        assert read(f"{server}/x.warc.wat.gz", reader)[0] == local[0]
    assert read(f"{server}/x.warc.wat.gz")[1].bytes == path.stat().st_size
    _Quiet.failures = 1
    assert read(f"{server}/x.warc.wat.gz")[0] == local[0]
    assert read(f"{server}/missing")[1].dropped == {"wat_unreadable": 1}


class _Flaky:
    """A file whose connection breaks after some reads, so many times."""

    breaks = 1

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > 2 and type(self).breaks > 0:
            type(self).breaks -= 1
            raise aiohttp.ClientPayloadError("connection lost")
        return self.file.read(min(size, 400) if size > 0 else 400)

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("reader", READERS)
def test_a_lost_connection_is_taken_up_again_and_never_passes_for_the_end(
    tmp_path: Path,
    reader: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(members(*(record(page_json([image(url=f"{i}.jpg")])) for i in range(9))))
    monkeypatch.setattr(wat_reader, "RETRY_WAITS_S", (0.0,))
    monkeypatch.setattr(wat_reader, "_open", lambda _: wat_reader._Source(_Flaky(path)))  # noqa: SLF001
    _Flaky.breaks = 1
    assert read("https://x.example/x", reader)[0] == read_local(path, monkeypatch)
    _Flaky.breaks = 9
    with pytest.raises(aiohttp.ClientPayloadError):
        read("https://x.example/x", reader)


def read_local(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """Read past a replaced `_open`."""
    with monkeypatch.context() as inner:
        inner.setattr(wat_reader, "_open", lambda _: wat_reader._Source(path.open("rb")))  # noqa: SLF001
        return read(path)[0]
