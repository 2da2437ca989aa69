"""Yield the HTML pages with image links of a WAT; count every other record and every defect by reason.

The input is not trusted: any level may be missing, a header value may be a string or a list, numbers may be strings. A
bad link or record affects nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from laion_dask.extract.wat import wat_json
from laion_dask.extract.wat.wat_envelope import text_of
from laion_dask.extract.wat.wat_json import Link, PageJson, PageLists, UrlAndAlt
from laion_dask.extract.wat.wat_records import Damage, Reading, UnreadableWatError, WatRecord, records

RECORD_REASONS: Final[dict[str, str]] = {
    "no_html": "the record describes no HTML page with links: a request, metadata, warcinfo or another format",
    "no_image": "the record describes an HTML page without an image link",
    "bad_json": "the body is complete and not JSON",
    "no_envelope": "the JSON has no Envelope",
    "truncated": "the record is cut short: its body ends before its declared length, or its header before its end",
    "wrong_length": "the declared length ends inside the JSON",
    "too_large": "the record claims, or unpacks to, more bytes than a record can have",
    "bad_gzip": "a gzip member or zstd frame cannot be unpacked",
    "bad_record": "what stands there is no WARC record: no version line, no type, or no header",
    "wat_unreadable": "the WAT is missing or holds no readable record at all",
}
"""Reasons for a record of a WAT to give no page, with their meanings. All but no_html and no_image are losses."""

HARMLESS: Final = ("no_html", "no_image")
_WHOLE: Final = (*HARMLESS, "no_envelope")

MENDED: Final[dict[str, str]] = {
    "lf_line_ends": "the lines of the record's header end without a carriage return",
    "wrong_length": "the body is shorter than declared, and its JSON is whole",
}
"""Defects despite which a record was read, with their meanings."""

MAX_LISTED: Final = 10_000
"""Defects of one WAT listed with their offset; further ones are only counted, to bound memory."""

_MAX_DETAIL_CHARS: Final = 200
_WHITE_SPACE: Final = b" \t\r\n\x00"
# The host of most licences, and rel=license at the end or at the start of a list of values.
_LICENSE_MARKS: Final = (b"creativecommons.org/", b'icense"', b'"license ')
_RSL_MARK: Final = b"rsl+xml"
_RIGHTS_MARKS: Final = (b"robots", b"tdm-", b"content-usage", b"laion-dask", b"ccbot", _RSL_MARK)


class WatError(Exception):
    """The records of a WAT do not add up."""


class Defect(NamedTuple):
    """A defect of a WAT: offset of the record in the stored file, reason, and detail."""

    offset: int
    reason: str
    detail: str


@dataclass(slots=True)
class Page:
    """One HTML page with image links, as its WAT record describes it."""

    url: str
    """WARC-Target-URI, without the angle brackets of some writers; Target-URI where the page was stored as ARC."""
    date: str
    """WARC-Date of the response: when the page was fetched; an ARC's date in the same format."""
    written: str
    """WARC-Date of the WAT's own record: when the links were extracted; in files of 2014 when the page was fetched."""
    base: str
    """Head.Base as written, empty if missing."""
    offset: int
    """Offset of the record in the WAT as stored, bytes."""
    images: Sequence[Link | UrlAndAlt]
    """Its image links in order; values may have any type."""
    json: PageJson
    """The parsed record."""

    @property
    def every_link(self) -> list[Link]:
        """All links of the page, of any kind."""
        return wat_json.every_link(self.json)

    def license_links(self) -> list[Link]:
        """Return the links of head and page that may point to a licence, perhaps with others."""
        return wat_json.links_with(self.json, _LICENSE_MARKS)

    def lists(self) -> PageLists:
        """Return headers, metas and LINK elements: see `headers_of`, `metas_of`."""
        return wat_json.page_lists(self.json)


def headers_of(lists: PageLists) -> tuple[tuple[str, str], ...]:
    """Return response headers, one pair for each value of a repeated header; empty if none concerns rights."""
    return wat_json.headers(lists.headers) if _has_one_of(_RIGHTS_MARKS, lists.headers.lower()) else ()


def metas_of(lists: PageLists) -> list[tuple[str, str]]:
    """Return metas by name, property or http-equiv, with their content; empty if none concerns rights."""
    return wat_json.metas(lists.metas) if _has_one_of(_RIGHTS_MARKS, lists.metas.lower()) else []


def typed_links_of(lists: PageLists) -> list[tuple[str, str]]:
    """Return rel and type of LINK elements; empty if none concerns rights."""
    if _RSL_MARK not in lists.head_links.lower():
        return []
    found = wat_json.untyped(lists.head_links)
    links = (link for link in found if isinstance(link, dict)) if isinstance(found, list) else ()
    return [(text_of(link.get("rel")), text_of(link.get("type"))) for link in links]


