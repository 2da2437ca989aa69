"""Image addresses in: one normal form, or the reason against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask import urls
from laion_dask.urls import Address, Refusal

PAGE = "https://site.example/dir/page.html"


def resolve(url: str, base: str = PAGE, max_chars: int = 2000) -> Address | Refusal:
    """Resolve with the extensions that LAION-5B refused."""
    return urls.resolve(url, base, max_chars=max_chars, refused_extensions=("svg", "gif"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("img/rel.jpg", "https://site.example/dir/img/rel.jpg"),
        ("/root.jpg", "https://site.example/root.jpg"),
        ("//cdn.example/p.png", "https://cdn.example/p.png"),
        ("../up.webp", "https://site.example/up.webp"),
        ("../../../up.webp", "https://site.example/up.webp"),
        ("?q=1", "https://site.example/dir/page.html?q=1"),
        ("  a\n.jpg\t", "https://site.example/dir/a.jpg"),
        ("x.jpg#part", "https://site.example/dir/x.jpg#part"),
        ("HTTP://UP.EXAMPLE/C.jpg", "http://up.example/C.jpg"),
        ("https://a.example:443/sp ace.jpg", "https://a.example/sp%20ace.jpg"),
        ("https://a.example/b\\s.jpg", "https://a.example/b/s.jpg"),
        ("https://пример.рф/изо.jpg", "https://xn--e1afmkfd.xn--p1ai/%D0%B8%D0%B7%D0%BE.jpg"),
        ("http://user:pw@a.example:8080/auth.jpg", "http://user:pw@a.example:8080/auth.jpg"),
        ("https://a.example/x.jpg?a=1&amp;b=2", "https://a.example/x.jpg?a=1&amp;b=2"),
        ("https://8.8.8.8/x.jpg", "https://8.8.8.8/x.jpg"),
        ("https://[2606:4700::1111]/x.jpg", "https://[2606:4700::1111]/x.jpg"),
        ("/my.gifts/a.jpg", "https://site.example/my.gifts/a.jpg"),
        ("/a.jpg?thumb=b.gif", "https://site.example/a.jpg?thumb=b.gif"),
        ("lone\ud800.jpg", "https://site.example/dir/lone%EF%BF%BD.jpg"),
    ],
)
def test_addresses_are_resolved_and_normalised(url: str, expected: str) -> None:
    result = resolve(url)
    assert isinstance(result, Address), result
    assert result.url == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "bad_url"),
        (" \n", "bad_url"),
        ("#frag", "bad_url"),
        ("http://[::1", "bad_url"),
        ("https://", "bad_url"),
        ("https://a b.example/x.jpg", "bad_url"),
        ("https://a..example/x.jpg", "bad_url"),
        (f"https://{'a' * 64}.example/x.jpg", "bad_url"),
        (f"https://{'a.' * 61}example/x.jpg", "bad_url"),
        (f"https://{'abcdefgh.' * 30}example/x.jpg", "bad_url"),
        ("https://a.example:99999/x.jpg", "bad_url"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "refused_url"),
        ("javascript:void(0)", "refused_url"),
        ("ftp://a.example/f.jpg", "refused_url"),
        ("file:///etc/passwd", "refused_url"),
        ("blob:https://a.example/1", "refused_url"),
        ("about:blank", "refused_url"),
        ("https://a.example/v.svg", "refused_url"),
        ("https://a.example/V.GIF?x=1#y", "refused_url"),
        ("https://a.example/" + "x" * 2000, "refused_url"),
        ("https://localhost/x.jpg", "refused_url"),
        ("https://LocalHost./x.jpg", "refused_url"),
        ("https://dev.localhost/x.jpg", "refused_url"),
        ("https://printer.local/x.jpg", "refused_url"),
        ("https://intranet/x.jpg", "refused_url"),
        ("https://127.0.0.1/x.jpg", "refused_url"),
        ("https://127.1/x.jpg", "refused_url"),
        ("https://2130706433/x.jpg", "refused_url"),
        ("https://0x7f.0.0.1/x.jpg", "refused_url"),
        ("http://10.1.2.3/x.jpg", "refused_url"),
        ("http://169.254.169.254/latest/meta-data", "refused_url"),
        ("http://[::1]/x.jpg", "refused_url"),
        ("http://[::ffff:127.0.0.1]/x.jpg", "refused_url"),
        ("http://[64:ff9b::7f00:1]/x.jpg", "refused_url"),
        ("http://[2002:7f00:1::]/x.jpg", "refused_url"),
        ("http://[fe80::1]/x.jpg", "refused_url"),
        ("http://224.0.0.1/x.jpg", "refused_url"),
    ],
)
def test_addresses_are_refused_for_a_reason(url: str, reason: str) -> None:
    assert resolve(url) == Refusal(reason)


@pytest.mark.parametrize(
    ("page", "head_base", "expected"),
    [
        (PAGE, "", PAGE),
        (PAGE, " ", PAGE),
        (PAGE, "/other/", "https://site.example/other/"),
        (PAGE, "https://cdn2.example/assets/", "https://cdn2.example/assets/"),
        (PAGE, "//cdn.example/", "https://cdn.example/"),
        (PAGE, "http://[::1", PAGE),
        (PAGE, "javascript:void(0)", PAGE),
        (PAGE, "data:text/plain,", PAGE),
        ("CC-MAIN-1.warc.gz", "", ""),
        ("", "https://cdn.example/", "https://cdn.example/"),
        ("", "/x/", ""),
    ],
)
def test_the_base_is_that_of_a_browser(page: str, head_base: str, expected: str) -> None:
    assert urls.base_of(page, head_base) == expected


def test_without_a_base_absolute_addresses_still_count() -> None:
    assert resolve("https://a.example/x.jpg", "") == Address("https://a.example/x.jpg", "a.example")
    assert resolve("x.jpg", "") == Refusal("bad_url")


def test_hosts_are_lower_case_punycode_without_port_and_credentials() -> None:
    table = {
        "http://user:p%40w@ПРИМЕР.рф:8080/x.jpg": "xn--e1afmkfd.xn--p1ai",
        "https://WWW.A.EXAMPLE/x.jpg": "www.a.example",
        "https://a.example?x@b.example": "a.example",
        "https://[2606:4700::1111]:8443/x.jpg": "[2606:4700::1111]",
    }
    assert {url: result.host for url in table if isinstance(result := resolve(url), Address)} == table


@given(st.text(st.characters(exclude_categories=())))
def test_no_address_crashes_and_the_normal_form_is_a_fixed_point(url: str) -> None:
    result = resolve(url)
    if isinstance(result, Address):
        assert resolve(result.url, "") == result
        result.url.encode("ascii")
    else:
        assert result.reason in {"bad_url", "refused_url"}


def test_resolution_follows_the_web_platform_tests(shared_data: Path) -> None:
    cases = [
        case for case in json.loads((shared_data / "url" / "wpt_urltestdata_half.json").read_text()) if "input" in case
    ]
    wrong = [
        case["input"]
        for case in cases
        if urls.join(case["input"], case["base"] or "") != ("" if case.get("failure") else case["href"])
    ]
    assert len(cases) == 434
    assert wrong == []


def test_registrable_domains_follow_the_public_suffix_list(shared_data: Path) -> None:
    lines = (shared_data / "url" / "psl_tests_half.txt").read_text().splitlines()
    cases = [line.split() for line in lines if line.strip() and not line.startswith("//")]
    wrong = [
        (host, urls.registrable_domain("" if host == "null" else host), expected)
        for host, expected in cases
        if urls.registrable_domain("" if host == "null" else host) != ("" if expected == "null" else expected)
    ]
    assert len(cases) >= 35
    assert wrong == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.images.example", "images.example"),
        ("WWW.Images.Example.", "images.example"),
        ("img.bbc.co.uk", "bbc.co.uk"),
        ("me.blogspot.com", "me.blogspot.com"),
        ("127.0.0.1", ""),
        ("[2606:4700::1111]", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_registrable_domains_of_other_hosts(host: str, expected: str) -> None:
    assert urls.registrable_domain(host) == expected
