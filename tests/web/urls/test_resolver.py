"""The addresses of a page in: whatever they are, the short ways give what the rules by the book give."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.web.urls import resolver as urls
from laion_dask.web.urls.resolver import Resolver, UrlRules

WHATWG = UrlRules("whatwg", "resolve", ("http", "https"), ("svg", "gif"), (), 2000, 253, "drop", "drop")
AS_WRITTEN = UrlRules("as_written")
RULES = {
    "defaults": WHATWG,
    "cc2dataset": AS_WRITTEN,
    "laion-5b": UrlRules("escaped", "drop", ("http", "https", "ftp", "ftps"), (), (".svg", ".gif"), 2000, 60),
    "whatwg, all kept": UrlRules("whatwg"),
    "whatwg, relative ones dropped": UrlRules("whatwg", "drop"),
    "whatwg, odd extensions": UrlRules("whatwg", refused_extensions=("x/y", "", "\u017fvg"), schemes=("https", "ftp")),
    "as written, all refused": UrlRules(
        "as_written", "resolve", ("https", "http"), ("gif", "svg"), ("b/c",), 60, 20, "drop", "drop"
    ),
    "as written, relative ones dropped": UrlRules("as_written", "drop", ("http",), private_hosts="drop"),
    "escaped, joined": UrlRules("escaped", "resolve", ("http", "https"), ("gif",), (), 30, malformed_hosts="drop"),
}
PAGES = (
    "https://a.example/b/c.html",
    "http://www.a-b.example/b/%20c/d~/e?f=g/../h",
    "http://a.example/",
    "https://a.example",
    "https://a.example/b//c/./d",
    "http://a.example:80/x/y?z#/q/r",
    "https://1.2.3.4/d/",
    "https://a..example/d/",
    "https://a.example/%2e/f",
    "https://a.example/b;x/c;y",
    "https://xn--a/b/",
    "file:///x/y",
    "CC-MAIN-1.warc.gz",
    "",
)
BASES = ("", "", "", "", "/other/", "../d?e", "//cdn.example/", "https://b.example/assets/x", "http://[::1", " ")
SEEDS = (
    "https://a.example/b/c.jpg?x=1#y",
    "https://www.a-b.example/b/it's.gif?v=it's",
    "/b/c.svg",
    "//h.example/b/c d.jpg",
    "../b/./c.jpg",
    "b/c.jpg?u=http://x/",
    "./b.jpg",
    "b.jpg",
    "https://a.example/a.x/y",
)
PIECES = (
    *("/", "//", ".", "..", "../", "./", "/.", "/..", "%2e", "%2E", "%2", "%20", "%", "e", "x", "y.gif", ".svg"),
    *(":", "://", "http", "https://", "http://h.example/", "HTTPS", "ftp://", "data:image/png,", ":8080", ":443"),
    *("?", "#", "?q=1", "&", "=", ";", "'", '"', "<", "{", "|", "^", "`", "[", "]", "[::1]", "\\", "+", ",", "$"),
    *(" ", "  ", "\t", "\n", "\x00", "\x1f", "\xa0", "é", "猫", "\u017f", "\u212a", "ﬀ", "\ud800"),
    *("u:p@", "b/c", "~", "*", "xn--a", "A", "1", "0x7f"),
)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Return an ordinary address with up to three pieces put in somewhere, or pieces alone."""
    text = draw(st.sampled_from(SEEDS) | st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(PIECES)) + text[place + draw(st.integers(0, 1)) :]
    return text


def pages() -> st.SearchStrategy[str]:
    return st.sampled_from(PAGES[:3]) | st.sampled_from(PAGES) | addresses()


def base_of(page: str, head_base: str, rules: UrlRules) -> str:
    """Where relative addresses are dropped nothing is joined."""
    return "" if rules.relative_urls == "drop" else urls.base_of(page, head_base, rules.url_form)


def differences(page: str, head_base: str, links: list[str]) -> list[object]:
    found: list[object] = []
    for name, rules in RULES.items():
        resolver = Resolver(page, head_base, rules)
        base = base_of(page, head_base, rules)
        for url in links:
            quick, slow = resolver.resolve(url), urls.resolve(url, base, rules)
            if quick != slow or type(quick) is not type(slow):
                found.append((name, page, head_base, url, quick, slow))
    return found


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(pages(), st.sampled_from(BASES) | addresses(), st.lists(addresses(), min_size=1, max_size=4))
def test_short_ways_lead_where_the_book_leads(page: str, head_base: str, links: list[str]) -> None:
    assert differences(page, head_base, links) == []


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=())),
    st.text(st.characters(exclude_categories=()), max_size=4),
    st.lists(st.text(st.characters(exclude_categories=())), max_size=4),
)
def test_short_ways_lead_where_the_book_leads_for_any_text(page: str, head_base: str, links: list[str]) -> None:
    assert differences(page, head_base, links) == []


