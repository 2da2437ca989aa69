"""Header values, path patterns and licence addresses in, what they mean out: the small grammars of reservations."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final
from urllib.parse import quote, urlsplit

# A directive with its own colon; of these only the first word after the colon is its value.
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

    There is no formal grammar (MDN; Google's robots-meta page): commas part rules, `bot:` scopes all that follow in
    the line, some directives have a colon of their own, and a date may hold colons and a comma. Malformed rules
    (`noai;`, `noai noimageai`) are read word by word: a reservation that can be understood counts.
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
    """Return those that refuse; `none` stands for noindex and nofollow, so it refuses wherever noindex does."""
    policy = {directive.lower() for directive in directives}
    if "noindex" in policy:
        policy.add("none")
    return [word for word in found if word in policy]


def content_usage(value: str, key: str = "train-ai", no: str = "n", yes: str = "y") -> str:
    """Return n, y or nothing for train-ai in an RFC 9651 dictionary (AIPREF drafts): keys and values case-sensitive.

    Parameters are ignored, other values say nothing; of conflicting members the stricter counts.
    """
    members = (member.partition(";")[0].partition("=") for member in value.split(","))
    said = {preference.strip() for name, _, preference in members if name.strip() == key}
    return no if no in said else yes if yes in said else ""


_CREATIVE_COMMONS: Final = re.compile(
    r"\s*(?:https?:)?//(?:www\.)?creativecommons\.org/"
    r"(licenses/[a-z+-]+|publicdomain/(?:zero|mark|certification))(?:/(\d+\.\d+)(?:/([a-z]{2,10})(?![a-z.]))?)?(?=[/?#\s]|$)",
    re.IGNORECASE,
)


def creative_commons(url: str) -> str:
    """Return the normal form of a Creative Commons licence address, empty for any other address.

    `http://www.creativecommons.org/licenses/by-sa/4.0/deed.an` is `https://creativecommons.org/licenses/by-sa/4.0/`;
    the jurisdiction of a ported licence (`/2.0/de/`) is part of it.
    """
    match = _CREATIVE_COMMONS.match(url)
    if match is None:
        return ""
    parts = [part.lower() for part in match.groups() if part and part.lower() != "legalcode"]
    return f"https://creativecommons.org/{'/'.join(parts)}/"


def path_of(url: str) -> str:
    """Return path and query of a URL in the form in which patterns are compared with it."""
    parts = urlsplit(url)
    return normal_path((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


_ESCAPE: Final = re.compile(r"%([0-9a-fA-F]{2})")


def normal_path(path: str) -> str:
    """Return a path or pattern as RFC 9309, 2.2.2 compares it: unreserved characters plain, all else escaped alike."""

    def plain(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else match[0].upper()

    return quote(_ESCAPE.sub(plain, path), safe="/%?#[]@!$&'()*+,;=:~", errors="replace")


def matches(pattern: str, path: str) -> bool:
    """Match as robots.txt does: a prefix, `*` for any run, `$` at the end. Linear, whatever a hostile file holds."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    place = len(first)
    for piece in rest[:-1] if anchored else rest:
        found = path.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    if not anchored:
        return True
    return path == first if not rest else len(path) - len(rest[-1]) >= place and path.endswith(rest[-1])
