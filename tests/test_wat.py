"""WAT records in: pages out, or the reason why there is none, whatever is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wat_bytes import image, page_json

from laion_dask import wat, wat_reader
from laion_dask.wat import Link, Page, Tally


def read_body(body: bytes) -> Page | str:
    """Read one record."""
    return wat.read_page(wat_reader.Record(0, "metadata", "2024-05-31T01:17:49Z", len(body), body))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"null", "no_envelope"),
        (b"[]", "no_envelope"),
        (b"{}", "no_envelope"),
        (b'{"Envelope": null}', "no_envelope"),
        (b'{"Envelope": 5}', "no_envelope"),
        (b'{"Envelope": {}}', "no_html"),
        (b'{"Envelope": {"Payload-Metadata": []}}', "no_html"),
        (b'{"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": null}}}', "no_html"),
        (b'{"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": {}}}}}', "no_html"),
        (page_json(None), "no_html"),
        (page_json("IMG@/src"), "no_html"),
        (b"[" * 100_000, "bad_json"),
        (b'{"Envelope": ' * 100_000, "bad_json"),
    ],
)
def test_a_record_with_levels_missing_ends_with_a_reason(body: bytes, reason: str) -> None:
    assert read_body(body) == reason
    assert reason in wat.RECORD_REASONS


def test_bodies_shorter_than_declared_are_truncated_unless_their_json_is_whole() -> None:
    body = page_json([image()])
    whole = wat_reader.Record(0, "metadata", "", len(body) + 9, body)
    cut = wat_reader.Record(0, "metadata", "", len(body), body[:-9])
    assert isinstance(wat.read_page(whole), Page)
    assert wat.read_page(cut) == "truncated"
    assert wat.read_page(wat_reader.Record(0, "metadata", "", -1, b"")) == "truncated"
    assert wat.read_page(wat_reader.Record(0, "", "", -1, b"")) == "damaged"


@pytest.mark.parametrize(
    ("body", "links"),
    [
        (page_json([image(), {}, 7, None, "x", image(5)]), [image(), {}, {}, {}, {}, image(5)]),
        (page_json([image(["a", "b"])]), [image(["a", "b"])]),
        (page_json([image()], head=[], headers="x"), [image()]),
        (page_json([image("caf\udc80")]), [image("caf\udc80")]),
        (page_json([image("bad byte X")]).replace(b"X", b"\xff"), [image("bad byte \ufffd")]),
        (page_json([image("tab X")]).replace(b"X", b"\t"), [image("tab \t")]),
        (page_json([image(1)]).replace(b": 1,", b": NaN,").replace(b": 1}", b": 1e999}"), [image(float("inf"))]),
        (b"\xef\xbb\xbf" + page_json([image()]), [image()]),
    ],
)
def test_one_bad_link_costs_only_itself(body: bytes, links: list[dict[str, Any]]) -> None:
    page = read_body(body)
    assert isinstance(page, Page)
    assert page.links == [Link(item.get("path"), item.get("url"), item.get("alt"), item.get("rel")) for item in links]


def test_headers_are_a_string_or_a_list_and_metas_have_one_of_three_names() -> None:
    headers = {"X-Robots-Tag": ["noai", "noindex"], "Content-Length": 5, "Server": "x"}
    metas = [{"name": "robots", "content": "noai"}, {"property": "og:image", "content": "y"}, "x", {"content": "z"}]
    metas.append({"http-equiv": "refresh"})
    page = read_body(
        page_json([image()], headers=headers, head={"Metas": metas, "Base": "/b/", "Link": [{"url": "u"}]})
    )
    assert isinstance(page, Page)
    assert page.headers == (
        ("X-Robots-Tag", "noai"),
        ("X-Robots-Tag", "noindex"),
        ("Content-Length", "5"),
        ("Server", "x"),
    )
    assert page.metas == (("robots", "noai"), ("og:image", "y"), ("refresh", ""))
    assert (page.base, page.head_links) == ("/b/", (Link(url="u"),))


def test_the_page_has_its_own_date_and_no_angle_brackets() -> None:
    page = read_body(page_json([image()], url="<https://page.example/a/>"))
    assert isinstance(page, Page)
    assert (page.url, page.date, page.written) == (
        "https://page.example/a/",
        "2024-05-20T00:00:00Z",
        "2024-05-31T01:17:49Z",
    )
    listed = read_body(page_json([image()], url=["https://a.example/", "https://b.example/"]))
    assert isinstance(listed, Page)
    assert listed.url == "https://a.example/"


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


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_no_json_crashes_the_parser(tree: object) -> None:
    page = read_body(json.dumps(tree).encode())
    assert isinstance(page, Page) or page in wat.RECORD_REASONS


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_the_strict_and_the_lenient_parser_agree(tree: object) -> None:
    body = page_json([image(tree)])
    strict, lenient = wat._decode(body), wat._decode_leniently(body)  # noqa: SLF001
    assert repr(strict) == repr(lenient)  # NaN differs from itself


def test_a_tally_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(wat.WatError, match="2 seen"):
        Tally(seen=2, kept=1).as_dict()
    with pytest.raises(wat.WatError, match="dropped"):
        Tally(seen=1, dropped=Counter({"no_such_reason": 1})).as_dict()
