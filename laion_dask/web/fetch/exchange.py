"""Send one GET request, within a deadline and a size limit; it follows no redirects and retries nothing.

Every outcome of a request is a `Reply`; an exception is a bug, or a fault of this machine.
"""

from __future__ import annotations

import asyncio
import errno
import re
import resource
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from typing import Final, Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from laion_dask.web.fetch import guard
from laion_dask.web.fetch.replay_address import MARK, MARK_DATE, NO_ANSWER, NO_BODY, ReplayAddress, over_tls
from laion_dask.web.fetch.response_head import Connector
from laion_dask.web.fetch.retry_after import Headers, retry_after_s
from laion_dask.web.warc import codings, http_message

_SMALL_BYTES: Final = 64 * 1024
_KEEPALIVE_S: Final = 4.0  # idle connections to many hosts must not use up the file descriptors
_FILES: Final = 65_536
_MAX_HEADERS: Final = 128  # of at most _MAX_FIELD_BYTES each
_MAX_FIELD_BYTES: Final = 8 * 1024
_REPLAY_S: Final = 3600.0  # for one answer of a replay server: a longer wait means a fault, on however busy a machine
_REPLAY_ATTEMPTS: Final = 3  # because a busy machine loses connections
_NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WARC_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_NO_DATE: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or `failure`: the reason of the closed list why there is none. `retry`: another attempt may help."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    failure: str = ""
    message: str = ""
    retry: bool = False
    retry_after_s: float = 0.0
    date: str = ""
    """When it was asked for, ISO 8601 in UTC: of a replayed answer its WARC-Date; empty where nothing was asked."""

    def header(self, name: str) -> str | None:
        """Return the first header of a lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """Limits of a request: seconds in all, bytes of the decoded body; with `cut`, a longer body is cut and no error."""

    timeout_s: float
    max_bytes: int
    cut: bool = False


NOT_HTTP: Final = Reply(failure="http_error", message="the answer is not HTTP, or its headers are too large")
_NO_NAME: Final = Reply(failure="unreachable", message="the address cannot be asked for")
_LOST: Final = Reply(failure="unreachable", message="the connection was lost", retry=True)

ASKER: Final[ContextVar[str]] = ContextVar("asker", default="")
"""On whose behalf the running task sends requests: see `asks_for`.

