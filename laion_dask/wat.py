"""A WAT in, its HTML pages out, each with its links, headers and metas; every record that is no page with its reason.

Nothing here trusts the writer: any level may be missing, a header value is a string or a list, numbers may be strings.
One bad link costs only itself, one bad record too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from laion_dask.wat_reader import DamagedWatError, Reading, Record, UnreadableWatError, records

IMAGE_PATH: Final = "IMG@/src"

RECORD_REASONS: Final[dict[str, str]] = {
    "no_html": "the record describes no HTML page with links: a request, metadata, warcinfo or another format",
    "bad_json": "the body is complete and not JSON",
    "no_envelope": "the JSON has no Envelope",
    "truncated": "the record is cut short: its body ends before its declared length, or its header before its end",
    "damaged": "the rest of the file cannot be read: a bad gzip member, or something that is no WARC record",
    "wat_unreadable": "the WAT is missing or holds no readable record at all",
}
"""Why a record of a WAT is no page, with the meaning. All but no_html are losses."""

# A page without this in its bytes has no image links, and most pages of a crawl are requests and such.
_IMAGE_MARK: Final = b'"IMG@'
_LICENSE_MARK: Final = b"creativecommons.org"


class WatError(Exception):
    """The records of a WAT do not add up."""


class Link(msgspec.Struct, frozen=True, gc=False):
    """One object of `Links` as written: any value may have any type."""

    path: Any = None
    url: Any = None
    alt: Any = None
    rel: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML page with links, as its WAT record describes it."""

    url: str
    """WARC-Target-URI, without the angle brackets of some writers."""
    date: str
    """WARC-Date of the response: when the page was fetched."""
    written: str
    """WARC-Date of the WAT's own record: when the links were extracted."""
    base: str
    """Head.Base as written, empty where there is none."""
    offset: int
    """Where the record begins in the WAT as stored, bytes."""
    has_images: bool
    """Some link may be an image; where False the fields below are left empty."""
    mentions_license: bool = False
    """The record names creativecommons.org somewhere."""
    links: list[Link] = field(default_factory=list)
    head_links: tuple[Link, ...] = ()
    """`Head.Link`: the LINK elements."""
    headers: tuple[tuple[str, str], ...] = ()
    """Response headers, one pair for each value of a repeated header."""
    metas: tuple[tuple[str, str], ...] = ()
    """Metas with content, by their name, property or http-equiv."""


@dataclass(slots=True)
class Tally:
    """Records seen, kept as pages, and dropped by reason; whether warcio stepped in, bytes read, what went wrong."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    fallback: int = 0
    bytes: int = 0
    error: str = ""

    def count(self, reason: str | None) -> None:
        """Count one record: a page (None), or the reason why it is none."""
        self.seen += 1
        if reason is None:
            self.kept += 1
        else:
            self.dropped[reason] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON as a ledger writes it; `WatError` unless they add up and all reasons are known."""
        if self.kept + self.dropped.total() != self.seen or not self.dropped.keys() <= RECORD_REASONS.keys():
            raise WatError(f"records: {self.seen} seen, but {self.kept} kept, and dropped {dict(self.dropped)}")
        dropped = {reason: self.dropped[reason] for reason in RECORD_REASONS if reason in self.dropped}
        return {"seen": self.seen, "kept": self.kept, "dropped": dropped}


def pages(location: str, reader: str, tally: Tally) -> Iterator[Page]:
    """Yield the HTML pages of a WAT in file order and count every record; `reader` is fastwarc or warcio.

    A WAT that is missing or damaged ends early with its loss counted and its message in `tally.error`. Raises only when
    disk or network fail in the middle (see `wat_reader.records`).
    """
    reading = Reading()
    try:
        for record in records(location, reader, reading):
            page = read_page(record)
            if isinstance(page, str):
                tally.count(page)
            else:
                tally.count(None)
                yield page
        if not tally.seen:
            tally.count("wat_unreadable")
            tally.error = "the file holds no WARC record"
    except UnreadableWatError as error:
        tally.count("wat_unreadable")
        tally.error = str(error)
    except DamagedWatError as error:
        tally.count("damaged" if tally.seen else "wat_unreadable")
        tally.error = str(error)
    finally:
        tally.fallback, tally.bytes = int(reading.fallback), reading.bytes


def read_page(record: Record) -> Page | str:
    """Return the page that a record describes, or the reason (a key of `RECORD_REASONS`) why there is none."""
    if not record.type:
        return "damaged"
    cut = record.declared < 0 or len(record.body) < record.declared
    if record.type != "metadata":
        return "truncated" if cut else "no_html"
    root = _decode(record.body)
    if root is None:
        return "truncated" if cut else "bad_json"
    # A declared length beyond the body is no loss where the JSON is complete (files with LF line ends).
    return _page_of(record, root.envelope) if root.envelope is not None else "no_envelope"


