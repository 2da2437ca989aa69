"""Write a planned page as WAT records: the JSON that Common Crawl's extractor (ia-web-commons) writes.

Numbers are strings; a repeated header is a list (extractor since 30 Nov 2024). Sizes, offsets, digests and ids, which a
real crawl measures, are derived from the page's address, so that equal plans give equal bytes.
"""

from __future__ import annotations

import json
from base64 import b32encode
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha1
from typing import Any, Final
from uuid import UUID

from laion_dask.demo.crawl.links import LICENSES
from laion_dask.demo.crawl.plan import PlannedPage

_START: Final = datetime(2025, 3, 15, 6, 0, tzinfo=UTC)
# Extraction is later than the crawl: readers must use the date inside the envelope.
EXTRACTED: Final = "2025-04-02T01:16:45Z"
SEGMENT: Final = "demo/segments/1742018400000.0"
AGENT: Final = "CCBot/2.0 (https://commoncrawl.org/faq/)"
# TEST-NET-1, RFC 5737: a reserved address.
_ADDRESS: Final = "192.0.2.10"
_MIME: Final = {"pdf": "application/pdf", "json": "application/json", "picture": "image/jpeg"}

Json = dict[str, Any]


def record_id(*parts: str) -> str:
    """Return a record id that depends only on its parts."""
    digest = sha1("\n".join(parts).encode(), usedforsecurity=False).digest()
    return f"<urn:uuid:{UUID(bytes=digest[:16], version=4)}>"


def page_date(page: PlannedPage) -> str:
    """Return the fetch time of the page."""
    return f"{_START + timedelta(seconds=7 * page.number):%Y-%m-%dT%H:%M:%SZ}"


def wat_records(page: PlannedPage, warc: str) -> list[tuple[str, bytes]]:
    """Return id and JSON body of the three records of a page: request, response, metadata.

    `warc` is the name of the file with the page. The response of a damaged page is truncated, or lacks a level.
    """
    return [(record_id("wat", kind, page.url), _dump(page, kind, warc)) for kind in ("request", "response", "metadata")]


def source_info(warc: str) -> bytes:
    """Return the JSON of the record about the crawl's own warcinfo record, which has no http address."""
    fields = {"isPartOf": "demo", "publisher": "laion_dask", "description": "generated demo crawl", "robots": "checked"}
    envelope = _envelope(
        {"WARC-Type": "warcinfo", "WARC-Filename": warc, "WARC-Date": f"{_START:%Y-%m-%dT%H:%M:%SZ}"},
        record_id("warcinfo", warc),
        {"Actual-Content-Type": "application/warc-fields", "WARC-Info-Metadata": fields},
        "application/warc-fields",
    )
    return _bytes({"Container": _container(warc, warc, 0), "Envelope": envelope})


