"""Files on loopback servers in, their bytes as stored out: in few requests, each once, with an end to waits."""

from __future__ import annotations

import hashlib
import http.server
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.config import conf
from made.crawls.wat_bytes import image, members, page_json, record

from laion_dask.extract.wat import blocks, ranges
from laion_dask.extract.wat.blocks import StoredFile, TransferError
from laion_dask.extract.wat.ranges import LocationError
from laion_dask.extract.wat.wat_records import Reading, UnreadableWatError, records

BLOCK = 1000
KINDS = ("http", "s3")


class Shelf(http.server.ThreadingHTTPServer):
    """One object under every path, by ranges, over HTTP as a CDN and as S3 serve it; `plan` says what goes wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.content = b""
        self.etag = '"one"'
        self.ranges: list[tuple[int, int]] = []
        self.sent = 0
        self.plan: list[Callable[[_Answers], bool]] = []
        self.knows_ranges = True
        self.headers: dict[str, str] = {}

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/bucket/x.wat.gz" if kind == "http" else "s3://bucket/x.wat.gz"


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Shelf

    def do_GET(self) -> None:
        shelf = self.server
        unit, _, span = self.headers.get("Range", "").partition("=")
        assert unit == "bytes", "every request asks for a range"
        start, end = (int(place) for place in span.split("-"))
        shelf.ranges.append((start, end + 1))
        if shelf.plan and shelf.plan.pop(0)(self):
            return
        size = len(shelf.content)
        if shelf.knows_ranges and start >= size:
            self.answer(416, b"<Error><Code>InvalidRange</Code></Error>", {"Content-Range": f"bytes */{size}"})
        elif shelf.knows_ranges:
            part = shelf.content[start : end + 1]
            self.answer(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{size}"})
        else:
            self.answer(200, shelf.content, {})

    def answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        """Send an answer, or only the first `cut` bytes of its body."""
        self.send_response(status)
        etag = {"ETag": self.server.etag} if status < 300 else {}
        for name, value in {**headers, **etag, **self.server.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        part = body if cut is None else body[:cut]
        self.server.sent += len(part)
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


def refuse(status: int, code: str = "", **headers: str) -> Callable[[_Answers], bool]:
    """Answer with an error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code or status}</Code><Message>no</Message></Error>".encode()

    def act(answers: _Answers) -> bool:
        answers.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return act


def cut_after(count: int) -> Callable[[_Answers], bool]:
    """Break the connection after some bytes of the range."""

    def act(answers: _Answers) -> bool:
        shelf = answers.server
        start, end = shelf.ranges[-1]
        part = shelf.content[start:end]
        span = f"bytes {start}-{start + len(part) - 1}/{len(shelf.content)}"
        answers.answer(206, part, {"Content-Range": span}, cut=count)
        return True

    return act


def stall_after(count: int) -> Callable[[_Answers], bool]:
    """Send some bytes of the range and then nothing for a while."""
    cut = cut_after(count)

    def act(answers: _Answers) -> bool:
        cut(answers)
        time.sleep(1)
        return True

    return act


