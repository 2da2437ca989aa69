"""Write the demo crawl's files: WATs and WARCs part by part, then the truth, the known hashes and the list of WATs.

Parts are independent: any order and any number of workers give the same bytes. Files are written with warcio, with a
gzip member for each record and without timestamps.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from laion_dask import schema
from laion_dask.demo.crawl import answers, records
from laion_dask.demo.crawl.answers import HostAnswer
from laion_dask.demo.crawl.links import IMAGE
from laion_dask.demo.crawl.pages import plan, warc_count
from laion_dask.demo.crawl.plan import NON_HTML, PlannedPage

CRAWL: Final = "demo"
_STAMP: Final = "DEMO-20250315060000-20250315120000"
_GROUP_ROWS: Final = 1 << 14  # of truth.parquet in one row group: what is in memory while it is joined
_KNOWN_NOTE: Final = "# sha256 of pictures of the demo crawl that stand for known content; nothing real is listed here"


class DemoError(Exception):
    """The demo crawl cannot be written; the message has the cause and the remedy."""


def part_names(pages: int, wats: int) -> list[str]:
    """Return the names of all parts: one for each WAT file, one for each WARC file."""
    return [f"wat-{n:05d}" for n in range(wats)] + [f"warc-{n:05d}" for n in range(warc_count(pages))]


def write_part(out: Path, *, name: str, seed: int, pages: int, wats: int) -> dict[str, Any]:
    """Write one part below `out` and return its counts of pages, image links and pictures.

    Raises `DemoError` for a name that is not in `part_names`.
    """
    if name not in part_names(pages, wats):
        raise DemoError(f"no part {name!r} in a demo crawl of {pages} pages and {wats} WATs: see part_names")
    kind, _, number = name.partition("-")
    crawl = plan(seed, pages, wats)
    if kind == "wat":
        return _write_wat(out, int(number), crawl.wats[int(number)])
    return _write_warc(out, name, crawl.warcs[int(number)])


def finish(folder: Path, *, pages: int, wats: int, home: Path | None = None) -> None:
    """Write truth.parquet, known.txt and wats.parquet into the folder with all parts.

    The truth of each WAT, which its part has written, is joined and removed: the crawl is not planned again, so that
    memory does not grow with it. `location` in wats.parquet is a path below `home`, the folder's path after publication
    (default: `folder`). Raises `DemoError` if a part is missing.
    """
    names = {"wat": _wat_file, "warc": _warc_file}
    for part in part_names(pages, wats):
        kind, _, number = part.partition("-")
        path = folder / kind / names[kind](int(number))
        if not path.is_file():
            raise DemoError(f"{path} is missing: write the part {part!r} before the crawl is finished")
    digests: set[str] = set()
    for path in sorted((folder / "known").glob("warc-*.txt")):
        digests |= set(path.read_text().split())
    (folder / "known.txt").write_text("\n".join([_KNOWN_NOTE, *sorted(digests), ""]))
    join_truth([_truth_file(folder, number) for number in range(wats)], folder / "truth.parquet")
    shutil.rmtree(folder / "truth")
    _write_table(folder / "wats.parquet", _wat_list(folder, home or folder, wats))


def join_truth(files: Sequence[Path], out: Path) -> None:
    """Join tables in row groups of `_GROUP_ROWS`, of which one is in memory: the bytes of one table."""
    with pq.ParquetWriter(out, schema.TRUTH.schema, compression="zstd") as writer:
        waiting = schema.TRUTH.schema.empty_table()
        for file in files:
            waiting = pa.concat_tables([waiting, pq.ParquetFile(file).read(use_threads=False)])
            while waiting.num_rows >= _GROUP_ROWS:
                writer.write_table(waiting.slice(0, _GROUP_ROWS).combine_chunks())
                waiting = waiting.slice(_GROUP_ROWS)
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks())


def _truth(number: int, pages: Iterable[PlannedPage]) -> pa.Table:
    """Return the truth of every image link on undamaged pages of a WAT, in the order of the crawl: `schema.TRUTH`."""
    rows = []
    for page in pages:
        place = {"page_url": page.url, "wat": _wat_path(number)}
        images = [link for link in page.links if ("path", IMAGE) in link.fields]
        for index, link in enumerate(images):
            if link.truth is not None:
                columns = {name: getattr(link.truth, name) for name in schema.TRUTH.names if hasattr(link.truth, name)}
                rows.append(place | {"link_index": index} | columns)
    return schema.TRUTH.check(pa.Table.from_pylist(rows, schema=schema.TRUTH.schema))


def _truth_file(folder: Path, number: int) -> Path:
    return folder / "truth" / f"{number:05d}.parquet"


def _wat_file(number: int) -> str:
    return f"{_STAMP}-{number:05d}.warc.wat.gz"


def _warc_file(number: int) -> str:
    return f"demo-images-{number:05d}.warc.gz"


def _wat_path(number: int) -> str:
    return f"{records.SEGMENT}/wat/{_wat_file(number)}"


def _wat_list(folder: Path, home: Path, wats: int) -> pa.Table:
    rows = []
    for number in range(wats):
        place = Path("wat") / _wat_file(number)
        row = {"order": number, "crawl": CRAWL, "wat": _wat_path(number), "location": (home / place).as_posix()}
        rows.append(row | {"bytes": (folder / place).stat().st_size})
    return schema.WATS.check(pa.Table.from_pylist(rows, schema=schema.WATS.schema))


def _write_table(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd")


def _write_wat(out: Path, number: int, pages: Sequence[PlannedPage]) -> dict[str, Any]:
    """Write a WAT (warcinfo, the record about the crawl's own warcinfo, three records for each page) and its truth."""
    name, warc = _wat_file(number), _wat_file(number).replace(".warc.wat.gz", ".warc.gz")
    path = out / "wat" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = {"pages": 0, "links": 0, "images": 0}
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        _write_info(writer, name)
        _write_metadata(
            writer, warc, records.record_id("wat", warc), records.record_id("warcinfo", warc), records.source_info(warc)
        )
        for page in pages:
            for kind, (identity, data) in zip(
                ("request", "response", "metadata"), records.wat_records(page, warc), strict=True
            ):
                _write_metadata(writer, page.url, identity, records.record_id(kind, page.url), data)
            counts["pages"] += 1
            if page.kind not in NON_HTML:
                counts["links"] += sum(("path", IMAGE) in link.fields for link in page.links)
    truth = _truth_file(out, number)
    truth.parent.mkdir(exist_ok=True)
    _write_table(truth, _truth(number, pages))
    return counts


def _write_warc(out: Path, name: str, responses: tuple[HostAnswer, ...]) -> dict[str, Any]:
    """Write a WARC with a response record for each answer, and the digests of pictures labelled as known content."""
    number = int(name.rpartition("-")[2])
    path = out / "warc" / _warc_file(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = []
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        _write_info(writer, path.name)
        for answer in responses:
            data = answers.body(answer)
            headers = [
                ("Content-Type", answers.content_type(answer)),
                ("Content-Length", str(len(data))),
                *answer.headers,
            ]
            http = StatusAndHeaders(answer.status_line, headers, protocol="HTTP/1.1")
            fixed = _fixed("response", records.record_id("answer", answer.url))
            writer.write_record(
                writer.create_warc_record(
                    answer.url, "response", BytesIO(data), len(data), warc_headers_dict=fixed, http_headers=http
                )
            )
            if answer.listed:
                listed.append(sha256(data).hexdigest())
    if listed:
        known = out / "known" / f"{name}.txt"
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text("\n".join([*sorted(listed), ""]))
    return {"pages": 0, "links": 0, "images": sum(answer.picture is not None for answer in responses)}


def _fixed(kind: str, identity: str) -> dict[str, str]:
    """Return the headers that warcio would otherwise fill with the time and random numbers."""
    return {"WARC-Type": kind, "WARC-Date": records.EXTRACTED, "WARC-Record-ID": identity}


def _write_info(writer: WARCWriter, file_name: str) -> None:
    lines = ("Software-Info: laion_dask demo", "description: generated demo crawl", "format: WARC File Format 1.0")
    data = "".join(f"{line}\r\n" for line in lines).encode()
    headers = _fixed("warcinfo", records.record_id("info", file_name)) | {"WARC-Filename": file_name}
    writer.write_record(writer.create_warc_record("", "warcinfo", BytesIO(data), len(data), warc_headers_dict=headers))


def _write_metadata(writer: WARCWriter, uri: str, identity: str, refers_to: str, data: bytes) -> None:
    headers = _fixed("metadata", identity) | {"WARC-Target-URI": uri, "WARC-Refers-To": refers_to}
    writer.write_record(
        writer.create_warc_record(
            uri, "metadata", BytesIO(data), len(data), "application/json", warc_headers_dict=headers
        )
    )
