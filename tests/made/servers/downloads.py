"""Downloads for tests: answers in WARC files, URLs in a work list, and the shard that comes of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from laion_dask import params, schema
from laion_dask.download.part import download
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.fetch.replay_address import ReplayAddress

Response = tuple[str, str, list[tuple[str, str]], bytes]
JPEG = [("Content-Type", "image/jpeg")]


def picture(seed: int, width: int = 320, height: int = 200, kind: str = "JPEG") -> bytes:
    """Return a picture of random squares."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.kron(noise, np.ones((8, 8, 1), np.uint8))).save(out, kind)
    return out.getvalue()


def write_warc(path: Path, responses: Sequence[Response]) -> Path:
    """Write response records, each a gzip member."""
    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for url, status, headers, body in responses:
            http = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
            writer.write_record(
                writer.create_warc_record(url, "response", io.BytesIO(body), len(body), http_headers=http)
            )
    return path


def write_work(path: Path, urls: Sequence[str]) -> Path:
    """Write a work list of the stage download: row n has the uid n."""
    rows: list[dict[str, Any]] = []
    for place, url in enumerate(urls):
        row: dict[str, Any] = {
            column.name: 0 if pa.types.is_integer(column.type) else 0.5 if pa.types.is_floating(column.type) else ""
            for column in schema.WORK.columns
        }
        row |= {
            "place": place,
            "uid": f"{place:032x}",
            "url": url,
            "text": f"caption {place}",
            "host": urlsplit(url).hostname,
        }
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.WORK.schema), path)
    return path


def run(
    out: Path,
    work: Path,
    settings: params.Download,
    address: ReplayAddress,
    workers: int = 1,
    **more: Any,  # noqa: ANN401 - of download
) -> dict[str, Any]:
    """Download shard 00003 with a server of rate limits of its own; return its counts."""
    out.mkdir(parents=True)
    with LimitServer(settings) as limit_server:
        return download(
            out,
            name="00003",
            work=work,
            settings=settings,
            replay=address,
            user_agent="laion-dask/test",
            workers=workers,
            limit_server=limit_server.address,
            **more,
        )


def run_archiving(
    out: Path,
    work: Path,
    settings: params.Download,
    *,
    address: ReplayAddress | None = None,
    index: Path | None = None,
    name: str = "00003",
) -> dict[str, Any]:
    """Download a shard from a replay server and keep an archive of it, or answer it out of the archive `index`."""
    out.mkdir(parents=True)
    return download(
        out,
        name=name,
        work=work,
        settings=settings,
        replay=address,
        user_agent="laion-dask/test (+me)",
        workers=1,
        archive=index,
    )
