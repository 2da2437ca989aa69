"""Keep known content out of a download: addresses before they are fetched, bodies before they are decoded.

Addresses, of redirects too, are looked up before each request; bodies before anything is decoded or written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_content import LISTED_ADDRESS, LISTED_HASH
from laion_dask.blocklists.known_index import Index
from laion_dask.images import prepare
from laion_dask.web.fetch import guard
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply


class KnownContentGate:
    """Refuses addresses, bodies and pictures that a list has."""

    def __init__(self, lists: Sequence[Index]) -> None:
        self._lists = tuple(lists)
        self._has_addresses = any(entry.of_urls for entry in lists)

    def rows(self, urls: Sequence[str]) -> Mapping[int, str]:
        """Return the rows that must not be requested, each with the message for its table."""
        matches = known_content.of_urls(self._lists, urls) if self._has_addresses else {}
        rows = np.flatnonzero(known_content.any_of(matches, len(urls))).tolist()
        return {row: known_content.told([name for name, mask in matches.items() if mask[row]]) for row in rows}

    def through(self, wrap: Callable[[Ask], Ask] | None) -> Callable[[Ask], Ask] | None:
        """Extend an archive's `wrap` so that no listed address is requested."""
        if not self._has_addresses:
            return wrap

        def around(ask: Ask) -> Ask:
            inner = ask if wrap is None else wrap(ask)

            async def asked(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
                if messages := self.rows([target.href]):
                    return Reply(failure=LISTED_ADDRESS, message=messages[0])
                return await inner(target, limits, wanted)

            return asked

        return around

    def may_keep(self, reply: Reply) -> bool:
        """Whether a body may be written to disk."""
        return not known_content.of_body(self._lists, reply.body)

    def body(self, body: bytes) -> prepare.Prepared | None:
        """Return the result of a row with this body if a list has it; else None."""
        names = known_content.of_body(self._lists, body)
        return prepare.Prepared(LISTED_HASH, known_content.told(names)) if names else None

    def picture(self, prepared: prepare.Prepared) -> prepare.Prepared:
        """Return a decoded picture, or an empty result if a list has one that looks like it."""
        names = known_content.of_picture(self._lists, prepared.pdq, prepared.pdq_quality)
        return prepare.Prepared(LISTED_HASH, known_content.told(names)) if names else prepared


def row(ended: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an attempt for writing: blanked if a list has it."""
    return known_content.blank(ended) if ended["reason"] in known_content.LISTED else dict(ended)
