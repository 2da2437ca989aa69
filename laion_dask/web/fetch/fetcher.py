"""Fetch images politely: within the rate limits, with every redirect checked, and never against an opt-out.

Every outcome of a URL is a `Fetched` with keep or a reason of the closed list; an exception is a bug.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from laion_dask import params
from laion_dask.schema.reasons import KEEP, LATER
from laion_dask.web.fetch import guard, host_rules
from laion_dask.web.fetch.budgets import Budgets, SpentError
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply, asks_for, open_session
from laion_dask.web.fetch.host_limits import RateLimiter
from laion_dask.web.fetch.host_rules import HostRules
from laion_dask.web.fetch.leases import LeaseLostError, LimitServerAddress, open_limits
from laion_dask.web.fetch.outcome import Fetched, Try, day, not_asked
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.rights import ai_txt, headers, robots, rsl, tdmrep
from laion_dask.web.rights.decision import SILENT, Decision, Policy, utc
from laion_dask.web.rights.signals import rsl_links

ROBOTS_BYTES: Final = 512 * 1024  # RFC 9309 2.5: at least 500 kibibytes are read
ROBOTS_HOPS: Final = 5  # RFC 9309 2.3.1.2
RIGHTS_BYTES: Final = 512 * 1024 + 1  # of tdmrep.json, ai.txt and licences: one more than is read, so that a cut shows

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_REFUSED: Final = frozenset({"private_address", "refused_port"})
_SLOW_DOWN: Final = frozenset({429, 503})
_BACKOFF_S: Final = 0.25

_Tried = TypeVar("_Tried", Reply, Fetched)


@asynccontextmanager
async def open_fetcher(
    settings: params.Download,
    *,
    replay: ReplayAddress | None,
    user_agent: str,
    workers: int,
    limit_server: LimitServerAddress | None = None,
    through: Callable[[Ask], Ask] | None = None,
) -> AsyncIterator[Fetcher]:
    """Open the fetcher of one shard; `workers` processes share the rate limits for hosts through the limit server.

    `through` wraps the requests: an archive records the answers, or answers in place of the web, for this shard only.
    Where an archive or a replay server answers, no rate limits are needed, so workers share nothing.

    Raises `ValueError` for several workers without a limit server: each would use the full limits for itself.
    """
    recorded = settings.source == "archive" or (replay is not None and replay.marks)
    if recorded:
        settings = settings.model_copy(update={"host_interval_s": 0.0, "domain_interval_s": 0.0})
        limit_server = None
    if workers > 1 and limit_server is None and not recorded:
        message = f"{workers} workers share the limits for a host. Remedy: open a LimitServer, and pass its address"
        raise ValueError(message)
    budgets = Budgets(settings)
    async with (
        open_limits(settings, limit_server, budgets.asked_to_wait) as limiter,
        open_session(replay, user_agent=user_agent, connections=settings.connections) as ask,
    ):
        # A shard with an archive asks its hosts for every file itself, so that its archive has them all.
        scope = replay if through is None else object()
        wrapped = ask if through is None else through(ask)
        fetcher = Fetcher(wrapped, settings, limiter, budgets=budgets, scope=scope, recorded=recorded)
        try:
            yield fetcher
        finally:
            await fetcher.close()


class Fetcher:
    """Fetches the images of one shard; made by `open_fetcher`, which closes its connections."""

    def __init__(
        self,
        ask: Ask,
        settings: params.Download,
        limiter: RateLimiter,
        *,
        budgets: Budgets,
        scope: Hashable,
        recorded: bool,
    ) -> None:
        self._send = ask
        self._settings = settings
        # Budgets, pauses and Crawl-delay protect live hosts; archives and replays need none.
        self._live = settings.source == "web"
        self._recorded = recorded
        self._budgets = budgets
        self._limiter = limiter
        self._connections = asyncio.Semaphore(settings.connections)
        self._policy = Policy.of(settings)
        self._rules = host_rules.rules(self._ask_rules, (scope, settings.robots_tokens, settings.ai_tokens))
        self._licenses = host_rules.licenses(self._ask_license, scope)

    async def fetch(self, url: str) -> Fetched:
        """Fetch an image; the body is not read where the owner has opted out, and a refusal is not tried again."""
        tries: list[Try] = []
        loop = asyncio.get_running_loop()
        target = guard.parse(url)
        host = target.host if target is not None else ""

        async def attempt() -> Fetched:
            began = loop.time()
            fetched = await self._attempt(url)
            tries.append(Try(fetched.reason, fetched.status, loop.time() - began))
            return fetched

        try:
            fetched = await self._again(attempt, url)
        except SpentError as error:
            fetched = not_asked(url, error.reason)
        if self._live:
            self._budgets.ended(host, failed=fetched.later)
            fetched = replace(fetched, left=self._budgets.spent(host))
        return replace(fetched, tries=tuple(tries))

    async def close(self) -> None:
        """Cancel requests that no row waits for any more."""
        await self._rules.close()
        await self._licenses.close()

    def end_waits(self) -> None:
        """End all waits, because the shard has taken as long as it may; transfers that have begun go on."""
        self._budgets.end_shard()

    async def _attempt(self, url: str) -> Fetched:
        """Request a URL once and follow its redirects; each hop gets the same checks as the first."""
        target = guard.parse(url)
        if target is None:
            return Fetched("unreachable", "not a valid http or https address", url, SILENT)
        for hop in range(self._settings.max_redirects + 1):
            reply, decision, reason = await self._hop(target)
            if reason in _REFUSED and hop:
                return Fetched("redirects", f"a redirect, and {reply.message}", target.href, decision)
            if reason or reply.status not in _REDIRECTS:
                return self._ended(target, reply, decision, reason, first=not hop)
            following = guard.parse(reply.header("location") or "", target.href) if reply.header("location") else None
            ended = Fetched(
                "redirects",
                "a redirect to no valid address",
                target.href,
                decision,
                status=reply.status,
                server_date=utc(reply.header("date")),
                asked=day(reply.date),
            )
            if following is None:
                return ended
            target = following
        return replace(ended, message=f"more than {self._settings.max_redirects} redirects", final_url=target.href)

    async def _hop(self, target: guard.Target) -> tuple[Reply, Decision, str]:
        """Request one address; the reason is empty where there is an answer and no binding opt-out."""
        settings = self._settings
        if refused := self._refused(target):
            return refused, SILENT, refused.failure
        rules = await self._rules.of(target.origin)
        before = rules.before(target.href, self._policy)
        if rules.failure and "robots" in settings.rights:
            # The host cannot be reached at all, which is no refusal.
            return Reply(message=rules.message), SILENT, rules.failure
        if self._policy.binds(before):
            # Rules that could not be read may be readable later; rules that were read are final.
            final = rules.lasting or (before.rights == "refused" and not rules.robots.refusal)
            return Reply(message=f"refused by {before.signal}", retry=not final), before, before.signal
        seen: Decision | None = None

        def wanted(head: Reply) -> bool:
            nonlocal seen
            if head.status != 200:
                return False
            seen = rules.after(target.href, before, head.headers, self._policy)
            return not self._policy.binds(seen)

        limits = ExchangeLimits(settings.timeout_s, settings.max_bytes)
        reply = await self._ask(target, limits, wanted, delay_s=self._delay_s(rules))
        if seen is None:
            seen = rules.after(target.href, before, (), self._policy)
        if reply.failure:
            return reply, seen, reply.failure
        beside, lasting = await self._decide_beyond_headers(target, reply, seen)
        seen = self._policy.strictest([seen, *beside])
        if self._policy.binds(seen) and (reply.status == 200 or any(map(self._policy.binds, beside))):
            return replace(reply, body=b"", message=f"refused by {seen.signal}", retry=not lasting), seen, seen.signal
        return reply, seen, ""

    async def _decide_beyond_headers(
        self, target: guard.Target, reply: Reply, seen: Decision
    ) -> tuple[list[Decision], bool]:
        """Return the decisions of a crawler price (status 402) and of the licences that the headers link to.

        The second value tells whether they are final: a licence that could not be reached may be readable later.
        """
        if reply.status == 402:
            return [headers.priced(reply.headers)], True
        if reply.status != 200 or self._policy.binds(seen):
            return [], True
        named = dict(rsl_links(reply.headers))
        found, lasting = [], True
        for address, is_typed in list(named.items())[: rsl.MAX_LICENSES]:
            license_ = await self._license(address, target.href)
            # A link without a type may lead to a page for people, which is no licence document.
            if is_typed or not license_.unread:
                found.append(license_.decide(target.href))
                lasting = lasting and license_.lasting
        if len(named) > rsl.MAX_LICENSES:
            found.append(rsl.License(unread=rsl.TOO_MANY, source="link").decide(target.href))
        return found, lasting

    async def _license(self, address: str, base: str) -> rsl.License:
        """Return the licence at an address that a file or a response names."""
        target = guard.parse(address, base)
        if target is None:
            return rsl.License(unread="no address of the web", source=address)
        return await self._licenses.of(target.href)

    async def _ask_license(self, url: str) -> rsl.License:
        asks_for("host", url)
        reply = await self._file(url, RIGHTS_BYTES)
        lasting = not (reply.failure or reply.retry)
        status = 0 if reply.failure else reply.status
        return rsl.parse_rsl(status, reply.body, url, utc(reply.header("date")), lasting=lasting)

    def _delay_s(self, rules: HostRules) -> float:
        # RFC 9309 does not define Crawl-delay; it is honoured up to the longest pause.
        return min(rules.robots.crawl_delay_s, self._settings.max_retry_after_s) if self._live else 0.0

    def _refused(self, target: guard.Target) -> Reply | None:
        """Refuse an address by its text: an IP address that is not public, or a port that is not allowed."""
        if guard.is_private(target):
            return Reply(failure="private_address", message="the address is not public")
        if target.port not in self._settings.ports:
            return Reply(failure="refused_port", message=f"port {target.port} is not asked")
        return None

    async def _ask(
        self, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool], *, delay_s: float = 0.0
    ) -> Reply:
        """Send a request as soon as the host's rate limits and a connection allow; pause a host that asks for it."""
        while True:
            try:
                reply = await self._ask_in_slot(target, limits, wanted, delay_s)
                break
            except LeaseLostError:
                # The request was aborted on this side: that is no attempt, and says nothing of the host.
                continue
        if reply.status in _SLOW_DOWN and reply.retry_after_s and self._live:
            pause_s = min(reply.retry_after_s, self._settings.max_retry_after_s)
            self._limiter.pause(target.host, pause_s)
            self._budgets.asked_to_wait(target.host, pause_s)
        return reply

    async def _ask_in_slot(
        self, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool], delay_s: float
    ) -> Reply:
        async with AsyncExitStack() as held:
            if self._live:
                async with self._budgets.waiting(target.host):
                    await self._take_slot(held, target.host, delay_s)
            else:
                await self._take_slot(held, target.host, delay_s)
            return await self._send(target, limits, wanted)

    async def _take_slot(self, held: AsyncExitStack, host: str, delay_s: float) -> None:
        # The connection comes last, so that no task holds one while it waits for a slow host.
        await held.enter_async_context(self._limiter.slot(host, delay_s))
        await held.enter_async_context(self._connections)

    def _ended(self, target: guard.Target, reply: Reply, decision: Decision, reason: str, *, first: bool) -> Fetched:
        """Build the outcome of an attempt from its last reply; `first` where no redirect led here."""
        # Failures that were recorded say nothing about the server that answers now.
        is_host = first and not self._recorded
        fetched = Fetched(
            reason,
            reply.message,
            target.href,
            decision,
            status=reply.status,
            content_type=reply.header("content-type") or "",
            retry=reply.retry and not self._policy.binds(decision),
            retry_after_s=reply.retry_after_s,
            later=reply.retry or reason in LATER,
            host_failed=is_host and reply.retry and not reply.status and not self._policy.binds(decision),
            host_paused=is_host and reply.retry and reply.retry_after_s > self._settings.max_retry_after_s,
            server_date=utc(reply.header("date")),
            asked=day(reply.date),
        )
        if reason:
            return fetched
        if reply.status == 200:
            return replace(fetched, reason=KEEP, message=None, body=reply.body)
        return replace(
            fetched, reason="not_found" if reply.status in _GONE else "http_error", message=f"HTTP {reply.status}"
        )

    async def _ask_rules(self, origin: str) -> HostRules:
        """Request robots.txt, tdmrep.json and ai.txt of an origin, and the licences that robots.txt names."""
        asks_for("host", origin)
        first = await self._file(f"{origin}{robots.PATH}", ROBOTS_BYTES)
        lost = bool(first.failure) or first.retry
        tdm = Reply() if lost else await self._file(f"{origin}{tdmrep.PATH}", RIGHTS_BYTES)
        ai = Reply() if lost else await self._file(f"{origin}{ai_txt.PATH}", RIGHTS_BYTES)
        rules = host_rules.parse(origin, first, tdm, ai, self._settings)
        named = rules.robots.licenses
        licenses = [await self._license(address, f"{origin}/") for address in named[: rsl.MAX_LICENSES]]
        if len(named) > rsl.MAX_LICENSES:
            licenses.append(rsl.License(unread=rsl.TOO_MANY, source=f"{origin}{robots.PATH}"))
        lasting = rules.lasting and all(license_.lasting for license_ in licenses)
        return replace(rules, licenses=tuple(licenses), lasting=lasting)

    async def _file(self, url: str, max_bytes: int) -> Reply:
        """Request a file with an origin's rules; its rules hold for the origin, also when another host sends it.

        Any 2xx is an answer (RFC 9309, 2.3.1.1). An origin that redirects is reachable: if the address behind the
        redirect cannot be requested, the file is unreachable, not the origin.
        """

        async def attempt() -> Reply:
            target = guard.parse(url)
            limits = ExchangeLimits(self._settings.timeout_s, max_bytes, cut=True)
            for hop in range(ROBOTS_HOPS + 1):
                if target is None:
                    break
                reply = self._refused(target) or await self._ask(target, limits, _is_answer)
                if hop and reply.failure and reply.failure != "not_archived":
                    return Reply(failure="redirects", message=f"a redirect, and {reply.message}", retry=reply.retry)
                if reply.status not in _REDIRECTS:
                    return reply
                location = reply.header("location")
                target = guard.parse(location, target.href) if location else None
            # RFC 9309 2.3.1.2: a chain that leads nowhere may be treated as a file that does not exist.
            return Reply(404)

        return await self._again(attempt, url)

    async def _again(self, attempt: Callable[[], Awaitable[_Tried]], url: str) -> _Tried:
        """Repeat an attempt until it succeeds or none is left; wait as Retry-After says, else with backoff.

        Waits are for the live web only, because the answers of a replay or an archive do not change. A spent budget
        ends the attempts; `SpentError` where it was spent before the first one.
        """
        # A loop, not a library for retries: nearly every URL needs one attempt, and a library's state costs about 1 %.
        loop = asyncio.get_running_loop()
        began = loop.time()
        tried = await attempt()
        for number in range(1, self._settings.retries + 1):
            host = self._failed_at(tried, url, began)
            if not tried.retry or tried.retry_after_s > self._settings.max_retry_after_s:
                return tried
            if self._live and not await self._budgets.pause(host, max(tried.retry_after_s, backoff_s(url, number))):
                return tried
            began = loop.time()
            try:
                tried = await attempt()
            except SpentError:
                return tried
        self._failed_at(tried, url, began)
        return tried

    def _failed_at(self, tried: Reply | Fetched, url: str, began: float) -> str:
        """Charge the time of an attempt that failed temporarily to its host, and return the host."""
        if not self._live or not tried.retry:
            return ""
        target = guard.parse(tried.final_url if isinstance(tried, Fetched) else url)
        host = target.host if target is not None else ""
        self._budgets.lost(host, began)
        return host


def backoff_s(url: str, attempt: int) -> float:
    """Return the seconds to wait after failed attempt 1, 2, ...: doubling, with jitter from a hash of the URL."""
    spread = hashlib.sha256(f"{attempt} {url}".encode()).digest()[0] / 255
    return float(_BACKOFF_S * 2 ** (attempt - 1) * (0.5 + spread))


def _is_answer(head: Reply) -> bool:
    return 200 <= head.status < 300
