"""Keep known content out of a download: addresses before they are fetched, bodies before they are decoded.

Addresses, of redirects too, are looked up before each request; bodies before anything is decoded or written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_content import LISTED_ADDRESS
from laion_dask.blocklists.known_index import Index
from laion_dask.images import prepare
from laion_dask.web.fetch import guard
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply


class KnownContentGate:
    """Refuses addresses, bodies and pictures that a list has."""

    def __init__(self, lists: Sequence[Index]) -> None:
        self._lists = tuple(lists)
        self._has_addresses = any(entry.of_urls for entry in lists)

    def of_urls(self, urls: Sequence[str]) -> Mapping[int, tuple[str, ...]]:
        """Return the places of the addresses that must not be asked for, each with the lists that have it."""
        found = known_content.of_urls(self._lists, urls) if self._has_addresses else {}
        places = np.flatnonzero(known_content.any_of(found, len(urls))).tolist()
        return {place: tuple(name for name, mask in found.items() if mask[place]) for place in places}

    def through(self, wrap: Callable[[Ask], Ask] | None) -> Callable[[Ask], Ask] | None:
        """Extend an archive's `wrap` so that no listed address is requested."""
        if not self._has_addresses:
            return wrap

        def around(ask: Ask) -> Ask:
            inner = ask if wrap is None else wrap(ask)

            async def asked(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
                if listed := self.of_urls([target.href]):
                    return Reply(failure=LISTED_ADDRESS, message=known_content.message_for(listed[0]))
                return await inner(target, limits, wanted)

            return asked

        return around

    def may_keep(self, reply: Reply) -> bool:
        """Whether a body may be written to disk."""
        return not known_content.of_body(self._lists, reply.body)

    def of_body(self, body: bytes) -> tuple[str, ...]:
        """Name the lists that have these bytes."""
        return known_content.of_body(self._lists, body)

    def of_picture(self, prepared: prepare.Prepared) -> tuple[str, ...]:
        """Name the lists that have a picture that looks like this one."""
        return known_content.of_picture(self._lists, prepared.pdq, prepared.pdq_quality)
