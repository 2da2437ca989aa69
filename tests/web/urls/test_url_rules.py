"""Image addresses in: one form of three, or the first reason against it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask import params
from laion_dask.schema import reasons
from laion_dask.web.urls import resolver
from laion_dask.web.urls.resolver import Address, UrlRules

PAGE = "https://site.example/dir/page.html"
WHATWG = UrlRules(
    refused_extensions=("svg", "gif"),
    max_url_chars=2000,
    max_host_chars=253,
    private_hosts="drop",
    malformed_hosts="drop",
)
CC2DATASET = UrlRules("as_written")
LAION_5B = UrlRules(
    "escaped",
    relative_urls="drop",
    schemes=("http", "https", "ftp", "ftps"),
    refused_substrings=(".svg", ".gif", "data:image", "javascript:"),
    max_url_chars=2000,
    max_host_chars=60,
)


def resolve(url: str, rules: UrlRules = WHATWG, page: str = PAGE, head_base: str = "") -> Address | str:
    return resolver.Resolver(page, head_base, rules).resolve(url)


def test_the_rules_come_from_the_parameters(defaults: params.Params) -> None:
    assert resolver.rules_of(defaults.extract) == WHATWG


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("img/rel.jpg", "https://site.example/dir/img/rel.jpg"),
        ("/root.jpg", "https://site.example/root.jpg"),
        ("//cdn.example/p.png", "https://cdn.example/p.png"),
        ("./here.png", "https://site.example/dir/here.png"),
        ("../up.webp", "https://site.example/up.webp"),
        ("../../../up.webp", "https://site.example/up.webp"),
        ("a/../b.jpg", "https://site.example/dir/b.jpg"),
        ("a/%2E%2e/b.jpg", "https://site.example/dir/b.jpg"),
        ("?q=1", "https://site.example/dir/page.html?q=1"),
        ("  a\n.jpg\t", "https://site.example/dir/a.jpg"),
        (" a b.jpg ", "https://site.example/dir/a%20b.jpg"),
        ("x.jpg#part", "https://site.example/dir/x.jpg#part"),
        ("HTTP://UP.EXAMPLE/C.jpg", "http://up.example/C.jpg"),
        ("https://a.example", "https://a.example/"),
        ("https://a.example:443/sp ace.jpg", "https://a.example/sp%20ace.jpg"),
        ("https://a.example/b\\s.jpg", "https://a.example/b/s.jpg"),
        ("https://пример.рф/изо.jpg", "https://xn--e1afmkfd.xn--p1ai/%D0%B8%D0%B7%D0%BE.jpg"),
        ("http://user:pw@a.example:8080/auth.jpg", "http://user:pw@a.example:8080/auth.jpg"),
        ("https://a.example/x.jpg?a=1&amp;b=2", "https://a.example/x.jpg?a=1&amp;b=2"),
        ("https://a.example/it's?it's#it's", "https://a.example/it's?it%27s#it's"),
        ("https://8.8.8.8/x.jpg", "https://8.8.8.8/x.jpg"),
        ("https://[2606:4700::1111]/x.jpg", "https://[2606:4700::1111]/x.jpg"),
        ("/my.gifts/a.jpg", "https://site.example/my.gifts/a.jpg"),
        ("/a.jpg?thumb=b.gif", "https://site.example/a.jpg?thumb=b.gif"),
        ("/a.gif/", "https://site.example/a.gif/"),
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
        ("\x00 #frag", "bad_url"),
        ("http://[::1", "bad_url"),
        ("https://", "bad_url"),
        ("https://a b.example/x.jpg", "bad_url"),
        ("https://a..example/x.jpg", "bad_url"),
        (f"https://{'a' * 64}.example/x.jpg", "bad_url"),
        (f"https://{'a.' * 61}example/x.jpg", "bad_url"),
        ("https://a.example:99999/x.jpg", "bad_url"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "url_scheme"),
        (" DATA:image/gif,", "url_scheme"),
        ("javascript:void(0)", "url_scheme"),
        ("ftp://a.example/f.jpg", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("blob:https://a.example/1", "url_scheme"),
        ("about:blank", "url_scheme"),
        ("https://a.example/v.svg", "url_pattern"),
        ("https://a.example/V.GIF?x=1#y", "url_pattern"),
        ("https://a.example/.gif", "url_pattern"),
        ("icons/v.svg", "url_pattern"),
        ("https://a.example/" + "x" * 2000, "url_too_long"),
        (f"https://{'abcdefgh.' * 30}example/x.jpg", "url_too_long"),
        ("https://localhost/x.jpg", "private_host"),
        ("https://LocalHost./x.jpg", "private_host"),
        ("https://intranet/x.jpg", "private_host"),
        ("https://127.1/x.jpg", "private_host"),
        ("https://2130706433/x.jpg", "private_host"),
        ("https://0x7f.0.0.1/x.jpg", "private_host"),
        ("http://10.1.2.3/x.jpg", "private_host"),
        ("http://169.254.169.254/latest/meta-data", "private_host"),
        ("http://[::ffff:127.0.0.1]/x.jpg", "private_host"),
        ("http://224.0.0.1/x.jpg", "private_host"),
    ],
)
def test_addresses_are_refused_for_a_reason(url: str, reason: str) -> None:
    assert resolve(url) == reason
    assert reason in reasons.REASONS["extract"]


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
    assert resolver.base_of(page, head_base) == expected


def test_without_a_base_absolute_addresses_still_count() -> None:
    assert resolve("https://a.example/x.jpg", page="") == Address("https://a.example/x.jpg", "a.example")
    assert resolve("x.jpg", page="") == "bad_url"
    assert resolve("//a.example/x.jpg", page="https://a b.example/") == "bad_url"


def test_hosts_are_lower_case_punycode_without_port_and_credentials() -> None:
    table = {
        "http://user:p%40w@ПРИМЕР.рф:8080/x.jpg": "xn--e1afmkfd.xn--p1ai",
        "https://WWW.A.EXAMPLE/x.jpg": "www.a.example",
        "https://a.example?x@b.example": "a.example",
        "https://[2606:4700::1111]:8443/x.jpg": "[2606:4700::1111]",
    }
    for rules in (WHATWG, replace(CC2DATASET, schemes=("http", "https"))):
        assert {url: result.host for url in table if isinstance(result := resolve(url, rules), Address)} == table


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("https://A.example/a/../b c.svg", "https://A.example/a/../b c.svg"),
        (" https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("x.jpg ", "https://site.example/dir/x.jpg "),
        ("", PAGE),
        ("#f", f"{PAGE}#f"),
        ("a//b.jpg", "https://site.example/dir/a/b.jpg"),
        ("x.jpg;", "https://site.example/dir/x.jpg"),
        ("x.jpg?", "https://site.example/dir/x.jpg"),
        ("//cdn.example", "https://cdn.example"),
        ("http://[::1", "http://[::1"),
        ("http://", "http://"),
        ("https://пример.рф/изо.jpg", "https://пример.рф/изо.jpg"),
        ("https://localhost/x.jpg", "https://localhost/x.jpg"),
        ("lone\ud800.jpg", "https://site.example/dir/lone\ufffd.jpg"),
        ("https://a.example/lone\ud800.jpg", "https://a.example/lone\ufffd.jpg"),
        ("HTTP://UP.EXAMPLE/C.jpg", "url_scheme"),
        ("data:image/gif,", "url_scheme"),
        ("javascript:void(0)", "url_scheme"),
        ("//[x.jpg", "url_scheme"),
    ],
)
def test_cc2dataset_keeps_addresses_as_written_and_joins_as_urllib(url: str, expected: str) -> None:
    result = resolve(url, CC2DATASET)
    assert (result.url if isinstance(result, Address) else result) == expected


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.example:8080/x", "a.example"),
        ("https://Пример.рф/x", "xn--e1afmkfd.xn--p1ai"),
        ("https://127.1/x", "127.0.0.1"),
        ("http://[::1", "[::1"),
        ("http://[::1]:99999/x", "[::1]"),
        ("http://u:p@A b.example:80/x", "a b.example"),
        ("http://a.example:99999", "a.example"),
        ("http://", ""),
        ("http:///x.jpg", "x.jpg"),
        ("no address", ""),
    ],
)
def test_a_host_is_found_wherever_there_is_one(url: str, host: str) -> None:
    assert resolver.host_of(url) == host


@pytest.mark.parametrize(
    ("head_base", "expected"),
    [("/other/", "https://site.example/other/x.jpg"), ("http://[::1", "https://site.example/dir/x.jpg")],
)
def test_cc2dataset_joins_the_base_element_where_it_can_be_read(head_base: str, expected: str) -> None:
    assert resolve("x.jpg", CC2DATASET, head_base=head_base) == Address(expected, "site.example")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("HTTP://UP.EXAMPLE/C.jpg", "HTTP://UP.EXAMPLE/C.jpg"),
        ("ftp://u:p@a.example:21/f.jpg", "ftp://u:p@a.example:21/f.jpg"),
        ("https://a.example/b\\s.jpg", "https://a.example/b\\\\s.jpg"),
        ("https://a.example/a\n.jpg", "https://a.example/a.jpg"),
        ("https://a.example/" + "x" * 3000, "https://a.example/" + "x" * 1982),
        ("https://localhost/x.jpg", "https://localhost/x.jpg"),
        ("http://[::1]/x.jpg", "http://[::1]/x.jpg"),
        ("https://a.example?x.jpg", "https://a.example?x.jpg"),
        ("https://пример.рф/изо.jpg", "https://пример.рф/изо.jpg"),
        ("x.jpg", "relative_url"),
        ("/x.jpg", "relative_url"),
        ("//a.example/x.jpg", "relative_url"),
        ("https:x.jpg", "relative_url"),
        ("", "bad_url"),
        ("https://a.example/sp ace.jpg", "bad_url"),
        (" https://a.example/x.jpg", "bad_url"),
        ("https://example/x.jpg", "bad_url"),
        ("https://under_score.example/x.jpg", "bad_url"),
        ("https://a.example\\x.jpg", "bad_url"),
        ("https://a.example:123456/x.jpg", "bad_url"),
        ("http://[::1", "bad_url"),
        ("data:image/gif,", "url_scheme"),
        ("mailto:me@a.example", "url_scheme"),
        ("https://a.example/my.gifts/a.jpg", "url_pattern"),
        ("https://a.example/x.GIF", "https://a.example/x.GIF"),
        (f"https://{'abcdefgh.' * 7}example/x.jpg", "url_too_long"),
    ],
)
def test_laion_5b_cut_and_escaped_addresses_and_lost_relative_ones(url: str, expected: str) -> None:
    result = resolve(url, LAION_5B)
    assert (result.url if isinstance(result, Address) else result) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("x.jpg", "https://site.example/dir/x.jpg"),
        ("a b.jpg", "bad_url"),
        ("a\\b.jpg", "https://site.example/dir/a\\\\b.jpg"),
        ("#f", "bad_url"),
    ],
)
def test_escaped_addresses_can_be_joined_too(url: str, expected: str) -> None:
    result = resolve(url, replace(LAION_5B, relative_urls="resolve"))
    assert (result.url if isinstance(result, Address) else result) == expected


@pytest.mark.parametrize("form", ["whatwg", "as_written", "escaped"])
@pytest.mark.parametrize("url", ["x.jpg", "/x.jpg", "//a.example/x.jpg", "?q", "../x.jpg", "https:x.jpg", " x y.jpg"])
def test_relative_addresses_can_be_dropped_in_every_form(form: str, url: str) -> None:
    assert resolve(url, UrlRules(form, relative_urls="drop")) == "relative_url"
    assert isinstance(resolve("https://a.example/x.jpg", UrlRules(form, relative_urls="drop")), Address)


LONG, HOST = "x" * 90, "h" * 64
STRICT = UrlRules(
    relative_urls="drop",
    refused_extensions=("gif",),
    refused_substrings=("bad",),
    max_url_chars=80,
    max_host_chars=20,
    private_hosts="drop",
    malformed_hosts="drop",
)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"#/{LONG}bad.gif", "bad_url"),
        (f"/{LONG}bad.gif", "relative_url"),
        (f"https://a b/{LONG}bad.gif", "bad_url"),
        (f"ftp://{HOST}/{LONG}bad.gif", "url_scheme"),
        (f"https://{HOST}/{LONG}bad.gif", "url_too_long"),
        (f"https://{HOST}/bad.gif", "url_too_long"),
        ("https://a..b/bad.gif", "bad_url"),
        ("https://ab/bad.gif", "url_pattern"),
        ("https://ab/bad.jpg", "url_pattern"),
        ("https://ab/x.jpg", "private_host"),
    ],
)
def test_of_several_reasons_the_first_of_a_fixed_order_holds(url: str, reason: str) -> None:
    assert resolve(url, STRICT) == reason


@pytest.mark.parametrize(
    ("rules", "url"),
    [
        (UrlRules("as_written", malformed_hosts="drop"), "http://[::1"),
        (UrlRules("as_written", malformed_hosts="drop"), "http://a b.example/x.jpg"),
        (UrlRules("as_written", malformed_hosts="drop"), "https://a..example/x.jpg"),
        (UrlRules("as_written", malformed_hosts="drop"), "https://"),
        (UrlRules(malformed_hosts="drop"), "https://a..example/x.jpg"),
    ],
)
def test_malformed_hosts_can_be_refused_in_every_form(rules: UrlRules, url: str) -> None:
    assert resolve(url, rules) == "bad_url"


@pytest.mark.parametrize("url", ["http://127.1/x.jpg", "http://LOCALHOST/x.jpg", "http://[::1/x.jpg"])
def test_private_hosts_are_found_in_addresses_as_written(url: str) -> None:
    assert resolve(url, UrlRules("as_written", private_hosts="drop")) == "private_host"


@given(st.text(st.characters(exclude_categories=())), st.sampled_from([WHATWG, CC2DATASET, LAION_5B]))
def test_no_address_crashes_and_the_result_is_a_fixed_point(url: str, rules: UrlRules) -> None:
    result = resolve(url, rules)
    if isinstance(result, str):
        assert result in reasons.REASONS["extract"]
        return
    result.url.encode()
    if rules.url_form == "whatwg":
        result.url.encode("ascii")
    if rules.url_form != "escaped":
        assert resolve(result.url, rules, page="") == result


def test_resolution_follows_the_web_platform_tests(shared_data: Path) -> None:
    cases = [
        case for case in json.loads((shared_data / "url" / "wpt_urltestdata_half.json").read_text()) if "input" in case
    ]
    wrong = [
        case["input"]
        for case in cases
        if resolver.join(case["input"], case["base"] or "") != ("" if case.get("failure") else case["href"])
    ]
    assert len(cases) == 434
    assert wrong == []
