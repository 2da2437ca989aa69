"""The report in a browser, on a phone, a desk and paper: all of it is seen, and nothing is asked of the network."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made.processes import browser
from made.versions import sample_version, traces

from laion_dask.params import Params
from laion_dask.report import part, timeline

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")

# An A4 page at 96 px an inch, and what its margins of 16 mm leave, which is what a printer lays out.
SCREENS: dict[str, dict[str, Any]] = {
    "phone": {"width": 390, "height": 844, "phone": True},
    "desk": {"width": 1280, "height": 960},
    "A4": {"width": 794, "height": 1123, "paper": True},
    "A4 within margins": {"width": 673, "height": 1002, "paper": True},
}
# A caption without a place to break it.
WORD = "Donaudampfschifffahrtsgesellschaftskapitaen" * 4
# A box whose content is wider than itself lets it stick out, or cuts it; only the place of a table may scroll.
FACTS = """(() => {
  const name = e => `${e.tagName} ${e.className}: ${e.alt || e.textContent.trim().slice(0, 60)}`;
  const all = selector => [...document.querySelectorAll(selector)];
  const scrolls = e => e.matches('.wide') && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const wider = all('*').filter(e => e.clientWidth && e.scrollWidth > e.clientWidth);
  const seen = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.offsetHeight > 0;
  const drawn = e => e.complete && e.naturalWidth > 0 && e.width > 0 && e.height > 0;
  const end = e => { e.scrollLeft = e.scrollWidth; return e.scrollLeft + e.clientWidth + 1 >= e.scrollWidth; };
  return {
    screen: innerWidth,
    page: document.documentElement.scrollWidth,
    overflowing: wider.filter(e => !scrolls(e)).map(name),
    scrolling: wider.filter(scrolls).map(name),
    cut: wider.filter(scrolls).filter(e => !end(e)).map(name),
    pictures: all('img, svg').length,
    blank: [...all('img').filter(e => !drawn(e)), ...all('svg').filter(e => !e.clientWidth)].map(name),
    figures: all('figure').length,
    nameless: all('figure').filter(e => {
      const caption = e.querySelector('figcaption');
      return !caption || !caption.innerText.trim() || !seen(caption);
    }).map(name),
  };
})()"""


# What is drawn is in another document, which a page opened from the disk may not look into.
TIMELINE = """(() => {
  const shown = document.querySelector('object'), sentence = shown.querySelector('p');
  const main = document.querySelector('main');
  return {
    width: shown.clientWidth,
    text: main.clientWidth - 2 * parseFloat(getComputedStyle(main).paddingLeft),
    height: shown.clientHeight,
    sentence: sentence.offsetHeight,
    said: sentence.innerText,
  };
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Path:
    """Write a page with all its pictures, that of link rot too."""
    root = tmp_path_factory.mktemp("version")
    data, metrics = sample_version.write(root, links=120, shards=1, text=WORD)
    download = defaults.download.model_copy(update={"verify": str(data / "download")})
    digests = {"data/crawl": "0123456789abcdef0123456789abcdef.dir", "data/release": "f" * 32 + ".dir"}
    for stage in ("crawl", "download", "score", "release"):
        traces.write(data, metrics, stage, 40, seconds=30)
    part.write(data / "report", data, metrics, defaults.model_copy(update={"download": download}), digests)
    assert timeline.write(data, metrics, digests)
    return data / "report" / "report.html"


@dataclass(frozen=True)
class Seen:
    """Facts of the page by screen, and what it asked for and complained of on all of them."""

    views: dict[str, dict[str, Any]]
    timelines: dict[str, dict[str, Any]]
    asked: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    async def look() -> Seen:
        views, timelines = {}, {}
        async with browser.tab(tmp_path_factory.mktemp("profile"), page.parent) as tab:
            await tab.listen()
            for name, screen in SCREENS.items():
                await tab.screen(**screen)
                await tab.open(page.as_uri())
                views[name] = await tab.value(FACTS)
                timelines[name] = await tab.value(TIMELINE)
            return Seen(views, timelines, tab.asked(), tab.complaints())

    return asyncio.run(look())


@pytest.mark.parametrize("name", SCREENS)
def test_the_page_is_as_wide_as_its_screen_and_nothing_sticks_out(seen: Seen, name: str) -> None:
    view = seen.views[name]
    # A phone shows what is too wide from further away: its own width must be asked too.
    assert view["screen"] == SCREENS[name]["width"]
    assert view["page"] <= view["screen"]
    assert view["overflowing"] == []


@pytest.mark.parametrize("name", SCREENS)
def test_every_picture_is_drawn_and_every_figure_has_a_caption_that_is_seen(seen: Seen, name: str) -> None:
    view = seen.views[name]
    assert view["pictures"] > 20
    assert view["blank"] == []
    assert view["figures"] > 5
    assert view["nameless"] == []


def test_tables_that_are_wider_than_a_phone_scroll_to_their_end_and_on_paper_none_has_to(seen: Seen) -> None:
    scrolling = {name: view["scrolling"] for name, view in seen.views.items()}
    assert len(scrolling["phone"]) >= 2
    assert seen.views["phone"]["cut"] == []
    assert scrolling["A4"] == scrolling["A4 within margins"] == []


def test_nothing_but_the_timeline_beside_the_page_is_loaded_and_the_console_is_silent(seen: Seen, page: Path) -> None:
    (drawn,) = (page.parents[1] / "trace").glob("*.svg")
    assert seen.asked == [page.as_uri(), drawn.as_uri()] * len(SCREENS)
    assert seen.complaints == []


@pytest.mark.parametrize("name", SCREENS)
def test_the_timeline_is_as_wide_as_the_text_and_as_high_as_it_is_drawn(seen: Seen, page: Path, name: str) -> None:
    (drawn,) = (page.parents[1] / "trace").glob("*.svg")
    height = re.search(r'height="(\d+)"', drawn.read_text())
    assert height
    view = seen.timelines[name]
    assert (view["height"], view["sentence"]) == (int(height[1]), 0)
    assert 300 < view["width"] == view["text"]


def test_without_its_timeline_the_page_says_so(page: Path, tmp_path: Path) -> None:
    alone = shutil.copy(page, tmp_path)

    async def look() -> tuple[dict[str, Any], list[str]]:
        async with browser.tab(tmp_path / "profile", tmp_path) as tab:
            await tab.listen()
            await tab.screen(390, 844, phone=True)
            await tab.open(Path(alone).as_uri())
            return await tab.value(TIMELINE), tab.complaints()

    view, complaints = asyncio.run(look())
    assert view["sentence"] > 0
    assert view["said"].startswith("There is no timeline beside this page (data/trace/timeline-")
    assert complaints == []
