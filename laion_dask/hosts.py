"""Origins in, rules out: what their robots.txt, tdmrep.json, ai.txt and licences say.

The files are asked for once for each origin (scheme, host and port), a licence once for its address, however many rows
wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from laion_dask.ai_txt import AiTxt
from laion_dask.remembered import Remembered
from laion_dask.rights import Decision, Policy, decide_response
from laion_dask.robots import RobotsRules
from laion_dask.rsl import License
from laion_dask.tdmrep import TdmRep

CACHE_S: Final = 24 * 3600.0
"""RFC 9309 2.4: a robots.txt should not be used for longer than 24 hours."""

_CACHED_ORIGINS: Final = 20_000
_CACHED_LICENSES: Final = 2_000


class Lasting(Protocol):
    """An answer that knows whether asking again soon would give the same."""

    @property
    def lasting(self) -> bool:
        """Whether it may be remembered."""
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

    def before(self, url: str, policy: Policy) -> Decision:
        """Decide before a URL is asked for: by what no header can lift."""
        licensed = (license_.decide(url) for license_ in self.licenses)
        return policy.strictest([self.robots.decide(url, policy), self.ai_txt.decide(url), *licensed])

    def after(self, url: str, before: Decision, headers: Sequence[tuple[str, str]], policy: Policy) -> Decision:
        """Decide by the files and the headers of the response together; without headers, by the files."""
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        by_type = self.ai_txt.decide(url, content_type)
        return policy.strictest([before, by_type, decide_response(headers, policy, self.tdmrep.decide(url))])


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
        self._asked: dict[str, asyncio.Future[Answer]] = {}

    async def of(self, name: str) -> Answer:
        """Return the answer for a name; everyone who comes while it is being fetched waits for the same one."""
        key = (self._scope, name)
        known = self._cache.get(key)
        if known is not None:
            return known
        if name not in self._asked:
            self._asked[name] = asyncio.ensure_future(self._ask(name))
        # One waiter that is cancelled must not take the answer from the others.
        answer = await asyncio.shield(self._asked[name])
        if answer.lasting:
            # What could not be reached is asked again by the next shard.
            self._cache.put(key, answer)
        return answer


_RULES: Final[Remembered[Hashable, HostRules]] = Remembered(_CACHED_ORIGINS, CACHE_S)
_LICENSES: Final[Remembered[Hashable, License]] = Remembered(_CACHED_LICENSES, CACHE_S)


def rules(ask: Callable[[str], Awaitable[HostRules]], scope: Hashable) -> Asked[HostRules]:
    """Return the rules of origins, remembered by this process."""
    return Asked(ask, scope, _RULES)


def licenses(ask: Callable[[str], Awaitable[License]], scope: Hashable) -> Asked[License]:
    """Return licences by their addresses, remembered by this process."""
    return Asked(ask, scope, _LICENSES)