One asker sends its requests one after the other, so a rerun can repeat the order of each asker's answers. The order of
the answers to rows that run in parallel differs from run to run.
"""


def asks_for(kind: str, name: str, round_number: int | None = None) -> None:
    """Set on whose behalf the running task sends requests: `row` with its uid, or `host` with an origin or licence.

    Without a round number, the previous asker's round stays.
    """
    ASKER.set(f"{kind} {name} {round_number or ASKER.get().rpartition(' ')[2] or 1}")


class Ask(Protocol):
    """A function that answers requests: from the web, a replay server or an archive.

    `wanted` gets status and headers; where it returns False, the body is not read.
    """

    async def __call__(self, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
        """GET a target; it follows no redirect and retries nothing."""
        ...


@asynccontextmanager
async def open_session(replay: ReplayAddress | None, *, user_agent: str, connections: int) -> AsyncIterator[Ask]:
    """Open the connections of one shard: to public addresses only, or to the replay server only."""
    _allow_files()
    marked = replay is not None and replay.marks
    resolver = guard.PublicResolver() if replay is None else guard.ReplayResolver(replay)
    connector = Connector(
        limit=connections,
        # The replay server cannot make a certificate for every recorded name, for example one with an underscore.
        ssl=_tls(replay.ca_pem if replay else None, any_name=marked),
        resolver=resolver,
        use_dns_cache=False,  # the resolver has its own, with limits
        keepalive_timeout=_KEEPALIVE_S,
        socket_factory=guard.socket_factory(replay),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={
            "User-Agent": user_agent,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": codings.ACCEPTED,
            **({MARK: replay.token or "wanted"} if replay is not None and marked else {}),
        },
        auto_decompress=False,  # `codings` decodes as browsers do, up to the size limit
        timeout=aiohttp.ClientTimeout(total=None),
        max_line_size=_MAX_FIELD_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
        max_headers=_MAX_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        if replay is not None and marked:
            yield partial(_replayed, session, encrypted=replay.encrypted)
        else:
            yield partial(exchange, session, refused_is_gone=replay is not None)


@cache
def _allow_files() -> None:
    # Idle connections to thousands of hosts need files; most systems allow a process 1,024 at first.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES and soft != resource.RLIM_INFINITY:
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@lru_cache(maxsize=4)
def _tls(ca_pem: str | None, *, any_name: bool = False) -> ssl.SSLContext:
    # One context for the process: a new one for each request costs tens of milliseconds of CPU.
    context = ssl.create_default_context(cadata=ca_pem)
    context.check_hostname = not any_name
    return context


class ReplayGoneError(Exception):
    """The replay server does not answer; this is an error of the run, never the outcome of a row."""


class ResourcesError(Exception):
    """This machine has no files or buffers left for a connection; this is never the outcome of a row."""


async def exchange(
    session: aiohttp.ClientSession,
    target: guard.Target,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    *,
    refused_is_gone: bool = False,
) -> Reply:
    """GET a target; `wanted` gets status and headers, and where it returns False the body is not read.

    With `refused_is_gone`, one server answers for all hosts, and `ReplayGoneError` is raised where it refuses a
    connection, which it never does while it runs. Raises `ResourcesError` where this machine cannot open a connection.
    """
    if not _is_name(target.host):
        return _NO_NAME
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return replace(await _exchange(session, target, limits, wanted, refused_is_gone=refused_is_gone), date=date)


async def _exchange(
    session: aiohttp.ClientSession,
    target: guard.Target,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    *,
    refused_is_gone: bool,
) -> Reply:
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _get(session, target.href, limits, wanted)
    except TimeoutError:
        return Reply(failure="timeout", message=f"not finished after {limits.timeout_s:g} s", retry=True)
    except (aiohttp.ClientResponseError, HttpProcessingError):
        return NOT_HTTP
    except aiohttp.ClientPayloadError as error:
        # Whether invalid bytes arrive with the headers or after them depends on timing; a cut body is another failure.
        return NOT_HTTP if _is_garbage(error) else _no_connection(error)
    except (aiohttp.ClientError, OSError) as error:
        cause = _cause(error)
        if refused_is_gone and isinstance(cause, ConnectionRefusedError):
            raise _gone(target, "is gone") from error
        if isinstance(cause, OSError) and cause.errno in _NO_RESOURCES:
            message = (
                f"{target.href}: {cause.strerror}. Remedy: lower download.connections, or raise the machine's limit"
            )
            raise ResourcesError(message) from error
        return _no_connection(error)


async def _get(
    session: aiohttp.ClientSession,
    href: str,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    tls_name: str | None = None,
) -> Reply:
    async with session.get(URL(href, encoded=True), allow_redirects=False, server_hostname=tls_name) as response:
        return await _read(response, limits, wanted)


async def _read(response: aiohttp.ClientResponse, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
    headers = tuple((name, _value(name, value)) for name, value in response.headers.items())
    head = Reply(
        response.status,
        headers,
        retry=response.status == 429 or response.status >= 500,
        retry_after_s=retry_after_s(headers),
    )
    if len({value for name, value in headers if name.lower() == "location"}) > 1:
        return replace(head, failure="http_error", message="several Location headers that differ", retry=False)
    if wanted(head):
        return await _whole(response, head, limits)
    if response.status != 200 and (response.content_length or _SMALL_BYTES) < _SMALL_BYTES:
        # Reading a short error page allows to use the connection again.
        await _discard(response)
    return head


async def _replayed(
    session: aiohttp.ClientSession,
    target: guard.Target,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    *,
    encrypted: bool,
) -> Reply:
    """GET a target from a replay server that marks its answers, on behalf of all hosts.

    Only a mark of the server means that a host gave no answer, or no body; a timeout or a lost connection does not,
    because the server or this process may be busy. Raises `ReplayGoneError` where the server does not answer.
    """
    if not _is_name(target.host):
        return replace(_NO_NAME, date=_NO_DATE)
    href, tls_name = over_tls(target.href) if encrypted else (target.href, None)
    for last in (False,) * (_REPLAY_ATTEMPTS - 1) + (True,):
        try:
            async with asyncio.timeout(_REPLAY_S):
                return await _get_marked(session, href, limits, wanted, tls_name)
        except TimeoutError as error:
            raise _gone(target, f"has not answered for {_REPLAY_S:g} s") from error
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            if (reply := _of_recording(error, tls_name)) is not None:
                return replace(reply, date=_NO_DATE)
            if last or isinstance(_cause(error), ConnectionRefusedError):
                raise _gone(target, f"is gone ({type(_cause(error)).__name__})") from error
    raise _gone(target, "is gone")


def _valid_warc_date(date: str) -> str:
    """Return a WARC-Date unchanged, or the epoch where it is invalid."""
    try:
        datetime.fromisoformat(date)
    except ValueError:
        return _NO_DATE
    return date if _WARC_DATE.fullmatch(date) else _NO_DATE


def _is_name(host: str) -> bool:
    # A resolver refuses labels that are empty or too long, and TLS would fail to encode them.
    return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


async def _get_marked(
    session: aiohttp.ClientSession,
    href: str,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    tls_name: str | None,
) -> Reply:
    marks = dict.fromkeys((MARK, MARK_DATE), "")
    body_is_missing = False

    def unmarked(reply: Reply) -> Reply:
        for name in marks:
            marks[name] = reply.header(name.lower()) or marks[name]
        recorded = tuple((name, value) for name, value in reply.headers if name.title() not in marks)
        date = _valid_warc_date(marks[MARK_DATE])
        return replace(
            reply, headers=recorded, date=date, retry_after_s=retry_after_s(recorded, datetime.fromisoformat(date))
        )

    def readable(head: Reply) -> bool:
        nonlocal body_is_missing
        head = unmarked(head)
        if marks[MARK] == NO_ANSWER or not wanted(head):
            return False
        body_is_missing = marks[MARK] == NO_BODY
        return not body_is_missing

    reply = unmarked(await _get(session, href, limits, readable, tls_name))
    return replace(_LOST, date=reply.date) if body_is_missing or marks[MARK] == NO_ANSWER else reply


def _of_recording(error: Exception, tls_name: str | None) -> Reply | None:
    """Return the reply for an error of the recorded answer or of the address; None where this machine is the cause."""
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return NOT_HTTP
    if isinstance(error, aiohttp.ClientPayloadError):
        return NOT_HTTP if _is_garbage(error) else None
    # A certificate of another authority, or a fault of TLS under the server's own name, is of no host.
    of_server = tls_name is not None or isinstance(error, aiohttp.ClientConnectorCertificateError)
    of_address = isinstance(error, aiohttp.InvalidURL) or (isinstance(error, aiohttp.ClientSSLError) and not of_server)
    return _no_connection(error) if of_address or isinstance(_cause(error), guard.NotReplayedError) else None


def _gone(target: guard.Target, what: str) -> ReplayGoneError:
    return ReplayGoneError(
        f"{target.href}: the replay server {what}. Remedy: run again; unfinished shards are fetched anew"
    )


def _is_garbage(error: aiohttp.ClientPayloadError) -> bool:
    cause = error.__cause__
    return isinstance(cause, HttpProcessingError) and "Not enough data" not in cause.message


def _value(name: str, value: str) -> str:
    """Return a header's value as valid text; aiohttp has lone surrogates for bytes that are not UTF-8."""
    if value.isascii():
        return value
    if name.lower() == "location":
        return http_message.location(value.encode("utf-8", "surrogateescape"))
    return value.encode("utf-8", "replace").decode()


