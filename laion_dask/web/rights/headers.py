"""Decide by the headers of an image's response: X-Robots-Tag, TDMRep, Content-Usage and a crawler price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from laion_dask.web.rights.decision import SILENT, Decision, Policy, decision, utc
from laion_dask.web.rights.signals import content_usage, refusing, robots_directives


def decide_response(headers: Sequence[tuple[str, str]], policy: Policy, tdmrep: Decision = SILENT) -> Decision:
    """Decide by the headers of a response, before its body is read; `tdmrep` is the decision by tdmrep.json.

    Within TDMRep a header overrides the file: 0 lifts its reservation. Across protocols the strictest decision wins.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.strip().lower(), []).append(value)
    time = utc(next(iter(values.get("date", [])), None))
    found = [
        decision("refused", "x_robots_tag", value, "x-robots-tag", time)
        for value in values.get("x-robots-tag", [])
        if refusing(robots_directives(value, policy.tokens), policy.directives)
    ]
    header = _tdm_header(values, time)
    found += [header] if header.rights == "allowed" else [header, tdmrep]
    usage = ", ".join(values.get("content-usage", []))
    if preference := content_usage(usage):
        found.append(decision(_USAGE[preference], "content_usage", usage, "content-usage", time))
    return policy.strictest(found)


_USAGE: Final = {"n": "refused", "y": "allowed", "?": "unknown"}


def _tdm_header(values: dict[str, list[str]], time: str | None) -> Decision:
    """Decide by tdm-reservation: 1 reserves, 0 does not, else unknown; tdm-policy goes into the evidence."""
    reservations = {value.strip() for value in values.get("tdm-reservation", [])} - {""}
    if not reservations:
        return SILENT
    rights = "refused" if "1" in reservations else "allowed" if reservations == {"0"} else "unknown"
    lines = [f"tdm-reservation: {value}" for value in sorted(reservations, reverse=True)]
    lines += [f"tdm-policy: {value.strip()}" for value in values.get("tdm-policy", [])]
    return decision(rights, "tdm_reservation", "; ".join(lines), "tdm-reservation", time)


def priced(headers: Sequence[tuple[str, str]]) -> Decision:
    """Decide by the headers of a response with status 402: `crawler-price` names the price of access (Cloudflare).

    A data set cannot pay, so a price refuses. Without that header, 402 is an ordinary HTTP error.
    """
    values = {name.strip().lower(): value for name, value in reversed(headers)}
    if "crawler-price" not in values:
        return SILENT
    evidence = f"402, crawler-price: {values['crawler-price'].strip()}"
    return decision("refused", "crawler_price", evidence, "crawler-price", utc(values.get("date")))
