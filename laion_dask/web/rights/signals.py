"""Header values and licence addresses in, what they mean out: the small grammars of reservations."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

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

    Parameters are ignored, another value is `?`; of conflicting members the stricter counts.
    """
    members = (member.partition(";")[0].partition("=") for member in value.split(","))
    said = {preference.strip() for name, _, preference in members if name.strip() == key}
    return no if no in said else yes if said == {yes} else "?" if said else ""


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
"""Hosts of the addresses that `license_id` knows: a page that names none of them declares no licence known here."""

RSL_TYPE: Final = "application/rsl+xml"

_UNTYPED: Final = frozenset({"", "application/xml", "text/xml"})


def rsl_links(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bool]]:
    """Yield addresses of licences in Link headers as written, and whether they are said to be RSL documents.

    A link without a type may be one; not where it leads to a host of well-known licences.
    """
    for name, value in headers:
        if name.strip().lower() != "link":
            continue
        for piece in value.split("<")[1:]:
            address, _, rest = piece.partition(">")
            told = dict(_parameter(part) for part in rest.split(";")[1:])
            kind = told.get("type", "")
            if "license" not in told.get("rel", "").split() or not address.strip():
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

    Not the name of a licence (`MIT`), and no address of a well-known one, which is no RSL.
    """
    is_address = "/" in value or value.lower().endswith((".xml", ".rsl"))
    return is_address and not any(character.isspace() for character in value) and not _is_well_known(value)


def _is_well_known(address: str) -> bool:
    return _ADDRESS.match(address) is not None


def _parameter(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name.strip().lower(), value.strip(" \t,\"'").lower()


_ADDRESS: Final = re.compile(
    rf"\s*(?:https?:)?//(?:[\w-]+\.)?({'|'.join(map(re.escape, LICENSE_HOSTS))})(/[^?#\s]*)", re.IGNORECASE
)


def license_id(url: str) -> str:
    """Return the id of the licence that an address stands for, empty where it is none known here.

    Ids are those of SPDX, without `-only` or `-or-later`, which no address tells: CC-BY-SA-4.0, GFDL-1.3, MIT. Licences
    that SPDX does not list follow its form: ports by their country (CC-BY-2.0-DE), the public domain mark CC-PDM-1.0,
    retired ones (CC-SAMPLING-PLUS-1.0), statements of rightsstatements.org (RS-InC-1.0). A licence without a version in
    its address has none in its id (CC-BY).
    """
    address = _ADDRESS.match(url)
    if address is None:
        return ""
    host, path = address[1].lower(), address[2]
    if host == "creativecommons.org":
        return _creative_commons(path.lower())
    for pattern, name in _LICENSES.get(host, ()):
        if match := pattern.match(path):
            return f"{name}-{_version(match[1])}" if match.lastindex else name
    if host == "opensource.org" and (match := _OPEN_SOURCE.match(path)):
        return _OPEN_SOURCE_IDS.get(match[1].lower(), "")
    if host == "rightsstatements.org" and (match := _STATEMENT.match(path)):
        return f"RS-{_STATEMENTS[match[1].lower()]}-{match[2]}"
    return ""


def _version(written: str) -> str:
    return written.replace("-", ".") if len(written) > 1 else f"{written}.0"


_CC_PATH: Final = re.compile(
    r"/(?:licen[sc]es/([a-z+-]+)|publicdomain/(zero|mark|certification))"
    r"(?:/(\d\.\d)(?:/(scotland|igo|[a-z]{2})(?=/|$))?)?(?=/|$)"
)
_CC_WHOLE: Final = {
    "zero": "CC0-1.0",
    "mark": "CC-PDM-1.0",
    "certification": "CC-PDDC",
    "publicdomain": "CC-PDDC",
    "mit": "MIT",
}
_CC_ELEMENTS: Final = {
    *("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd"),
    *("sa", "nd", "nc", "nc-sa", "nc-nd", "sampling", "sampling+", "nc-sampling+", "devnations"),  # retired
}
# Version 1.0 wrote them the other way round.
_CC_REORDERED: Final = {"by-nd-nc": "by-nc-nd", "nd-nc": "nc-nd", "by-sa-nc": "by-nc-sa"}


def _creative_commons(path: str) -> str:
    match = _CC_PATH.match(path)
    if match is None:
        return ""
    elements, kind, version, port = match.groups()
    name = _CC_REORDERED.get(elements, elements) or kind
    if name in _CC_WHOLE:
        return _CC_WHOLE[name]
    # Creative Commons lent these its deed.
    prefix = "" if name in {"gpl", "lgpl", "bsd"} else "CC-" if name in _CC_ELEMENTS else None
    if prefix is None:
        return ""
    # Version 4.0 has no ports: what looks like one is the language of the page.
    parts = [name.replace("+", "-plus"), version, port if version and version < "4" else None]
    return prefix + "-".join(part.upper() for part in parts if part)


def _pattern(path: str) -> re.Pattern[str]:
    # An address goes on with the language, a suffix, a slash, or not at all.
    return re.compile(rf"{path}(?:[./][\w./-]*)?$", re.IGNORECASE)


_LICENSES: Final = {
    "gnu.org": tuple(
        (_pattern(rf"/(?:licenses/(?:old-licenses/)?|copyleft/){name}(?:-(\d\.\d))?"), spdx)
        for name, spdx in (("fdl", "GFDL"), ("agpl", "AGPL"), ("lgpl", "LGPL"), ("lesser", "LGPL"), ("gpl", "GPL"))
    ),
    "apache.org": ((_pattern(r"/licenses/LICENSE-(\d\.\d)"), "Apache"),),
    "mozilla.org": ((_pattern(r"/(?:[a-z-]+/)?MPL/(\d\.\d)"), "MPL"), (_pattern(r"/(?:[a-z-]+/)?MPL"), "MPL")),
    "opendatacommons.org": tuple(
        (_pattern(rf"/licenses/{name}(?:/v?(\d[.-]\d)|/summary)?"), spdx)
        for name, spdx in (("odbl", "ODbL"), ("by", "ODC-By"), ("pddl", "PDDL"))
    ),
    "nationalarchives.gov.uk": ((_pattern(r"/doc/open-government-licence(?:/version/(\d(?:\.\d)?))?"), "OGL-UK"),),
    "data.gov.uk": ((_pattern(r"/id/open-government-licence"), "OGL-UK"),),
    "open.canada.ca": (
        (_pattern(r"/en/open-government-licence-canada|/fr/licence-du-gouvernement-ouvert-canada"), "OGL-Canada-2.0"),
    ),
    "govdata.de": ((_pattern(r"/dl-de/by-(\d-\d)"), "DL-DE-BY"), (_pattern(r"/dl-de/zero-(\d-\d)"), "DL-DE-ZERO")),
    "artlibre.org": ((_pattern(r"/licen[cs]e(?:/lal)?"), "LAL"),),
    "unlicense.org": ((re.compile(r"/$"), "Unlicense"),),
}
_OPEN_SOURCE: Final = re.compile(r"/licenses?/([\w.-]+?)(?:-license)?(?:\.php|\.html)?/?$", re.IGNORECASE)
_OPEN_SOURCE_IDS: Final = {
    name.lower(): name
    for name in (
        *("MIT", "MIT-0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "MPL-1.1", "MPL-2.0", "EPL-1.0"),
        *("EPL-2.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0", "Artistic-1.0", "Artistic-2.0", "Zlib"),
        *("AFL-3.0", "OSL-3.0", "EUPL-1.2", "Unlicense", "BSL-1.0", "OFL-1.1"),
    )
} | {"bsd": "BSD", "apache2.0": "Apache-2.0", "gpl": "GPL", "lgpl": "LGPL", "artistic": "Artistic"}
_STATEMENTS: Final = {
    name.lower(): name
    for name in (
        *("InC", "InC-OW-EU", "InC-EDU", "InC-NC", "InC-RUU", "NoC-CR", "NoC-NC", "NoC-OKLR", "NoC-US"),
        *("CNE", "UND", "NKC"),
    )
}
_STATEMENT: Final = re.compile(rf"/(?:vocab|page)/({'|'.join(_STATEMENTS)})/(\d\.\d)(?=/|$)", re.IGNORECASE)
