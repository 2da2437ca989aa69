"""Find the opt-outs of a web page: in its response headers, its meta elements and its LINK elements."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from laion_dask.web.rights.decision import PAGE_TOKENS
from laion_dask.web.rights.signals import content_usage, is_rsl_link, refusing, robots_directives, rsl_links


def page_signals(
    headers: Iterable[tuple[str, str]],
    metas: Iterable[tuple[str, str]],
    directives: Collection[str],
    tokens: Collection[str] = PAGE_TOKENS,
    links: Iterable[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """Return the reservations of a page, sorted: `meta-robots:noai`, `tdm-reservation:header` and the like.

    `metas` are pairs of name (or property, or http-equiv) and content. Only those for robots and for `tokens` count;
    X-Robots-Tag as http-equiv counts as a robots meta. `tdm-reservation` has the values 1 and 0, any other is ignored,
    and a meta overrides the header (TDMRep); a tdm-policy alone reserves nothing. Content-Usage is defined for headers
    only (AIPREF, attachment draft). `links` are LINK elements by rel and type. An RSL licence that a page names, there
    or in a Link header, counts as a reservation, because it is not read here (RSL 1.0, 4.3).
    """
    ours, policy = tuple(tokens), tuple(directives)
    names = {"robots", "x-robots-tag", *(token.lower() for token in ours)}
    found = {"rsl:link" for rel, kind in links if is_rsl_link(rel, kind)}
    reservations: dict[str, set[str]] = {"meta": set(), "header": set()}
    for name, value in metas:
        key = name.strip().lower()
        if key in names:
            found.update(f"meta-robots:{word}" for word in _refusals(value, ours, policy))
        elif key == "tdm-reservation":
            reservations["meta"].add(value.strip())
    for name, value in headers:
        key = name.strip().lower()
        if key == "x-robots-tag":
            found.update(f"header-x-robots-tag:{word}" for word in _refusals(value, ours, policy))
        elif key == "tdm-reservation":
            reservations["header"].add(value.strip())
        elif key == "content-usage" and content_usage(value) == "n":
            found.add("content-usage:train-ai=n")
        found.update("rsl:header" for _, is_typed in rsl_links([(name, value)]) if is_typed)
    if "1" in reservations["meta"]:
        found.add("tdm-reservation:meta")
    elif "1" in reservations["header"] and "0" not in reservations["meta"]:
        found.add("tdm-reservation:header")
    return tuple(sorted(found))


# A hostile page may write megabytes into one value: long values are parsed, but not cached.
_CACHED_CHARS: Final = 200


def _refusals(value: str, tokens: tuple[str, ...], policy: tuple[str, ...]) -> tuple[str, ...]:
    """Return the refusing directives of one value; cached, because most pages use one of few values."""
    if len(value) > _CACHED_CHARS:
        return _refusals_of.__wrapped__(value, tokens, policy)
    return _refusals_of(value, tokens, policy)


@lru_cache(maxsize=4096)
def _refusals_of(value: str, tokens: tuple[str, ...], policy: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(refusing(robots_directives(value, tokens), policy))
