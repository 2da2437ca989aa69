"""Find objects of a bucket by name or glob, with size and ETag: on S3, and on other file systems that fsspec can list.

Credentials and endpoint come from fsspec's configuration, or from the standard environment and files of AWS. Without
credentials, requests are anonymous: public buckets need none.
"""

from __future__ import annotations

import errno
import functools
import glob
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from laion_dask.params.crawl import masked

FILE: Final = "objects.parquet"
"""Name of the table of listed objects, beside the list of WATs."""
UNKNOWN_BYTES: Final = -1

# Waits before retries: Common Crawl demands exponential backoff, and answers 403 or 503 otherwise.
RETRY_WAITS_S: tuple[float, ...] = (1.0, 4.0, 16.0)
_BUSY: Final = frozenset({403, 429, 500, 502, 503, 504})
# What s3fs makes out of SlowDown and status 503, and out of InternalError and status 500.
_BUSY_ERRNO: Final = frozenset({errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO)})
_S3: Final = ("s3", "s3a")
_HTTP: Final = ("http", "https")
_THREADS: Final = 16
RIGHTS_REMEDY: Final = (
    "give this user the right to list and read it, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or "
    "~/.aws, on this machine and on each worker"
)
_ENDPOINT: Final = "AWS_ENDPOINT_URL, the profile of AWS_PROFILE, or fsspec's configuration"

_Answer = TypeVar("_Answer")


class ObjectError(Exception):
    """An address names no object, or the object cannot be read; the message has the address, cause and remedy."""


class NoObjectError(ObjectError):
    """There is no such bucket or object, or a glob matches none."""


class ListedObject(NamedTuple):
    """One object as it was listed; its size is `UNKNOWN_BYTES` and its ETag empty where no server was asked."""

    location: str
    bytes: int
    etag: str


def is_address(place: str) -> bool:
    """Say whether a place is an address and no local path; `file://` is a local path."""
    return "://" in place and not place.startswith("file://")


def can_list(place: str) -> bool:
    """Say whether size and ETag come with a listing: on every file system but HTTP, which would need many requests."""
    return is_address(place) and _protocol(place) not in _HTTP


def options(place: str) -> dict[str, Any]:
    """Return options for fsspec beyond the user's own configuration; raises `ObjectError` for unreadable credentials.

    Retries are made here and by s3fs, not by botocore.
    """
    if _protocol(place) not in _S3:
        return {}
    from fsspec.config import conf  # noqa: PLC0415 - only addresses need it

    configured = conf.get("s3", {})
    found: dict[str, Any] = {
        "config_kwargs": {**configured.get("config_kwargs", {}), "retries": {"total_max_attempts": 1}},
        # A worker lives longer than a listing is true.
        "use_listings_cache": False,
    }
    if not configured.keys() & {"anon", "key", "secret", "token", "profile"}:
        found["anon"] = not _has_credentials()
    return found


@functools.cache
def _has_credentials() -> bool:
    """Tell whether botocore finds credentials for S3; outside of Amazon's machines the search takes seconds."""
    import botocore.session  # type: ignore[import-untyped]  # noqa: PLC0415 - only addresses need it
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return botocore.session.get_session().get_credentials() is not None
    except BotoCoreError as error:
        raise ObjectError(
            f"the credentials for S3 cannot be read ({error}). Remedy: correct AWS_PROFILE or the files in ~/.aws"
        ) from error


