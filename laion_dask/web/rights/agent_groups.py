"""Parse files of User-agent groups, the grammar that robots.txt and ai.txt share, for the names that concern us.

The file is read in one pass. A group is stored once for all its names, and only if it concerns one of the wanted names,
so that neither time nor memory grows with names times rules.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

EVERYBODY: Final = "*"
FIRST: Final = ""
"""The name of the lines before the first group."""

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT_BYTES: Final = 1_024
# Invisible characters come along when text is copied from web pages; a refusal must count in spite of them.
_HIDDEN: Final = dict.fromkeys(map(ord, "\0\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
# RFC 9309, 2.2: lines end with CR, LF or both, and with nothing else.
_LINE: Final = re.compile(r"[^\r\n]+")
_RULES: Final = frozenset({"allow", "disallow"})
_NAME: Final = re.compile(r"(?:^|[,;])[\s\"']*([a-z0-9_-]+|\*(?![a-z0-9_-]))")
_SPELLINGS: Final = {
    **dict.fromkeys(("user-agent", "useragent", "user agent", "user_agent"), "user-agent"),
    # Misspellings that Google's parser accepts too (google/robotstxt), so that a typo does not lose a refusal.
    **dict.fromkeys(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    **dict.fromkeys(("crawl-delay", "crawldelay", "crawl delay"), "crawl-delay"),
    **dict.fromkeys(("license", "licence"), "license"),
}
_KNOWN: Final = frozenset({*_SPELLINGS.values(), "allow", "content-usage", "content-signal"})
_MAX_KEY_CHARS: Final = 40
# The grammar has no quotes around values; where they occur, the text inside is meant.
_QUOTED: Final = re.compile(r"([\"'])([^\"']*)\1\Z")
_WITHOUT_COLON: Final = re.compile(r"(user[-_ \t]?agent|diss?all?[ao]w|diasllow|allow)[ \t]+(\S+)", re.IGNORECASE)


class Line(NamedTuple):
    """One line of a group: its key in its usual spelling, its value, and the whole line without comment.

    `apart` tells whether a blank line precedes it.
    """

    key: str
    value: str
    text: str
    apart: bool = False


@dataclass(slots=True)
class Groups:
    """The lines of a file by the names that they concern: wanted names, `*`, and FIRST for lines before all groups.

    Groups for the same wanted names are merged. `named` are the names for which the file has groups.
    """

    lines: dict[frozenset[str], list[Line]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def of(self, name: str) -> Iterator[frozenset[str]]:
        """Yield the keys of `lines` for a lower-case name: of the groups that name it, else of the groups for `*`."""
        wanted = name if name in self.named else EVERYBODY
        return (names for names in self.lines if wanted in names)


def text_of(body: bytes, max_bytes: int) -> tuple[str, bool]:
    """Return the text of a file, and whether it is longer than `max_bytes`; then the line that is cut is left out.

    The encoding is UTF-8 as in RFC 9309, UTF-16 or UTF-32 with a byte order mark, or UTF-16 without one, detected by
    its NUL bytes. NUL characters, byte order marks and other invisible characters are removed everywhere.
    """
    read = body[:max_bytes]
    text = read.decode(_encoding(read), "replace").translate(_HIDDEN)
    if len(body) > max_bytes:
        return text[: max(text.rfind("\n"), text.rfind("\r")) + 1], True
    return text, False


def _encoding(body: bytes) -> str:
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return encoding
    head = body[:_LOOKED_AT_BYTES]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    # UTF-8 text has no NUL bytes. In UTF-16 every second byte of line ends and directives is NUL; in comments it may
    # not be.
    if max(even, odd) * 8 > len(head) and max(even, odd) > 8 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def parse(text: str, names: Collection[str], keys: Collection[str]) -> Groups:
    """Parse a file for some lower-case names; lines with other keys than `keys` are skipped.

    Only allow and disallow end the list of names of a group: any other line between two User-agent lines does not
    separate them (RFC 9309, 2.2.4). A name consists of letters, digits, `_` and `-`, so `CCBot/2.0` is CCBot. One line
    may have several names.
    """
    groups = Groups()
    wanted = {*names, EVERYBODY}
    group, names_of_group, has_rules = list[Line](), {FIRST}, True
    # The names of adjacent User-agent lines.
    names_above, was_name = {FIRST}, False
    for line in _lines(text):
        if line.key == "user-agent":
            if has_rules:
                _add(groups, names_of_group, group)
                group, names_of_group, has_rules = [], set(), False
            found = wanted.intersection(_NAME.findall(line.value.lower()))
            names_of_group |= found
            names_above = names_above | found if was_name else found
            was_name = True
            continue
        was_name = False
        has_rules = has_rules or line.key in _RULES
        if line.key == "crawl-delay":
            # Not in the RFC: it applies to the adjacent names above it, and does not end their group.
            _add(groups, names_above, [line] if line.key in keys else [])
        elif line.key in keys:
            group.append(line)
            if line.key == "license" and line.apart:
                # RSL 1.0, 4.4: outside of a group it is for the whole file. Groups have no explicit end, so a License
                # line after a blank line counts as outside.
                _add(groups, {FIRST}, [line])
    _add(groups, names_of_group, group)
    return groups


def _add(groups: Groups, names: set[str], lines: list[Line]) -> None:
    if names:
        groups.lines.setdefault(frozenset(names), []).extend(lines)
        groups.named |= names - {FIRST}


def _lines(text: str) -> Iterator[Line]:
    end, apart = 0, True
    for raw in _LINE.finditer(text):
        line = raw[0].partition("#")[0].strip()
        apart = apart or len(text[end : raw.start()].replace("\r\n", "\n")) > 1 or not raw[0].strip()
        end = raw.end()
        found = _line(line, apart=apart) if line else None
        if found is not None:
            yield found
            apart = False


def _line(text: str, *, apart: bool) -> Line | None:
    name, colon, value = text.partition(":")
    key = " ".join(name.lower().split()) if len(name) <= _MAX_KEY_CHARS else ""
    if colon and (known := _SPELLINGS.get(key, key)) in _KNOWN:
        return Line(known, _QUOTED.sub(r"\2", value.strip()), text, apart)
    if without := _WITHOUT_COLON.fullmatch(text):
        # As Google's parser reads it: a key and one word with only blanks between them.
        word = " ".join(without[1].lower().replace("\t", " ").split())
        return Line(_SPELLINGS.get(word, word), without[2], text, apart)
    return None
