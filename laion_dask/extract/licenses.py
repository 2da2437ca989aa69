"""Find the licence that a page links to, for the page or for each of its images."""

from __future__ import annotations

from typing import Final

from laion_dask.extract.license_ids import license_id
from laion_dask.extract.wat.wat_envelope import text_of
from laion_dask.extract.wat.wat_json import Link, is_image
from laion_dask.extract.wat.wat_pages import Page

NO_LICENSE: Final = "?"


# A tuple, not a set: a path may be of any type, even an unhashable one.
_LICENSE_PATHS: Final = ("A@/href", "LINK@/href")


def license_of(page: Page) -> str:
    """Return the id of the licence that a page links to anywhere; `?` without one.

    A link with rel=license takes precedence over others; else the first in document order. Without rel, only a Creative
    Commons licence counts: pages link to other licences for many reasons.
    """
    mentions = []
    for link in page.license_links():
        found = license_id(text_of(link.url)) if link.path in _LICENSE_PATHS else ""
        # HTML defines rel=copyright as an old synonym of rel=license.
        declared = not {"license", "copyright"}.isdisjoint(text_of(link.rel).lower().split())
        if found and declared:
            return found
        if found.startswith("CC") and link.path == "A@/href":
            mentions.append(found)
    return mentions[0] if mentions else NO_LICENSE


def licenses_before(page: Page, kinds: tuple[str, ...]) -> list[str]:
    """Return the licence of each image link as LAION-5B's code does: the last Creative Commons link before it."""
    current, licenses = NO_LICENSE, []
    for link in page.every_link:
        current = _mentioned(link) or current
        if is_image(link, kinds):
            licenses.append(current)
    return licenses


def _mentioned(link: Link) -> str:
    address = text_of(link.url)
    return license_id(address) if "creativecommons.org/licenses/" in address else ""