def _cause(error: Exception) -> Exception:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _no_connection(error: Exception) -> Reply:
    cause = _cause(error)
    if isinstance(cause, guard.PrivateAddressError):
        return Reply(failure="private_address", message="the name has no public address")
    if isinstance(error, aiohttp.InvalidURL):
        return _NO_NAME
    # Coarse on purpose: aiohttp's messages name ports of this machine, and timing decides whether a lost connection
    # is a reset or an end; both would differ from run to run.
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        message = "the name does not resolve"
    elif isinstance(error, aiohttp.ClientSSLError):
        message = "TLS failed"
    elif isinstance(error, aiohttp.ClientConnectorError):
        message = "no connection"
    else:
        return _LOST
    return Reply(failure="unreachable", message=message, retry=True)


async def _whole(response: aiohttp.ClientResponse, head: Reply, limits: ExchangeLimits) -> Reply:
    too_large = Reply(head.status, head.headers, failure="too_large", message=f"more than {limits.max_bytes} bytes")
    if not limits.cut and (response.content_length or 0) > limits.max_bytes:
        return too_large
    decoder = codings.BodyDecoder(codings.names(head.headers), limits.max_bytes)
    try:
        async for chunk in response.content.iter_any():
            decoder.feed(chunk)
            if decoder.full:
                break
        decoder.finish()
    except codings.CodingError:
        return NOT_HTTP
    if decoder.full and not limits.cut:
        return too_large
    body = bytes(memoryview(decoder.body)[: limits.max_bytes])
    return Reply(head.status, head.headers, body, retry=head.retry, retry_after_s=head.retry_after_s)


async def _discard(response: aiohttp.ClientResponse) -> None:
    read_bytes = 0
    async for chunk in response.content.iter_any():
        read_bytes += len(chunk)
        if read_bytes > _SMALL_BYTES:
            return
