"""Keep known content out of a download: addresses before they are fetched, bodies before they are decoded.

Addresses are looked up before they are asked for, redirects among them; bodies before anything is decoded or written.
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
    """What lets pass through everything that no list has."""

    def __init__(self, lists: Sequence[Index]) -> None:
        self._lists = tuple(lists)
        self._has_addresses = any(entry.of_urls for entry in lists)

    def rows(self, urls: Sequence[str]) -> Mapping[int, str]:
        """Return the rows that must not be asked for, each with the message that its row gets."""
        found = known_content.of_urls(self._lists, urls) if self._has_addresses else {}
        rows = np.flatnonzero(known_content.any_of(found, len(urls))).tolist()
        return {row: known_content.message_for([name for name, mask in found.items() if mask[row]]) for row in rows}

    def through(self, wrap: Callable[[Ask], Ask] | None) -> Callable[[Ask], Ask] | None:
        """Extend an archive's `wrap`, so that no address of a list is requested."""
        if not self._has_addresses:
            return wrap

        def around(ask: Ask) -> Ask:
            behind = ask if wrap is None else wrap(ask)

            async def asked(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
                if named := self.rows([target.href]):
                    return Reply(failure=LISTED_ADDRESS, message=named[0])
                return await behind(target, limits, wanted)

            return asked

        return around

    def may_keep(self, reply: Reply) -> bool:
        """Whether a body may be written to disk."""
        return not known_content.of_body(self._lists, reply.body)

    def body(self, body: bytes) -> prepare.Prepared | None:
        """Return how a row with this body ends; None where no list has it."""
        names = known_content.of_body(self._lists, body)
        return prepare.Prepared(LISTED_HASH, known_content.message_for(names)) if names else None

    def picture(self, prepared: prepare.Prepared) -> prepare.Prepared:
        """Return a decoded picture, without anything of it where a list has one that looks like it."""
        names = known_content.of_picture(self._lists, prepared.pdq, prepared.pdq_quality)
        return prepare.Prepared(LISTED_HASH, known_content.message_for(names)) if names else prepared


def row(ended: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an attempt as it may be written."""
    return known_content.blank(ended) if ended["reason"] in known_content.LISTED else dict(ended)
