"""Request one byte range of a file by HTTP, S3 or another fsspec file system, and classify its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

REQUEST_S: Final = 300.0
"""Time limit of one request, also for slow servers; bytes received until then are kept."""

See = Callable[[int, str], None]
"""Called with the file's size in bytes and its ETag before its bytes are returned."""

# Not worth retrying. 400: invalid address; 405: not readable; 416: the file ends before this range.
_GONE: Final = frozenset({400, 404, 405, 410, 416})
# What S3 answers, with status 403, to a client that it does not know or that lacks the right.
_NO_RIGHT: Final = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
)
_MAX_TEXT: Final = 200


class LocationError(Exception):
    """Nothing can be read at this location; a retry would fail too."""


class AgainError(Exception):
    """This request failed, but a retry may succeed; `retry_after_s` is the server's Retry-After, 0 without one.

    `lacks_right` says that the server does not know the client, or that the client lacks the right to read.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0, *, lacks_right: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.lacks_right = lacks_right


def get_http(system: Any, url: str, start: int, end: int, data: bytearray, see: See) -> None:  # noqa: ANN401
    """Request a range of an https or http address."""
    import aiohttp  # noqa: PLC0415 - only remote WATs need it
    from fsspec.asyn import sync  # noqa: PLC0415

    options = dict(system.kwargs)
    # Identity: some servers would compress the .gz again, or make the client decompress it.
    options["headers"] = {**options.get("headers", {}), **_range(start, end), "Accept-Encoding": "identity"}

    async def get() -> None:
        session = await system.set_session()
        timeout = aiohttp.ClientTimeout(total=REQUEST_S, sock_read=60)
        async with session.get(system.encode_url(url), auto_decompress=False, timeout=timeout, **options) as answer:
            etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
            spans = answer.headers.get("Content-Range", "")
            if answer.status == 416 and spans.endswith("/0"):
                return see(0, etag)
            if answer.status not in {200, 206}:
                raise _refused(answer.status, answer.reason or "", answer.headers.get("Retry-After", ""))
            see(_size(spans, start) if answer.status == 206 else _unranged(answer.content_length, start, end), etag)
            async for chunk in answer.content.iter_any():
                data.extend(chunk)
        return None

    try:
        sync(system.loop, get)
    except ValueError as error:
        raise LocationError(first_line(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise AgainError(first_line(error)) from error


def get_s3(system: Any, path: str, start: int, end: int, data: bytearray, see: See) -> None:  # noqa: ANN401
    """Request a range of an S3 object with the client of s3fs, without s3fs's retries."""
    import asyncio  # noqa: PLC0415 - only remote WATs need these

    import aiohttp  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # noqa: PLC0415
    from fsspec.asyn import sync  # noqa: PLC0415

    async def fetch() -> None:
        await system.set_session()
        bucket, key, version = system.split_path(path)
        client = await system.get_s3(bucket)
        only = {"VersionId": version} if version else {}
        answer = await client.get_object(Bucket=bucket, Key=key, **_range(start, end), **only, **system.req_kw)
        see(_size(answer.get("ContentRange", ""), start), answer.get("ETag", ""))
        async with answer["Body"] as body:
            while chunk := await body.read(2**18):
                data.extend(chunk)

    async def get() -> None:
        async with asyncio.timeout(REQUEST_S):
            await fetch()

    try:
        sync(system.loop, get)
    except ClientError as error:
        answer = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "InvalidRange" and start == 0:
            return see(0, "")
        retry_after = answer.get("HTTPHeaders", {}).get("retry-after", "")
        raise _refused(int(answer.get("HTTPStatusCode", 0)), code, retry_after) from error
    except ValueError as error:
        raise LocationError(first_line(error)) from error
    except (aiohttp.ClientError, BotoCoreError, OSError) as error:
        raise AgainError(first_line(error)) from error
    return None


def get_other(system: Any, path: str, start: int, end: int, data: bytearray, see: See) -> None:  # noqa: ANN401
    """Request a range with the methods that every fsspec file system has."""
    try:
        about = system.info(path)
        size = int(about["size"])
        part = system.cat_file(path, start=start, end=min(end, size))
    except (FileNotFoundError, PermissionError, IsADirectoryError, ValueError) as error:
        raise LocationError(first_line(error)) from error
    # Each file system raises its own errors; any error is retried, then fails only this WAT.
    except Exception as error:
        raise AgainError(first_line(error)) from error
    see(size, str(about.get("ETag") or about.get("etag") or ""))
    data.extend(part)


def _range(start: int, end: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-{end - 1}"}


def _size(content_range: str, start: int) -> int:
    """Return the file size of a Content-Range such as `bytes 0-99/1234`; its range must begin at `start`."""
    unit, _, rest = content_range.partition(" ")
    span, _, size = rest.partition("/")
    if unit != "bytes" or not size.isdecimal() or span.partition("-")[0] != str(start):
        raise LocationError(f"the server answers a request for bytes from {start} with {content_range!r}")
    return int(size)


def _unranged(size: int | None, start: int, end: int) -> int:
    """Return the size of an answer without range support: accepted if the file fits into one block."""
    if start or size is None or size > end:
        raise LocationError("the server does not send parts of a file (no Range). Remedy: download the file first")
    return size


def _refused(status: int, reason: str, retry_after: str) -> Exception:
    message = f"status {status} {reason}".strip()
    if status in _GONE:
        return LocationError(message)
    # Only seconds: the other form, a date, would depend on the clock.
    seconds = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 9 else 0.0
    return AgainError(message, seconds, lacks_right=reason in _NO_RIGHT)


def first_line(error: Exception) -> str:
    """Return the class of an error and the first line of its message, up to 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:_MAX_TEXT] if lines else ''}"