@dataclass(slots=True)
class Tally:
    """Counts of records: seen, kept as pages with images, dropped by reason; defects; status of the reading."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)
    error: str = ""

    @property
    def pages(self) -> int:
        """HTML pages seen, with and without images."""
        return self.kept + self.dropped["no_image"]

    @property
    def losses(self) -> int:
        """Records lost to a defect."""
        return self.dropped.total() - sum(self.dropped[reason] for reason in HARMLESS)

    def lose(self, reason: str, offset: int, detail: str) -> None:
        """Count and list a record lost to a defect."""
        self.seen += 1
        self.dropped[reason] += 1
        self.note(reason, offset, detail)

    def note(self, reason: str, offset: int, detail: str) -> None:
        """List a defect, up to `MAX_LISTED`."""
        if len(self.defects) < MAX_LISTED:
            self.defects.append(Defect(offset, reason, detail[:_MAX_DETAIL_CHARS]))

    def mend(self, reason: str, offset: int) -> None:
        """Count and list a defect despite which a record was read."""
        self.mended[reason] += 1
        self.note(reason, offset, MENDED[reason])

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON in a ledger's form; raises `WatError` unless counts add up and all reasons are known."""
        if self.kept + self.dropped.total() != self.seen or not self.dropped.keys() <= RECORD_REASONS.keys():
            raise WatError(f"records: {self.seen} seen, but {self.kept} kept, and dropped {dict(self.dropped)}")
        dropped = {reason: self.dropped[reason] for reason in RECORD_REASONS if self.dropped[reason]}
        return {"seen": self.seen, "kept": self.kept, "dropped": dropped}


def pages(location: str, reader: str, kinds: tuple[str, ...], tally: Tally) -> Iterator[Page]:
    """Yield the HTML pages with image links of a WAT in file order and count every record.

    `reader` is fastwarc or warcio; `kinds` are the paths of the links that count as images (`IMG@/src`, or `*`).
    Every defect is counted with its offset, and readable records are kept; for a WAT that cannot be opened or read to
    its end, `tally.error` has the message. Raises only if disk or network fail in the middle (`wat_records.records`).
    """
    records_read = 0
    try:
        for record in records(location, reader, tally.reading):
            if isinstance(record, Damage):
                tally.lose(record.reason, record.offset, record.detail)
                continue
            records_read += 1
            page = read_page(record, kinds, tally)
            if page is not None:
                yield page
    except UnreadableWatError as error:
        tally.error = str(error)
    if not records_read:
        # Without any record this is no WAT, which counts as one loss whatever was found.
        tally.error = tally.error or (tally.defects[0].detail if tally.defects else "the file holds no WARC record")
        tally.seen, tally.dropped, tally.defects = 0, Counter(), []
        tally.lose("wat_unreadable", 0, tally.error)


def read_page(record: WatRecord, kinds: tuple[str, ...], tally: Tally) -> Page | None:
    """Return the page with images that a record describes, or count the reason for none.

    Only records that can have an image link are parsed; others are only checked for completeness.
    """
    body = record.body
    if record.mended:
        tally.mend(record.mended, record.offset)
    cut = record.declared < 0 or len(body) < record.declared
    found: PageJson | str
    if record.type != "metadata":
        found = "bad_record" if not record.type else "truncated" if cut else "no_html"
    else:
        found = wat_json.read_page(body, kinds)
        if found == wat_json.UNMARKED:
            found = _judge_unparsed(body, cut=cut)
        elif found == wat_json.NO_JSON:
            # The JSON may have been cut right after a brace.
            found = _incomplete(body, cut=cut) or ("truncated" if cut else found)
        elif not isinstance(found, str) and not found.images:
            found = "no_image"
    # A declared length beyond the end is no loss if the JSON is complete.
    if cut and (not isinstance(found, str) or found in _WHOLE):
        tally.mend("wrong_length", record.offset)
    if isinstance(found, str):
        _drop(found, record, tally)
        return None
    tally.seen += 1
    tally.kept += 1
    url = text_of(found.url).strip()
    if url.startswith("<") and url.endswith(">"):
        url = url[1:-1]
    # The record's own date may be that of the extraction, so it is used only if the response's is missing.
    date = text_of(found.date) or record.date
    return Page(url, date, record.date, text_of(found.base), record.offset, found.images, found)


def _has_one_of(marks: Collection[bytes], body: bytes) -> bool:
    for mark in marks:  # noqa: SIM110 - a generator would cost more than the search
        if mark in body:
            return True
    return False


def _drop(reason: str, record: WatRecord, tally: Tally) -> None:
    if reason in HARMLESS:
        tally.seen += 1
        tally.dropped[reason] += 1
    else:
        ends = f"{len(record.body)} of {record.declared} bytes; ends {record.body[-20:]!r}"
        tally.lose(reason, record.offset, f"{RECORD_REASONS[reason]}; {ends}")


def _judge_unparsed(body: bytes, *, cut: bool) -> str:
    """Return the reason for a record without an image link: its type, or that it is incomplete."""
    text = body.strip(_WHITE_SPACE)
    if not text.startswith((b"{", b"\xef\xbb\xbf{", b"[")) and text != b"null":
        return "truncated" if cut else "bad_json"
    incomplete = _incomplete(body, cut=cut)
    if incomplete:
        return incomplete
    # The JSON may have been cut right after a brace.
    if cut and wat_json.read_slowly(body, ()) == wat_json.NO_JSON:
        return "truncated"
    if b'"Envelope"' not in body:
        return "no_envelope"
    return "no_image" if b'"HTML-Metadata"' in body else "no_html"


def _incomplete(body: bytes, *, cut: bool) -> str:
    """Return the reason why a JSON body is incomplete; empty if it ends as JSON does."""
    if body.rstrip(_WHITE_SPACE).endswith((b"}", b"]", b"null")):
        return ""
    return "truncated" if cut else "wrong_length"
