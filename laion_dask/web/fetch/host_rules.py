"""Hold the rules of each origin: its robots.txt, tdmrep.json, ai.txt and the licences that they name.

The files are requested once for each origin (scheme, host and port), a licence once for its address, however many rows
wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from laion_dask import params
from laion_dask.web.fetch.cache import SharedCache
from laion_dask.web.fetch.exchange import Reply
from laion_dask.web.rights import ai_txt, robots, tdmrep
from laion_dask.web.rights.ai_txt import AiTxt
from laion_dask.web.rights.decision import Decision, Policy, utc
from laion_dask.web.rights.headers import decide_response
from laion_dask.web.rights.robots import RobotsRules
from laion_dask.web.rights.rsl import License
from laion_dask.web.rights.tdmrep import TdmRep

CACHE_S: Final = 24 * 3600.0
"""RFC 9309 2.4: a robots.txt should not be used for longer than 24 hours."""

_NO_CONNECTION: Final = frozenset({"unreachable", "private_address", "not_archived"})
_CACHED_ORIGINS: Final = 20_000
_CACHED_LICENSES: Final = 2_000
# Of files as received: parsed, a hostile one takes up to 16 times as much memory, and one domain may have any number of
# hosts.
_CACHED_BYTES: Final = 32 * 1024 * 1024


class Lasting(Protocol):
    """A parsed answer that can be cached."""

    @property
    def lasting(self) -> bool:
        """Whether asking again soon would give the same."""
        ...

    @property
    def weight(self) -> int:
        """Bytes of the files that it was parsed from."""
        ...


Answer = TypeVar("Answer", bound=Lasting)


def cache(max_answers: int) -> SharedCache[Hashable, Answer]:
    """Return a cache for at most `max_answers` answers, whose files have 32 MiB at most, for a day."""
    least = _CACHED_BYTES // max_answers
    return SharedCache(_CACHED_BYTES, CACHE_S, lambda answer: max(answer.weight, least))


@dataclass(frozen=True, slots=True)
class HostRules:
    """What the files of an origin say; `failure` is the reason why the origin could not be reached, else empty."""

    robots: RobotsRules
    tdmrep: TdmRep
    ai_txt: AiTxt = field(default_factory=AiTxt)
    licenses: tuple[License, ...] = ()
    failure: str = ""
    message: str = ""
    lasting: bool = True
    weight: int = 0
    """Bytes of the files that the rules were parsed from."""

    def before(self, url: str, policy: Policy) -> Decision:
        """Decide before a URL is requested, by the opt-outs that no header can lift."""
        licensed = (license_.decide(url) for license_ in self.licenses)
        return policy.strictest([self.robots.decide(url, policy), self.ai_txt.decide(url), *licensed])

    def after(self, url: str, before: Decision, headers: Sequence[tuple[str, str]], policy: Policy) -> Decision:
        """Decide by the files and the headers of the response together; without headers, by the files alone."""
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        by_type = self.ai_txt.decide(url, content_type)
        return policy.strictest([before, by_type, decide_response(headers, policy, self.tdmrep.decide(url))])


def parse(origin: str, first: Reply, tdm: Reply, ai: Reply, settings: params.Download) -> HostRules:
    """Parse the answers of an origin to GET of robots.txt (`first`), tdmrep.json and ai.txt."""
    return HostRules(
        robots.parse_robots(
            first.status,
            first.body,
            settings.robots_tokens,
            settings.ai_tokens,
            source=f"{origin}{robots.PATH}",
            time=utc(first.header("date")),
        ),
        tdmrep.parse_tdmrep(tdm.status, tdm.body, f"{origin}{tdmrep.PATH}", utc(tdm.header("date"))),
        ai_txt.parse_ai_txt(
            ai.status, ai.body, Policy.of(settings).tokens, f"{origin}{ai_txt.PATH}", utc(ai.header("date"))
        ),
        failure=first.failure if first.failure in _NO_CONNECTION else "",
        message=first.message,
        lasting=not (first.failure or first.retry),
        weight=len(first.body) + len(tdm.body) + len(ai.body),
    )


class SharedAnswers(Generic[Answer]):
    """Answers that are requested once for all tasks that want them: `await rules.of(origin)`.

    `scope` separates answers that must not be mixed in one process: replay server or web, and the tokens asked for.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Answer]],
        scope: Hashable,
        cached: SharedCache[Hashable, Answer],
    ) -> None:
        self._ask = ask
        self._scope = scope
        self._cache = cached
        # Failed requests are cached for this shard only, so that the next one asks again.
        self._failed: SharedCache[Hashable, Answer] = cache(_CACHED_ORIGINS)
        self._under_way: dict[str, asyncio.Future[Answer]] = {}

    async def close(self) -> None:
        """Cancel the requests under way: no row waits for them any more, because a run was interrupted or failed."""
        under_way = list(self._under_way.values())
        for request in under_way:
            request.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def of(self, name: str) -> Answer:
        """Return the answer for a name; tasks that want it while it is being requested share the request.

        It is requested again when the cache has dropped it: after a day, or when the cache was full.
        """
        cached = self._cache.get((self._scope, name)) or self._failed.get(name)
        if cached is not None:
            return cached
        if name not in self._under_way:
            self._under_way[name] = asyncio.ensure_future(self._request(name))
        # A waiting task that is cancelled must not cancel the request that others wait for.
        return await asyncio.shield(self._under_way[name])

    async def _request(self, name: str) -> Answer:
        try:
            answer = await self._ask(name)
        finally:
            self._under_way.pop(name, None)
        if answer.lasting:
            self._cache.put((self._scope, name), answer)
        else:
            self._failed.put(name, answer)
        return answer


_RULES: Final[SharedCache[Hashable, HostRules]] = cache(_CACHED_ORIGINS)
_LICENSES: Final[SharedCache[Hashable, License]] = cache(_CACHED_LICENSES)


def rules(ask: Callable[[str], Awaitable[HostRules]], scope: Hashable) -> SharedAnswers[HostRules]:
    """Return the rules of origins, cached for this process."""
    return SharedAnswers(ask, scope, _RULES)


def licenses(ask: Callable[[str], Awaitable[License]], scope: Hashable) -> SharedAnswers[License]:
    """Return licences by their addresses, cached for this process."""
    return SharedAnswers(ask, scope, _LICENSES)
