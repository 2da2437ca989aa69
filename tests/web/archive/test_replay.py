"""The loopback server answers as the archive recorded it, for any host, over http and https."""

from __future__ import annotations

import gc
import gzip
import http.client
import io
import pickle
import socket
import ssl
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from made.processes import users
from made.servers.replies import ask
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter
from yarl import URL

from laion_dask.web.archive.replay import Loopback, Replay, ReplayError, ReplayIndex, usage
from laion_dask.web.fetch.replay_address import MARK, ReplayAddress
from laion_dask.web.warc.recorded import Survey, read

Response = tuple[str, str, list[tuple[str, str]], bytes]


def write_warc(path: Path, responses: Sequence[Response]) -> Path:
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=path.suffix == ".gz")
        for url, status, headers, body in responses:
            http = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
            record = writer.create_warc_record(url, "response", io.BytesIO(body), len(body), http_headers=http)
            writer.write_record(record)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = [("Content-Type", "text/plain")]
    chunked = [*plain, ("Transfer-Encoding", "chunked")]
    responses: list[Response] = [
        ("http://a.example/x?q=1", "200 OK", [*plain, ("X-Robots-Tag", "noai"), ("Set-Cookie", "a=1")], b"first"),
        ("http://a.example/x?q=1", "200 OK", plain, b"second"),
        ("https://a.example/secure", "200 OK", plain, b"tls"),
        ("http://a.example/both", "200 OK", plain, b"over http"),
        ("https://a.example/both", "200 OK", plain, b"over https"),
        ("http://a.example/gone", "410 Gone", plain, b"gone"),
        ("http://a.example/odd", "999 Request denied", plain, b"denied"),
        ("http://a.example/zip", "200 OK", [*plain, ("Content-Encoding", "gzip")], gzip.compress(b"unzipped", mtime=0)),
        ("http://a.example/unzipped", "200 OK", [*plain, ("Content-Encoding", "gzip")], b"stored decoded"),
        ("http://a.example/chunks", "200 OK", chunked, b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"),
        ("http://a.example/nochunks", "200 OK", chunked, b"kept without chunks"),
        ("http://a.example/short", "200 OK", [*plain, ("Content-Length", "999")], b"short"),
        ("<http://brackets.example/>", "200 OK", plain, b"wget"),
        ("http://under_score.example/", "200 OK", plain, b"underscore"),
        ("http://b\xfccher.example/", "200 OK", plain, b"idn"),
        ("dns:a.example", "200 OK", plain, b"not http"),
    ]
    return write_warc(tmp_path_factory.mktemp("warc") / "a.warc.gz", responses)


@pytest.mark.parametrize(
    ("url", "status", "body"),
    [
        ("http://a.example/x?q=1", 200, b"first"),
        ("http://A.EXAMPLE/x?q=1#part", 200, b"first"),
        ("https://a.example/secure", 200, b"tls"),
        ("http://a.example/secure", 200, b"tls"),
        ("https://a.example/x?q=1", 200, b"first"),
        ("http://a.example/both", 200, b"over http"),
        ("https://a.example/both", 200, b"over https"),
        ("http://a.example/gone", 410, b"gone"),
        ("http://a.example/odd", 999, b"denied"),
        ("http://a.example/zip", 200, b"unzipped"),
        ("http://a.example/unzipped", 200, b"stored decoded"),
        ("http://a.example/chunks", 200, b"Wikipedia"),
        ("http://a.example/nochunks", 200, b"kept without chunks"),
        ("http://a.example/short", 200, b"short"),
        ("http://a.example/never", 404, b"not in the archive\n"),
        ("http://brackets.example/", 200, b"wget"),
        ("http://under_score.example/", 200, b"underscore"),
        ("https://b\xfccher.example/", 200, b"idn"),
    ],
)
def test_every_url_is_answered_as_recorded(archive: Path, url: str, status: int, body: bytes) -> None:
    with Replay([archive]) as replay:
        (reply,) = ask(replay.address, url)
    assert (reply.failure, reply.status, reply.body) == ("", status, body)


def test_headers_are_replayed_except_those_of_the_connection(archive: Path) -> None:
    with Replay([archive]) as replay:
        first, chunks = ask(replay.address, "http://a.example/x?q=1", "http://a.example/chunks")
    assert first.header("x-robots-tag") == "noai"
    assert first.header("set-cookie") == "a=1"
    assert chunks.header("transfer-encoding") is None
    assert chunks.header("content-length") == "9"


def test_an_unknown_host_gets_no_answer(archive: Path) -> None:
    with Replay([archive]) as replay:
        replies = ask(replay.address, "http://nowhere.example/", "https://nowhere.example/")
    assert [reply.failure for reply in replies] == ["unreachable", "unreachable"]


def test_requests_are_counted_and_the_peak_by_host_is_known(archive: Path) -> None:
    with Replay([archive]) as replay:
        ask(replay.address, "http://a.example/gone", "http://a.example/odd", "http://brackets.example/")
        assert replay.requests == 3
        assert replay.peak == {"a.example": 1, "brackets.example": 1}


def test_the_address_can_be_pickled_and_nothing_listens_after_the_end(archive: Path) -> None:
    with Replay([archive]) as replay:
        address = replay.address
        assert pickle.loads(pickle.dumps(address)) == address  # noqa: S301 - our own bytes
        assert any(str(address.http_port) in line for line in usage(replay))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address.host, address.http_port), timeout=1).close()


