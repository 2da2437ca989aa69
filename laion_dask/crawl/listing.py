"""List the WATs to read: local files, objects of buckets, addresses, or a sample of Common Crawl's crawls.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import fsspec
import fsspec.core
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.params.crawl import address_problem
from laion_dask.storage import objects
from laion_dask.storage.objects import UNKNOWN_BYTES, ListedObject

FILES: Final = "files"
COLLECTIONS_URL: Final = "https://index.commoncrawl.org/collinfo.json"
"""Common Crawl's own list of its crawls."""

WATS_OF_A_CRAWL: Final = 1_000_000
"""Numbers that are left for the WATs of each crawl; Common Crawl's have 90,000."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)

# A WAT of Common Crawl or of a mirror of its bucket: its path, which its pairs record, and the id of its crawl.
_IN_CRAWL: Final = re.compile(r"(?:^|/)(crawl-data/([^/]+)/.+)$")
_WAT_NAMES: Final = ("*.wat.gz", "*.wat.zst", "*.wat")

_Answer = TypeVar("_Answer")
_Row = dict[str, Any]
"""A row of schema.WATS without its order; that of an object in a bucket has its `etag` too."""


class CrawlError(Exception):
    """The list of WATs cannot be made; the message has the value and the remedy."""


def list_wats(settings: params.Crawl, project: Path = Path()) -> pa.Table:
    """Return the WATs of the sources `files` and `commoncrawl` in reading order: `schema.WATS`.

    With `wats` set, a seeded sample without replacement of each crawl, in the order of the draw: the sample of n is the
    beginning of the sample of n + 1, so that a larger dataset contains the smaller one. Relative globs are relative to
    the folder `project`. Raises `CrawlError` if a glob matches nothing, a listing cannot be read, or there are fewer
    WATs than requested.
    """
    return _numbered(_listed(settings, project))


def _listed(settings: params.Crawl, project: Path) -> list[_Row]:
    if settings.source == "files":
        rows = _files(settings.files, project)
    elif settings.source == "commoncrawl":
        base = settings.base_url.rstrip("/")
        rows = [row for crawl in settings.crawls for row in listed(base, crawl)]
    else:
        raise CrawlError(f"source {settings.source!r} has no listing: its WATs are written by laion_dask.demo.crawl")
    if settings.wats is None:
        return rows
    # Of each crawl by itself: a further crawl does not change the samples of those before.
    return [row for of_crawl in _by_crawl(rows).values() for row in sample(of_crawl, settings.wats, settings.seed)]


def _by_crawl(rows: Iterable[_Row]) -> dict[str, list[_Row]]:
    """Return the rows by crawl, crawls in the order of their first row."""
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row["crawl"], []).append(row)
    return found


def write(out: Path, *, settings: params.Crawl, project: Path) -> dict[str, Any]:
    """Write the list of WATs of any source but the demo to `wats.parquet`, and return how many there are.

    Of WATs in buckets, `objects.parquet` has size and ETag (schema.OBJECTS), which the stage extract compares.
    """
    rows = _listed(settings, project)
    table = _numbered(rows)
    pq.write_table(table, out / "wats.parquet")
    if in_buckets := _in_buckets(rows):
        listed = [one._asdict() for one in in_buckets.values()]
        pq.write_table(pa.Table.from_pylist(listed, schema=schema.OBJECTS.schema), out / objects.FILE)
    return {"wats": table.num_rows}


def at(places: Sequence[str]) -> pa.Table:
    """Return the WATs that a user names: the table of `at_places`."""
    return at_places(places)[0]


def at_places(places: Sequence[str]) -> tuple[pa.Table, Mapping[str, ListedObject]]:
    """Return the WATs that a user names, in that order without duplicates, and those of buckets as they were listed.

    The table is `schema.WATS`. A place is a path, a glob, a folder (all *.wat.gz, *.wat.zst and *.wat below it, sorted)
    or an address, in a bucket also with a glob, or ending in / for all below it. WATs under `crawl-data/<id>/`, as in
    Common Crawl's bucket, get that crawl and path. Raises `CrawlError` for a place without a WAT, or with one that
    cannot be read.
    """
    rows = {row["location"]: row for place in places for row in _at(place)}
    return _numbered(rows.values()), _in_buckets(rows.values())


def _row(location: str, size: int) -> _Row:
    inside = _IN_CRAWL.search(location)
    wat, crawl = inside.groups() if inside else (location, FILES)
    return {"crawl": crawl, "wat": wat, "location": location, "bytes": size}


def _of_objects(found: Iterable[ListedObject]) -> list[_Row]:
    """Return a row for each address; those of HTTP, for which no server was asked, have no ETag."""
    rows = []
    for one in found:
        row = _row(one.location, one.bytes)
        rows.append(row | {"etag": one.etag} if objects.can_list(one.location) else row)
    return rows


def _in_buckets(rows: Iterable[_Row]) -> dict[str, ListedObject]:
    """Return the objects in buckets among the rows, by location."""
    return {row["location"]: ListedObject(row["location"], row["bytes"], row["etag"]) for row in rows if "etag" in row}


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
    """Give the WATs of each crawl their own numbers, so that a further crawl leaves those of earlier ones."""
    numbered = [
        {"order": crawl * WATS_OF_A_CRAWL + place} | row
        for crawl, of_crawl in enumerate(_by_crawl(rows).values())
        for place, row in enumerate(of_crawl)
    ]
    return schema.WATS.check(pa.Table.from_pylist(numbered, schema=schema.WATS.schema))


def _at(place: str) -> list[_Row]:
    """Return the WATs at one place."""
    if place.startswith("file://"):
        return _at(place.removeprefix("file://"))
    if objects.is_address(place):
        return _at_address(place)
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
    return [_row(file, Path(file).stat().st_size) for file in found]


def _at_address(place: str) -> list[_Row]:
    """Return the WATs at an address: the one there, the matches of its glob, or all below it if it ends in /."""
    if problem := address_problem(place):
        raise CrawlError(problem)
    below = place.endswith("/") and objects.can_list(place)
    found: list[ListedObject] = []
    try:
        for pattern in [f"{place}**/{name}" for name in _WAT_NAMES] if below else [place]:
            try:
                found += objects.find(pattern)
            except objects.NoObjectError:
                if not below:
                    raise
    except objects.ObjectError as error:
        raise CrawlError(str(error)) from error
    if not found:
        raise CrawlError(
            f"{place} holds no *.wat.gz. Remedy: give a folder with *.wat.gz files, or the files themselves"
        )
    return _of_objects(sorted(found))


def _files(patterns: tuple[str, ...], project: Path) -> list[_Row]:
    """Return the files and objects that the globs match, in the order of the globs, those of each glob sorted.

    Without duplicates. What exists is never treated as a glob. Relative globs and their paths are relative to
    `project`.
    """
    addresses = [pattern for pattern in patterns if objects.is_address(pattern)]
    try:
        of_address = dict(zip(addresses, objects.find_all(addresses), strict=True))
    except objects.ObjectError as error:
        raise CrawlError(f"crawl.files: {error}") from error
    found: dict[str, _Row] = {}
    for pattern in patterns:
        matches = _of_objects(of_address[pattern]) if pattern in of_address else _local(pattern, project)
        found |= {row["location"]: row for row in matches if row["location"] not in found}
    return list(found.values())


def _local(pattern: str, project: Path) -> list[_Row]:
    # Path.glob refuses absolute patterns, which users give.
    exists = (project / pattern).exists()
    paths = [pattern] if exists else glob.glob(pattern, root_dir=project, recursive=True)  # noqa: PTH207
    matches = sorted(path for path in paths if (project / path).is_file())
    if not matches:
        remedy = "correct the glob, or fetch the WATs"
        raise CrawlError(f"crawl.files: {pattern!r} matches no file in {project.absolute()}. Remedy: {remedy}")
    return [_row(Path(path).as_posix(), (project / path).stat().st_size) for path in matches]


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
    return objects.with_retries(request, url, remedy, CrawlError)


def _read_bytes(url: str) -> bytes:
    system, path = fsspec.core.url_to_fs(url, **objects.options(url))
    # open() would request the size first, and report a lost connection as a missing file.
    data: bytes = system.cat_file(path)
    return data


def _size(url: str) -> int:
    if url.startswith(("http://", "https://")):
        return asyncio.run(_content_length(url))
    system, path = fsspec.core.url_to_fs(url, **objects.options(url))
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
        of = f" of {rows[0]['crawl']}" if rows else ""
        raise CrawlError(
            f"crawl.wats = {count}, but there are {len(rows)} WATs{of}. Remedy: lower it, or null for all of them"
        )
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    return [rows[int(place)] for place in order[:count]]
