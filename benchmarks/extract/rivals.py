"""The name of a reader and WATs in, one line of JSON out: seconds, bytes, pairs, and on demand a digest of the uids.

    python -m benchmarks.extract.rivals cc2dataset --core 1 FILE...

Each reader runs in a process of its own, held to one core from the start. Starting Python is not counted, nor is a
first reading of the first file: libraries and models are loaded by it. Threads and garbage collection are as the
library has them. Only the standard library is imported here, since cc2dataset lives in an environment of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

_IMAGE = "IMG@/src"


class Found(NamedTuple):
    """What a reader made of one WAT."""

    raw: int = 0
    """Bytes of record bodies; only the limit counts them."""
    pairs: int = 0
    """Pairs that were returned or written."""
    uids: Iterable[str] = ()


Reader = Callable[[str], Found]


def limit() -> Reader:
    """Read every body with FastWARC and parse nothing: no reader in Python is faster."""
    from fastwarc.warc import ArchiveIterator  # noqa: PLC0415 - each reader imports its own

    def read(path: str) -> Found:
        with Path(path).open("rb") as stream:
            raw = sum(len(record.reader.read()) for record in ArchiveIterator(stream, parse_http=False))
        return Found(raw=raw)

    return read


def cc2dataset() -> Reader:
    """Call the parsing function of the released cc2dataset, with the stream that it makes itself: bytes in memory."""
    from cc2dataset.main import extract_documents_from_wat  # noqa: PLC0415

    def read(path: str) -> Found:
        rows = extract_documents_from_wat(io.BytesIO(Path(path).read_bytes()), "image")
        return Found(pairs=len(rows), uids=(row["uid"] for row in rows))

    return read


def plain() -> Reader:
    """Read with warcio, json and urljoin by cc2dataset's rule, as anyone would write it down first."""
    from warcio.archiveiterator import ArchiveIterator  # noqa: PLC0415

    def read(path: str) -> Found:
        uids: list[str] = []
        with Path(path).open("rb") as stream:
            for record in ArchiveIterator(stream):
                if record.rec_type == "metadata":
                    uids += _plain_uids(json.loads(record.content_stream().read())["Envelope"])
        return Found(pairs=len(uids), uids=uids)

    return read


def _plain_uids(envelope: dict[str, Any]) -> Iterator[str]:
    html = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {}).get("HTML-Metadata", {})
    base = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
    with suppress(ValueError):  # where the base is malformed, the page's address stands for it
        base = urljoin(base, html.get("Head", {}).get("Base", ""))
    for link in html.get("Links", ()):
        if link.get("path") == _IMAGE and link.get("alt"):
            url = link["url"]
            if not url.startswith(("http://", "https://")):
                try:
                    url = urljoin(base, url)
                except ValueError:
                    continue
            if url.startswith(("http://", "https://")):
                yield hashlib.md5((link["alt"] + url).encode()).hexdigest()


def links() -> Reader:
    """Do equal work with ours: the recipe cc2dataset, uids, no language, no personal data, no table."""
    from laion_dask.extract import part  # noqa: PLC0415
    from laion_dask.params import recipes  # noqa: PLC0415

    settings = recipes.load("cc2dataset").extract.model_copy(update={"personal_data": "skip"})

    def read(path: str) -> Found:
        uids = [pair.uid for pairs, _ in part.scan(path, settings) for pair in pairs]
        return Found(pairs=len(uids), uids=uids)

    return read


def everything() -> Reader:
    """Do all that the stage does, by the committed params.yaml: rules, language, personal data, Parquet."""
    from laion_dask import params  # noqa: PLC0415
    from laion_dask.extract import part  # noqa: PLC0415

    settings = params.load().extract

    def read(path: str) -> Found:
        with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
            counts = part.extract(
                Path(folder), name="000000", location=path, crawl="bench", wat=path, order=0, settings=settings
            )
        if counts.get("error"):
            message = f"{path}: {counts['error']}"
            raise RuntimeError(message)
        return Found(pairs=counts["links"]["kept"])

    return read


READERS = {"limit": limit, "cc2dataset": cc2dataset, "plain": plain, "links": links, "all": everything}


def measure(read: Reader, files: Sequence[str], *, uids: bool) -> dict[str, Any]:
    """Read each file once, in order; return seconds on the clock and of the processor, bytes and pairs in all.

    With `uids` also their number without repetitions and the sha256 of them all, sorted.
    """
    total: dict[str, Any] = {"seconds": 0.0, "cpu": 0.0, "raw": 0, "pairs": 0}
    every: list[str] = []
    for path in files:
        Path(path).read_bytes()  # into the page cache
        began, worked = time.perf_counter(), time.process_time()
        found = read(path)
        total["seconds"] += time.perf_counter() - began
        total["cpu"] += time.process_time() - worked
        total["raw"] += found.raw
        total["pairs"] += found.pairs
        if uids:
            every += found.uids
        del found
    if uids:
        total["unique"] = len(set(every))
        total["digest"] = hashlib.sha256("".join(sorted(every)).encode()).hexdigest()
    return total


def main() -> None:
    """Measure one reader and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extract.rivals")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--core", type=int, help="the core to run on; any where left out")
    parser.add_argument("--uids", action="store_true", help="digest of the uids, not in the time")
    parser.add_argument("--sample", action="store_true", help="say which share of the time goes where")
    wanted = parser.parse_args()
    if wanted.core is not None:
        os.sched_setaffinity(0, {wanted.core})
    read = READERS[wanted.reader]()
    read(wanted.files[0])
    if wanted.sample:
        from benchmarks.extract import sampler  # noqa: PLC0415 - signals are for this run only

        with sampler.sampling() as samples:
            result = measure(read, wanted.files, uids=False)
        result |= {"parts": samples.shares(), "places": samples.dearest(20)}
    else:
        result = measure(read, wanted.files, uids=wanted.uids)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