def text_of(value: Any) -> str:  # noqa: ANN401 - this is where untyped values become text
    """Return a JSON value as text: numbers are written out, of a list the first counts, all else is empty."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, str):
        return first
    return str(first) if isinstance(first, int | float) and not isinstance(first, bool) else ""


class _Head(msgspec.Struct):
    base: Any = msgspec.field(name="Base", default=None)
    metas: Any = msgspec.field(name="Metas", default=None)
    link: Any = msgspec.field(name="Link", default=None)


class _Html(msgspec.Struct):
    head: _Head | None = msgspec.field(name="Head", default=None)
    links: list[Link] | None = msgspec.field(name="Links", default=None)


class _Response(msgspec.Struct):
    headers: Any = msgspec.field(name="Headers", default=None)
    html: _Html | None = msgspec.field(name="HTML-Metadata", default=None)


class _Payload(msgspec.Struct):
    response: _Response | None = msgspec.field(name="HTTP-Response-Metadata", default=None)


class _WarcHeader(msgspec.Struct):
    uri: Any = msgspec.field(name="WARC-Target-URI", default=None)
    date: Any = msgspec.field(name="WARC-Date", default=None)


class _Envelope(msgspec.Struct):
    payload: _Payload | None = msgspec.field(name="Payload-Metadata", default=None)
    warc: _WarcHeader | None = msgspec.field(name="WARC-Header-Metadata", default=None)


class _Root(msgspec.Struct):
    envelope: _Envelope | None = msgspec.field(name="Envelope", default=None)


_DECODER: Final = msgspec.json.Decoder(_Root)
_LENIENT: Final = json.JSONDecoder(strict=False)


def _decode(body: bytes) -> _Root | None:
    """Return the typed tree of a JSON body, or None where it is not JSON at all."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> _Root | None:
    """Read what the strict decoder refuses: lone surrogates, bad UTF-8, raw control characters, wrong types.

    What follows the first JSON value is ignored: in files with LF line ends a declared length may reach beyond it.
    """
    try:
        tree, _ = _LENIENT.raw_decode(body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or not isinstance(tree.get("Envelope"), dict):
        return _Root()
    envelope: dict[str, Any] = tree["Envelope"]
    response = _level(_level(envelope, "Payload-Metadata"), "HTTP-Response-Metadata")
    html = _level(response, "HTML-Metadata")
    head, warc = _level(html, "Head"), _level(envelope, "WARC-Header-Metadata")
    links = html.get("Links")
    return _Root(
        _Envelope(
            _Payload(
                _Response(
                    response.get("Headers"),
                    _Html(
                        _Head(head.get("Base"), head.get("Metas"), head.get("Link")),
                        [_link(item) for item in links] if isinstance(links, list) else None,
                    ),
                ),
            ),
            _WarcHeader(warc.get("WARC-Target-URI"), warc.get("WARC-Date")),
        ),
    )


def _level(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def _link(item: object) -> Link:
    if not isinstance(item, dict):
        return Link()
    return Link(item.get("path"), item.get("url"), item.get("alt"), item.get("rel"))


def _page_of(record: Record, envelope: _Envelope) -> Page | str:
    response = (envelope.payload and envelope.payload.response) or _Response()
    html = response.html
    if html is None or html.links is None:
        return "no_html"
    warc, head = envelope.warc or _WarcHeader(), html.head or _Head()
    url = text_of(warc.uri).strip().removeprefix("<").removesuffix(">")
    # The record's own date may be that of the extraction; it only stands in where the response's is missing.
    date = text_of(warc.date) or record.date
    base = text_of(head.base)
    if _IMAGE_MARK not in record.body:
        return Page(url, date, record.date, base, record.offset, has_images=False)
    return Page(
        url,
        date,
        record.date,
        base,
        record.offset,
        has_images=True,
        mentions_license=_LICENSE_MARK in record.body,
        links=html.links,
        head_links=tuple(_link(item) for item in head.link) if isinstance(head.link, list) else (),
        headers=_headers(response.headers),
        metas=_metas(head.metas),
    )


def _headers(headers: object) -> tuple[tuple[str, str], ...]:
    """Repeated headers are lists since November 2024; earlier files kept the last value only."""
    if not isinstance(headers, dict):
        return ()
    values = ((name, value if isinstance(value, list) else [value]) for name, value in headers.items())
    return tuple((str(name), text_of(item)) for name, items in values for item in items)


def _metas(metas: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(metas, list):
        return ()
    names = ("name", "property", "http-equiv")
    return tuple(
        (text_of(meta[key]), text_of(meta.get("content")))
        for meta in metas
        if isinstance(meta, dict)
        for key in names
        if key in meta
    )
