"""The report in a browser, on a phone, a tablet, a desk and paper, light and dark: all of it can be seen and read."""

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
from laion_dask.report.origin import drawing, parent

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")

# An A4 page at 96 px an inch, and what its margins of 16 mm leave, which is what a printer lays out.
SCREENS: dict[str, dict[str, Any]] = {
    "phone": {"width": 390, "height": 844, "phone": True},
    "tablet": {"width": 768, "height": 1024},
    "desk": {"width": 1280, "height": 960},
    "dark desk": {"width": 1280, "height": 960, "dark": True},
    "A4": {"width": 794, "height": 1123, "paper": True},
    "A4 within margins": {"width": 673, "height": 1002, "paper": True},
}
# A caption without a place to break it.
WORD = "Donaudampfschifffahrtsgesellschaftskapitaen" * 4
# Half of what the page of the demo had at 1280 px before its tables were folded.
HEIGHT = 18_272 // 2
# A box whose content is wider than itself lets it stick out, or cuts it; only contents and places of tables may scroll.
FACTS = """(() => {
  const name = e => `${e.tagName} ${e.className}: ${e.alt || e.textContent.trim().slice(0, 60)}`;
  const all = selector => [...document.querySelectorAll(selector)];
  const scrolls = e => e.matches('.wide, nav .inner') && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
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
  const shown = document.querySelector('#time ~ details object'), sentence = shown.querySelector('p');
  const fold = getComputedStyle(shown.closest('details'));
  return {
    width: shown.clientWidth,
    text: shown.closest('details').clientWidth - 2 * parseFloat(fold.paddingLeft),
    height: shown.clientHeight,
    sentence: sentence.offsetHeight,
    said: sentence.innerText,
  };
})()"""

# As the page opens, nothing unfolded: how high it is, what stays when one reads on, and how it looks.
FOLDED = """(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const light = color => Math.max(...color.match(/[0-9.]+/g).slice(0, 3).map(Number));
  // In a figure's file, letters of 100 units are brought to their size by a scale, and its picture is scaled once more.
  const smallest = e => {
    const drawing = atob(e.src.split(',')[1]), width = Number(drawing.match(/viewBox="0 0 ([0-9.]+)/)[1]);
    return Math.min(...[...drawing.matchAll(/scale\\(([0-9.]+) -/g)].map(m => 100 * m[1])) * e.clientWidth / width;
  };
  const facts = {
    height: document.documentElement.scrollHeight,
    texts: all('figure img').map(smallest),
    columns: all('.pair').map(e => getComputedStyle(e).gridTemplateColumns.split(' ').length),
    page: light(getComputedStyle(document.body).backgroundColor),
    ink: light(getComputedStyle(document.body).color),
    turned: all('figure img').map(e => getComputedStyle(e).filter !== 'none'),
    cards: all('.card img').map(e => getComputedStyle(e).filter !== 'none'),
  };
  scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'});
  facts.contents = document.querySelector('nav').getBoundingClientRect().top;
  scrollTo({top: 0, behavior: 'instant'});
  return facts;
})()"""
UNFOLD = "document.querySelectorAll('details').forEach(e => { e.open = true; })"


def origin() -> parent.Beginning:
    """A version whose parameters have long names and values, and more of them have changed than are listed."""
    numbers = dict.fromkeys(("links", "images", "kept", "en", "multi", "nolang"), 1234567890)
    numbers |= {"unsafe": 0.01234, "marked": 0.1, "precision": 0.99, "recall": 1.0}
    before = {name: value / 2 for name, value in numbers.items()}
    names = [f"download.a_parameter_with_a_rather_long_name_number_{n}" for n in range(12)]
    older = parent.Parent("f" * 32, "e" * 40, "2026-11-29", before, dict.fromkeys(names, "a value of a length " * 3))
    now = dict.fromkeys(names, "another value that is long " * 3)
    times = ("2026-11-30 23:58", "2026-12-01 00:02")
    return parent.Beginning("d" * 40, "2026-11-30", True, "a-name-" * 9, *times, numbers, now, older)


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
    assert len(drawing.write(data, metrics, digests, origin())) == 2
    return data / "report" / "report.html"


