"""The answer to GET /.well-known/tdmrep.json in, what it says of an address out (TDM Reservation Protocol, W3C)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from laion_dask.rights import SILENT, Decision, decision
from laion_dask.signals import matches, normal_path, path_of

PATH: Final = "/.well-known/tdmrep.json"

_MAX_BYTES: Final = 512 * 1024
_MEANING: Final = {1: "refused", 0: "allowed", None: "unknown"}


@dataclass(frozen=True, slots=True)
class TdmRep:
    """The rules of a host as (location, reservation, rule as received), in order; where and when they were read."""

    rules: tuple[tuple[str, int | None, str], ...] = ()
    source: str = ""
    time: str | None = None

    def decide(self, url: str) -> Decision:
        """Decide by the first rule that matches the path: 1 refuses, 0 allows, any other value is unknown."""
        path = path_of(url) if self.rules else ""
        for location, reservation, rule in self.rules:
            if matches(location, path):
                return decision(_MEANING[reservation], "tdmrep", rule, self.source, self.time)
        return SILENT


def parse_tdmrep(status: int, body: bytes, source: str = "", time: str | None = None) -> TdmRep:
    """Read the answer: a JSON array of rules with location and tdm-reservation, tdm-policy where there is one.

    Whatever is not that counts as a host without the protocol, as the specification asks for: many hosts answer every
    address with a page. A rule without location or reservation is left out.
    """
    if not 200 <= status < 300 or len(body) > _MAX_BYTES:
        return TdmRep()
    try:
        tree = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return TdmRep()
    rules = []
    for item in tree if isinstance(tree, list) else []:
        if isinstance(item, dict) and isinstance(item.get("location"), str) and "tdm-reservation" in item:
            value = item["tdm-reservation"]
            reservation = value if type(value) is int and value in {0, 1} else None
            rules.append((normal_path(item["location"]), reservation, json.dumps(item, ensure_ascii=False)))
    return TdmRep(tuple(rules), source, time)
