"""One request in, one reply out: within a deadline, read no further than allowed; no redirect, no retry, no opinion.

Every way that an exchange can end is a `Reply`; an exception is a bug.
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
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache, partial
from typing import Final, Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from laion_dask.web.fetch import guard
from laion_dask.web.fetch.replay_address import MARK, MARK_DATE, NO_ANSWER, NO_BODY, ReplayAddress
from laion_dask.web.fetch.response_head import Connector
from laion_dask.web.warc import codings, http_message

Headers = tuple[tuple[str, str], ...]

_SMALL_BYTES: Final = 64 * 1024
_KEEPALIVE_S: Final = 4.0  # many hosts: idle connections must not use up the file descriptors
_FILES: Final = 65_536
_MAX_HEADERS: Final = 128  # of at most _MAX_FIELD_BYTES each
_MAX_FIELD_BYTES: Final = 8 * 1024
_REPLAY_S: Final = 3600.0  # for one answer of a replay server: beyond, something is broken, however busy the machine
_REPLAY_TRIES: Final = 3  # for connections that a busy machine loses
_NO_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_WARC_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_NO_DATE: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or in `failure` the reason of the closed list why there is none; `retry`: another try may help."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    failure: str = ""
    message: str = ""
    retry: bool = False
    retry_after_s: float = 0.0
    date: str = ""
    """Of a replayed answer: when it was recorded, as WARC-Date has it."""

    def header(self, name: str) -> str | None:
        """Return the first header of a lower-case name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """How far one exchange may go: seconds for all of it, bytes of the decoded body; `cut` keeps what came before."""

    timeout_s: float
    max_bytes: int
    cut: bool = False


NOT_HTTP: Final = Reply(failure="http_error", message="the answer is not HTTP, or its headers are too large")
_NO_NAME: Final = Reply(failure="unreachable", message="the address cannot be asked for")
_LOST: Final = Reply(failure="unreachable", message="the connection was lost", retry=True)

ASKER: Final[ContextVar[str]] = ContextVar("asker", default="")
"""For whom is asked, in the running task: see `asks_for`.

One asker asks one thing after the other, so the answers that each one had are an order that a rerun can keep; the order
in which rows that run side by side were answered is not.
"""


def asks_for(kind: str, name: str, round_number: int | None = None) -> None:
    """Say for whom the running task asks from now on: kind `row` with its uid, or `host` with the origin it rules.

    Without a round it is that of whoever asked before.
    """
    ASKER.set(f"{kind} {name} {round_number or ASKER.get().rpartition(' ')[2] or 1}")


class Ask(Protocol):
    """The one way to an answer: the web, the replay server or an archive stand behind it.

    `wanted` sees status and headers, and where it says no the body is not read.
    """

    async def __call__(self, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
        """GET a target; no redirect is followed, nothing is tried again."""
        ...


@asynccontextmanager
async def open_session(replay: ReplayAddress | None, *, user_agent: str, connections: int) -> AsyncIterator[Ask]:
    """Open the connections of one shard: to public addresses only, or to the replay server only."""
    _allow_files()
    marked = replay is not None and replay.marks
    resolver = guard.PublicResolver() if replay is None else guard.ReplayResolver(replay)
    connector = Connector(
        limit=connections,
        # The replay server cannot have a certificate for each name that was recorded, such as one with an underscore.
        ssl=_tls(replay.ca_pem if replay else None, any_name=marked),
        resolver=resolver,
        use_dns_cache=False,  # the resolver has one with limits
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
        auto_decompress=False,  # see codings: as browsers do, and never more than is wanted
        timeout=aiohttp.ClientTimeout(total=None),
        max_line_size=_MAX_FIELD_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
        max_headers=_MAX_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        if marked:
            yield partial(_replayed, session)
        else:
            yield partial(exchange, session, refused_is_gone=replay is not None)


@cache
def _allow_files() -> None:
    # Connections to thousands of hosts are idle for a moment each; most systems begin with 1,024 files a process.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES and soft != resource.RLIM_INFINITY:
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@lru_cache(maxsize=4)
def _tls(ca_pem: str | None, *, any_name: bool = False) -> ssl.SSLContext:
    # Once for the process: a new context for each request costs tens of milliseconds of CPU.
    context = ssl.create_default_context(cadata=ca_pem)
    context.check_hostname = not any_name
    return context


class ReplayGoneError(Exception):
    """The replay server does not answer; that says nothing of the hosts it answers for, so no row may say it."""


class ResourcesError(Exception):
    """This machine has no more files or buffers for a connection; no row may say that of its host."""


async def exchange(
    session: aiohttp.ClientSession,
    target: guard.Target,
    limits: ExchangeLimits,
    wanted: Callable[[Reply], bool],
    *,
    refused_is_gone: bool = False,
) -> Reply:
    """GET a target; `wanted` sees status and headers, and where it says no the body is not read.

    With `refused_is_gone` all hosts are one server of this machine, and `ReplayGoneError` is raised where it refuses a
    connection: while it runs it never does. Raises `ResourcesError` where this machine cannot open a connection.
    """
    if not _is_name(target.host):
        return _NO_NAME
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _get(session, target, limits, wanted)
    except TimeoutError:
        return Reply(failure="timeout", message=f"not finished after {limits.timeout_s:g} s", retry=True)
    except (aiohttp.ClientResponseError, HttpProcessingError):
        return NOT_HTTP
    except aiohttp.ClientPayloadError as error:
        # Whether garbage comes with the headers or after them is a matter of microseconds; a cut is something else.
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
    session: aiohttp.ClientSession, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]
) -> Reply:
    async with session.get(URL(target.href, encoded=True), allow_redirects=False) as response:
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
        # A short error page is read, so that the connection can be used again.
        await _pass_over(response)
    return head


