"""One WAT in, one Parquet table of pairs with their provenance out, and counts of records and links that add up."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, rights, schema, text, urls, wat
from laion_dask.signals import creative_commons
from laion_dask.verdict import Ledger

# Small enough that a range of uids is read with few rows beside it.
ROWS_PER_GROUP: Final = 50_000

# WATs made before keep HTML entities undecoded (extractor commits d5af4e5 of 8 July 2019, bb754a3 of 28 August 2019).
_ENTITIES_DECODED_SINCE: Final = "2019-07"


# A tuple: a path may be of any type, also one that no set can look up.
_LICENSE_PATHS: Final = ("A@/href", "LINK@/href")


class _Pair(NamedTuple):
    """A kept link; the order of the fields is the order of the rows."""

    uid: str
    record_offset: int
    link_index: int
    url: str
    host: str
    text: str
    license: str
    page_url: str
    page_date: str
    page_signals: str


def extract(
    out: Path,
    *,
    name: str,
    location: str,
    crawl: str,
    wat: str,
    order: int,
    settings: params.Extract,
) -> dict[str, Any]:
    """Write `out/<name>.parquet` (schema.PAIRS, sorted by uid, record, link) and return the counts of this WAT.

    Counts: `records` and `links` (seen, kept, dropped by reason), `pages`, `fallback_to_warcio`, `bytes` as stored;
    `error` where the WAT could not be read to its end. A missing WAT gives an empty table. Raises where disk or network
    fail in the middle, `verdict.LedgerError` and `wat.WatError` if counts do not add up.
    """
    tally, links, pairs = _read(location, settings)
    pairs.sort()
    links.check(f"links of {wat}")
    table = schema.PAIRS.check(_table(pairs, crawl=crawl, wat_name=wat, order=order, settings=settings))
    pq.write_table(table, out / f"{name}.parquet", compression="zstd", row_group_size=ROWS_PER_GROUP)
    counts = {
        "records": tally.as_dict(),
        "links": links.as_dict(),
        "pages": tally.kept,
        "fallback_to_warcio": tally.fallback,
        "bytes": tally.bytes,
    }
    return counts | ({"error": tally.error} if tally.error else {})


def _read(location: str, settings: params.Extract) -> tuple[wat.Tally, Ledger, list[_Pair]]:
    tally, links, pairs = wat.Tally(), Ledger(), []
    for page in wat.pages(location, settings.reader, tally):
        for verdict in judge_page(page, settings) if page.has_images else ():
            if isinstance(verdict, str):
                links.drop(verdict)
            else:
                links.keep()
                pairs.append(verdict)
    return tally, links, pairs


def judge_page(page: wat.Page, settings: params.Extract) -> Iterator[_Pair | str]:
    """Yield for every image link of a page its pair, or the reason why there is none, in the order of the page."""
    undecoded = "" < page.written[:7] < _ENTITIES_DECODED_SINCE
    decode = html.unescape if undecoded else str
    base = urls.base_of(page.url, decode(page.base))
    found = rights.page_signals(page.headers, page.metas, settings.opt_out_directives)
    opted_out = bool(found) and settings.page_opt_out == "drop"
    whole_page = (license_of(page), _storable(page.url), _storable(page.date), ";".join(found))
    for index, link in enumerate(page.links):
        if link.path == wat.IMAGE_PATH:
            result = _judge_link(link, base, decode, settings)
            if isinstance(result, str):
                yield result
            elif opted_out:
                yield "page_opt_out"
            else:
                caption, address = result
                uid = uid_of(caption, address.url)
                yield _Pair(uid, page.offset, index, address.url, address.host, caption, *whole_page)


def _judge_link(
    link: wat.Link,
    base: str,
    decode: Callable[[str], str],
    settings: params.Extract,
) -> tuple[str, urls.Address] | str:
    """Return text and address of an image link, or the first reason against it: alt text, address, length of text."""
    caption = text.clean(decode(wat.text_of(link.alt)), settings.max_chars)
    if not caption:
        return "no_alt"
    if link.url is None:
        return "no_url"
    address = urls.resolve(
        decode(wat.text_of(link.url)),
        base,
        max_chars=settings.max_url_chars,
        refused_extensions=settings.refused_extensions,
    )
    if isinstance(address, urls.Refusal):
        return address.reason
    return "text_too_short" if len(caption) < settings.min_chars else (caption, address)


def uid_of(caption: str, url: str) -> str:
    """Return md5 of text + url as 32 hex digits: the uid of cc2dataset and DataComp, in this order of the two."""
    return hashlib.md5((caption + url).encode("utf-8", "replace")).hexdigest()


def license_of(page: wat.Page) -> str:
    """Return the Creative Commons licence that a page links to, wherever on the page; `?` where it links to none.

    One with rel=license wins over a mere mention; else the first in the order of the document.
    """
    if not page.mentions_license:
        return "?"
    mentions = []
    for link in (*page.head_links, *page.links):
        address = wat.text_of(link.url)
        found = creative_commons(address) if link.path in _LICENSE_PATHS else ""
        # HTML keeps rel=copyright as an old name of rel=license.
        declared = not {"license", "copyright"}.isdisjoint(wat.text_of(link.rel).lower().split())
        if found and declared:
            return found
        if found and link.path == "A@/href":
            mentions.append(found)
    return mentions[0] if mentions else "?"


def _table(pairs: list[_Pair], *, crawl: str, wat_name: str, order: int, settings: params.Extract) -> pa.Table:
    spoken = text.languages([pair.text for pair in pairs], settings.language_confidence, settings.language_model)
    columns: dict[str, list[Any]] = {name: [getattr(pair, name) for pair in pairs] for name in _Pair._fields} | {
        "language": [language.code for language in spoken],
        "language_confidence": [language.confidence for language in spoken],
        "split": [language.split for language in spoken],
        "crawl": [crawl] * len(pairs),
        "wat": [wat_name] * len(pairs),
        "wat_order": [order] * len(pairs),
    }
    return pa.table({column.name: pa.array(columns[column.name], column.type) for column in schema.PAIRS.columns})


def _storable(value: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates out of JSON escapes become question marks."""
    return value.encode("utf-8", "replace").decode()