def _dump(page: PlannedPage, kind: str, warc: str) -> bytes:
    makers = {"request": _request, "response": _response, "metadata": _metadata}
    payload, content_type = makers[kind](page)
    types = {"request": "msgtype=request", "response": "msgtype=response"}
    warc_type = f"application/http; {types[kind]}" if kind in types else "application/warc-fields"
    header = {"WARC-Type": kind, "WARC-Date": page_date(page), "WARC-Target-URI": page.url}
    if kind == "response":
        header |= {"WARC-Identified-Payload-Type": content_type, "WARC-Payload-Digest": _digest("payload", page.url)}
        header["WARC-Block-Digest"] = _digest("block", record_id(kind, page.url))
    if kind != "metadata":
        header["WARC-IP-Address"] = _ADDRESS
    if kind != "request":
        header["WARC-Concurrent-To"] = record_id("request" if kind == "response" else "response", page.url)
    header["WARC-Warcinfo-ID"] = record_id("warcinfo", warc)
    envelope = _envelope(header, record_id(kind, page.url), payload, warc_type)
    place = page.number * 3 + ("request", "response", "metadata").index(kind)
    record: Json = {"Container": _container(warc, page.url, place), "Envelope": envelope}
    if kind == "response":
        if page.kind == "no_envelope":
            del record["Envelope"]
        elif page.kind == "no_payload":
            del envelope["Payload-Metadata"]
        elif page.kind == "broken_json":
            body = _bytes(record)
            return body[: len(body) * 2 // 3]
    return _bytes(record)


def _envelope(header: Json, name: str, payload: Json, content_type: str) -> Json:
    size = _number("size", name, 200, 60_000)
    digest = _digest("block", name)
    payload |= {"Actual-Content-Length": size, "Trailing-Slop-Length": "4", "Block-Digest": digest}
    header |= {"WARC-Record-ID": name, "Content-Length": size, "Content-Type": content_type}
    length = _number("header", name, 350, 600)
    return {
        "Payload-Metadata": payload,
        "Format": "WARC/1.0",
        "WARC-Header-Length": length,
        "WARC-Header-Metadata": header,
    }


def _container(warc: str, name: str, place: int) -> Json:
    sizes = {"Deflate-Length": _number("deflate", name, 400, 20_000), "Header-Length": "10", "Footer-Length": "8"}
    sizes |= {
        "Inflated-CRC": _number("crc", name, 0, 2**31 - 1),
        "Inflated-Length": _number("inflate", name, 600, 90_000),
    }
    return {"Filename": warc, "Compressed": True, "Offset": str(place * 20_480), "Gzip-Metadata": sizes}


def _request(page: PlannedPage) -> tuple[Json, str]:
    path = "/" + page.url.split("/", 3)[3]
    headers = {
        "User-Agent": AGENT,
        "Accept": "text/html,*/*;q=0.8",
        "Accept-Encoding": "br,gzip",
        "Host": page.site.host,
    }
    message = {"Method": "GET", "Path": path, "Version": "HTTP/1.1"}
    http = {"Request-Message": message, "Headers-Length": "263", "Headers": headers, **_entity(0, page.url)}
    return {"Actual-Content-Type": "application/http; msgtype=request", "HTTP-Request-Metadata": http}, ""


def _response(page: PlannedPage) -> tuple[Json, str]:
    mime = _MIME.get(page.kind, "text/html")
    headers: dict[str, str | list[str]] = {
        "Server": "demo",
        "Content-Type": mime if page.kind in _MIME else f"{mime}; charset=utf-8",
    }
    headers["Date"] = format_datetime(_START + timedelta(seconds=7 * page.number), usegmt=True)
    for name, value in page.signal[2]:
        known = headers.get(name)
        headers[name] = value if known is None else [*([known] if isinstance(known, str) else known), value]
    http: Json = {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "Headers-Length": _number("headers", page.url, 180, 420),
        "Headers": headers,
    }
    if page.kind not in _MIME:
        http["HTML-Metadata"] = _html(page)
    http |= _entity(int(_number("entity", page.url, 2_000, 60_000)), page.url)
    return {"Actual-Content-Type": "application/http; msgtype=response", "HTTP-Response-Metadata": http}, mime


def _metadata(page: PlannedPage) -> tuple[Json, str]:
    fields = [("fetchTimeMs", _number("ms", page.url, 40, 900)), ("charset-detected", "UTF-8")]
    records = [{"Name": name, "Value": value} for name, value in fields]
    return {
        "Actual-Content-Type": "application/metadata-fields",
        "WARC-Metadata-Metadata": {"Metadata-Records": records},
    }, ""


def _html(page: PlannedPage) -> Json:
    name = page.site.name.replace("-", " ").title()
    metas = [{"name": "HTML@/lang", "content": page.language}]
    metas += [{"name": "viewport", "content": "width=device-width, initial-scale=1"}]
    metas += [{"property": "og:site_name", "content": f"{name} & Friends"}]
    metas += [{kind: key, "content": value} for kind, key, value in page.signal[1]]
    links = [{"path": "LINK@/href", "url": page.url, "rel": "canonical"}]
    links += [{"path": "LINK@/href", "url": "/css/site.css?a=1&b=2", "rel": "stylesheet", "type": "text/css"}]
    if page.license == "head":
        links.append({"path": "LINK@/href", "url": LICENSES[page.number % len(LICENSES)], "rel": "license"})
    head: Json = {"Metas": metas, "Title": f'{name} & Friends: "page {page.number}"', "Link": links}
    if page.base:
        head["Base"] = page.base
    html: Json = {"Head": head}
    if page.links:
        html["Links"] = [dict(link.fields) for link in page.links]
    return html


def _entity(size: int, name: str) -> Json:
    return {"Entity-Length": str(size), "Entity-Digest": _digest("entity", name), "Entity-Trailing-Slop-Length": "0"}


def _digest(*parts: str) -> str:
    return f"sha1:{b32encode(sha1(chr(10).join(parts).encode(), usedforsecurity=False).digest()).decode()}"


def _number(what: str, name: str, low: int, high: int) -> str:
    """Return a number between low and high that depends only on the name, as a string like all numbers in a WAT."""
    digest = sha1(f"{what}\n{name}".encode(), usedforsecurity=False).digest()
    return str(low + int.from_bytes(digest[:6], "big") % (high - low))


def _bytes(record: Json) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
