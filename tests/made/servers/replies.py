"""Addresses in, what comes back out: through the fetcher (`fetch`), or straight from a replay server (`ask`)."""

from __future__ import annotations

import asyncio
from typing import Any

from made.processes.deadlines import LONG_S

from laion_dask import params
from laion_dask.web.fetch import guard
from laion_dask.web.fetch.exchange import ExchangeLimits, Reply, open_session
from laion_dask.web.fetch.fetcher import open_fetcher
from laion_dask.web.fetch.leases import LimitServerAddress
from laion_dask.web.fetch.outcome import Fetched
from laion_dask.web.fetch.replay_address import ReplayAddress

BODY = b"\x89PNG pretended image"
LIMITS = ExchangeLimits(timeout_s=LONG_S, max_bytes=10_000_000)


def fetch(
    defaults: params.Params,
    address: ReplayAddress | None,
    *urls: str,
    limit_server: LimitServerAddress | None = None,
    **changes: object,
) -> list[Fetched]:
    """Fetch all URLs at once, with low limits and `changes` to the settings of the download."""
    quick: dict[str, Any] = {"timeout_s": LONG_S, "retries": 1, "max_bytes": 100_000, "max_redirects": 3, **changes}
    settings = defaults.download.model_copy(update=quick)

    async def run() -> list[Fetched]:
        opening = open_fetcher(
            settings, replay=address, user_agent="laion-dask/test (+me)", workers=1, limit_server=limit_server
        )
        async with opening as fetcher:
            return list(await asyncio.gather(*(fetcher.fetch(url) for url in urls)))

    return asyncio.run(run())


def ask(address: ReplayAddress, *urls: str) -> list[Reply]:
    """Send one request for each URL to a replay server, one after the other."""

    async def run() -> list[Reply]:
        async with open_session(address, user_agent="test", connections=8) as way:
            targets = [guard.parse(url) for url in urls]
            return [await way(target, LIMITS, lambda _: True) for target in targets if target]

    return asyncio.run(run())
