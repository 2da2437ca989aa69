"""Plan the demo crawl from a seed and a size: pages, links with their truth, and the responses of image hosts.

The plan is cheap (nothing is drawn) and complete: every worker makes the same one and writes its part of it. Verdicts
follow the order of the rules in the default params.yaml; the first of equal pairs is the first by WAT, record and link.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from laion_dask.demo.crawl.answers import HostAnswer
from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.crawl.labels import PAGE_ALLOWED, PAGE_OPT_OUTS, PageSignal
from laion_dask.demo.crawl.links import JUNK, WrittenLink, furniture, image_link, junk, license_link, noisy, written
from laion_dask.demo.crawl.pairs import Pairs, PlannedPair
from laion_dask.demo.crawl.plan import DAMAGED, NON_HTML, Kind, Plan, PlannedPage
from laion_dask.demo.crawl.sites import Site, make_sites, rights_files, uid
from laion_dask.schema.reasons import KEEP, REASONS

LINKS_PER_PAGE: Final = 1.44
ENGLISH: Final = 0.5


def warc_count(pages: int) -> int:
    """Return the number of WARC files for a crawl of so many pages: each is a part, so that many workers can draw."""
    return max(8, pages // 1_000) if pages >= 1_000 else 2


@lru_cache(maxsize=2)
def plan(seed: int, pages: int, wats: int) -> Plan:
    """Return the plan of a demo crawl of `pages` pages in `wats` WAT files; it depends on the three numbers only."""
    rng = np.random.Generator(np.random.PCG64([seed, pages, wats]))
    sites = make_sites(rng, pages)
    drafts = _drafts(rng, sites, pages)
    pairs = Pairs(rng, sites, round(pages * LINKS_PER_PAGE))
    open_pages = [page.number for page in drafts if page.kind == "html" and not page.signal[0]]
    closed_pages = [page.number for page in drafts if page.signal[0]]
    on_page: dict[int, list[WrittenLink]] = defaultdict(list)
    for order, pair in enumerate(pairs.make(drafts, open_pages, closed_pages)):
        on_page[pair.page].append(_pair_link(rng, drafts[pair.page], pair, noise=order % 16 == 0))
    for order in range(max(2 * len(JUNK), round(0.9 * pages))):
        page = drafts[open_pages[int(rng.integers(len(open_pages)))]]
        kind = tuple(JUNK)[order % len(JUNK)] if order < 2 * len(JUNK) else str(rng.choice(tuple(JUNK)))
        on_page[page.number].append(junk(rng, kind, page.site, _effective_base(page)))
    filled = [_fill(rng, page, on_page[page.number], pairs.logo(page.site)) for page in drafts]
    filled = _settle(filled, pairs.same_bytes)
    cuts = [len(filled) * wat // wats for wat in range(wats + 1)]
    by_wat = tuple(tuple(filled[start:stop]) for start, stop in pairwise(cuts))
    return Plan(sites, by_wat, _share_out([*rights_files(sites), *pairs.answers], warc_count(pages)))


def _drafts(rng: np.random.Generator, sites: tuple[Site, ...], pages: int) -> list[PlannedPage]:
    """Return the pages without links, in the order of the crawl."""
    damaged = [kind for kind in DAMAGED for _ in range(max(1, round(0.003 * pages)))]
    other = [kind for kind in NON_HTML for _ in range(max(1, round(0.012 * pages)))]
    closed = max(len(PAGE_OPT_OUTS), round(0.0135 * pages))
    kinds: list[Kind] = [*damaged, *other]
    kinds += ["html"] * (pages - len(kinds))
    signals = [PAGE_OPT_OUTS[n % len(PAGE_OPT_OUTS)] for n in range(closed)]
    none: PageSignal = ("", (), ())
    drafts: list[PlannedPage] = []
    place = {int(old): new for new, old in enumerate(rng.permutation(pages))}
    english = round(pages * ENGLISH)
    others = [language for language in LANGUAGES if language != "en"]
    languages = ["en"] * english + [others[n % len(others)] for n in range(pages - english)]
    languages = rng.permutation(languages).tolist()
    for draft in range(pages):
        number, kind = place[draft], kinds[draft]
        # Every site has at least one page; sizes differ.
        site = sites[draft if draft < len(sites) else int(len(sites) * rng.random() ** 1.3)]
        signal = none
        if kind == "html":
            from_end = pages - 1 - draft
            signal = signals[from_end] if from_end < closed else none
            signal = (
                PAGE_ALLOWED[int(rng.integers(len(PAGE_ALLOWED)))] if signal is none and rng.random() < 0.1 else signal
            )
        ending = {"pdf": "pdf", "json": "json", "picture": "jpg"}.get(kind, "html")
        url = f"{site.root}{('blog', 'shop', 'about/team')[number % 3]}/page-{number}.{ending}"
        chance = rng.random()
        base = ""
        if kind == "html" and chance < 0.09:
            base = (f"{site.images}photos/", "/gallery/", "http://[not-a-base")[int(chance * 100) % 3]
        licensed = ("before", "after", "head")[int(rng.integers(3))] if kind == "html" and rng.random() < 0.06 else ""
        drafts.append(PlannedPage(number, url, kind, site, languages[draft], signal, base, licensed))
    return sorted(drafts, key=lambda page: page.number)


def _effective_base(page: PlannedPage) -> str:
    """Return the address that links resolve against; an invalid base is ignored (HTML standard)."""
    if page.base.startswith("/"):
        return page.site.root + page.base.removeprefix("/")
    return page.url if page.base.startswith("http://[") else page.base or page.url


def _pair_link(rng: np.random.Generator, page: PlannedPage, pair: PlannedPair, *, noise: bool) -> WrittenLink:
    truth = pair.truth
    alt = noisy(rng, truth.text, truth.language) if noise else truth.text
    title = f'"{truth.thing}"' if truth.thing and rng.random() < 0.1 else ""
    return image_link(truth, written(rng, truth.url, _effective_base(page)), alt, title)


def _fill(rng: np.random.Generator, page: PlannedPage, links: list[WrittenLink], logo: WrittenLink) -> PlannedPage:
    """Return the page with its links: the logo first, the others shuffled, the licence before or after them."""
    if page.kind in NON_HTML:
        return page
    everything = [*links, *furniture(rng, page.site, page.number, int(rng.integers(2, 8)))]
    everything = [everything[int(place)] for place in rng.permutation(len(everything))]
    # Of pages without other pictures, one in five has no logo either.
    if links or rng.random() < 0.8:
        everything.insert(0, logo)
    if page.license == "before":
        everything.insert(0, license_link(rng))
    elif page.license == "after":
        everything.append(license_link(rng))
    if page.signal[0]:
        everything = [_opted_out(link, page.signal[0]) for link in everything]
    if page.kind in DAMAGED:
        everything = [replace(link, truth=None) for link in everything]
    return replace(page, links=tuple(everything))


def _opted_out(link: WrittenLink, signal: str) -> WrittenLink:
    """Return the link of a page that opts out; rules for addresses and texts take precedence."""
    truth = link.truth
    if truth is None:
        return link
    if truth.expected in REASONS["extract"]:
        return replace(link, truth=replace(truth, opted_out=signal))
    return replace(link, truth=replace(truth, opted_out=signal, expected="page_opt_out"))


def _settle(pages: list[PlannedPage], same_bytes: dict[str, str]) -> list[PlannedPage]:
    """Set the uid of every pair, and the verdict of duplicates.

    Later copies of a pair are `duplicate_pair`; of kept pairs with equal or nearly equal images the lowest uid is kept
    and the others are `duplicate_image` or `near_duplicate`. `same_bytes` maps the address of a copy to that of its
    original.
    """
    first: dict[str, str] = {}
    shown: dict[str, dict[str, str]] = defaultdict(dict)  # by original: the pictures of kept pairs by their uids
    for truth in (link.truth for page in pages for link in page.links):
        if truth is None or truth.expected in REASONS["extract"]:
            continue
        name = uid(truth.text, truth.url)
        first.setdefault(name, truth.expected)
        if truth.expected == KEEP:
            picture = same_bytes.get(truth.url, truth.url)
            shown[truth.original or picture][name] = picture
    copies = {name: reason for pictures in shown.values() for name, reason in _copies(pictures).items()}
    seen: set[str] = set()
    settled = []
    for page in pages:
        links = []
        for link in page.links:
            truth = link.truth
            if truth is None or truth.expected in REASONS["extract"]:
                links.append(link)
                continue
            name = uid(truth.text, truth.url)
            expected = "duplicate_pair" if name in seen else copies.get(name, first[name])
            seen.add(name)
            links.append(replace(link, truth=replace(truth, uid=name, expected=expected)))
        settled.append(replace(page, links=tuple(links)))
    return settled


def _copies(pictures: dict[str, str]) -> dict[str, str]:
    """Return the reasons of all but the lowest uid, for pairs that show one picture or copies of it."""
    stays = min(pictures)
    return {
        name: "duplicate_image" if picture == pictures[stays] else "near_duplicate"
        for name, picture in pictures.items()
        if name != stays
    }


def _share_out(answers: list[HostAnswer], parts: int) -> tuple[tuple[HostAnswer, ...], ...]:
    """Distribute the responses over WARC files of about equal cost, with each host in one file."""
    hosts: dict[str, list[HostAnswer]] = defaultdict(list)
    for answer in answers:
        hosts[answer.url.split("/")[2]].append(answer)
    loads = [0.0] * parts
    files: list[list[HostAnswer]] = [[] for _ in range(parts)]
    for host in sorted(hosts, key=lambda host: (-sum(answer.cost for answer in hosts[host]), host)):
        lightest = loads.index(min(loads))
        loads[lightest] += sum(answer.cost for answer in hosts[host])
        files[lightest] += hosts[host]
    return tuple(tuple(sorted(file, key=lambda answer: answer.url)) for file in files)
