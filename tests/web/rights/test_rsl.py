"""RSL licences in, decisions out: what prohibits, what permits under which condition, and what cannot be read."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.web.rights.decision import SILENT, Decision
from laion_dask.web.rights.rsl import MAX_FILE_BYTES, parse_rsl
from laion_dask.web.rights.signals import is_rsl_link, rsl_links

IMAGE = "https://img.example/a/fox.jpg"
SPACE = "https://rslstandard.org/rsl"
TRAIN = '<permits type="usage">ai-train</permits>'
NEVER = '<prohibits type="usage">ai-train</prohibits>'


def license_(*contents: str, space: str = SPACE) -> bytes:
    return f'<?xml version="1.0"?><rsl xmlns="{space}">{"".join(contents)}</rsl>'.encode()


def content(*licenses: str, url: str = "/", more: str = "") -> str:
    inside = "".join(f"<license>{one}</license>" for one in licenses)
    return f'<content url="{url}" {more}>{inside}</content>'


@pytest.mark.parametrize(
    ("terms", "rights", "line"),
    [
        (NEVER, "refused", "prohibits usage: ai-train"),
        ('<prohibits type="usage">search, AI-Train</prohibits>', "refused", "prohibits usage: ai-train"),
        ('<prohibits type="usage">ai-train-generative</prohibits>', "refused", None),
        ("<prohibits>ai-all</prohibits>", "refused", "prohibits usage: ai-all"),
        ('<prohibits type="usage">\n all\n</prohibits>', "refused", "prohibits usage: all"),
        ('<prohibits type="usage">ai-input ai-index search</prohibits>', "allowed", None),
        ('<permits type="usage">search</permits>', "refused", "permits usage: search"),
        ('<permits type="usage"/>', "refused", None),
        (TRAIN, "allowed", "permits usage: ai-train"),
        ('<permits type="usage">search ai-all</permits>', "allowed", None),
        ('<permits type="usage">train-ai</permits>', "allowed", None),
        ('<permits type="usage">search</permits>' + TRAIN, "allowed", None),
        ("", "allowed", None),
        (TRAIN + '<payment type="free"/>', "allowed", None),
        *(
            (f'{TRAIN}<payment type="{kind}"/>', "refused", f"permits usage under a condition: payment: {kind}")
            for kind in (
                *("purchase", "subscription", "training", "crawl", "use", "inference", "contribution", "attribution"),
            )
        ),
        (f"{TRAIN}<payment><standard>https://x.example/l</standard></payment>", "refused", None),
        (f'{TRAIN}<reporting type="audit" profile="https://x.example/p"/>', "refused", None),
        (f'{TRAIN}<permits type="user">non-commercial</permits>', "refused", None),
        (f'{TRAIN}<prohibits type="geo">US</prohibits>', "refused", None),
        (f'{TRAIN}<legal type="warranty">ownership</legal>', "allowed", None),
        (f'{TRAIN}<x:prohibits xmlns:x="https://x.example/" type="usage">all</x:prohibits>', "allowed", None),
    ],
)
def test_only_a_licence_without_a_condition_permits_training(terms: str, rights: str, line: str | None) -> None:
    decision = parse_rsl(200, license_(content(terms)), "https://img.example/l.xml", "2026-01-01T00:00:00Z").decide(
        IMAGE
    )
    assert (decision.rights, decision.signal, decision.source, decision.time) == (
        *(rights, "rsl", "https://img.example/l.xml", "2026-01-01T00:00:00Z"),
    )
    assert line is None or decision.evidence == line


@pytest.mark.parametrize(
    ("contents", "rights"),
    [
        ((content(NEVER, url="/"),), "refused"),
        ((content(NEVER, url="/a/"),), "refused"),
        ((content(NEVER, url="//img.example/"),), "refused"),
        ((content(NEVER, url="//other.example/"),), ""),
        ((f'<content url="/">{NEVER}</content>',), "refused"),
        ((f'<content url="/"><payment type="purchase"/><license>{TRAIN}</license></content>',), "refused"),
        ((f'<content url="/"><license>{TRAIN}</license><reporting type="audit"/></content>',), "refused"),
        ((f'<content url="/"><license>{TRAIN}</license><payment type="free"/></content>',), "allowed"),
        ((content(NEVER, url="/*.jpg$"),), "refused"),
        ((content(NEVER, url="a/"),), "refused"),
        ((content(NEVER, url=""),), "refused"),
        ((content(NEVER, url="*"),), "refused"),
        ((content(NEVER, url="https://img.example/"),), "refused"),
        ((content(NEVER, url="https://img.example"),), "refused"),
        ((content(NEVER, url="https://*.example/a/*"),), "refused"),
        ((content(NEVER, url="https://IMG.example:443/a/"),), "refused"),
        ((content(NEVER, url="https://other.example/"),), ""),
        ((content(NEVER, url="/b/"),), ""),
        ((content(NEVER, url="/A/"),), ""),
        # The narrower scope counts, in whatever order; of one scope the strictest.
        ((content(NEVER), content(TRAIN, url="/a/")), "allowed"),
        ((content(TRAIN, url="/a/"), content(NEVER)), "allowed"),
        ((content(TRAIN), content(NEVER, url="/a/")), "refused"),
        ((content(TRAIN), content(NEVER)), "refused"),
        ((content(NEVER), content(TRAIN)), "refused"),
        ((content(TRAIN), content(NEVER, url="https://img.example/")), "refused"),
        ((content(TRAIN, NEVER),), "refused"),
        ((content(TRAIN, more='server="https://x.example/olp"'),), "refused"),
        ((content(),), "unknown"),
    ],
)
def test_a_licence_counts_where_it_says(contents: tuple[str, ...], rights: str) -> None:
    decision = parse_rsl(200, license_(*contents)).decide(IMAGE)
    assert decision.rights == rights if rights else decision == SILENT


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (404, license_(content(TRAIN)), "HTTP 404"),
        (503, b"", "HTTP 503"),
        (0, b"", "no answer"),
        (200, b"", "no XML"),
        (200, b"<html>Terms<br></html>", "no XML"),
        (200, b"<html>Terms</html>", "no RSL document"),
        (200, license_(), "no RSL document"),
        (200, license_(content(TRAIN), space="https://x.example/other"), "no RSL document"),
        (200, license_(content(TRAIN))[:-9], "no XML"),
        (200, b'<!DOCTYPE rsl [<!ENTITY a "b">]>' + license_(content(TRAIN))[21:], "no XML"),
        (200, b'<!DOCTYPE rsl SYSTEM "file:///etc/passwd">' + license_(content(TRAIN))[21:], "no XML"),
        (200, license_(content(TRAIN)) + b" " * MAX_FILE_BYTES, "longer than 512 KiB"),
    ],
)
def test_a_licence_that_is_named_and_cannot_be_read_is_unknown(status: int, body: bytes, why: str) -> None:
    decision = parse_rsl(status, body, "there").decide(IMAGE)
    assert decision == Decision("unknown", "rsl", f"licence cannot be read: {why}", "there", None)


@pytest.mark.parametrize("status", [200, 203, 206])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_it_is_read_at_every_successful_status_in_every_encoding_of_xml(status: int, encoding: str) -> None:
    body = license_(content(NEVER)).decode().removeprefix('<?xml version="1.0"?>').encode(encoding)
    assert parse_rsl(status, body).decide(IMAGE).rights == "refused"


def test_it_is_found_inside_of_a_feed() -> None:
    terms = '<rsl:license><rsl:prohibits type="usage">all</rsl:prohibits></rsl:license>'
    item = f'<item><rsl:content url="/">{terms}</rsl:content></item>'
    feed = f'<rss xmlns:rsl="{SPACE}"><channel>{item}</channel></rss>'
    assert parse_rsl(200, feed.encode()).decide(IMAGE).rights == "refused"


@given(st.binary(max_size=300) | st.text().map(lambda text: license_(content(text, url="/"))))
def test_no_document_crashes_and_none_that_is_damaged_permits(body: bytes) -> None:
    assert parse_rsl(200, body).decide(IMAGE).rights in {"unknown", "refused", "allowed"}


@given(st.binary(min_size=1, max_size=40), st.integers(0, 400))
def test_a_damaged_prohibition_never_becomes_a_permission(noise: bytes, place: int) -> None:
    body = license_(content('<permits type="usage">search</permits>' + NEVER))
    place %= len(body)
    assert parse_rsl(200, body[:place] + noise + body[place + len(noise) :]).decide(IMAGE).rights != "allowed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        license_(*[content(NEVER, url="/*b")] * 5_000),
        license_(*[f'<content url="/*{place:x}b"/>' for place in range(19_000)]),
        license_(*[f'<content url="https://{place:x}*b.example/"/>' for place in range(11_000)]),
        license_("<content url='/'>" + "<license/>" * 50_000 + "</content>"),
        license_("<a>" * 70_000 + "</a>" * 70_000),
        license_("<content url='/'><license><prohibits>" + "a " * 240_000 + "</prohibits></license></content>"),
        license_("<content url='/'><license>" + "<permits>a</permits>" * 25_000 + "</license></content>"),
        license_('<content url="/' + "*a" * 200_000 + '"/>'),
    ],
    ids=["contents", "scopes", "hosts", "licences", "nested", "uses", "permits", "wildcards"],
)
def test_a_hostile_document_costs_neither_time_nor_memory(body: bytes) -> None:
    assert len(body) <= MAX_FILE_BYTES
    url = "https://img.example/" + "a" * 2_000
    began = time.process_time()
    found = parse_rsl(200, body)
    for _ in range(5):
        found.decide(url)
    assert time.process_time() - began < 3.0
    tracemalloc.start()
    try:
        parse_rsl(200, body).decide(url)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


RSL = 'type="application/rsl+xml"'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f'<https://x.example/l.xml>; rel="license"; {RSL}', [("https://x.example/l.xml", True)]),
        (f"<l.xml>;rel=license;{RSL}", [("l.xml", True)]),
        ("<l.xml>; rel='license'; type='application/rsl+xml'", [("l.xml", True)]),
        (f'<l.xml> ; REL="next License" ; {RSL.upper()}', [("l.xml", True)]),
        ('<l.xml>; rel="license"', [("l.xml", False)]),
        ('<l.xml>; rel="license"; type="text/xml"', [("l.xml", False)]),
        ('<l.html>; rel="license"; type="text/html"', []),
        ('<https://creativecommons.org/licenses/by/4.0/>; rel="license"', []),
        (f'<a>; rel="next", <l.xml>; rel="license"; {RSL}, <b>; rel="prev"', [("l.xml", True)]),
        (f'<a>; rel="next"; {RSL}', []),
        (f'<>; rel="license"; {RSL}', []),
        ("", []),
        ("<" * 8_000, []),
    ],
)
def test_licences_are_found_in_link_headers(value: str, expected: list[tuple[str, bool]]) -> None:
    assert list(rsl_links([("Content-Type", "image/png"), ("LINK", value)])) == expected


def test_a_link_element_names_a_licence_by_its_type() -> None:
    assert is_rsl_link("License", "application/rsl+xml; charset=utf-8")
    assert not is_rsl_link("license", "")
    assert not is_rsl_link("alternate", "application/rsl+xml")
