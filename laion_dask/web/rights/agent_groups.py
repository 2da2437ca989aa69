"""Files of User-agent groups in, the lines that concern us out: the grammar that robots.txt and ai.txt share.

One pass over the file. A group is kept once for all the names it has, and only where it concerns one of the names that
are asked for, so that neither time nor memory grows with names times rules.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

EVERYBODY: Final = "*"
FIRST: Final = ""
"""The name of the lines before any group."""

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOOKED_AT_BYTES: Final = 1_024
# What nobody sees: it comes with copies out of web pages, and must not lose a refusal.
_HIDDEN: Final = dict.fromkeys(map(ord, "\0\xad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
# RFC 9309, 2.2: lines end with CR, LF or both, and with nothing else.
_LINE: Final = re.compile(r"[^\r\n]+")
_RULES: Final = frozenset({"allow", "disallow"})
_NAME: Final = re.compile(r"(?:^|[,;])[\s\"']*([a-z0-9_-]+|\*(?![a-z0-9_-]))")
_SPELLINGS: Final = {
    **dict.fromkeys(("user-agent", "useragent", "user agent", "user_agent"), "user-agent"),
    # As Google's parser reads them (google/robotstxt): a slip of the key must not lose a refusal.
    **dict.fromkeys(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    **dict.fromkeys(("crawl-delay", "crawldelay", "crawl delay"), "crawl-delay"),
    **dict.fromkeys(("license", "licence"), "license"),
}
_KNOWN: Final = frozenset({*_SPELLINGS.values(), "allow", "content-usage", "content-signal"})
_MAX_KEY_CHARS: Final = 40
# No value of the grammar has quotes around it; whoever writes them means what is inside.
_QUOTED: Final = re.compile(r"([\"'])([^\"']*)\1\Z")
_WITHOUT_COLON: Final = re.compile(r"(user[-_ \t]?agent|diss?all?[ao]w|diasllow|allow)[ \t]+(\S+)", re.IGNORECASE)


class Line(NamedTuple):
    """One line of a group: its key in its usual spelling, its value, and the whole line without comment.

    `apart` tells whether a blank line stands before it.
    """

    key: str
    value: str
    text: str
    apart: bool = False


@dataclass(slots=True)
class Groups:
    """The lines of a file by the names that they concern: those asked for, `*`, and FIRST for what precedes all groups.

    Groups with the same names among those asked for are one. `named` are the names that the file has groups for.
    """

    lines: dict[frozenset[str], list[Line]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    def of(self, name: str) -> Iterator[frozenset[str]]:
        """Yield the keys of `lines` that concern a lower-case name: of groups that name it, else of those for `*`."""
        wanted = name if name in self.named else EVERYBODY
        return (names for names in self.lines if wanted in names)


def text_of(body: bytes, max_bytes: int) -> tuple[str, bool]:
    """Return the text of a file, and whether it is longer than `max_bytes`: then the line that is cut is left out.

    UTF-8 as RFC 9309 has it; UTF-16 and UTF-32 with a byte order mark, and UTF-16 without one, known by its NUL bytes.
    NUL characters, marks and other characters that nobody sees are left out wherever they stand.
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
    # Text in UTF-8 has no NUL. In UTF-16 line ends and directives have one in every second byte, comments may not.
    if max(even, odd) * 8 > len(head) and max(even, odd) > 8 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def parse(text: str, names: Collection[str], keys: Collection[str]) -> Groups:
    """Read a file for some names in lower case; lines with other keys than `keys` are passed over.

    Only allow and disallow end the names of a group: whatever else stands between two User-agent lines must not part
    them (RFC 9309, 2.2.4). A name ends where no letter, digit, `_` or `-` follows, so `CCBot/2.0` is CCBot; several in
    one line are all meant.
    """
    groups = Groups()
    wanted = {*names, EVERYBODY}
    group, names_of_group, has_rules = list[Line](), {FIRST}, True
    # The User-agent lines that stand together, with no other line between them.
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
            # No part of the RFC: a wish to those whose names stand right above it, who go on in the same group.
            _add(groups, names_above, [line] if line.key in keys else [])
        elif line.key in keys:
            group.append(line)
            if line.key == "license" and line.apart:
                # RSL 1.0, 4.4: outside of any group it is for the whole file. A group has no end of its own, and
                # whoever adds the line at the end of a file leaves a blank line before it.
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
        # As Google's parser reads it: a key and one word, with nothing between them but blanks.
        word = " ".join(without[1].lower().replace("\t", " ").split())
        return Line(_SPELLINGS.get(word, word), without[2], text, apart)
    return None
