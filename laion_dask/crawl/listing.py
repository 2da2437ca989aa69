"""List the WATs to read: local files, addresses, or a sample of Common Crawl's crawls.

Also Common Crawl's list of its crawls, and the sizes of its WATs. The demo crawl makes its own list
(`laion_dask.demo.crawl.files.finish`).
"""

from __future__ import annotations

import asyncio
import errno
import functools
import glob
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import fsspec
import fsspec.core
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import ClientError, ClientPayloadError, ClientResponseError, ServerDisconnectedError
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed

from laion_dask import params, schema

FILES: Final = "files"
UNKNOWN_BYTES: Final = -1

COLLECTIONS_URL: Final = "https://index.commoncrawl.org/collinfo.json"
"""Common Crawl's own list of its crawls."""

# Waits before retries: Common Crawl demands exponential backoff, and answers 403 or 503 otherwise.
RETRY_WAITS_S: tuple[float, ...] = (1.0, 4.0, 16.0)
_BUSY: Final = frozenset({403, 429, 500, 502, 503, 504})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)
_NETWORK_ERRORS: Final = (OSError, ClientError, BotoCoreError)

# A WAT of Common Crawl or of a mirror of its bucket: its path, which its pairs record, and the id of its crawl.
_IN_CRAWL: Final = re.compile(r"(?:^|/)(crawl-data/([^/]+)/.+)$")
_WAT_NAMES: Final = ("*.wat.gz", "*.wat.zst", "*.wat")

_Answer = TypeVar("_Answer")


class CrawlError(Exception):
    """The list of WATs cannot be made; the message has the value and the remedy."""


def list_wats(settings: params.Crawl, project: Path = Path()) -> pa.Table:
    """Return the WATs of the sources `files` and `commoncrawl` in reading order: `schema.WATS`.

    With `wats` set, a seeded sample without replacement, in the order of the draw: the sample of n is the beginning of
    the sample of n + 1, so that a larger dataset contains the smaller one. Relative globs are relative to the folder
    `project`. Raises `CrawlError` if a glob matches nothing, a listing cannot be read, or there are fewer WATs than
    requested.
    """
    if settings.source == "files":
        rows = _local(settings.files, project)
    elif settings.source == "commoncrawl":
        base = settings.base_url.rstrip("/")
        rows = [row for crawl in settings.crawls for row in listed(base, crawl)]
    else:
        raise CrawlError(f"source {settings.source!r} has no listing: its WATs are written by laion_dask.demo.crawl")
    if settings.wats is not None:
        rows = sample(rows, settings.wats, settings.seed)
    return _numbered(rows)


def write(out: Path, *, settings: params.Crawl, project: Path) -> dict[str, Any]:
    """Write the list of WATs of any source but the demo to `wats.parquet`, and return how many there are."""
    table = list_wats(settings, project)
    pq.write_table(table, out / "wats.parquet")
    return {"wats": table.num_rows}


def at(places: Sequence[str]) -> pa.Table:
    """Return the WATs that a user names, in that order without duplicates: `schema.WATS`.

    A place is a path, a glob, a folder (all *.wat.gz, *.wat.zst and *.wat below it, sorted) or a URL. WATs under
    `crawl-data/<id>/`, as in Common Crawl's bucket, get that crawl and path. Raises `CrawlError` for a place without a
    WAT, or with one that cannot be read.
    """
    found = dict.fromkeys(location for place in places for location in _at(place))
    rows = []
    for location in found:
        inside = _IN_CRAWL.search(location)
        wat, crawl = inside.groups() if inside else (location, FILES)
        size = UNKNOWN_BYTES if "://" in location else Path(location).stat().st_size
        rows.append({"crawl": crawl, "wat": wat, "location": location, "bytes": size})
    return _numbered(rows)


class Snapshot(NamedTuple):
    """One crawl of Common Crawl: its id, its name, and the days of its first and last page (empty if missing)."""

    id: str
    name: str
    begin: str
    end: str