@settings(deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 40), st.characters(exclude_categories=()))
def test_one_strange_character_is_noticed_wherever_it_stands(seed: str, place: int, letter: str) -> None:
    assert differences(PAGES[0], "", [seed[:place] + letter + seed[place:]]) == []


@pytest.mark.parametrize("letter", [*map(chr, range(128)), "\x80", "\xa0", "é", "\u017f", "\u212a", "猫", "\ud800"])
def test_every_ascii_character_and_some_others_are_judged_as_by_the_book_in_every_part(letter: str) -> None:
    forms = ("https://a{0}a.example/", "{0}a", "a{0}", "/{0}", "/a{0}a/b", "/a?{0}a", "/a?a{0}", "/a#{0}a", "a/{0}/b?c")
    page = f"https://a.example/{letter}/x{letter}y?{letter}"
    assert differences(PAGES[0], "", [form.format(letter) for form in forms]) == []
    assert differences(page, "", ["x", "/x", "../x", "//b.example/x"]) == []


def test_short_ways_lead_where_the_book_leads_on_the_web_platform_tests(shared_data: Path) -> None:
    cases = [
        case for case in json.loads((shared_data / "url" / "wpt_urltestdata_half.json").read_text()) if "input" in case
    ]
    found = []
    for case in cases:
        found += differences(case["base"] or "", "", [case["input"]])
        found += differences(PAGES[0], case["input"], [case["input"], "x.jpg"])
        found += differences(case["input"], "", ["x.jpg", "/x", "//h.example/x", "../x", "./x y"])
    assert len(cases) == 434
    assert found == []


def pages_of(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield address, base element and image links of the pages of a WAT, read without this project's reader."""
    for line in gzip.decompress(path.read_bytes()).splitlines():
        if not line.startswith(b"{") or b'"IMG@/src"' not in line:
            continue
        envelope = json.loads(line)["Envelope"]
        page = envelope["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
        links = [link["url"] for link in page["Links"] if link.get("path") == "IMG@/src" and "url" in link]
        address = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
        yield address.strip("<>"), str(page.get("Head", {}).get("Base", "")), links


@pytest.mark.slow
def test_short_ways_lead_where_the_book_leads_on_every_image_link_of_real_wats(shared_data: Path) -> None:
    wats = sorted([*(shared_data / "wat_derived").glob("*.gz"), *(shared_data / "wat_golden").glob("*.wat.gz")])
    found = [page for path in wats for page in pages_of(path)]
    assert sum(len(links) for _, _, links in found) > 9000
    assert [difference for page in found for difference in differences(*page)] == []


@pytest.mark.parametrize("rules", [WHATWG, AS_WRITTEN], ids=lambda rules: rules.url_form)
def test_ordinary_addresses_take_the_short_ways(rules: UrlRules) -> None:
    page = "https://www.shop.example/autumn/coats.html"
    links = [f"/pictures/2024/coat-{number}.jpg?w=640&fit=crop" for number in range(200)]
    links += [f"//cdn.shop.example/coats/{number}_640x480.webp" for number in range(200)]
    links += [f"./red coat {number}.png" for number in range(200)]
    base = urls.base_of(page, "", rules.url_form)

    def seconds(judge: Iterator[object]) -> float:
        start = time.process_time()
        assert len(list(judge)) == len(links)
        return time.process_time() - start

    book = min(seconds(urls.resolve(url, base, rules) for url in links) for _ in range(7))
    short = min(seconds(map(Resolver(page, "", rules).resolve, links)) for _ in range(7))
    assert book > 2 * short


@pytest.mark.parametrize(
    "text", ["../", "./", "/", "a/../", "é", "%2e/", "a:", "@", " ", "\n", "https://", "[", "xn--a."]
)
def test_long_and_strange_addresses_end_in_short_time(text: str) -> None:
    start = time.process_time()
    for rules in RULES.values():
        Resolver(PAGES[0], "", rules).resolve(text * 30_000 + "x.jpg")
        Resolver(text * 30_000, "", rules).resolve("x.jpg")
    assert time.process_time() - start < 10