def then(change: Callable[[Shelf], None]) -> Callable[[_Answers], bool]:
    """Change the object, then answer as usual."""

    def act(answers: _Answers) -> bool:
        change(answers.server)
        return False

    return act


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Serve one object on loopback, also to s3fs, in small blocks."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK)
    with Shelf() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setitem(conf, "s3", {"anon": True, "endpoint_url": f"http://127.0.0.1:{server.server_port}"})
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the waits instead of waiting."""
    noted: list[float] = []
    monkeypatch.setattr(blocks, "pause", lambda _, seconds: noted.append(seconds))
    return noted


def read_all(location: str) -> tuple[bytes, StoredFile]:
    """Read a file from its first byte to its last, in steps that fit no block."""
    stored = StoredFile(location)
    try:
        data = b""
        while part := stored.at(len(data), 777):
            data += part
        assert stored.sha256() == hashlib.sha256(data).hexdigest()
        return data, stored
    finally:
        stored.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 7 * BLOCK + 3])
def test_a_file_takes_as_many_requests_as_it_has_blocks_and_each_byte_is_sent_once(
    shelf: Shelf, kind: str, size: int
) -> None:
    shelf.content = random.Random(size).randbytes(size)
    data, stored = read_all(shelf.url(kind))
    assert data == shelf.content
    assert stored.requests == len(shelf.ranges) == max(1, -(-size // BLOCK))
    assert shelf.ranges == [(start, start + BLOCK) for start in range(0, max(1, size), BLOCK)]
    assert (stored.size, stored.bytes) == (size, size)
    if size:
        assert shelf.sent == size
        assert stored.etag == '"one"'


def test_a_local_file_is_read_alike_and_makes_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LOCAL_BLOCK_BYTES", BLOCK)
    path = tmp_path / "x"
    for size in (0, 1, BLOCK, 3 * BLOCK + 1):
        path.write_bytes(random.Random(size).randbytes(size))
        for location in (str(path), path.as_uri()):
            data, stored = read_all(location)
            assert (data, stored.requests, stored.etag) == (path.read_bytes(), 0, "")


def test_the_digest_is_that_of_the_whole_file_also_where_reading_jumps(shelf: Shelf) -> None:
    shelf.content = random.Random(1).randbytes(6 * BLOCK + 9)
    stored = StoredFile(shelf.url("http"))
    assert stored.exactly(4 * BLOCK + 990, 20) == shelf.content[4 * BLOCK + 990 :][:20]
    assert stored.at(10, 5) == shelf.content[10:15]
    assert stored.at(len(shelf.content), 5) == b""
    assert stored.sha256() == hashlib.sha256(shelf.content).hexdigest()
    assert stored.bytes == len(shelf.content)
    stored.close()


def test_the_block_before_is_held_and_older_ones_are_not(shelf: Shelf) -> None:
    shelf.content = bytes(4 * BLOCK)
    _, stored = read_all(shelf.url("http"))
    # A closed file still gives what it holds, and everything else would be a request.
    for block in (2, 3):
        assert stored.at(block * BLOCK, BLOCK) == bytes(BLOCK)
    with pytest.raises(RuntimeError):
        stored.at(0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_connection_goes_on_where_it_broke(shelf: Shelf, kind: str, waits: list[float]) -> None:
    shelf.content = random.Random(2).randbytes(3 * BLOCK)
    shelf.plan = [lambda _: False, cut_after(400), cut_after(100)]
    data, stored = read_all(shelf.url(kind))
    assert data == shelf.content
    assert shelf.ranges == [(0, 1000), (1000, 2000), (1400, 2000), (1500, 2000), (2000, 3000)]
    assert shelf.sent == len(shelf.content), "nothing is sent twice"
    assert stored.requests == 5
    assert waits == [1.0, 4.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_stops_sending_is_cut_off_and_what_came_is_kept(
    shelf: Shelf, kind: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.content = random.Random(2).randbytes(2 * BLOCK)
    # Long enough for a busy machine to answer the other requests in.
    monkeypatch.setattr(ranges, "REQUEST_S", 5.0)
    shelf.plan = [lambda _: False, stall_after(300)]
    assert read_all(shelf.url(kind))[0] == shelf.content
    assert shelf.ranges == [(0, 1000), (1000, 2000), (1300, 2000)]
    assert waits == [1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (503, "SlowDown"), (503, ""), (500, "InternalError"), (429, "")]
)
def test_a_host_that_refuses_is_asked_again_with_longer_waits_and_then_named(
    shelf: Shelf, kind: str, status: int, code: str, waits: list[float]
) -> None:
    shelf.content = bytes(3 * BLOCK)
    shelf.plan = [refuse(status, code)] * 4
    assert read_all(shelf.url(kind))[0] == shelf.content
    assert waits == list(blocks.WAITS_S)
    shelf.plan = [lambda _: False, *[refuse(status, code)] * 5]
    remedy = "give this user the right" if (kind, code) == ("s3", "AccessDenied") else ".*fewer workers"
    with pytest.raises(TransferError, match=rf"x\.wat\.gz: status {status} .*5 requests.*Remedy: {remedy}"):
        read_all(shelf.url(kind))
    shelf.plan = [refuse(status, code)] * 5
    with pytest.raises(TransferError, match=f"status {status}"):
        list(records(shelf.url(kind), "fastwarc", Reading()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("0", 1.0), ("99999", 120.0), ("soon", 1.0)])
def test_retry_after_is_honoured_up_to_a_limit(
    shelf: Shelf, kind: str, asked: str, waited: float, waits: list[float]
) -> None:
    shelf.content = bytes(5)
    shelf.plan = [refuse(503, "SlowDown", Retry_After=asked)]
    assert read_all(shelf.url(kind))[0] == shelf.content
    assert waits == [waited]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_asked_for_once(shelf: Shelf, kind: str, waits: list[float]) -> None:
    shelf.plan = [refuse(404, "NoSuchKey")]
    with pytest.raises(UnreadableWatError, match=r"x\.wat\.gz: status 404"):
        list(records(shelf.url(kind), "fastwarc", Reading()))
    assert (len(shelf.ranges), waits) == (1, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["etag", "size", "short", "gone"])
def test_an_object_that_changes_while_it_is_read_is_refused(
    shelf: Shelf, kind: str, what: str, waits: list[float]
) -> None:
    shelf.content = bytes(3 * BLOCK)
    change = {
        "etag": then(lambda it: setattr(it, "etag", '"two"')),
        "size": then(lambda it: setattr(it, "content", bytes(2 * BLOCK))),
        "short": then(lambda it: setattr(it, "content", bytes(BLOCK))),
        "gone": refuse(404, "NoSuchKey"),
    }[what]
    shelf.plan = [lambda _: False, change]
    with pytest.raises(
        TransferError, match="4(04|16)" if what in {"gone", "short"} else r"changed while it was read.*Remedy"
    ):
        read_all(shelf.url(kind))
    assert waits == []


def test_a_server_without_ranges_serves_files_of_one_block_only(shelf: Shelf) -> None:
    shelf.knows_ranges = False
    shelf.content = bytes(BLOCK)
    assert read_all(shelf.url("http"))[0] == shelf.content
    shelf.content = bytes(BLOCK + 1)
    with pytest.raises(LocationError, match=r"no Range.*Remedy"):
        read_all(shelf.url("http"))


def test_bytes_come_as_stored_also_where_the_server_calls_gzip_an_encoding(shelf: Shelf) -> None:
    shelf.content = members(record(b"{}"))
    shelf.headers = {"Content-Encoding": "gzip"}
    assert read_all(shelf.url("http"))[0] == shelf.content


def test_a_host_that_cannot_be_reached_has_an_end(waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        with pytest.raises(TransferError, match=r"127\.0\.0\.1.*Remedy"):
            StoredFile(url)
    assert waits == list(blocks.WAITS_S)


@pytest.mark.parametrize("location", ["/nowhere/x.wat.gz", "/dev/null", "no-such://x", "memory://nowhere", "http://"])
def test_what_cannot_be_opened_is_said_at_once(location: str, waits: list[float]) -> None:
    with pytest.raises(UnreadableWatError, match=r"\w"):
        list(records(location, "fastwarc", Reading()))
    assert waits == []


def test_any_file_system_of_fsspec_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", BLOCK)
    content = random.Random(3).randbytes(2 * BLOCK + 5)
    system = fsspec.filesystem("memory")
    system.pipe_file("/some.wat.gz", content)
    try:
        data, stored = read_all("memory://some.wat.gz")
        assert (data, stored.requests) == (content, 3)
    finally:
        system.rm_file("/some.wat.gz")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", ["fastwarc", "warcio"])
def test_a_remote_wat_is_read_as_a_local_one_with_its_provenance(
    shelf: Shelf, kind: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = 2**17
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block)
    dice = random.Random(4)
    pages = (page_json([image(alt=dice.randbytes(3000).hex())]) for _ in range(150))
    shelf.content = members(*(record(page) for page in pages))
    path = tmp_path / "x.wat.gz"
    path.write_bytes(shelf.content)
    local, far = Reading(), Reading()
    assert list(records(shelf.url(kind), reader, far)) == list(records(str(path), reader, local))
    digest, size = hashlib.sha256(shelf.content).hexdigest(), len(shelf.content)
    assert (far.sha256, far.bytes, far.size, far.etag) == (digest, size, size, '"one"')
    assert (local.sha256, local.bytes, local.size, local.etag, local.requests) == (digest, size, size, "", 0)
    assert far.requests == len(shelf.ranges) == -(-size // block) > 3
    assert (far.reader, far.fallback) == (reader, False)


def test_a_reading_that_is_given_up_ends_its_thread_and_has_no_digest(shelf: Shelf) -> None:
    shelf.content = members(*(record(page_json([image(url=f"{i}.jpg")])) for i in range(40)))
    reading = Reading()
    steps: Any = records(shelf.url("http"), "warcio", reading)
    next(steps)
    steps.close()
    assert (reading.sha256, reading.requests) == ("", len(shelf.ranges))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