def snapshots(url: str = COLLECTIONS_URL) -> list[Snapshot]:
    """Return the crawls of a collinfo.json, newest first; `CrawlError` if it cannot be read."""
    try:
        data = _with_retries(
            functools.partial(_read_bytes, url), url, "check the address and the network, then run again"
        )
        found = [
            Snapshot(
                str(entry["id"]),
                str(entry.get("name", "")),
                str(entry.get("from", ""))[:10],
                str(entry.get("to", ""))[:10],
            )
            for entry in json.loads(data)
        ]
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CrawlError(
            f"{url} is no list of crawls ({type(error).__name__}: {error}). Remedy: give the address of a collinfo.json"
        ) from error
    return sorted(found, key=lambda one: (one.begin or one.id.removeprefix("CC-MAIN-"), one.id), reverse=True)


def sizes(locations: Sequence[str]) -> list[int]:
    """Return the sizes of WATs in bytes, with one HEAD request each.

    Raises `CrawlError` if one is missing, has no size, or its host cannot be reached after `RETRY_WAITS_S`.
    """
    remedy = "check the address and the network, then run again"
    found = []
    for location in locations:
        try:
            found.append(_with_retries(functools.partial(_size, location), location, remedy))
        except FileNotFoundError as error:
            raise CrawlError(f"{location} does not exist, though it is listed. Remedy: {remedy}") from error
    return found


def _numbered(rows: Iterable[dict[str, Any]]) -> pa.Table:
    numbered = [{"order": order} | row for order, row in enumerate(rows)]
    return schema.WATS.check(pa.Table.from_pylist(numbered, schema=schema.WATS.schema))


def _at(place: str) -> list[str]:
    """Return the locations of the WATs at one place."""
    protocol, _, _ = place.partition("://")
    if protocol == "file":
        return _at(place.removeprefix("file://"))
    if protocol != place:
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise CrawlError(f"{place} cannot be opened ({error}). Remedy: a local path, https:// or s3://") from error
        return [place]
    path = Path(place)
    if path.is_dir():
        found = sorted(str(file) for name in _WAT_NAMES for file in path.rglob(name) if file.is_file())
        remedy = "give a folder with *.wat.gz files, or the files themselves"
    elif path.exists():
        found, remedy = [place], ""
    else:
        found = sorted(file for file in glob.glob(place, recursive=True) if Path(file).is_file())  # noqa: PTH207
        remedy = "correct the path or the glob"
    if not found:
        missing = "does not exist" if path.is_absolute() else f"does not exist in {Path.cwd()}"
        what = "holds no *.wat.gz" if path.is_dir() else missing
        raise CrawlError(f"{place} {what}. Remedy: {remedy}")
    for file in found:
        try:
            with Path(file).open("rb") as stream:
                stream.read(1)
        except OSError as error:
            raise CrawlError(
                f"{file} cannot be read ({error.strerror}). Remedy: make it readable for this user, or leave it out"
            ) from error
    return found


