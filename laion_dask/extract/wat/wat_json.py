"""Parse image links and a few other fields from the JSON body of a WAT record.

The fast path cuts the image links out of the bytes and decodes no other link; it is used only if its result is certain
to equal full decoding, else everything is decoded. A body that is not strict JSON is parsed leniently.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from laion_dask.extract.wat.wat_envelope import Root, address_and_date, filled, text_of

EVERY_KIND: Final = "*"
"""As a link kind: every link with an alt text, as in LAION-5B's code."""

NO_JSON: Final = "bad_json"
NO_ENVELOPE: Final = "no_envelope"
NO_HTML: Final = "no_html"
UNMARKED: Final = "unmarked"


class Link(msgspec.Struct, frozen=True, gc=False):
    """One object of `Links` as written; values may have any type."""

    path: Any = None
    url: Any = None
    alt: Any = None
    rel: Any = None


class UrlAndAlt(msgspec.Struct, gc=False):
    """The used fields of an image link."""

    url: str | None = None
    alt: str | None = None


class PageJson(NamedTuple):
    """The fields of a record's JSON that a page needs, as written."""

    url: Any
    date: Any
    base: Any
    images: Sequence[Link | UrlAndAlt]
    """The image links in the order of the page."""
    small: bytes
    """The JSON, possibly without the links from the first to the last image."""
    whole: bytes


class PageLists(NamedTuple):
    """Lists that only few pages need, as JSON bytes; empty if missing."""

    headers: bytes
    metas: bytes
    head_links: bytes


_ROOT: Final = msgspec.json.Decoder(Root)
_LINK: Final = msgspec.json.Decoder(Link)
_LINKS: Final = msgspec.json.Decoder(list[Link])
_IMAGES: Final = msgspec.json.Decoder(list[UrlAndAlt])
_LENIENT: Final = json.JSONDecoder(strict=False)
_NOT_STRICT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_page(body: bytes, kinds: tuple[str, ...]) -> PageJson | str:
    """Return the fields of a JSON body that a page needs, or the reason for none.

    `UNMARKED`: the bytes have no link of these kinds, so they were not parsed. `NO_JSON`, `NO_ENVELOPE` (no such
    level), `NO_HTML` (no links).
    """
    mark, rest, others = _marks_of(kinds)
    if not mark:
        return read_slowly(body, kinds) if any(other in body for other in others) else UNMARKED
    pieces = body.split(mark)
    if len(pieces) == 1:
        return UNMARKED
    return _read_quickly(body, pieces, mark, rest) or read_slowly(body, kinds)


@cache
def _marks_of(kinds: tuple[str, ...]) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    """Return the start of a link of a single kind, e.g. `"IMG@` and `/src"`; for several, substrings to search."""
    if len(kinds) == 1 and "@" in kinds[0]:
        tag, _, attribute = kinds[0].partition("@")
        return f'"{tag}@'.encode(), f'{attribute}"'.encode(), ()
    if EVERY_KIND in kinds:
        return b"", b"", (b'"alt"',)
    return b"", b"", tuple(f'"{kind}'.partition("@")[0].partition("/")[0].encode() for kind in kinds)


def _read_quickly(body: bytes, pieces: list[bytes], mark: bytes, rest: bytes) -> PageJson | None:
    """Cut the image links out of the bytes; None unless the result is certain to equal full decoding.

    It is certain if each mark follows `{"path":`, as the extractor writes it: these bytes cannot occur inside a JSON
    string, where each quote has a backslash. An object is cut at its first `}`; if that is inside a string or a nested
    object, the rest is not JSON, and None is returned.
    """
    if not all([piece.endswith(_BEFORE_MARK) for piece in pieces[:-1]]):  # noqa: C419 - a list is faster here
        return None
    small = _without_links(pieces[0], mark, pieces[-1])
    del pieces[0]
    start = len(rest)
    cuts = [piece[start : piece.find(b"}")] for piece in pieces if piece.startswith(rest)]
    try:
        envelope = _ROOT.decode(small).envelope
        images = _IMAGES.decode(b'[{"":0' + b'},{"":0'.join(cuts) + b"}]") if cuts else []
    except _NOT_STRICT:
        return None
    html = envelope and envelope.payload and envelope.payload.response and envelope.payload.response.html
    if not envelope or not html or not len(html.links):
        return None
    address, date = address_and_date(envelope)
    return PageJson(address, date, html.head.base if html.head else None, images, small, body)


