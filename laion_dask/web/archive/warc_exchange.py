"""Write exchanges as WARC records, each a gzip member, and read them back with every field.

A reply is a `response` record, cut after its headers where the body was not read; an exchange without any answer is a
`metadata` record. The record of the request follows. What has no place in HTTP (the asker, the reason of a failure)
goes as JSON into the record's header `Laion-Dask-Exchange`, which other readers ignore (WARC 1.1, 5.20).
"""

from __future__ import annotations

import io
import json
import uuid
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from http.client import responses
from typing import Any, Final

import ada_url
from warcio.recordloader import ArcWarcRecord
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from laion_dask.web.fetch.exchange import NOT_HTTP, Reply
from laion_dask.web.fetch.retry_after import Headers, retry_after_s
from laion_dask.web.warc import codings
from laion_dask.web.warc.recorded import FIELD, Recorded

# Bodies are stored decoded. Headers that describe the encoded body get Common Crawl's prefix, so that no reader decodes
# a body twice.
_PREFIX: Final = "X-Crawler-"
_OF_THE_WIRE: Final = frozenset({"content-encoding", "transfer-encoding", "content-length"})
# WARC 1.1, 5.13; all other failures are `unspecified`.
_TRUNCATED: Final = {"timeout": "time", "unreachable": "disconnect", "too_large": "length"}
_SMALL_BYTES: Final = 2_048
_PIECE_BYTES: Final = 64 * 1024
_SPECIFICATION: Final = "https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"
_PLAIN: Final = frozenset({"status", "headers", "body", "date"})
_NO_REPLY: Final = Reply()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its outcome: `head` is the reply without its body, None where no answer came.

    `date` is when the request began, ISO 8601 in UTC. `read`: the client wanted the body; where it did not, or where
    the body is `withheld`, none is stored.
    """

    url: str
    asker: str
    date: str
    head: Reply | None
    reply: Reply
    read: bool = False
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """The stored records of a reply and its request, with the digests of the body and of the record's block."""

    record: bytes
    request: bytes
    digest: str
    block: str


class _HttpHeaders(StatusAndHeaders):  # type: ignore[misc]
    """HTTP headers that are written unchanged; warcio would percent-encode bytes that are not ASCII."""

    def compute_headers_buffer(self, header_filter: object = None) -> None:
        self.headers_buff = self.to_bytes(header_filter)


def now() -> str:
    """Return the current time as a WARC-Date with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write(exchange: Exchange, place: int, user_agent: str) -> StoredExchange:
    """Return the records of an exchange; `place` is its number among the exchanges of one asker with one URL.

    Equal exchanges give equal bytes: record ids are digests, and gzip members have no time.
    """
    about: dict[str, Any] = {"asker": exchange.asker, "place": place, "reply": _other_fields(exchange.reply)}
    about |= {name: True for name in ("read", "withheld") if getattr(exchange, name)}
    headers = {"WARC-Date": exchange.date, "WARC-Record-ID": _id("reply", exchange, place)}
    head = exchange.head
    body = exchange.reply.body
    cut = _TRUNCATED.get(exchange.reply.failure, "unspecified")
    if head is None:
        headers |= {FIELD: json.dumps(about), "WARC-Truncated": cut}
        text = f"failure: {exchange.reply.failure}\r\nmessage: {exchange.reply.message}\r\n".encode()
        record = _record("metadata", exchange.url, headers, None, text)
    else:
        stored = stored_headers(head.headers, len(body))
        about["head"] = _other_fields(head)
        if exchange.reply.status == 0:
            about["lost"] = True
        if _read_back(stored) != head.headers:
            about["headers"] = head.headers
        headers[FIELD] = json.dumps(about)
        if exchange.reply.failure or not exchange.read or exchange.withheld:
            headers["WARC-Truncated"] = cut
        status = f"{head.status} {responses.get(head.status, '')}".rstrip()
        http = _HttpHeaders(status, list(stored), protocol="HTTP/1.1")
        record = _record("response", exchange.url, headers, http, body)
    # Images do not compress: the attempt would cost more time than the rest of an exchange.
    level = 0 if len(body) > _SMALL_BYTES and not _is_text(head) else 6
    packed = member(record, level)
    digests = (record.rec_headers.get_header(f"WARC-{part}-Digest") or "" for part in ("Payload", "Block"))
    return StoredExchange(packed, _request(exchange, place, user_agent), *digests)


def _is_text(head: Reply | None) -> bool:
    kind = (head.header("content-type") or "") if head is not None else ""
    return kind.startswith(("text/", "application/json", "image/svg"))


def _other_fields(reply: Reply) -> dict[str, Any]:
    """Return the fields other than status, headers, body and date that are not at their defaults."""
    names = [field.name for field in fields(Reply) if field.name not in _PLAIN]
    return {name: getattr(reply, name) for name in names if getattr(reply, name) != getattr(_NO_REPLY, name)}


def stored_headers(headers: Headers, body_bytes: int) -> Headers:
    """Return headers that describe the stored body: decoded and without chunks."""

    def name_of(name: str, value: str) -> str:
        moved = name.lower() in _OF_THE_WIRE and (name.lower() != "content-length" or value != str(body_bytes))
        return f"{_PREFIX}{name}" if moved else name

    return tuple((name_of(name, value), value) for name, value in headers)


def _read_back(stored: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers that a reader gets from stored ones: without outer spaces and line ends."""
    return tuple((name.removeprefix(_PREFIX), "".join(value.splitlines()).strip()) for name, value in stored)