def _local(patterns: tuple[str, ...], project: Path) -> list[dict[str, Any]]:
    """Return the files that the globs match; relative globs and their paths are relative to `project`.

    In the order of the globs, files of each glob sorted, without duplicates. A path that exists is never treated as a
    glob.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        # Path.glob refuses absolute patterns, which users give.
        exists = (project / pattern).exists()
        paths = [pattern] if exists else glob.glob(pattern, root_dir=project, recursive=True)  # noqa: PTH207
        matches = sorted(path for path in paths if (project / path).is_file())
        if not matches:
            remedy = "correct the glob, or fetch the WATs"
            raise CrawlError(f"crawl.files: {pattern!r} matches no file in {project.absolute()}. Remedy: {remedy}")
        found |= dict.fromkeys(Path(path).as_posix() for path in matches)
    return [{"crawl": FILES, "wat": path, "location": path, "bytes": (project / path).stat().st_size} for path in found]


def listed(base: str, crawl: str) -> list[dict[str, Any]]:
    """Return all WATs of a Common Crawl snapshot, sorted by path, since the listing's order is not guaranteed.

    Raises `CrawlError` if there is no such crawl, or its listing cannot be read.
    """
    url = f"{base}/crawl-data/{crawl}/wat.paths.gz"
    paths = sorted(set(_read_listing(url)))
    if not paths:
        raise CrawlError(f"{url} lists no WAT. Remedy: choose another crawl id in crawl.crawls")
    return [{"crawl": crawl, "wat": path, "location": f"{base}/{path}", "bytes": UNKNOWN_BYTES} for path in paths]


def _read_listing(url: str) -> list[str]:
    """Return the lines of a listing, gzipped or plain."""
    remedy = "check crawl.base_url and the network, then run again"
    try:
        data = _with_retries(functools.partial(_read_bytes, url), url, remedy)
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except FileNotFoundError as error:
        raise CrawlError(
            f"{url} does not exist. Remedy: check the id in crawl.crawls (CC-MAIN-<year>-<week>; `laion-dask crawls` "
            "lists them) and crawl.base_url"
        ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CrawlError(f"{url} cannot be read ({error}). Remedy: {remedy}") from error
    except ValueError as error:
        raise CrawlError(
            f"crawl.base_url gives the address {url!r}, which cannot be opened ({error}). Remedy: use https:// or s3://"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _with_retries(request: Callable[[], _Answer], url: str, remedy: str) -> _Answer:
    """Send a request, with retries while the host is busy; raises `FileNotFoundError`, else `CrawlError`."""
    retrying = Retrying(
        retry=retry_if_exception(_is_busy),
        wait=wait_chain(*(wait_fixed(seconds) for seconds in RETRY_WAITS_S or (0.0,))),
        stop=stop_after_attempt(len(RETRY_WAITS_S) + 1),
        reraise=True,
    )
    try:
        return retrying(request)
    except FileNotFoundError:
        raise
    except _NETWORK_ERRORS as error:
        attempts = retrying.statistics.get("attempt_number", 1)
        times = f", {attempts} times in {retrying.statistics.get('idle_for', 0):.0f} s" if attempts > 1 else ""
        raise CrawlError(f"{url} cannot be read ({_cause(error)}{times}). Remedy: {remedy}") from error


def _is_busy(error: BaseException) -> bool:
    if isinstance(error, ClientResponseError):
        return error.status in _BUSY
    # s3fs makes EBUSY out of SlowDown and of 503.
    return isinstance(error, ClientPayloadError | ServerDisconnectedError | TimeoutError) or (
        isinstance(error, OSError) and error.errno == errno.EBUSY
    )


def _cause(error: Exception) -> str:
    if isinstance(error, ClientResponseError):
        hint = "; Common Crawl answers so to clients that ask too often" if error.status in {403, 429, 503} else ""
        return f"status {error.status} {error.message}{hint}"
    return str(error) or type(error).__name__


def _options(url: str) -> dict[str, Any]:
    # The bucket is public: without this option, s3fs looks for credentials and fails if there are none.
    return {"anon": True} if url.startswith("s3://commoncrawl/") else {}


def _read_bytes(url: str) -> bytes:
    system, path = fsspec.core.url_to_fs(url, **_options(url))
    # open() would request the size first, and report a lost connection as a missing file.
    data: bytes = system.cat_file(path)
    return data


def _size(url: str) -> int:
    if url.startswith(("http://", "https://")):
        return asyncio.run(_content_length(url))
    system, path = fsspec.core.url_to_fs(url, **_options(url))
    return int(system.size(path))


async def _content_length(url: str) -> int:
    # fsspec would GET the whole file after a failed HEAD, and report any failure as a missing file.
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as session,
        session.head(url, allow_redirects=True) as response,
    ):
        if response.status in {404, 410}:
            raise FileNotFoundError(errno.ENOENT, "does not exist", url)
        response.raise_for_status()
        if response.content_length is None:
            raise OSError(errno.ENODATA, "the server sends no size")
        return response.content_length


def sample(rows: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return the first `count` of a seeded permutation: the sample of n begins that of n + 1."""
    if count > len(rows):
        raise CrawlError(
            f"crawl.wats = {count}, but there are {len(rows)} WATs. Remedy: lower it, or null for all of them"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    return [rows[int(place)] for place in order[:count]]
