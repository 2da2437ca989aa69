"""The envelope of a WAT record's JSON: address and fetch date of the page, from a WARC or ARC header.

Common Crawl's first crawls (2008 to 2012) are ARC files. The extractor describes their pages in the same JSON, but with
`ARC-Header-Metadata` in place of `WARC-Header-Metadata` (webarchive-commons: `ResourceConstants`, `ARCConstants`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec


class _EnvelopeHead(msgspec.Struct):
    base: Any = msgspec.field(name="Base", default=None)


class _Html(msgspec.Struct):
    head: _EnvelopeHead | None = msgspec.field(name="Head", default=None)
    links: msgspec.Raw = msgspec.field(name="Links", default_factory=msgspec.Raw)


class _Response(msgspec.Struct):
    html: _Html | None = msgspec.field(name="HTML-Metadata", default=None)


class _Payload(msgspec.Struct):
    response: _Response | None = msgspec.field(name="HTTP-Response-Metadata", default=None)


class _WarcHeader(msgspec.Struct):
    uri: Any = msgspec.field(name="WARC-Target-URI", default=None)
    date: Any = msgspec.field(name="WARC-Date", default=None)


class _ArcHeader(msgspec.Struct):
    """The same for a page from an ARC file, the format before WARC; names as the extractor writes them."""

    uri: Any = msgspec.field(name="Target-URI", default=None)
    date: Any = msgspec.field(name="Date", default=None)


class Envelope(msgspec.Struct):
    """The envelope of one page."""

    payload: _Payload | None = msgspec.field(name="Payload-Metadata", default=None)
    warc: _WarcHeader | None = msgspec.field(name="WARC-Header-Metadata", default=None)
    arc: _ArcHeader | None = msgspec.field(name="ARC-Header-Metadata", default=None)


class Root(msgspec.Struct):
    """The levels of a record's JSON that contain the page's address and links; others are skipped."""

    envelope: Envelope | None = msgspec.field(name="Envelope", default=None)


_NO_WARC_HEADER: Final = _WarcHeader()
_ARC_DATE: Final = re.compile("[12][0-9]{7}(?:[0-9]{4}(?:[0-9]{2})?)?")


def address_and_date(envelope: Envelope) -> tuple[Any, Any]:
    """Return the page's address and date from the WARC header or the ARC header."""
    warc, arc = envelope.warc or _NO_WARC_HEADER, envelope.arc
    return (warc.uri, warc.date) if arc is None else filled(warc.uri, warc.date, arc.uri, arc.date)


def filled(address: Any, date: Any, arc_address: Any, arc_date: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as written
    """Return the values of the WARC header, missing ones from the ARC header with the date in WARC's format."""
    return address if text_of(address) else arc_address, date if text_of(date) else _iso_date(text_of(arc_date))


def _iso_date(digits: str) -> str:
    """Convert an ARC date such as 20140216050221 to WARC's format; empty if invalid.

    Some ARC writers left out the seconds, or the whole time of day.
    """
    if not _ARC_DATE.fullmatch(digits):
        return ""
    try:
        found = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def text_of(value: Any) -> str:  # noqa: ANN401 - converts untyped values to text
    """Return a JSON value as text: a string, a number as written, the first item of a list; otherwise empty."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, str):
        return first
    return str(first) if isinstance(first, int | float) and not isinstance(first, bool) else ""
