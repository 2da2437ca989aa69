"""The JSON of a record in: the same links by the quick way, the slow way and the lenient way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.crawls.wat_bytes import image, page_json, wats

from laion_dask.extract.wat import wat_json, wat_records
from laion_dask.extract.wat.wat_json import Link, PageJson

KINDS = ("IMG@/src",)


def compact(body: bytes) -> bytes:
    """Write JSON as the extractor does, without white space."""
    return json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def urls_and_alts(page: PageJson | str | None) -> list[tuple[Any, Any]]:
    """Return what is used of the image links."""
    assert isinstance(page, PageJson), page
    return [(link.url, link.alt) for link in page.images]


def quickly(body: bytes) -> PageJson | None:
    """Read by the quick way only."""
    pieces = body.split(b'"IMG@')
    return wat_json._read_quickly(body, pieces, b'"IMG@', b'/src"') if len(pieces) > 1 else None  # noqa: SLF001


ANCHOR = {"path": "A@/href", "url": "/menu", "text": "Menu"}
ODD = [
    {"url": "late.jpg", "alt": "path comes last", "path": "IMG@/src"},
    {"path": "IMG@/src", "url": "a}b.jpg", "alt": "brace in the address"},
    {"path": "IMG@/src", "title": "x}y", "url": "t.jpg", "alt": "brace in the title"},
    {"path": "IMG@/src", "url": "t.jpg", "alt": 'quoted "path":"IMG@/src" in {"path":"IMG@/src"'},
    {"path": "IMG@/src", "url": "t.jpg", "alt": "nested", "more": {"a": 1}},
    {"path": "IMG@/src", "url": 5, "alt": ["x"]},
    {"path": "IMG@/longdesc", "url": "d.html", "alt": "not an image"},
    {"path": "IMG@/src", "url": "no-alt.jpg"},
    {"path": "IMG@/src", "url": "empty.jpg", "alt": ""},
    {"path": "IMG@/src"},
    {"path": "IMG@", "alt": "no attribute"},
    {},
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_link_among_ordinary_ones_is_read_as_by_decoding_everything(odd: dict[str, Any]) -> None:
    links = [ANCHOR, image("first", "1.jpg"), ANCHOR, odd, ANCHOR, image("last", "2.jpg"), ANCHOR]
    body = compact(page_json(links, head={"Base": "/b/", "Metas": [{"name": "a", "content": "}"}]}))
    page, slow = wat_json.read_page(body, KINDS), wat_json.read_slowly(body, KINDS)
    assert urls_and_alts(page) == urls_and_alts(slow)
    assert isinstance(page, PageJson)
    assert isinstance(slow, PageJson)
    assert (page.url, page.date, page.base) == (slow.url, slow.date, slow.base)
    assert wat_json.page_lists(page) == wat_json.page_lists(slow)
    assert wat_json.every_link(page) == wat_json.every_link(slow)


LINK = st.fixed_dictionaries(
    {"path": st.sampled_from(["IMG@/src", "IMG@/src", "A@/href", "IMG@/longdesc", "LINK@/href"])},
    optional={
        "url": st.text(alphabet='ab/.}{"\\:,[]é', max_size=8) | st.none() | st.integers(),
        "alt": st.text(alphabet='ab }{"\\:,é\ud83e', max_size=8),
        "title": st.text(alphabet='a}{"', max_size=4),
        "rel": st.sampled_from(["license", "nofollow"]),
    },
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINK | st.just(ANCHOR), max_size=6), st.booleans())
def test_the_quick_way_gives_what_decoding_everything_gives_or_nothing(links: list[Any], spaced: bool) -> None:  # noqa: FBT001
    body = page_json(links, head={"Metas": [], "Link": [ANCHOR]}, headers={"A": "b"})
    body = body if spaced else compact(body)
    found = quickly(body)
    if found is not None:
        assert urls_and_alts(found) == urls_and_alts(wat_json.read_slowly(body, KINDS))
        assert wat_json.page_lists(found).headers.replace(b" ", b"") == b'{"A":"b"}'


def test_nearly_all_real_pages_with_images_take_the_quick_way(shared_data: Path) -> None:
    pages = quick = 0
    for path in wats(shared_data):
        for record in wat_records.records(str(path), "fastwarc", wat_records.Reading()):
            if isinstance(record, wat_records.WatRecord) and b'"IMG@' in record.body:
                slow, found = wat_json.read_slowly(record.body, KINDS), quickly(record.body)
                pages += 1
                if found is not None:
                    quick += 1
                    assert urls_and_alts(found) == urls_and_alts(slow)
    assert pages > 500
    assert quick / pages > 0.9, (quick, pages)


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (page_json([image(), {}, 7, None, "x", image(5)]), [("fox.jpg", "a red fox"), ("fox.jpg", 5)]),
        (page_json([image(["a", "b"])]), [("fox.jpg", ["a", "b"])]),
        (page_json([image()], head=[], headers="x"), [("fox.jpg", "a red fox")]),
        (page_json([image("caf\udc80")]), [("fox.jpg", "caf\udc80")]),
        (page_json([image("bad byte X")]).replace(b"X", b"\xff"), [("fox.jpg", "bad byte \ufffd")]),
        (page_json([image("tab X")]).replace(b"X", b"\t"), [("fox.jpg", "tab \t")]),
        (page_json([image(1)]).replace(b": 1}", b": 1e999}"), [("fox.jpg", float("inf"))]),
        (b"\xef\xbb\xbf" + page_json([image()]), [("fox.jpg", "a red fox")]),
        (page_json([image()]) + b"\r\nWARC/1.0", [("fox.jpg", "a red fox")]),
    ],
)
def test_one_bad_link_costs_only_itself(body: bytes, images: list[Any]) -> None:
    assert urls_and_alts(wat_json.read_page(body, KINDS)) == images


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "unmarked"),
        (page_json([{"path": "A@/href", "url": "/"}]), "unmarked"),
        (b'{"IMG@', "bad_json"),
        (b"[" * 100_000 + b'"IMG@', "bad_json"),
        (b'["IMG@"]', "no_envelope"),
        (b'{"Envelope": "IMG@"}', "no_envelope"),
        (b'{"Envelope": {"a":"IMG@"}}', "no_html"),
        (b'{"Envelope": {"Payload-Metadata": ["IMG@"]}}', "no_html"),
        (b'{"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": {"a":"IMG@"}}}}}', "no_html"),
        (page_json("IMG@/src"), "no_html"),
    ],
)
def test_a_record_with_levels_missing_ends_with_a_reason(body: bytes, reason: str) -> None:
    assert wat_json.read_page(body, KINDS) == reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata", "Links", "path", "Head"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_no_json_crashes_the_parser(tree: object) -> None:
    found = wat_json.read_page(json.dumps(tree).encode(), KINDS)
    assert isinstance(found, PageJson | str)
    page = wat_json.read_page(page_json([image()], head=tree, headers=tree), KINDS)
    assert isinstance(page, PageJson)
    lists = wat_json.page_lists(page)
    wat_json.headers(lists.headers)
    wat_json.metas(lists.metas)
    wat_json.links(lists.head_links)


def test_headers_are_a_string_or_a_list_and_metas_have_one_of_three_names() -> None:
    headers = {"X-Robots-Tag": ["noai", "noindex"], "Content-Length": 5, "Server": "x"}
    metas: list[Any] = [{"name": "robots", "content": "noai"}, {"property": "og:image", "content": "y"}]
    plain = [("robots", "noai"), ("og:image", "y")]
    head = {"Metas": metas, "Link": [{"url": "u"}]}
    page = wat_json.read_page(page_json([image()], headers=headers, head=head), KINDS)
    assert isinstance(page, PageJson)
    lists = wat_json.page_lists(page)
    assert wat_json.headers(lists.headers) == (
        ("X-Robots-Tag", "noai"),
        ("X-Robots-Tag", "noindex"),
        ("Content-Length", "5"),
        ("Server", "x"),
    )
    assert list(wat_json.metas(lists.metas)) == plain
    assert wat_json.links(lists.head_links) == [Link(url="u")]
    odd = [*metas, "x", {"content": "z"}, {"http-equiv": "refresh"}, {"name": 5, "content": ["a"]}]
    assert wat_json.metas(json.dumps(odd).encode()) == [*plain, ("refresh", ""), ("5", "a")]


@pytest.mark.parametrize(
    ("links", "kinds", "count"),
    [
        ([image(), {"path": "A@/href", "url": "x", "alt": "y"}], ("*",), 2),
        ([image(), {"path": "A@/href", "url": "x"}], ("*",), 1),
        ([image(), {"path": "AREA@/href", "url": "x", "alt": "y"}], ("IMG@/src", "AREA@/href"), 2),
        ([image(), {"path": "STYLE/#text", "href": "x"}], ("STYLE/#text",), 1),
        ([image(), {"path": "INPUT@/src", "url": "x", "alt": "y"}], ("INPUT@/src",), 1),
    ],
)
def test_other_kinds_of_links_can_be_asked_for(links: list[Any], kinds: tuple[str, ...], count: int) -> None:
    for body in (page_json(links), compact(page_json(links))):
        page = wat_json.read_page(body, kinds)
        assert isinstance(page, PageJson)
        assert len(page.images) == count