def _request(exchange: Exchange, place: int, user_agent: str) -> bytes:
    # The headers that the session sets; aiohttp also sends Accept-Encoding.
    parsed = ada_url.URL(exchange.url)
    lines = [("Host", parsed.host), ("User-Agent", user_agent), ("Accept", "image/*,*/*;q=0.5")]
    http = _HttpHeaders(f"GET {parsed.pathname}{parsed.search} HTTP/1.1", lines, is_http_request=True)
    headers = {
        "WARC-Date": exchange.date,
        "WARC-Record-ID": _id("request", exchange, place),
        "WARC-Concurrent-To": _id("reply", exchange, place),
    }
    return member(_record("request", exchange.url, headers, http, b""), 6)


def _id(kind: str, exchange: Exchange, place: int) -> str:
    name = f"{kind} {exchange.date} {exchange.asker} {place} {exchange.url}"
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}>"


def warcinfo(filename: str, date: str) -> bytes:
    """Return the first record of a WARC file."""
    headers = {
        "WARC-Date": date,
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{filename} {date}')}>",
        "WARC-Filename": filename,
    }
    text = "software: laion-dask\r\nformat: WARC File Format 1.1\r\nconformsTo: " + _SPECIFICATION + "\r\n"
    return member(_record("warcinfo", "", headers, None, text.encode()), 6)


def _record(kind: str, url: str, headers: Mapping[str, str], http: _HttpHeaders | None, body: bytes) -> ArcWarcRecord:
    return WARCWriter(None, warc_version="WARC/1.1").create_warc_record(
        url, kind, io.BytesIO(body), len(body), warc_headers_dict=dict(headers), http_headers=http
    )


def member(record: ArcWarcRecord, level: int) -> bytes:
    """Return a record as one gzip member, without a time or a name."""
    plain = io.BytesIO()
    WARCWriter(plain, gzip=False, warc_version="WARC/1.1").write_record(record)
    return pack(plain.getbuffer(), level)


def pack(plain: bytes | memoryview, level: int) -> bytes:
    """Return bytes as one gzip member, without a time or a name."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(plain) + packer.flush()


def read(record: ArcWarcRecord) -> Exchange | None:
    """Return the exchange of a record that `write` has made; None for any other record."""
    warc = record.rec_headers
    url, date, text = (warc.get_header(name) or "" for name in ("WARC-Target-URI", "WARC-Date", FIELD))
    if not text:
        return None
    about = json.loads(text)
    reply = Reply(**about["reply"])
    exchange = Exchange(
        url, about["asker"], date, None, reply, read=about.get("read", False), withheld=about.get("withheld", False)
    )
    if record.http_headers is None:
        return exchange
    status = int(record.http_headers.get_statuscode())
    headers = _read_back(record.http_headers.headers)
    if "headers" in about:
        headers = tuple((name, value) for name, value in about["headers"])
    head = Reply(status, headers, **about["head"])
    if not about.get("lost"):
        reply = replace(reply, status=status, headers=headers, body=record.content_stream().read())
    return replace(exchange, head=head, reply=reply)


def foreign(url: str, date: str, answer: Recorded, max_bytes: int) -> Exchange:
    """Return the exchange of another crawler's record, which wanted the whole body; decode at most `max_bytes`."""
    headers = _read_back(answer.headers)
    busy = answer.status == 429 or answer.status >= 500
    head = Reply(answer.status, headers, retry=busy, retry_after_s=retry_after_s(headers))
    decoder = codings.BodyDecoder(codings.names(headers), max_bytes)
    try:
        for begin in range(0, len(answer.body), _PIECE_BYTES):
            decoder.feed(answer.body[begin : begin + _PIECE_BYTES])
            if decoder.full:
                break
        decoder.finish()
    except codings.CodingError:
        return Exchange(url, "", date, head, NOT_HTTP, read=True)
    return Exchange(url, "", date, head, replace(head, body=bytes(decoder.body)), read=True, withheld=answer.cut)
