"""Exchanges become WARC records and come back equal in every field, whatever hosts send."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from laion_dask.web.archive import warc_exchange
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.fetch.exchange import Reply
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.recorded import Survey

DATE = "2024-05-06T07:08:09.123456Z"
NAMES = st.sampled_from(
    ["Content-Type", "content-encoding", "Content-Length", "Transfer-Encoding", "Date", "X-A", "x-a"]
)
VALUES = st.text(
    st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=30
) | st.sampled_from(["gzip", "3", "chunked", "text/html; charset=utf-8", "X-Crawler-", " spaces ", "a: b"])
HEADERS = st.lists(st.tuples(NAMES | st.just("X-Crawler-Odd"), VALUES), max_size=6).map(tuple)
BODIES = st.binary(max_size=200) | st.sampled_from([b"", b"abc", bytes(5_000), b"HTTP/1.1 200 OK\r\n\r\n"])
STATUSES = st.sampled_from([200, 204, 301, 404, 429, 503, 999])
ASKERS = st.sampled_from(["", "row " + "a" * 32, "host http://a.example"])


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    url = draw(st.sampled_from(["http://a.example/", "https://b.example:8443/x?q=%20", "http://[2001:db8::1]/y"]))
    failure = draw(st.sampled_from(["", "timeout", "too_large", "unreachable"]))
    if failure and draw(st.booleans()):
        reply = Reply(failure=failure, message=draw(VALUES), retry=draw(st.booleans()))
        return Exchange(url, draw(ASKERS) or "row 1", DATE, None, reply)
    head = Reply(
        draw(STATUSES), draw(HEADERS), retry=draw(st.booleans()), retry_after_s=draw(st.sampled_from([0.0, 1.5]))
    )
    if failure:
        bare = Reply(failure=failure, message=draw(VALUES))
        lost = Reply(head.status, head.headers, failure=failure, message=draw(VALUES))
        return Exchange(url, "row 1", DATE, head, draw(st.sampled_from([bare, lost])), read=draw(st.booleans()))
    read = draw(st.booleans())
    body = draw(BODIES) if read else b""
    reply = Reply(head.status, head.headers, body, retry=head.retry, retry_after_s=head.retry_after_s)
    return Exchange(
        url, draw(ASKERS) or "row 1", DATE, head, reply, read=read, withheld=draw(st.booleans()) and not body
    )


def back(record: bytes) -> Exchange | None:
    return warc_exchange.read(next(iter(ArchiveIterator(io.BytesIO(record), check_digests="raise"))))


@given(exchanges(), st.integers(0, 9))
def test_an_exchange_comes_back_equal(exchange: Exchange, place: int) -> None:
    member = warc_exchange.write(exchange, place, "laion-dask/1 (+me)")
    assert back(member.record) == exchange
    assert member == warc_exchange.write(exchange, place, "laion-dask/1 (+me)")
    assert gzip.decompress(member.request).startswith(b"WARC/1.1\r\n")


def test_a_body_is_stored_decoded_and_its_headers_say_how_it_came() -> None:
    headers = (("Content-Encoding", "gzip"), ("Content-Length", "20"), ("Content-Type", "text/plain"))
    head = Reply(200, headers)
    exchange = Exchange("http://a.example/", "row 1", DATE, head, Reply(200, headers, b"plain"), read=True)
    text = gzip.decompress(warc_exchange.write(exchange, 0, "me").record)
    assert b"X-Crawler-Content-Encoding: gzip\r\nX-Crawler-Content-Length: 20\r\nContent-Type: text/plain\r\n" in text
    assert text.endswith(b"\r\n\r\nplain\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://www.a.example/x?b=2&a=1", "example,a,www)/x?b=2&a=1"),
        ("https://a.example:8443/", "example,a:8443)/"),
        ("http://192.0.2.7/x", "192.0.2.7)/x"),
        ("http://[2001:db8::1]/x", "[2001:db8::1])/x"),
    ],
)
def test_the_key_of_an_index_turns_the_host_round(url: str, key: str) -> None:
    assert cdxj.key(url) == key


def entry(number: int, url: str, folder: Path) -> cdxj.Entry:
    return cdxj.Entry(url, "row 1", number, DATE, 200, "image/jpeg", "sha1:A", "sha1:B", folder / "x.warc.gz", 0, 1, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.integers(0, 12)), max_size=60, unique=True))
def test_every_line_is_found_by_its_url_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("index")
    entries = [entry(number, f"http{'s' * (path % 2)}://{host}.example/{path}", folder) for number, host, path in rows]
    cdxj.write(sorted(one.line() for one in entries), folder / "all.cdxj")
    with cdxj.CdxjIndex(folder / "all.cdxj") as index:
        for url in {one.url for one in entries} | {"http://0.example/", "http://zz.example/", "http://b.example/5x"}:
            places = sorted(one.place for one in entries if one.url == url)
            assert sorted(one.place for one in index.find(url)) == places


def test_indexes_of_more_files_than_may_be_open_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdxj, "_OPEN_FILES", 3)
    exchange = Exchange("http://a.example/", "row 1", DATE, Reply(404), Reply(404))
    warcs = []
    for number in range(8):
        warcs.append(tmp_path / f"{number}.warc.gz")
        warcs[-1].write_bytes(warc_exchange.write(exchange, number, "me").record)
    merged = cdxj.collect(warcs, tmp_path / "work" / "all.cdxj")
    with cdxj.CdxjIndex(merged) as index:
        assert sorted(found.place for found in index.find("http://a.example/")) == list(range(8))
    assert [path.name for path in merged.parent.iterdir()] == ["all.cdxj"]


def test_a_damaged_file_is_refused_with_the_place_of_the_damage(tmp_path: Path) -> None:
    exchange = Exchange("http://a.example/", "row 1", DATE, Reply(200), Reply(200, body=b"x" * 9_000), read=True)
    member = warc_exchange.write(exchange, 0, "me")
    (tmp_path / "a.warc.gz").write_bytes(member.record + member.request + member.record[:-500])
    with pytest.raises(cdxj.ArchiveError, match=rf"byte {len(member.record) + len(member.request)} is damaged or ends"):
        list(cdxj.scan(tmp_path / "a.warc.gz", Survey(tmp_path)))
    with pytest.raises(cdxj.ArchiveError, match=r"no such WARC file. Remedy"):
        list(cdxj.scan(tmp_path / "none.warc.gz", Survey(tmp_path)))
