"""A page in: for each of its image links a pair, or the first reason against it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from made.crawls.wat_bytes import image, page_json

from laion_dask import params
from laion_dask.extract.judge import Judge, Pair
from laion_dask.extract.licenses import license_of
from laion_dask.extract.wat.wat_pages import Page, Tally, read_page
from laion_dask.extract.wat.wat_records import WatRecord
from laion_dask.params import recipes

BY = "https://creativecommons.org/licenses/by/4.0/"
ZERO = "https://creativecommons.org/publicdomain/zero/1.0/"
ANCHOR = {"path": "A@/href", "url": "/"}
SHORT = {"no_alt": 1, "text_too_short": 1}
FDL = "https://www.gnu.org/licenses/fdl-1.3.html"


def page_of(links: list[Any], kinds: tuple[str, ...] = ("IMG@/src",), **more: Any) -> Page:  # noqa: ANN401 - of the test
    """Return a page with links."""
    body = page_json(links, **more)
    found = read_page(WatRecord(0, "metadata", len(body), body, "2024-05-31", ""), kinds, Tally())
    assert found is not None
    return found


def pairs_of(settings: params.Extract, links: list[Any], **change: object) -> tuple[list[Pair], dict[str, int]]:
    """Judge one page."""
    settings = settings.model_copy(update=change)
    judge = Judge(settings)
    kept = judge.page(page_of(links, settings.link_kinds), 0)
    judge.ledger.check("links")
    return kept, dict(judge.ledger.dropped)


@pytest.fixture
def settings(defaults: params.Params) -> params.Extract:
    """The committed parameters of the stage."""
    return defaults.extract


@pytest.mark.parametrize(
    ("links", "head_links", "expected"),
    [
        ([], [], "?"),
        ([{"path": "A@/href", "url": BY}], [], "CC-BY-4.0"),
        ([{"path": "A@/href", "url": BY}, {"path": "A@/href", "url": ZERO}], [], "CC-BY-4.0"),
        ([{"path": "A@/href", "url": BY}, {"path": "A@/href", "url": ZERO, "rel": "nofollow License"}], [], "CC0-1.0"),
        ([{"path": "A@/href", "url": BY}], [{"path": "LINK@/href", "url": ZERO, "rel": "license"}], "CC0-1.0"),
        ([], [{"path": "LINK@/href", "url": ZERO, "rel": "copyright"}], "CC0-1.0"),
        ([], [{"path": "LINK@/href", "url": ZERO, "rel": "stylesheet"}], "?"),
        ([{"path": "IMG@/src", "url": BY}], [], "?"),
        ([{"path": "A@/href", "url": "https://creativecommons.org/about/"}], [], "?"),
        ([{"path": [], "url": BY}, {"path": {}, "url": BY}, {"path": "A@/href", "url": BY}], [], "CC-BY-4.0"),
        ([{"path": "A@/href", "url": 5}, {"path": "A@/href", "url": BY}], [], "CC-BY-4.0"),
        ([{"path": "A@/href", "url": FDL}], [], "?"),
        ([{"path": "A@/href", "url": FDL, "rel": "license"}], [], "GFDL-1.3"),
        ([{"path": "A@/href", "text": "a } brace", "url": BY}], [], "CC-BY-4.0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spaced", [True, False])
def test_a_declared_licence_wins_over_a_mention(
    links: list[Any], head_links: list[Any], expected: str, *, spaced: bool
) -> None:
    body = page_json([image(), *links, image()], head={"Link": head_links})
    body = body if spaced else body.replace(b'": ', b'":').replace(b", ", b",")
    page = read_page(WatRecord(0, "metadata", len(body), body, "2024", ""), ("IMG@/src",), Tally())
    assert page is not None
    assert license_of(page) == expected


def test_a_licence_before_an_image_is_the_last_link_before_it(settings: params.Extract) -> None:
    links = [image("no licence yet"), {"path": "A@/href", "url": BY}, image("after by"), image("by as well", "y.jpg")]
    links += [{"path": "A@/href", "url": "https://creativecommons.org/licenses/by-nc/2.0/"}, image("non-commercial")]
    kept, _ = pairs_of(settings, links, license="before")
    assert [pair.license for pair in kept] == ["?", "CC-BY-4.0", "CC-BY-4.0", "CC-BY-NC-2.0"]
    kept, _ = pairs_of(settings, links, license="page")
    assert {pair.license for pair in kept} == {"CC-BY-4.0"}


@pytest.mark.parametrize(
    ("change", "links", "kept", "dropped"),
    [
        ({"max_pairs_per_page": 2}, [image(), image(""), image("two"), image("third")], 2, SHORT),
        ({"max_pairs_per_page": 1}, [image(), image("second one"), image("third one")], 1, {"page_full": 2}),
        ({"unique_in_wat": "url"}, [image(), image("other text"), image("other", "o.jpg")], 2, {"url_seen": 1}),
        ({"relative_urls": "drop"}, [image(), image("absolute", "https://a.example/x.jpg")], 1, {"relative_url": 1}),
        ({"refused_substrings": (".gif",)}, [image(url="/my.gifts/a.jpg")], 0, {"url_pattern": 1}),
        ({"link_kinds": ("*",)}, [image(), {"path": "A@/href", "url": "/x", "alt": "a link"}, ANCHOR], 2, {}),
        ({"link_kinds": ("INPUT@/src",)}, [image(), {"path": "INPUT@/src", "url": "/b.png", "alt": "search"}], 1, {}),
    ],
)  # fmt: skip
def test_each_rule_drops_by_its_own_reason(
    settings: params.Extract, change: dict[str, Any], links: list[Any], kept: int, dropped: dict[str, int]
) -> None:
    pairs, reasons = pairs_of(settings, links, **change)
    assert (len(pairs), reasons) == (kept, dropped)


def test_the_place_of_a_link_is_that_among_the_image_links_of_its_page(settings: params.Extract) -> None:
    kept, _ = pairs_of(settings, [ANCHOR, image("first"), ANCHOR, image(""), image("third one")])
    assert [pair.link_index for pair in kept] == [0, 2]


def test_a_link_without_url_is_listed_with_the_offset_of_its_page(settings: params.Extract) -> None:
    judge = Judge(settings)
    judge.page(page_of([{"path": "IMG@/src", "alt": "no address"}]), 0)
    assert [(defect.offset, defect.reason) for defect in judge.defects] == [(0, "no_url")]


def test_the_uid_is_the_md5_of_text_and_url_in_the_order_that_is_asked_for(settings: params.Extract) -> None:
    link = image("A red fox jumping", "https://a.example/x.jpg")
    (pair,), _ = pairs_of(settings, [link])
    assert pair.uid == "8a1a06af075b20557349b444929a59de"
    (pair,), _ = pairs_of(settings, [link], uid="url_text")
    assert pair.uid == "4573adcb7580ac7e2ab180156b9cc939"


def test_text_that_utf8_cannot_hold_is_stored_with_replacement_characters_and_its_uid_is_that_of_what_is_stored() -> (
    None
):
    rules = recipes.load("cc2dataset").extract
    (pair,), _ = pairs_of(rules, [image("lone \ud800 surrogate")])
    assert pair.text == "lone \ufffd surrogate"
    assert pair.uid == hashlib.md5((pair.text + pair.url).encode()).hexdigest()


def test_with_links_only_the_page_is_not_asked(settings: params.Extract) -> None:
    page = page_of([image()], head={"Metas": [{"name": "robots", "content": "noai"}]})
    assert Judge(settings).page(page, 0) == []
    (pair,) = Judge(settings, links_only=True).page(page, 0)
    assert (pair.license, pair.page_signals) == ("?", "")