def _says(address: ReplayAddress, url: str, mark: str | None) -> str:
    """Ask as any program of the machine can, with or without a word, and return status and body."""
    target = URL(url)
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(address.host, address.https_port, context=ssl._create_unverified_context())  # noqa: S323, SLF001 - a stranger trusts anybody
        if target.scheme == "https"
        else http.client.HTTPConnection(address.host, address.http_port)
    )
    headers = {"Host": str(target.host), **({MARK: mark} if mark else {})}
    with closing(connection):
        connection.request("GET", target.path, headers=headers)
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode()}"


@pytest.mark.parametrize("url", ["http://a.example/both", "https://a.example/both", "http://nowhere.example/"])
@pytest.mark.parametrize("mark", [None, "wanted", "0" * 32, "\xff"])
@pytest.mark.parametrize("user", [users.NOBODY, None], ids=["another user", "the same user"])
def test_nobody_without_the_token_of_the_run_reads_what_the_files_hold(
    archive: Path, url: str, mark: str | None, user: int | None
) -> None:
    with Replay([archive]) as replay:
        address = replay.address
        ask_it = lambda: _says(address, url, mark)  # noqa: E731 - for the other user's process
        said = ask_it() if user is None else users.as_user(user, ask_it)
        assert said == "403 this server answers the run that has started it\n"
        assert address.token not in repr(address)
        assert [reply.body for reply in ask(address, "http://a.example/both")] == [b"over http"]


def test_a_server_that_somebody_has_started_for_all_answers_every_program(archive: Path) -> None:
    with Replay([archive], for_all=True) as replay:
        assert _says(replay.address, "http://a.example/both", None) == "200 over http"
        assert [reply.body for reply in ask(replay.address, "http://a.example/both")] == [b"over http"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"none\.warc"):
        Replay([tmp_path / "none.warc"])


def test_a_port_that_is_taken_leaves_nothing_running(archive: Path) -> None:
    with Replay([archive]) as replay, pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        Replay([archive], http_port=replay.address.http_port).__enter__()


def test_damaged_warcs_are_refused_with_their_name_or_read_in_full(shared_data: Path, tmp_path: Path) -> None:
    files = sorted(path for path in (shared_data / "warc_malformed").rglob("*") if path.is_file())
    refused = {path.name: message for path in files if (message := attempt(path, tmp_path / path.name))}
    assert 10 < len(refused) < len(files) - 5
    assert [name for name, message in refused.items() if name not in message or "Remedy" not in message] == []


def attempt(path: Path, scratch: Path) -> str:
    """Return why a file is refused; empty where all that it answers can be read."""
    index = ReplayIndex(Survey(scratch))
    try:
        index.add(path)
    except ReplayError as error:
        return str(error)
    assert all(read(place) is not None for place in index.places.values())
    return ""


def test_real_warcs_are_indexed_whole(shared_data: Path, tmp_path: Path) -> None:
    index = ReplayIndex(Survey(tmp_path))
    index.add(*sorted((shared_data / "warc_real").iterdir()))
    recorded = [read(place) for place in index.places.values()]
    assert all(response is not None for response in recorded)
    assert len(recorded) == 361


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_server_that_ends_while_clients_come_and_vanish_leaves_no_connection(
    *, tls: bool, recwarn: pytest.WarningsRecorder
) -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hello")

    for _ in range(10):
        clients = []
        with Loopback(answer) as server:
            port = server.address.https_port if tls else server.address.http_port
            for _ in range(20):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                clients.append(client)
        for client in clients:
            client.close()
    gc.collect()
    assert [str(warning.message) for warning in recwarn.list if warning.category is ResourceWarning] == []