@dataclass(frozen=True)
class Seen:
    """Facts of the page by screen, and what it asked for and complained of on all of them."""

    folded: dict[str, dict[str, Any]]
    views: dict[str, dict[str, Any]]
    timelines: dict[str, dict[str, Any]]
    asked: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def seen(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    async def look() -> Seen:
        folded, views, timelines = {}, {}, {}
        async with browser.tab(tmp_path_factory.mktemp("profile"), page.parent) as tab:
            await tab.listen()
            for name, screen in SCREENS.items():
                await tab.screen(**screen)
                await tab.open(page.as_uri())
                folded[name] = await tab.value(FOLDED)
                if not screen.get("paper"):  # where all is open
                    await tab.value(UNFOLD)
                folded[name]["unfolded"] = await tab.value("document.documentElement.scrollHeight")
                views[name] = await tab.value(FACTS)
                timelines[name] = await tab.value(TIMELINE)
            return Seen(folded, views, timelines, tab.asked(), tab.complaints())

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


def test_nothing_but_the_files_beside_the_page_is_loaded_and_the_console_is_silent(seen: Seen, page: Path) -> None:
    drawn = sorted(path.as_uri() for path in (page.parents[1] / "trace").glob("*.svg"))
    assert len(drawn) == 3
    assert sorted(seen.asked) == sorted([page.as_uri(), *drawn] * len(SCREENS))
    assert seen.complaints == []


def test_a_page_on_a_desk_is_half_as_high_as_before_by_folding_and_paper_has_what_is_folded(seen: Seen) -> None:
    assert seen.folded["desk"]["height"] <= HEIGHT < seen.folded["desk"]["unfolded"]
    assert seen.folded["A4"]["height"] > HEIGHT


@pytest.mark.parametrize("name", SCREENS)
def test_no_text_of_a_figure_is_smaller_than_11_px(seen: Seen, name: str) -> None:
    texts = seen.folded[name]["texts"]
    assert len(texts) > 5
    # A printer sets its own size.
    assert min(texts) >= 11 or SCREENS[name].get("paper")


@pytest.mark.parametrize(("name", "columns"), [("phone", 1), ("tablet", 1), ("desk", 2)])
def test_there_is_one_column_where_two_would_be_narrow(seen: Seen, name: str, columns: int) -> None:
    assert set(seen.folded[name]["columns"]) == {columns}


@pytest.mark.parametrize("name", ["phone", "tablet", "desk", "dark desk"])
def test_the_contents_stay_at_the_top_of_the_screen(seen: Seen, name: str) -> None:
    assert seen.folded[name]["contents"] == 0


def test_in_the_dark_page_and_figures_are_dark_and_pictures_are_as_they_are(seen: Seen) -> None:
    light, dark = seen.folded["desk"], seen.folded["dark desk"]
    assert (light["page"], light["ink"] < 80) == (255, True)
    assert (dark["page"] < 40, dark["ink"] > 200) == (True, True)
    assert (set(light["turned"]), set(dark["turned"]), set(dark["cards"])) == ({False}, {True}, {False})


# The right end of the texts of a drawing, and those that lie over one another.
TEXTS = """(() => {
  const boxes = [...document.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]);
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 5 && b.top < a.bottom - 5;
  const pairs = boxes.flatMap(([text, a], n) => boxes.slice(n + 1).filter(b => over(a, b[1])).map(b => [text, b[0]]));
  return {right: Math.max(...boxes.map(([, box]) => box.right)), pairs};
})()"""


# What a phone leaves between its margins, and a column of the desk.
@pytest.mark.parametrize("width", [358, 518])
def test_texts_of_the_files_beside_the_page_neither_stick_out_nor_lie_over_each_other(
    page: Path, tmp_path: Path, width: int
) -> None:
    async def look() -> dict[str, dict[str, Any]]:
        found = {}
        async with browser.tab(tmp_path / "profile", tmp_path) as tab:
            await tab.screen(width, 700)
            for path in await asyncio.to_thread(lambda: sorted((page.parents[1] / "trace").glob("[op]*.svg"))):
                await tab.open(path.as_uri())
                found[path.name.partition("-")[0]] = await tab.value(TEXTS)
        return found

    found = asyncio.run(look())
    assert set(found) == {"origin", "parent"}
    assert [one["pairs"] for one in found.values()] == [[], []]
    assert max(one["right"] for one in found.values()) <= width + 1


@pytest.mark.parametrize("name", SCREENS)
def test_the_timeline_is_as_wide_as_the_text_and_as_high_as_it_is_drawn(seen: Seen, page: Path, name: str) -> None:
    (drawn,) = (page.parents[1] / "trace").glob("timeline-*.svg")
    height = re.search(r'height="(\d+)"', drawn.read_text())
    assert height
    view = seen.timelines[name]
    assert (view["height"], view["sentence"]) == (int(height[1]), 0)
    assert 290 < view["width"] == view["text"]


def test_without_its_timeline_the_page_says_so(page: Path, tmp_path: Path) -> None:
    alone = shutil.copy(page, tmp_path)

    async def look() -> tuple[dict[str, Any], list[str]]:
        async with browser.tab(tmp_path / "profile", tmp_path) as tab:
            await tab.listen()
            await tab.screen(390, 844, phone=True)
            await tab.open(Path(alone).as_uri())
            await tab.value(UNFOLD)
            await tab.until(f"{TIMELINE}.sentence > 0")
            return await tab.value(TIMELINE), tab.complaints()

    view, complaints = asyncio.run(look())
    assert view["sentence"] > 0
    assert view["said"].startswith("There is no timeline beside this page (data/trace/timeline-")
    assert complaints == []