def find_all(places: Sequence[str]) -> list[list[ListedObject]]:
    """Return what `find` returns for each place, asking for several at once."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(find, places))


def find(place: str) -> list[ListedObject]:
    """Return the object at an address, or those that its glob matches, sorted by location.

    An object that exists is never treated as a glob. An address of HTTP is returned as it is, without a request. Raises
    `ObjectError` where there is none, or the server refuses.
    """
    system, path = _opened(place)
    if not can_list(place):
        return [ListedObject(place, UNKNOWN_BYTES, "")]
    system.invalidate_cache()
    remedy = f"check the address, the network and the endpoint ({_ENDPOINT}), then run again"
    try:
        found = with_retries(functools.partial(_infos, system, path), place, remedy, denied=_denied(system))
    except FileNotFoundError:
        found = []
    if not found:
        raise _missing(system, path, place)
    if glob.has_magic(path) is False and found[0]["type"] == "directory":
        named = f"{place.rstrip('/')}/*.warc.wat.gz"
        raise ObjectError(f"{place} is a folder. Remedy: name its files with a glob, such as {named}")
    listed = [
        ListedObject(f"{_protocol(place)}://{str(info['name']).lstrip('/')}", int(info["size"]), etag(info))
        for info in found
    ]
    return sorted(listed)


def first_byte(one: ListedObject) -> None:
    """Read the first byte of an object; raises `ObjectError` where it may be listed and not read."""
    if one.bytes:
        system, path = _opened(one.location)
        remedy = "check the address and the network, then run again"
        read = functools.partial(system.cat_file, path, start=0, end=1)
        try:
            with_retries(read, one.location, remedy, denied=_denied(system))
        except FileNotFoundError as error:
            raise NoObjectError(f"{one.location} is gone since it was listed. Remedy: run again") from error


def etag(info: dict[str, Any]) -> str:
    """Return the ETag that a file system tells of an object; empty where it has none."""
    return str(info.get("ETag") or info.get("etag") or "")


def with_retries(
    request: Callable[[], _Answer],
    place: str,
    remedy: str,
    failure: type[Exception] = ObjectError,
    denied: str = RIGHTS_REMEDY,
) -> _Answer:
    """Send a request, with retries while the host is busy; raises `FileNotFoundError`, else `failure`.

    `denied` is the remedy where the server refuses the client, `remedy` that of all other errors.
    """
    from aiohttp import ClientError  # noqa: PLC0415 - only addresses need these
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed  # noqa: PLC0415

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
    except (OSError, ClientError, BotoCoreError) as error:
        attempts = retrying.statistics.get("attempt_number", 1)
        times = f", {attempts} times in {retrying.statistics.get('idle_for', 0):.0f} s" if attempts > 1 else ""
        cause = masked(_cause(error))
        chosen = denied if isinstance(error, PermissionError) else remedy
        raise failure(f"{place} cannot be read ({cause}{times}). Remedy: {chosen}") from error


def _is_busy(error: BaseException) -> bool:
    from aiohttp import (  # noqa: PLC0415 - only addresses need these
        ClientPayloadError,
        ClientResponseError,
        ServerDisconnectedError,
    )

    if isinstance(error, ClientResponseError):
        return error.status in _BUSY
    return isinstance(error, ClientPayloadError | ServerDisconnectedError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in _BUSY_ERRNO
    )


def _cause(error: Exception) -> str:
    from aiohttp import ClientResponseError  # noqa: PLC0415 - only addresses need it

    if isinstance(error, ClientResponseError):
        hint = "; Common Crawl answers so to clients that ask too often" if error.status in {403, 429, 503} else ""
        return f"status {error.status} {error.message}{hint}"
    if isinstance(error, OSError) and error.errno in _BUSY_ERRNO and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _protocol(place: str) -> str:
    return place.partition("://")[0].lower()


def _opened(place: str) -> tuple[Any, str]:
    """Return the file system of an address and the path there."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - only addresses need it

    try:
        system, path = url_to_fs(place, **options(place))
    except (ImportError, ValueError) as error:
        raise ObjectError(f"{place} cannot be opened ({error}). Remedy: a local path, https:// or s3://") from error
    if can_list(place) and glob.has_magic(path.partition("/")[0]):
        raise ObjectError(f"{place} has a wildcard in the name of the bucket. Remedy: name each bucket")
    return system, path


def _denied(system: Any) -> str:  # noqa: ANN401 - a file system of fsspec
    """Return the remedy where a server refuses us."""
    return f"no credentials are found here: {RIGHTS_REMEDY}" if getattr(system, "anon", False) else RIGHTS_REMEDY


def _infos(system: Any, path: str) -> list[dict[str, Any]]:  # noqa: ANN401 - a file system of fsspec
    """Return what the file system tells of the object at a path, or of those that a glob matches."""
    if not glob.has_magic(path):
        return [system.info(path)]
    matches = system.glob(path, detail=True).values()
    found = [info for info in matches if info["type"] == "file" and not str(info["name"]).endswith("/")]
    # A name matches itself as a glob, unless it has a bracket.
    if "[" in path or any(info["name"] == path for info in found):
        with suppress(FileNotFoundError):
            info = system.info(path)
            if info["type"] == "file":
                return [info]
    return found


def _missing(system: Any, path: str, place: str) -> NoObjectError:  # noqa: ANN401 - a file system of fsspec
    """Return the error of an address without an object: the bucket, the object or the match is missing."""
    bucket = path.lstrip("/").partition("/")[0]
    at = f" at {masked(str(system.s3.meta.endpoint_url))}" if _protocol(place) in _S3 else ""
    with suppress(OSError):
        try:
            system.info(bucket)
        except FileNotFoundError:
            return NoObjectError(
                f"{place}: there is no bucket {bucket}{at}. Remedy: correct its name, or the endpoint ({_ENDPOINT})"
            )
    if glob.has_magic(path):
        return NoObjectError(f"{place} matches no object{at}. Remedy: correct the glob, or put the files there")
    return NoObjectError(f"{place} does not exist{at}. Remedy: correct the address, or put the file there")
