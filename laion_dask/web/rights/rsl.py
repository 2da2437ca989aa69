"""Parse RSL 1.0 licences (Really Simple Licensing) and decide whether they permit training on an address.

Hosts name their licences in robots.txt (`License:`), responses in a header (`Link: <...>; rel="license"`), pages in a
LINK element. A data set can neither pay nor impose conditions on its later users, so a licence permits training here
only if it does so for everybody, free of charge and without conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from laion_dask.web.rights.decision import SILENT, Decision, decision
from laion_dask.web.rights.path_rules import PathRules, matches, normal_path, path_of

MAX_FILE_BYTES: Final = 512 * 1024
MAX_LICENSES: Final = 8
"""How many licences are read for one host or response; a decision records that there are more."""

TOO_MANY: Final = f"more than {MAX_LICENSES} licences are named, and the others are not read"

_SPACES: Final = frozenset(f"{scheme}://rslstandard.org/rsl{end}" for scheme in ("https", "http") for end in ("", "/"))
# 3.4.1: uses that are training or include it; train-ai is the name in the drafts and in AIPREF.
_TRAINING: Final = frozenset({"all", "ai-all", "ai-train", "train-ai"})
_MAX_TEXT_CHARS: Final = 1_000
# The strictest first.
_ORDER: Final = ("refused", "unknown", "allowed")


@dataclass(frozen=True, slots=True)
class Terms:
    """The decision of a licence about training, or of the strictest of several, and the line behind it."""

    rights: str
    line: str


@dataclass(frozen=True, slots=True)
class License:
    """A licence document: terms by host pattern (empty for the site that names it) and path; its address and Date."""

    terms: Mapping[str, PathRules[Terms]] = field(default_factory=dict)
    unread: str = ""
    """Why the document cannot be read; else empty."""
    lasting: bool = True
    """Whether requesting it again soon would give the same."""
    weight: int = 0
    """Bytes of the document."""
    source: str = ""
    time: str | None = None

    def decide(self, url: str) -> Decision:
        """Decide for an address: the narrowest scope counts, of equally narrow ones the strictest terms (3.1.1)."""
        if self.unread:
            return decision("unknown", "rsl", f"licence cannot be read: {self.unread}", self.source, self.time)
        path, host = path_of(url), (urlsplit(url).hostname or "") if any(self.terms) else ""
        found = [rules.longest(path) for where, rules in self.terms.items() if not where or matches(f"{where}$", host)]
        longest = max((length for length, _ in found), default=-1)
        if longest < 0:
            return SILENT
        terms = _strictest(terms for length, matching in found if length == longest for terms in matching)
        return decision(terms.rights, "rsl", terms.line, self.source, self.time)


def parse_rsl(status: int, body: bytes, source: str = "", time: str | None = None, *, lasting: bool = True) -> License:
    """Parse the answer to GET of a licence; status 0: the address could not be reached.

    A document that is not RSL, or longer than 512 KiB, is `unread`, which counts as a licence that was not granted
    (4.3). Entities are not expanded, and documents that declare any are not read.
    """

    def unread(why: str) -> License:
        return License(unread=why, lasting=lasting, source=source, time=time)

    if not 200 <= status < 300:
        return unread(f"HTTP {status}" if status else "no answer")
    if len(body) > MAX_FILE_BYTES:
        return unread(f"longer than {MAX_FILE_BYTES // 1024} KiB")
    document = _Document()
    parser = DefusedXMLParser(target=document, forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return unread("no XML")
    if not document.contents:
        return unread("no RSL document")
    terms = {where: PathRules(here) for where, here in document.terms().items()}
    return License(terms, lasting=lasting, weight=len(body), source=source, time=time)


def _strictest(terms: Iterable[Terms]) -> Terms:
    return min(terms, key=lambda one: _ORDER.index(one.rights))


@dataclass(slots=True)
class _LicenseElement:
    """One license element: its uses, and the first condition that a data set cannot meet."""

    permitted: list[str] | None = None
    prohibited: list[str] = field(default_factory=list)
    condition: str = ""

    def terms(self) -> Terms:
        """Decide by the licence: prohibitions override permissions; a list of permissions is complete (3.5, 3.6)."""
        refused = [use for use in self.prohibited if use in _TRAINING or "train" in use]
        if refused:
            return Terms("refused", f"prohibits usage: {' '.join(refused)}")
        if self.permitted is not None and not _TRAINING.intersection(self.permitted):
            return Terms("refused", f"permits usage: {' '.join(self.permitted)}")
        if self.condition:
            return Terms("refused", f"permits usage under a condition: {self.condition}")
        uses = " ".join(self.permitted) if self.permitted is not None else "no limit"
        return Terms("allowed", f"permits usage: {uses}")


@dataclass(slots=True)
class _Content:
    """One content element: the address that it covers, and its licences."""

    url: str
    condition: str
    licenses: list[_LicenseElement] = field(default_factory=list)

    def terms(self) -> Terms:
        """Decide by all licences of the content: the strictest counts."""
        if not self.licenses:
            return Terms("unknown", f"no license for {self.url}")
        terms = _strictest(one.terms() for one in self.licenses)
        if terms.rights == "allowed" and self.condition:
            return Terms("refused", f"permits usage under a condition: {self.condition}")
        return terms

    def scope(self) -> tuple[str, str]:
        """Return the host pattern (empty for the site that names the licence) and the path pattern."""
        url = f"https:{self.url}" if self.url.startswith("//") else self.url
        scheme, mark, rest = url.partition("://")
        if not mark or scheme.lower() not in {"http", "https"}:
            path = self.url if self.url[:1] in {"/", "*"} else f"/{self.url}"
            return "", normal_path(path)
        authority, _, path = rest.partition("/")
        return authority.lower().partition(":")[0], normal_path(f"/{path}")


class _Document:
    """The target of an XML parser that collects the content elements of a licence document, at any depth."""

    def __init__(self) -> None:
        self.contents: list[_Content] = []
        self._license: _LicenseElement | None = None
        self._kind = ""
        self._text = ""

    def terms(self) -> dict[str, dict[str, Terms]]:
        """Return the terms by host and path; the strictest, where one path has several."""
        found: dict[str, dict[str, Terms]] = {}
        for content in self.contents:
            where, path = content.scope()
            here = found.setdefault(where, {})
            terms = content.terms()
            here[path] = _strictest([here[path], terms]) if path in here else terms
        return found

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element; elements of other vocabularies are ignored."""
        name, kind = _local(tag), attributes.get("type", "").strip().lower()
        self._text = ""
        if name == "content":
            # 3.3: with a server, a licence must be obtained from it, even a free one.
            server = attributes.get("server", "").strip()
            self.contents.append(_Content(attributes.get("url", "").strip(), f"server: {server}" if server else ""))
            self._license = None
        elif name == "license" and self.contents:
            self._license = _LicenseElement()
            self.contents[-1].licenses.append(self._license)
        elif self.contents and name in {"permits", "prohibits", "payment", "reporting"}:
            if self._license is None and name in {"permits", "prohibits"}:
                # Terms outside of a license element: the author means them, so they count.
                self._license = _LicenseElement()
                self.contents[-1].licenses.append(self._license)
            self._kind = kind
            if name == "payment" and kind != "free":
                self._limit(f"payment: {kind or 'not named'}")
            elif name == "reporting":
                self._limit(f"reporting: {kind or 'not named'}")

    def data(self, text: str) -> None:
        """Collect text."""
        if len(self._text) < _MAX_TEXT_CHARS:
            self._text += text[:_MAX_TEXT_CHARS]

    def end(self, tag: str) -> None:
        """Close an element."""
        name = _local(tag)
        if name in {"license", "content"}:
            self._license = None
        if name in {"permits", "prohibits"} and self._license is not None:
            uses = self._text.replace(",", " ").lower().split()
            if self._kind not in {"usage", ""}:
                self._limit(f"{name} {self._kind}: {' '.join(uses)}")
            elif name == "permits":
                self._license.permitted = self._license.permitted or []
                self._license.permitted += uses
            else:
                self._license.prohibited += uses
        self._text = ""

    def close(self) -> None:
        """End the document."""

    def _limit(self, condition: str) -> None:
        if self._license is not None:
            self._license.condition = self._license.condition or condition
        elif self.contents:
            self.contents[-1].condition = self.contents[-1].condition or condition


def _local(tag: str) -> str:
    """Return the name of an RSL element, else nothing; documents without any namespace count as RSL too."""
    space, _, name = tag.removeprefix("{").partition("}") if tag.startswith("{") else ("", "", tag)
    return name if not space or space in _SPACES else ""
