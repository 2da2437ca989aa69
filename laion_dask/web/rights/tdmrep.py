"""Parse /.well-known/tdmrep.json (W3C's TDM Reservation Protocol) and decide for an address by its rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from laion_dask.web.rights.decision import MAX_EVIDENCE_CHARS, SILENT, Decision, decision
from laion_dask.web.rights.path_rules import Pattern, compiled, normal_path, path_of, rooted

PATH: Final = "/.well-known/tdmrep.json"

TOO_LONG: Final = "tdmrep.json is longer than 512 KiB, and is not read"

_MAX_BYTES: Final = 512 * 1024
_LOOKED_AT_BYTES: Final = 1_024
_MEANING: Final = {1: "refused", 0: "allowed", None: "unknown"}


@dataclass(frozen=True, slots=True)
class TdmRep:
    """A host's rules in order, as (location, reservation, rule as received); with the file's address and Date."""

    rules: tuple[tuple[Pattern, int | None, str], ...] = ()
    unread: str = ""
    """Why the rules were not read although there are some; else empty."""
    source: str = ""
    time: str | None = None

    def decide(self, url: str) -> Decision:
        """Decide by the first rule that matches the path: 1 refuses, 0 allows, any other value is unknown."""
        if self.unread:
            return decision("unknown", "tdmrep", self.unread, self.source, self.time)
        path = path_of(url) if self.rules else ""
        for location, reservation, rule in self.rules:
            if location.matches(path):
                return decision(_MEANING[reservation], "tdmrep", rule, self.source, self.time)
        return SILENT


def parse_tdmrep(status: int, body: bytes, source: str = "", time: str | None = None) -> TdmRep:
    """Parse the answer: a JSON array of rules with location, tdm-reservation and perhaps tdm-policy.

    The encoding is UTF-8, UTF-16 or UTF-32; invalid characters, and line breaks inside of strings, are accepted. Any
    other answer counts as a host without the protocol, as the specification demands, since many hosts answer every
    address with a page. A rule without location or reservation is skipped. An array of more than 512 KiB is not read,
    and its decision is `unknown`.
    """
    if not 200 <= status < 300:
        return TdmRep()
    if len(body) > _MAX_BYTES:
        begins = body[:_LOOKED_AT_BYTES].decode(json.detect_encoding(body[:4]), "replace").lstrip("\ufeff \t\r\n")
        return TdmRep(unread=TOO_LONG, source=source, time=time) if begins.startswith("[") else TdmRep()
    try:
        # In another encoding, letters of a path or policy are lost, but not the reservation.
        text = body.decode(json.detect_encoding(body), "replace").strip("\0\ufeff \t\r\n")
        tree = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return TdmRep()
    rules = []
    for item in tree if isinstance(tree, list) else []:
        if isinstance(item, dict) and isinstance(item.get("location"), str) and "tdm-reservation" in item:
            value = item["tdm-reservation"]
            reservation = value if type(value) is int and value in {0, 1} else None
            location = item["location"] if reservation == 0 else rooted(item["location"])
            shown = json.dumps(item, ensure_ascii=False)[:MAX_EVIDENCE_CHARS]
            rules.append((compiled(normal_path(location)), reservation, shown))
    return TdmRep(tuple(rules), "", source, time)