_BEFORE_MARK: Final = b'{"path":'
_LINKS_START: Final = b'"Links":['
_LAST_LINK: Final = b'{"path":"A@/href"'


def _without_links(before: bytes, mark: bytes, behind: bytes) -> bytes:
    """Return the JSON of a page without most of its links, which make up most of the bytes to decode.

    Cuts only at starts of objects in the list of links, so that the rest is a shorter list.
    """
    start = before.rfind(_LINKS_START)
    before = before[: start + len(_LINKS_START)] if start >= 0 else before[: -len(_BEFORE_MARK)]
    last = behind.rfind(_LAST_LINK)
    return before + behind[last:] if last >= 0 else b"".join((before, _BEFORE_MARK, mark, behind))


def read_slowly(body: bytes, kinds: tuple[str, ...]) -> PageJson | str:
    """Do the same as `read_page` by decoding everything."""
    try:
        envelope = _ROOT.decode(body).envelope
    except _NOT_STRICT:
        return _read_leniently(body, kinds)
    if envelope is None:
        return NO_ENVELOPE
    html = envelope.payload and envelope.payload.response and envelope.payload.response.html
    raw = bytes(html.links) if html else b""
    if not html or not raw.startswith(b"["):
        return NO_HTML
    images = [link for link in _links(raw) if is_image(link, kinds)]
    address, date = address_and_date(envelope)
    return PageJson(address, date, html.head.base if html.head else None, images, body, body)


def _read_leniently(body: bytes, kinds: tuple[str, ...]) -> PageJson | str:
    """Parse what the strict decoder rejects: lone surrogates, bad UTF-8, raw control characters, wrong types.

    Ignores what follows the first JSON value: in files with LF line ends the declared length may exceed it.
    """
    tree = _first_value(body)
    if tree is None:
        return NO_JSON
    envelope = tree[0].get("Envelope") if isinstance(tree[0], dict) else None
    if not isinstance(envelope, dict):
        return NO_ENVELOPE
    html = _html_of(tree[0])
    links = html.get("Links")
    if not isinstance(links, list):
        return NO_HTML
    images = [link for link in map(_link, links) if is_image(link, kinds)]
    base = _level(html, "Head").get("Base")
    warc, arc = _level(envelope, "WARC-Header-Metadata"), _level(envelope, "ARC-Header-Metadata")
    address, date = warc.get("WARC-Target-URI"), warc.get("WARC-Date")
    if arc:
        address, date = filled(address, date, arc.get("Target-URI"), arc.get("Date"))
    return PageJson(address, date, base, images, body, body)


