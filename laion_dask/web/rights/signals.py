"""Parse the values of opt-out headers: robots directives, Content-Usage, and Link headers with RSL licences."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

# Directives with a value: the first word after their colon.
_VALUED: Final = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_PLAIN: Final = frozenset(
    {
        *("all", "index", "follow", "noindex", "nofollow", "none", "noarchive", "nocache", "nosnippet", "notranslate"),
        *("noimageindex", "indexifembedded", "nositelinkssearchbox", "noodp", "noydir", "noai", "noimageai", "noml"),
    },
)
_BOT_NAME: Final = re.compile(r"[A-Za-z*][\w.*/+-]*")


def robots_directives(value: str, tokens: Collection[str]) -> Iterator[str]:
    """Yield the directives of one X-Robots-Tag line (or robots meta) that concern us, in lower case.

    There is no formal grammar (MDN; Google's robots-meta page): commas separate rules, `bot:` restricts the rest of the
    line to that bot, some directives have a colon of their own, and a date may contain colons and a comma. Malformed
    rules (`noai;`, `noai noimageai`) are read word by word, because a reservation that can be understood counts.
    """
    known = {token.lower() for token in tokens}
    ours = True
    for part in value.split(","):
        head, colon, tail = part.partition(":")
        name = head.strip().lower()
        rule = part
        if colon and name in _VALUED:
            rule = " ".join(tail.split()[1:])
        elif colon and name not in _PLAIN and _BOT_NAME.fullmatch(name):
            ours = name == "*" or name.partition("/")[0] in known
            inner, again, rest = tail.partition(":")
            rule = " ".join(rest.split()[1:]) if again and inner.strip().lower() in _VALUED else tail
        if ours:
            yield from (word.strip("\"'").lower() for word in re.split(r"[\s;:]+", rule) if word)


def refusing(found: Iterable[str], directives: Collection[str]) -> list[str]:
    """Return the directives that refuse; `none` means noindex and nofollow, so it refuses where noindex does."""
    policy = {directive.lower() for directive in directives}
    if "noindex" in policy:
        policy.add("none")
    return [word for word in found if word in policy]


def content_usage(value: str, key: str = "train-ai", no: str = "n", yes: str = "y") -> str:
    """Return the value of train-ai in an RFC 9651 dictionary (AIPREF drafts): n, y, `?` for others, empty without one.

    Keys and values are case-sensitive, parameters are ignored, and of conflicting members the stricter counts.
    """
    members = (member.partition(";")[0].partition("=") for member in value.split(","))
    values = {preference.strip() for name, _, preference in members if name.strip() == key}
    return no if no in values else yes if values == {yes} else "?" if values else ""


# --- licences --------------------------------------------------------------------------------------------------------

LICENSE_HOSTS: Final = (
    "creativecommons.org",
    "gnu.org",
    "opensource.org",
    "apache.org",
    "mozilla.org",
    "opendatacommons.org",
    "nationalarchives.gov.uk",
    "data.gov.uk",
    "open.canada.ca",
    "govdata.de",
    "rightsstatements.org",
    "artlibre.org",
    "unlicense.org",
)
"""Hosts of licence addresses; a page that links to none of them declares no licence known here (`license_id`)."""

LICENSE_ADDRESS: Final = re.compile(
    rf"\s*(?:https?:)?//(?:[\w-]+\.)?({'|'.join(map(re.escape, LICENSE_HOSTS))})(/[^?#\s]*)", re.IGNORECASE
)
"""An address on one of these hosts: group 1 is the host, group 2 the path."""

RSL_TYPE: Final = "application/rsl+xml"

_UNTYPED: Final = frozenset({"", "application/xml", "text/xml"})


def rsl_links(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """Yield the addresses of licences in Link headers as written, and whether their type is RSL.

    A link without a type may lead to an RSL document, unless its host is one of well-known licences.
    """
    for name, value in headers:
        if name.strip().lower() != "link":
            continue
        for piece in value.split("<")[1:]:
            address, _, rest = piece.partition(">")
            parameters = dict(_parameter(part) for part in rest.split(";")[1:])
            kind = parameters.get("type", "")
            if "license" not in parameters.get("rel", "").split() or not address.strip():
                continue
            if kind == RSL_TYPE:
                yield address.strip(), True
            elif kind in _UNTYPED and not _is_well_known(address):
                yield address.strip(), False


def is_rsl_link(rel: str, kind: str) -> bool:
    """Tell whether a LINK element names an RSL licence."""
    return "license" in rel.lower().split() and kind.partition(";")[0].strip().lower() == RSL_TYPE


def is_rsl_address(value: str) -> bool:
    """Tell whether the value of a License line can be the address of an RSL document.

    The name of a licence (`MIT`) cannot, nor can the address of a well-known licence.
    """
    is_address = "/" in value or value.lower().endswith((".xml", ".rsl"))
    return is_address and not any(character.isspace() for character in value) and not _is_well_known(value)


def _is_well_known(address: str) -> bool:
    return LICENSE_ADDRESS.match(address) is not None


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip(" \t,\"'").lower()
