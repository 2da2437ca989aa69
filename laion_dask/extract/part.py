"""Read one WAT, write a Parquet table of its pairs with their provenance, and return counts that add up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.extract import language
from laion_dask.extract.judge import Judge, Pair, storable
from laion_dask.extract.sorted_runs import SortedRuns
from laion_dask.extract.wat.blocks import FileVersion
from laion_dask.extract.wat.wat_pages import Page, Tally, pages
from laion_dask.extract.wat.wat_records import Reading
from laion_dask.schema.reasons import REASONS
from laion_dask.texts import personal

# Pairs held as Python objects at once: 30 MB, and large enough batches for the language model.
_CHUNK: Final = 50_000


_DETECTORS: Final = {"fasttext": language.languages}


class PageSource(NamedTuple):
    """The fields of a page that go into the rows of its pairs."""

    offset: int
    url: str
    date: str


def extract(
    out: Path,
    *,
    name: str,  # noqa: ARG001 - parts are published under their name
    location: str,
    crawl: str,
    wat: str,
    order: int,
    settings: params.Extract,
    listed: FileVersion | None = None,
) -> dict[str, Any]:
    """Extract one WAT into the folder `out` and return its counts.

    Files: `pairs.parquet` (schema.PAIRS, sorted by uid, record, link), `losses.parquet` (schema.LOSSES), `read.json`
    (a row of schema.READS with the `seconds` and `requests` of schema.TIMES). Counts: `records` and `links` (seen,
    kept, dropped by reason), `mended` by reason, `pages`, `fallback_to_warcio`, `bytes` as stored; `error` where the
    WAT cannot be read. A missing WAT gives empty tables. Memory does not grow with the WAT. Raises if disk or network
    fail in the middle, or if an object is no longer the one that was `listed`; `LedgerError` and `wat_pages.WatError`
    if counts do not add up.
    """
    began = time.perf_counter()
    tally, judge = Tally(reading=Reading(listed=listed)), Judge(settings)
    with SortedRuns(out / "runs", schema.PAIRS.schema) as runs:
        for chunk in _chunks(pages(location, settings.reader, settings.link_kinds, tally), judge):
            runs.add(_table(*chunk, crawl=crawl, wat_name=wat, order=order, settings=settings))
        runs.write(out / "pairs.parquet")
    defects = [*tally.defects, *judge.defects]
    rows = [
        {"wat": wat, "offset": defect.offset, "reason": defect.reason, "detail": defect.detail} for defect in defects
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema.LOSSES.schema), out / "losses.parquet", compression="zstd")
    judge.ledger.check(f"links of {wat}", reasons=REASONS["extract"])
    counts = {
        "records": tally.as_dict(),
        "links": judge.ledger.as_dict(),
        "mended": dict(sorted(tally.mended.items())),
        "pages": tally.pages,
        "fallback_to_warcio": int(tally.reading.fallback),
        "bytes": tally.reading.bytes,
    }
    row = _provenance(tally, judge) | {"order": order, "crawl": crawl, "wat": wat}
    row["seconds"] = time.perf_counter() - began
    (out / "read.json").write_text(json.dumps(row))
    return counts | ({"error": tally.error} if tally.error else {})


def scan(location: str, settings: params.Extract) -> Iterator[tuple[list[Pair], list[PageSource]]]:
    """Yield the pairs of a WAT in chunks, with their pages: links only, without rights, licence, language or Parquet.

    Does the same work as cc2dataset's parsing; for benchmarks, and to inspect a WAT.
    """
    yield from _chunks(pages(location, settings.reader, settings.link_kinds, Tally()), Judge(settings, links_only=True))


def _chunks(found: Iterator[Page], judge: Judge) -> Iterator[tuple[list[Pair], list[PageSource]]]:
    """Yield pairs with their pages, in chunks of about `_CHUNK` pairs."""
    pairs: list[Pair] = []
    sources: list[PageSource] = []
    for page in found:
        kept_pairs = judge.page(page, len(sources))
        if kept_pairs:
            sources.append(PageSource(page.offset, page.url, page.date))
            pairs += kept_pairs
            if len(pairs) >= _CHUNK:
                yield pairs, sources
                pairs, sources = [], []
    if pairs:
        yield pairs, sources


def _provenance(tally: Tally, judge: Judge) -> dict[str, Any]:
    reading = tally.reading
    return {
        "bytes": reading.bytes,
        "etag": reading.etag,
        "sha256": reading.sha256,
        "records": tally.seen,
        "pages": tally.pages,
        "links": judge.ledger.seen,
        "pairs": judge.ledger.kept,
        "losses": tally.losses,
        "mended": tally.mended.total(),
        "reader": reading.reader,
        "error": tally.error,
        "requests": reading.requests,
    }


def _table(
    pairs: list[Pair], sources: list[PageSource], *, crawl: str, wat_name: str, order: int, settings: params.Extract
) -> pa.Table:
    """Return pairs as a table sorted by uid, record and link; the input is in the order of records and links."""
    pairs.sort(key=itemgetter(0))
    uids, addresses, hosts, texts, licenses, signals, places, sources_of = zip(*pairs, strict=True)
    detected = _DETECTORS[settings.language_detector](texts, settings.language_confidence, settings.language_model)
    page_of = pa.array(sources_of, pa.int32())
    length = len(pairs)
    columns = {
        "uid": uids,
        "url": addresses,
        "text": texts,
        "host": hosts,
        "language": detected.codes,
        "language_confidence": detected.confidences,
        "split": detected.splits,
        "license": licenses,
        "crawl": pa.repeat(crawl, length),
        "wat": pa.repeat(wat_name, length),
        "wat_order": pa.repeat(pa.scalar(order, pa.int32()), length),
        "record_offset": pa.array([page.offset for page in sources], pa.int64()).take(page_of),
        "link_index": places,
        "page_url": pa.array([storable(page.url) for page in sources]).take(page_of),
        "page_date": pa.array([storable(page.date) for page in sources]).take(page_of),
        "page_signals": signals,
    } | _personal(texts, addresses, settings)
    arrays = [
        value if isinstance(value := columns[column.name], pa.Array) else pa.array(value, column.type)
        for column in schema.PAIRS.columns
    ]
    return schema.PAIRS.check(pa.table(arrays, schema=schema.PAIRS.schema))


def _personal(texts: tuple[str, ...], addresses: tuple[str, ...], settings: params.Extract) -> dict[str, Any]:
    if settings.personal_data == "count":
        return dict(personal.count(texts, addresses))
    none = pa.repeat(pa.scalar(0, pa.int16()), len(texts))
    return dict.fromkeys(("emails", "phones", "cards", "accounts", "ips"), none)
