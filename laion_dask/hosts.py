"""Origins in, rules out: what their robots.txt, tdmrep.json and ai.txt say.

The files are asked for once for each origin (scheme, host and port), however many rows wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from laion_dask.ai_txt import AiTxt
from laion_dask.remembered import Remembered
from laion_dask.rights import Decision, Policy, decide_response
from laion_dask.robots import RobotsRules
from laion_dask.tdmrep import TdmRep

CACHE_S: Final = 24 * 3600.0
"""RFC 9309 2.4: a robots.txt should not be used for longer than 24 hours."""

_CACHED_ORIGINS: Final = 20_000


@dataclass(frozen=True, slots=True)
class HostRules:
    """What an origin says in files of its own; `failure` is the reason why it could not be asked at all, else empty."""

    robots: RobotsRules
    tdmrep: TdmRep
    ai_txt: AiTxt = field(default_factory=AiTxt)
    failure: str = ""
    message: str = ""
    lasting: bool = True

    def before(self, url: str, policy: Policy) -> Decision:
        """Decide before a URL is asked for: by what no header can lift."""
        return policy.strictest([self.robots.decide(url, policy), self.ai_txt.decide(url)])

    def after(self, url: str, before: Decision, headers: Sequence[tuple[str, str]], policy: Policy) -> Decision:
        """Decide by the files and the headers of the response together; without headers, by the files."""
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        by_type = self.ai_txt.decide(url, content_type)
        return policy.strictest([before, by_type, decide_response(headers, policy, self.tdmrep.decide(url))])


_CACHE: Final[Remembered[Hashable, HostRules]] = Remembered(_CACHED_ORIGINS, CACHE_S)


class Rules:
    """The rules of origins, asked for once: `await rules.of(origin)`.

    `scope` keeps apart what must not be mixed in one process: the replay server or the web, and the tokens asked for.
    """

    def __init__(self, ask: Callable[[str], Awaitable[HostRules]], scope: Hashable) -> None:
        self._ask = ask
        self._scope = scope
        self._asked: dict[str, asyncio.Future[HostRules]] = {}

    async def close(self) -> None:
        """End what is still being asked, because nobody waits for it any more: a run was interrupted, or failed."""
        for asked in self._asked.values():
            asked.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def of(self, origin: str) -> HostRules:
        """Return an origin's rules; everyone who comes while they are being fetched waits for the same answer."""
        key = (self._scope, origin)
        known = _CACHE.get(key)
        if known is not None:
            return known
        if origin not in self._asked:
            self._asked[origin] = asyncio.ensure_future(self._ask(origin))
        # One waiter that is cancelled must not take the answer from the others.
        rules = await asyncio.shield(self._asked[origin])
        if rules.lasting:
            # An origin that could not be reached is asked again by the next shard.
            _CACHE.put(key, rules)
        return rules