def _first_value(body: bytes) -> tuple[Any] | None:
    try:
        return (_LENIENT.raw_decode(body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"))[0],)
    except (ValueError, RecursionError):
        return None


def _level(tree: object, key: str) -> Mapping[str, Any]:
    value = tree.get(key) if isinstance(tree, Mapping) else None
    return value if isinstance(value, dict) else {}


def _response_of(tree: object) -> Mapping[str, Any]:
    return _level(_level(_level(tree, "Envelope"), "Payload-Metadata"), "HTTP-Response-Metadata")


def _html_of(tree: object) -> Mapping[str, Any]:
    return _level(_response_of(tree), "HTML-Metadata")


def every_link(page: PageJson) -> list[Link]:
    """Decode all links of a page; values that are no object become empty links."""
    try:
        envelope = _ROOT.decode(page.whole).envelope
    except _NOT_STRICT:
        envelope = None
    html = envelope and envelope.payload and envelope.payload.response and envelope.payload.response.html
    if html:
        return links(bytes(html.links))
    tree = _first_value(page.whole)
    return _links_of(_html_of(tree[0]).get("Links")) if tree else []


def links_with(page: PageJson, marks: Collection[bytes]) -> list[Link]:
    """Return the links of head and page whose bytes contain one of `marks`, or all links where that is uncertain."""
    body = page.whole
    found: dict[int, Link] = {}
    for mark in marks:
        place = body.find(mark)
        while place >= 0:
            start, stop = body.rfind(_BEFORE_MARK, 0, place), body.find(b"}", place) + 1
            # A brace in between: the mark is after the link, in a header or a meta, or the link itself has a brace.
            if start < 0 or body.find(b"}", start, place) >= 0:
                return [*links(page_lists(page).head_links), *every_link(page)]
            try:
                found[start] = _LINK.decode(body[start:stop])
            except _NOT_STRICT:
                return [*links(page_lists(page).head_links), *every_link(page)]
            place = body.find(mark, stop)
    return [found[start] for start in sorted(found)]


def _links(raw: bytes) -> list[Link]:
    try:
        return _LINKS.decode(raw)
    except _NOT_STRICT:
        return _links_of(untyped(raw))


def _links_of(value: object) -> list[Link]:
    return [_link(item) for item in value] if isinstance(value, list) else []


def _link(item: object) -> Link:
    if not isinstance(item, dict):
        return Link()
    return Link(item.get("path"), item.get("url"), item.get("alt"), item.get("rel"))


def is_image(link: Link, kinds: Collection[str]) -> bool:
    """Tell whether a link is of one of the kinds."""
    if EVERY_KIND in kinds:
        return link.alt is not None
    return isinstance(link.path, str) and link.path in kinds


class _ListsHead(msgspec.Struct):
    metas: msgspec.Raw = msgspec.field(name="Metas", default_factory=msgspec.Raw)
    link: msgspec.Raw = msgspec.field(name="Link", default_factory=msgspec.Raw)


class _ListsHtml(msgspec.Struct):
    head: _ListsHead | None = msgspec.field(name="Head", default=None)


class _ListsResponse(msgspec.Struct):
    headers: msgspec.Raw = msgspec.field(name="Headers", default_factory=msgspec.Raw)
    html: _ListsHtml | None = msgspec.field(name="HTML-Metadata", default=None)


class _ListsPayload(msgspec.Struct):
    response: _ListsResponse = msgspec.field(name="HTTP-Response-Metadata")


class _ListsEnvelope(msgspec.Struct):
    payload: _ListsPayload = msgspec.field(name="Payload-Metadata")


class _ListsRoot(msgspec.Struct):
    envelope: _ListsEnvelope = msgspec.field(name="Envelope")


_LISTS: Final = msgspec.json.Decoder(_ListsRoot)


def page_lists(page: PageJson) -> PageLists:
    """Return the lists of a page whose image links have been read."""
    try:
        response = _LISTS.decode(page.small).envelope.payload.response
    except _NOT_STRICT:
        tree = _first_value(page.whole)
        head = _level(_html_of(tree[0]), "Head") if tree else {}
        found = (_response_of(tree[0]).get("Headers") if tree else None, head.get("Metas"), head.get("Link"))
        return PageLists(*(json.dumps(value).encode() for value in found))
    head_ = (response.html and response.html.head) or _ListsHead()
    return PageLists(bytes(response.headers), bytes(head_.metas), bytes(head_.link))


def headers(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Return response headers as (name, value), one for each value of a repeated header.

    Repeated headers are lists since November 2024; earlier files have only the last value.
    """
    tree = untyped(raw)
    if not isinstance(tree, dict):
        return ()
    values = ((name, value if isinstance(value, list) else [value]) for name, value in tree.items())
    return tuple((str(name), text_of(item)) for name, items in values for item in items)


def metas(raw: bytes) -> list[tuple[str, str]]:
    """Return (key, content) of metas, once for each of name, property and http-equiv."""
    if not raw:
        return []
    try:
        return [
            (name, meta.content)
            for meta in _METAS.decode(raw)
            for name in (meta.name, meta.property, meta.http_equiv)
            if name is not None
        ]
    except _NOT_STRICT:
        tree = untyped(raw)
    return list(_named_metas(tree)) if isinstance(tree, list) else []


def _named_metas(tree: list[Any]) -> Iterator[tuple[str, str]]:
    for meta in tree:
        if isinstance(meta, dict):
            content = text_of(meta.get("content"))
            yield from ((text_of(meta[key]), content) for key in ("name", "property", "http-equiv") if key in meta)


class _Meta(msgspec.Struct, gc=False):
    name: str | None = None
    property: str | None = None
    http_equiv: str | None = msgspec.field(name="http-equiv", default=None)
    content: str = ""


_METAS: Final = msgspec.json.Decoder(list[_Meta])


def links(raw: bytes) -> list[Link]:
    """Return the links of a list, such as `Head.Link`."""
    return _links(raw) if raw else []


def untyped(raw: bytes) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """Decode any JSON value, leniently if needed; None for empty bytes."""
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except _NOT_STRICT:
        value = _first_value(raw)
        return value[0] if value else None