async def _replayed(
    session: aiohttp.ClientSession, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]
) -> Reply:
    """Do what `exchange` does where a replay server that marks its answers stands for all hosts.

    A mark of the server says that a host gave no answer, or no body. No clock does, and no lost connection: the server
    and this process may be busy. Raises `ReplayGoneError` where the server does not answer.
    """
    if not _is_name(target.host):
        return replace(_NO_NAME, date=_NO_DATE)
    for last in (False,) * (_REPLAY_TRIES - 1) + (True,):
        try:
            async with asyncio.timeout(_REPLAY_S):
                return await _get_marked(session, target, limits, wanted)
        except TimeoutError as error:
            raise _gone(target, f"has not answered for {_REPLAY_S:g} s") from error
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            if (reply := _of_the_content(error)) is not None:
                return replace(reply, date=_NO_DATE)
            if last or isinstance(_cause(error), ConnectionRefusedError):
                raise _gone(target, f"is gone ({type(_cause(error)).__name__})") from error
    raise _gone(target, "is gone")


def _recorded(date: str) -> str:
    """Return a WARC-Date as it is, or the epoch where it is none."""
    try:
        datetime.fromisoformat(date)
    except ValueError:
        return _NO_DATE
    return date if _WARC_DATE.fullmatch(date) else _NO_DATE


def _is_name(host: str) -> bool:
    # A label that is empty or too long is none for a resolver, and TLS would end with an error of its encoding.
    return all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))


async def _get_marked(
    session: aiohttp.ClientSession, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]
) -> Reply:
    marks = dict.fromkeys((MARK, MARK_DATE), "")
    body_is_missing = False

    def unmarked(reply: Reply) -> Reply:
        for name in marks:
            marks[name] = reply.header(name.lower()) or marks[name]
        theirs = tuple((name, value) for name, value in reply.headers if name.title() not in marks)
        date = _recorded(marks[MARK_DATE])
        return replace(
            reply, headers=theirs, date=date, retry_after_s=retry_after_s(theirs, datetime.fromisoformat(date))
        )

    def readable(head: Reply) -> bool:
        nonlocal body_is_missing
        head = unmarked(head)
        if marks[MARK] == NO_ANSWER or not wanted(head):
            return False
        body_is_missing = marks[MARK] == NO_BODY
        return not body_is_missing

    reply = unmarked(await _get(session, target, limits, readable))
    return replace(_LOST, date=reply.date) if body_is_missing or marks[MARK] == NO_ANSWER else reply


def _of_the_content(error: Exception) -> Reply | None:
    """Return how an exchange ends for what was recorded, or for the address; None where the machine is the cause."""
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        return NOT_HTTP
    if isinstance(error, aiohttp.ClientPayloadError):
        return NOT_HTTP if _is_garbage(error) else None
    told = isinstance(error, aiohttp.InvalidURL | aiohttp.ClientSSLError)
    return _no_connection(error) if told or isinstance(_cause(error), guard.NotReplayedError) else None


def _gone(target: guard.Target, what: str) -> ReplayGoneError:
    return ReplayGoneError(
        f"{target.href}: the replay server {what}. Remedy: run again; unfinished shards are fetched anew"
    )


def _is_garbage(error: aiohttp.ClientPayloadError) -> bool:
    cause = error.__cause__
    return isinstance(cause, HttpProcessingError) and "Not enough data" not in cause.message


def _value(name: str, value: str) -> str:
    """Return a header's value as text; aiohttp keeps bytes that are not UTF-8 as lone surrogates, no table can."""
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
    # Coarse on purpose: messages hold ports of this machine, and whether a lost connection shows as a reset or as an
    # end is a matter of microseconds; both would differ from run to run.
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


async def _pass_over(response: aiohttp.ClientResponse) -> None:
    passed = 0
    async for chunk in response.content.iter_any():
        passed += len(chunk)
        if passed > _SMALL_BYTES:
            return


def retry_after_s(headers: Headers, came: datetime | None = None) -> float:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110 10.2.3); 0 where there is none that is valid.

    A date counts from the response's own Date, so that the clocks of two machines need not agree; without one from the
    time at which the response came, which is now unless it is given.
    """
    value = _last(headers, "retry-after")
    if value.isdecimal():
        return float(value)
    until = _date(value) if value else None
    if until is None:
        return 0.0
    now = _date(_last(headers, "date")) or came or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _last(headers: Headers, wanted: str) -> str:
    return next((value.strip() for name, value in reversed(headers) if name.lower() == wanted), "")


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
        found.astimezone(UTC)
    except (ValueError, OverflowError):
        # Also a time zone that takes year 1 or 9999 out of the calendar.
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
