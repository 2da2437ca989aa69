"""URLs in, responses out: asked for politely, checked at every hop, refused where the owner has opted out.

Every way that a URL can end is a `Fetched` with keep or a reason of the closed list; an exception is a bug.
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
from laion_dask.web.fetch.exchange import Ask, Limits, Reply, asks_for, open_session
from laion_dask.web.fetch.host_limits import Turnstile
from laion_dask.web.fetch.host_rules import HostRules
from laion_dask.web.fetch.limit_server import LeaseLostError, TurnsAddress, open_turns
from laion_dask.web.fetch.outcome import Fetched, Try, not_asked
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.rights import ai_txt, headers, robots, rsl, tdmrep
from laion_dask.web.rights.decision import SILENT, Decision, Policy, utc
from laion_dask.web.rights.signals import rsl_links

ROBOTS_BYTES: Final = 512 * 1024  # RFC 9309 2.5: at least 500 kibibytes are read
ROBOTS_HOPS: Final = 5  # RFC 9309 2.3.1.2
RIGHTS_BYTES: Final = 512 * 1024 + 1  # of tdmrep.json, ai.txt and licences: one more than is read, so that a cut shows

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_NO_CONNECTION: Final = frozenset({"unreachable", "private_address", "not_archived"})
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
    turns: TurnsAddress | None = None,
    through: Callable[[Ask], Ask] | None = None,
) -> AsyncIterator[Fetcher]:
    """Open the fetcher of one shard; `workers` processes share the limits for each host through the server of turns.

    `through`: an archive that keeps the answers, or gives them in place of the web; it holds those of its shard only.
    Where an archive or a replay server answers, nobody has to be spared: workers share nothing then.

    Raises `ValueError` where several workers have no such server: each would take the limits for itself.
    """
    recorded = settings.source == "archive" or (replay is not None and replay.marks)
    if recorded:
        settings = settings.model_copy(update={"host_interval_s": 0.0, "domain_interval_s": 0.0})
        turns = None
    if workers > 1 and turns is None and not recorded:
        message = f"{workers} workers share the limits for a host. Remedy: open turns.TurnServer, and pass its address"
        raise ValueError(message)
    limits = Budgets(settings)
    async with (
        open_turns(settings, turns, limits.asked_to_wait) as turnstile,
        open_session(replay, user_agent=user_agent, connections=settings.connections) as ask,
    ):
        # Alone, a shard asks for every file of its hosts itself, so that its archive has them all.
        scope = replay if through is None else object()
        way = ask if through is None else through(ask)
        fetcher = Fetcher(way, settings, turnstile, limits=limits, scope=scope, recorded=recorded)
        try:
            yield fetcher
        finally:
            await fetcher.close()


class Fetcher:
    """Fetches the images of one shard; made by `open_fetcher`, which closes its connections."""

    def __init__(
        self, ask: Ask, settings: params.Download, turns: Turnstile, *, limits: Budgets, scope: Hashable, recorded: bool
    ) -> None:
        self._ask_now = ask
        self._settings = settings
        # Neither an archive nor a replay has anybody who had to be spared.
        self._live = settings.source == "web"
        self._recorded = recorded
        self._budgets = limits
        self._turns = turns
        self._connections = asyncio.Semaphore(settings.connections)
        self._policy = Policy.of(settings)
        self._rules = host_rules.rules(self._ask_rules, (scope, settings.robots_tokens, settings.ai_tokens))
        self._licenses = host_rules.licenses(self._ask_license, scope)

    async def fetch(self, url: str) -> Fetched:
        """Fetch an image; nothing is read of a body whose owner has opted out, and a refusal is not tried again."""
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
        """End what the fetcher asks for on behalf of rows that have gone."""
        await self._rules.close()
        await self._licenses.close()

    def end_waits(self) -> None:
        """Ask for nothing more: the shard has taken as long as it may. What is being transferred goes on."""
        self._budgets.end_shard()

    async def _attempt(self, url: str) -> Fetched:
        """Ask once, following redirects; each hop is checked as the first one was."""
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
            )
            if following is None:
                return ended
            target = following
        return replace(ended, message=f"more than {self._settings.max_redirects} redirects", final_url=target.href)

    async def _hop(self, target: guard.Target) -> tuple[Reply, Decision, str]:
        """Ask for one address; the reason is empty where there is an answer that nobody refuses."""
        settings = self._settings
        if refused := self._refused(target):
            return refused, SILENT, refused.failure
        rules = await self._rules.of(target.origin)
        before = rules.before(target.href, self._policy)
        if rules.failure and "robots" in settings.rights:
            # Nobody answers at all: the host is gone, which is not a refusal.
            return Reply(message=rules.message), SILENT, rules.failure
        if self._policy.binds(before):
            # An origin that could not say what it allows may be able to later; what it has said is final.
            final = rules.lasting or (before.rights == "refused" and not rules.robots.refusal)
            return Reply(message=f"refused by {before.signal}", retry=not final), before, before.signal
        seen: Decision | None = None

        def wanted(head: Reply) -> bool:
            nonlocal seen
            if head.status != 200:
                return False
            seen = rules.after(target.href, before, head.headers, self._policy)
            return not self._policy.binds(seen)

        limits = Limits(settings.timeout_s, settings.max_bytes)
        reply = await self._ask(target, limits, wanted, delay_s=self._delay_s(rules))
        if seen is None:
            seen = rules.after(target.href, before, (), self._policy)
        if reply.failure:
            return reply, seen, reply.failure
        beside, lasting = await self._told_beside(target, reply, seen)
        seen = self._policy.strictest([seen, *beside])
        if self._policy.binds(seen) and (reply.status == 200 or any(map(self._policy.binds, beside))):
            return replace(reply, body=b"", message=f"refused by {seen.signal}", retry=not lasting), seen, seen.signal
        return reply, seen, ""

    async def _told_beside(self, target: guard.Target, reply: Reply, seen: Decision) -> tuple[list[Decision], bool]:
        """Return what an answer says of rights in another way than by its headers: a price, licences that it names.

        The second tells whether that is final: a licence that could not be reached may be there later.
        """
        if reply.status == 402:
            return [headers.priced(reply.headers)], True
        if reply.status != 200 or self._policy.binds(seen):
            return [], True
        named = dict(rsl_links(reply.headers))
        found, lasting = [], True
        for address, is_typed in list(named.items())[: rsl.MAX_LICENSES]:
            license_ = await self._license(address, target.href)
            # A link without a type may lead to a page for people, which says nothing here.
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
        # Crawl-delay is no part of RFC 9309, but a wish.
        return min(rules.robots.crawl_delay_s, self._settings.max_retry_after_s) if self._live else 0.0

    def _refused(self, target: guard.Target) -> Reply | None:
        """Refuse an address by what it spells out: a machine that is not public, a port that is not asked."""
        if guard.is_private(target):
            return Reply(failure="private_address", message="the address is not public")
        if target.port not in self._settings.ports:
            return Reply(failure="refused_port", message=f"port {target.port} is not asked")
        return None

    async def _ask(
        self, target: guard.Target, limits: Limits, wanted: Callable[[Reply], bool], *, delay_s: float = 0.0
    ) -> Reply:
        """Ask when it is this host's turn and a connection is free; a host that asks for a pause gets it."""
        while True:
            try:
                reply = await self._ask_in_turn(target, limits, wanted, delay_s)
                break
            except LeaseLostError:
                # What was asked was broken off: it is no try, and says nothing of the host.
                continue
        if reply.status in _SLOW_DOWN and reply.retry_after_s and self._live:
            pause_s = min(reply.retry_after_s, self._settings.max_retry_after_s)
            self._turns.pause(target.host, pause_s)
            self._budgets.asked_to_wait(target.host, pause_s)
        return reply

    async def _ask_in_turn(
        self, target: guard.Target, limits: Limits, wanted: Callable[[Reply], bool], delay_s: float
    ) -> Reply:
        async with AsyncExitStack() as held:
            if self._live:
                async with self._budgets.waiting(target.host):
                    await self._wait(held, target.host, delay_s)
            else:
                await self._wait(held, target.host, delay_s)
            return await self._ask_now(target, limits, wanted)

    async def _wait(self, held: AsyncExitStack, host: str, delay_s: float) -> None:
        # The connection comes last: whoever waits for a slow host must not hold one.
        await held.enter_async_context(self._turns.turn(host, delay_s))
        await held.enter_async_context(self._connections)

    def _ended(self, target: guard.Target, reply: Reply, decision: Decision, reason: str, *, first: bool) -> Fetched:
        """Build the end of an attempt from its last reply; `first`: no redirect led here."""
        # How hosts fared when they were recorded says nothing of the server that answers for them now.
        asked = first and not self._recorded
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
            host_failed=asked and reply.retry and not reply.status and not self._policy.binds(decision),
            host_paused=asked and reply.retry and reply.retry_after_s > self._settings.max_retry_after_s,
            server_date=utc(reply.header("date")),
        )
        if reason:
            return fetched
        if reply.status == 200:
            return replace(fetched, reason=KEEP, message=None, body=reply.body)
        return replace(
            fetched, reason="not_found" if reply.status in _GONE else "http_error", message=f"HTTP {reply.status}"
        )

    async def _ask_rules(self, origin: str) -> HostRules:
        """Ask an origin for robots.txt, tdmrep.json and ai.txt, and for the licences that robots.txt names."""
        asks_for("host", origin)
        first = await self._file(f"{origin}{robots.PATH}", ROBOTS_BYTES)
        lost = bool(first.failure) or first.retry
        reserved = Reply() if lost else await self._file(f"{origin}{tdmrep.PATH}", RIGHTS_BYTES)
        trained = Reply() if lost else await self._file(f"{origin}{ai_txt.PATH}", RIGHTS_BYTES)
        rules = self._read_rules(origin, first, reserved, trained)
        named = rules.robots.licenses
        licenses = [await self._license(address, f"{origin}/") for address in named[: rsl.MAX_LICENSES]]
        if len(named) > rsl.MAX_LICENSES:
            licenses.append(rsl.License(unread=rsl.TOO_MANY, source=f"{origin}{robots.PATH}"))
        lasting = rules.lasting and all(license_.lasting for license_ in licenses)
        return replace(rules, licenses=tuple(licenses), lasting=lasting)

    def _read_rules(self, origin: str, first: Reply, reserved: Reply, trained: Reply) -> HostRules:
        """Read an origin's files: robots.txt, tdmrep.json, ai.txt."""
        settings, tokens = self._settings, self._policy.tokens
        return HostRules(
            robots.parse_robots(
                first.status,
                first.body,
                settings.robots_tokens,
                settings.ai_tokens,
                source=f"{origin}{robots.PATH}",
                time=utc(first.header("date")),
            ),
            tdmrep.parse_tdmrep(reserved.status, reserved.body, f"{origin}{tdmrep.PATH}", utc(reserved.header("date"))),
            ai_txt.parse_ai_txt(
                trained.status, trained.body, tokens, f"{origin}{ai_txt.PATH}", utc(trained.header("date"))
            ),
            failure=first.failure if first.failure in _NO_CONNECTION else "",
            message=first.message,
            lasting=not (first.failure or first.retry),
            weight=len(first.body) + len(reserved.body) + len(trained.body),
        )

    async def _file(self, url: str, max_bytes: int) -> Reply:
        """Get a file that rules an origin; redirects may lead to other hosts, the rules stay the origin's.

        Any 2xx is an answer (RFC 9309, 2.3.1.1). An origin that answers with a redirect is there, so an address behind
        it that cannot be asked is no failure of the origin, but a file that cannot be reached.
        """

        async def attempt() -> Reply:
            target = guard.parse(url)
            limits = Limits(self._settings.timeout_s, max_bytes, cut=True)
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
        """Try until it helps or the tries are used up; between them wait as Retry-After says, else longer each time.

        Only the live web is waited for: what a replay or an archive answers does not change. A budget that is spent
        ends the tries; `SpentError` where there was none yet.
        """
        # Nearly every URL is asked once: a loop costs nothing then, a library's state some hundredth of an image.
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
        """Count the time of a try that failed for now, and return the host that it was lost to."""
        if not self._live or not tried.retry:
            return ""
        target = guard.parse(tried.final_url if isinstance(tried, Fetched) else url)
        host = target.host if target is not None else ""
        self._budgets.lost(host, began)
        return host


def backoff_s(url: str, attempt: int) -> float:
    """Return the seconds to wait after failed attempt 1, 2, ...: doubling, spread by a hash against waves."""
    spread = hashlib.sha256(f"{attempt} {url}".encode()).digest()[0] / 255
    return float(_BACKOFF_S * 2 ** (attempt - 1) * (0.5 + spread))


def _is_answer(head: Reply) -> bool:
    return 200 <= head.status < 300
