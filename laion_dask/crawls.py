"""Crawl parameters in, the list of WATs to read out: local files by glob, or a sample of Common Crawl's listings.

The demo crawl makes its own list (`laion_dask.demo.crawl.finish`).
"""

from __future__ import annotations

import glob
import gzip
import zlib
from pathlib import Path
from typing import Any, Final

import fsspec.core
import numpy as np
import pyarrow as pa
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from laion_dask import params, schema

FILES: Final = "files"
UNKNOWN_BYTES: Final = -1


class CrawlError(Exception):
    """The list of WATs cannot be made; the message has the value and the remedy."""


def list_wats(settings: params.Crawl) -> pa.Table:
    """Return the WATs of the sources `files` and `commoncrawl` in reading order: `schema.WATS`.

    With `wats` set, a seeded sample without replacement, in the order in which it was drawn: the sample of n is the
    beginning of the sample of n + 1, so that a larger dataset contains the smaller one. Raises `CrawlError` if a glob
    matches nothing, a listing cannot be read, or fewer WATs are there than were asked for.
    """
    if settings.source == "files":
        rows = _local(settings.files)
    elif settings.source == "commoncrawl":
        base = settings.base_url.rstrip("/")
        rows = [row for crawl in settings.crawls for row in _listed(base, crawl)]
    else:
        raise CrawlError(f"source {settings.source!r} has no listing: its WATs are written by laion_dask.demo.crawl")
    if settings.wats is not None:
        rows = _sample(rows, settings.wats, settings.seed)
    numbered = [{"order": order} | row for order, row in enumerate(rows)]
    return schema.WATS.check(pa.Table.from_pylist(numbered, schema=schema.WATS.schema))


def _local(patterns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the files that the globs match: globs in the given order, files of one sorted, none twice."""
    found: dict[str, None] = {}
    for pattern in patterns:
        # Path.glob refuses absolute patterns, which users give.
        matches = sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())  # noqa: PTH207
        if not matches:
            raise CrawlError(
                f"crawl.files: {pattern!r} matches no file in {Path.cwd()}. Remedy: correct the glob, or fetch the WATs"
            )
        found |= dict.fromkeys(Path(path).as_posix() for path in matches)
    return [{"crawl": FILES, "wat": path, "location": path, "bytes": Path(path).stat().st_size} for path in found]


def _listed(base: str, crawl: str) -> list[dict[str, Any]]:
    """Return all WATs of a Common Crawl snapshot, sorted by path: the listing's own order is not promised."""
    url = f"{base}/crawl-data/{crawl}/wat.paths.gz"
    paths = sorted(set(_read_listing(url)))
    if not paths:
        raise CrawlError(f"{url} lists no WAT. Remedy: choose another crawl id in crawl.crawls")
    return [{"crawl": crawl, "wat": path, "location": f"{base}/{path}", "bytes": UNKNOWN_BYTES} for path in paths]


def _read_listing(url: str) -> list[str]:
    """Return the lines of a gzipped listing; plain text is read as well."""
    # That bucket is public: without this, s3fs looks for credentials and fails where there are none.
    options = {"anon": True} if url.startswith("s3://commoncrawl/") else {}
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
        # Unlike open(), which asks for the size first and takes a lost connection for a missing file.
        data: bytes = system.cat_file(path)
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except FileNotFoundError as error:
        raise CrawlError(
            f"{url} does not exist. Remedy: check the id in crawl.crawls (CC-MAIN-<year>-<week>) and crawl.base_url"
        ) from error
    except (OSError, ClientError, BotoCoreError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CrawlError(
            f"{url} cannot be read ({error}). Remedy: check crawl.base_url and the network, then run again; "
            "Common Crawl answers 403 or 503 to clients that ask too often"
        ) from error
    except ValueError as error:
        raise CrawlError(
            f"crawl.base_url gives the address {url!r}, which cannot be opened ({error}). Remedy: use https:// or s3://"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _sample(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return the first `count` of a seeded permutation."""
    if count > len(rows):
        raise CrawlError(
            f"crawl.wats = {count}, but there are {len(rows)} WATs. Remedy: lower it, or null for all of them"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    return [rows[int(place)] for place in order[:count]]
