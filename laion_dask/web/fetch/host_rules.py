"""Origins in, rules out: what their robots.txt, tdmrep.json, ai.txt and licences say.

The files are asked for once for each origin (scheme, host and port), a licence once for its address, however many rows
wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from laion_dask import params
from laion_dask.web.fetch.cache import Remembered
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
# Of files as received; read, the most hostile take 16 times as much memory. Who has a domain has any number of hosts.
_CACHED_BYTES: Final = 32 * 1024 * 1024


class Lasting(Protocol):
    """An answer that knows whether asking again soon would give the same."""

    @property
    def lasting(self) -> bool:
        """Whether it may be remembered."""
        ...

    @property
    def weight(self) -> int:
        """The bytes of the files that it was read from."""
        ...


Answer = TypeVar("Answer", bound=Lasting)


@dataclass(frozen=True, slots=True)
class HostRules:
    """What an origin says in files of its own; `failure` is the reason why it could not be asked at all, else empty."""

    robots: RobotsRules
    tdmrep: TdmRep
    ai_txt: AiTxt = field(default_factory=AiTxt)
    licenses: tuple[License, ...] = ()
    failure: str = ""
    message: str = ""
    lasting: bool = True
    weight: int = 0
    """Bytes of the files that it was read from."""

    def before(self, url: str, policy: Policy) -> Decision:
        """Decide before a URL is asked for: by what no header can lift."""
        licensed = (license_.decide(url) for license_ in self.licenses)
        return policy.strictest([self.robots.decide(url, policy), self.ai_txt.decide(url), *licensed])

    def after(self, url: str, before: Decision, headers: Sequence[tuple[str, str]], policy: Policy) -> Decision:
        """Decide by the files and the headers of the response together; without headers, by the files."""
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


class Asked(Generic[Answer]):
    """Answers that are asked for once: `await rules.of(origin)`.

    `scope` keeps apart what must not be mixed in one process: the replay server or the web, and the tokens asked for.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Answer]],
        scope: Hashable,
        cache: Remembered[Hashable, Answer],
    ) -> None:
        self._ask = ask
        self._scope = scope
        self._cache = cache
        # What could not be reached: asked for once by this shard, and again by the next one.
        self._failed: Remembered[str, Answer] = Remembered(_CACHED_ORIGINS, CACHE_S, heaviest=_CACHED_BYTES)
        self._under_way: dict[str, asyncio.Future[Answer]] = {}

    async def close(self) -> None:
        """End what is still being asked, because nobody waits for it any more: a run was interrupted, or failed."""
        under_way = list(self._under_way.values())
        for asked in under_way:
            asked.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def of(self, name: str) -> Answer:
        """Return the answer for a name; everyone who comes while it is being fetched waits for the same one.

        It is asked for again where it has been forgotten: after a day, or when there were too many others since.
        """
        known = self._cache.get((self._scope, name)) or self._failed.get(name)
        if known is not None:
            return known
        if name not in self._under_way:
            self._under_way[name] = asyncio.ensure_future(self._asked(name))
        # One waiter that is cancelled must not take the answer from the others.
        return await asyncio.shield(self._under_way[name])

    async def _asked(self, name: str) -> Answer:
        try:
            answer = await self._ask(name)
        finally:
            self._under_way.pop(name, None)
        if answer.lasting:
            self._cache.put((self._scope, name), answer, answer.weight)
        else:
            self._failed.put(name, answer, answer.weight)
        return answer


_RULES: Final[Remembered[Hashable, HostRules]] = Remembered(_CACHED_ORIGINS, CACHE_S, heaviest=_CACHED_BYTES)
_LICENSES: Final[Remembered[Hashable, License]] = Remembered(_CACHED_LICENSES, CACHE_S, heaviest=_CACHED_BYTES)


def rules(ask: Callable[[str], Awaitable[HostRules]], scope: Hashable) -> Asked[HostRules]:
    """Return the rules of origins, remembered by this process."""
    return Asked(ask, scope, _RULES)


def licenses(ask: Callable[[str], Awaitable[License]], scope: Hashable) -> Asked[License]:
    """Return licences by their addresses, remembered by this process."""
    return Asked(ask, scope, _LICENSES)
