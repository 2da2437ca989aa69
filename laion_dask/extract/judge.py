"""Decide for each image link of a page whether it becomes a pair, or count the first reason against it."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from laion_dask import params
from laion_dask.extract import text
from laion_dask.extract.licenses import NO_LICENSE, license_of, licenses_before
from laion_dask.extract.wat.wat_envelope import text_of
from laion_dask.extract.wat.wat_pages import MAX_LISTED, Defect, Page, headers_of, metas_of, typed_links_of
from laion_dask.schema.ledger import Ledger
from laion_dask.web.rights import pages
from laion_dask.web.urls import resolver

# Earlier WATs have undecoded HTML entities (extractor commits d5af4e5 of 8 July 2019, bb754a3 of 28 August 2019).
_ENTITIES_DECODED_SINCE: Final = "2019-07"


class Pair(NamedTuple):
    """A kept link: `page` is the number that the caller gave its page, `link_index` its index among the image links."""

    uid: str
    url: str
    host: str
    text: str
    license: str
    page_signals: str
    link_index: int
    page: int


class _PageFacts(NamedTuple):
    """What all pairs of a page share."""

    signals: str
    opted_out: bool
    license: str
    licenses: list[str] | None = None
    """The licence of each image link, if it depends on the position in the page."""


_UNKNOWN: Final = _PageFacts("", opted_out=False, license=NO_LICENSE)


class Judge:
    """Applies the rules of one run to the links of each page, and counts them by reason.

    The first of several reasons counts, in this order: text, address (see `urls.Resolver`), length of the text, rights
    of the page, address seen before, page full. With `links_only`, rights and licence of a page are not read.
    """

    def __init__(self, settings: params.Extract, *, links_only: bool = False) -> None:
        self.ledger = Ledger()
        self.defects: list[Defect] = []
        self._settings = settings
        self._links_only = links_only
        self._rules = resolver.rules_of(settings)
        cleaner = text.Cleaner(settings.text_steps, settings.max_chars)
        self._clean = cleaner if set(settings.text_steps) - {"escape"} else None
        self._finish = cleaner.finish if "escape" in settings.text_steps or settings.max_chars is not None else None
        self._text_first = settings.uid == "text_url"
        self._seen: set[bytes] | None = set() if settings.unique_in_wat == "url" else None
        self._is_strict = self._seen is not None or settings.max_pairs_per_page is not None

    def page(self, page: Page, number: int) -> list[Pair]:  # noqa: C901, PLR0912 - a branch per rule, in order
        """Return the pairs of a page in order, each with `number`; counts links in `ledger`."""
        # The innermost loop of the stage: lookups are hoisted out of it, and calls avoided.
        dropped, md5, new = self.ledger.dropped, hashlib.md5, tuple.__new__
        kept: list[Pair] = []
        decode = html.unescape if self._keeps_entities(page) else None
        resolve = resolver.Resolver(page.url, decode(page.base) if decode else page.base, self._rules).resolve
        clean, finish, text_first = self._clean, self._finish, self._text_first
        min_chars = self._settings.min_chars
        facts: _PageFacts | None = None
        for place, link in enumerate(page.images):
            caption, url = link.alt, link.url
            if not caption:
                dropped["no_alt"] += 1
                continue
            if caption.__class__ is not str or url.__class__ is not str or decode:
                caption, url = _text_and_url(caption, url, decode)
            if clean is not None:
                caption = clean(caption)
            if not caption:
                dropped["no_alt"] += 1
                continue
            if url is None:
                self._note_missing_url(page)
                continue
            address = resolve(url)
            if isinstance(address, str):
                dropped[address] += 1
                continue
            if len(caption) < min_chars:
                dropped["text_too_short"] += 1
                continue
            if facts is None:
                facts = self._facts(page)
            target, host = address
            if self._is_strict or facts.opted_out:
                reason = self._refusal(facts, target, len(kept))
                if reason:
                    dropped[reason] += 1
                    continue
            if finish is not None:
                caption = finish(caption)
            try:
                uid = md5((caption + target if text_first else target + caption).encode()).hexdigest()
            except UnicodeEncodeError:
                # Lone surrogates from JSON escapes become U+FFFD, as in addresses.
                caption, target = storable(caption), storable(target)
                uid = (uid_of if text_first else uid_of_url_and_text)(caption, target)
            license_ = facts.license if facts.licenses is None else facts.licenses[place]
            kept.append(new(Pair, (uid, target, host, caption, license_, facts.signals, place, number)))
        self.ledger.kept += len(kept)
        self.ledger.seen += len(page.images)
        return kept

    def _refusal(self, facts: _PageFacts, url: str, kept: int) -> str:
        """Return the reason of the page or the WAT to drop a link; empty without one."""
        if facts.opted_out:
            return "page_opt_out"
        if self._seen is not None and self._is_known(url):
            return "url_seen"
        limit = self._settings.max_pairs_per_page
        return "page_full" if limit is not None and kept >= limit else ""

    def _keeps_entities(self, page: Page) -> bool:
        if self._settings.entities == "by_date":
            return "" < page.written[:7] < _ENTITIES_DECODED_SINCE
        return self._settings.entities == "always"

    def _note_missing_url(self, page: Page) -> None:
        self.ledger.dropped["no_url"] += 1
        if len(self.defects) < MAX_LISTED:
            self.defects.append(Defect(page.offset, "no_url", "an image link without url"))

    def _is_known(self, url: str) -> bool:
        # 16 bytes per address, of any length.
        digest = hashlib.md5(url.encode("utf-8", "replace")).digest()
        known = digest in (self._seen or ())
        if self._seen is not None:
            self._seen.add(digest)
        return known

    def _facts(self, page: Page) -> _PageFacts:
        if self._links_only:
            return _UNKNOWN
        lists = page.lists()
        found = pages.page_signals(
            headers_of(lists), metas_of(lists), self._settings.opt_out_directives, links=typed_links_of(lists)
        )
        opted_out = bool(found) and self._settings.page_opt_out == "drop"
        signals = ";".join(found)
        if self._settings.license == "before":
            return _PageFacts(signals, opted_out, NO_LICENSE, licenses_before(page, self._settings.link_kinds))
        return _PageFacts(signals, opted_out, license_of(page))


def _text_and_url(alt: object, url: object, decode: Callable[[str], str] | None) -> tuple[str, str | None]:
    """Return both as text, with entities decoded if `decode` is given; a missing address stays None."""
    caption, written = text_of(alt), None if url is None else text_of(url)
    if decode is None:
        return caption, written
    return decode(caption), None if written is None else decode(written)


def uid_of(caption: str, url: str) -> str:
    """Return md5 of text + url as 32 hex digits: the uid of cc2dataset and DataComp, in this order of the two."""
    return hashlib.md5((caption + url).encode()).hexdigest()


def uid_of_url_and_text(caption: str, url: str) -> str:
    """Return md5 of url + text as 32 hex digits: the hash of LAION-5B's code."""
    return hashlib.md5((url + caption).encode()).hexdigest()


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def storable(value: str) -> str:
    """Return text that UTF-8 can encode: lone surrogates become U+FFFD."""
    return _SURROGATE.sub("\ufffd", value)
