"""robots.txt as it is written by mistake or in bad faith: no refusal is lost, and none costs time or memory."""

from __future__ import annotations

import codecs
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.texts.robots_txt import IMAGE, STRICT, TOKENS, robots
from protego import Protego

from laion_dask.web.rights.decision import Policy
from laion_dask.web.rights.robots import CUT, MAX_FILE_BYTES, parse_robots


def test_a_refusal_that_may_stand_behind_the_limit_is_on_record_and_can_be_made_to_bind() -> None:
    decision = robots("User-agent: *\nAllow: /\n" + "# padding\n" * 60_000 + "User-agent: *\nDisallow: /a/fox.jpg\n")
    assert (decision.rights, decision.signal, decision.evidence) == ("unknown", "robots", CUT)
    assert Policy(unknown=("robots",)).binds(decision)


OPT_OUTS = [
    "User-agent: GPTBot\n{line}\nUser-agent: MyBot\nDisallow: /",
    "User-agent: MyBot\n{line}\nUser-agent: GPTBot\nDisallow: /",
    "User-agent: A\nUser-agent: MyBot\n{line}\n\n{line}\nUser-agent: B\nUser-agent: C\n{line}\nDisallow: /",
    "User-agent: *\n{line}\nUser-agent: Other\nDisallow: /",
]


@pytest.mark.parametrize("text", OPT_OUTS)
@pytest.mark.parametrize(
    "line",
    [
        *("Crawl-delay: 5", "Noindex: /x", "Content-Signal: search=yes", "Content-Usage: search=n", "Unheard-of: 7"),
        *("Sitemap: https://x.example/s.xml", "Host: x.example", "License: https://x.example/l.xml", "no key at all"),
        *(
            "# a comment",
            "   ",
            "",
            "Request-rate: 1/5",
            "Clean-param: ref /x",
            "Crawl-delay:",
            ": /",
            "<html>",
            "\x00",
        ),
    ],
)
def test_no_other_line_parts_the_names_of_a_group(text: str, line: str) -> None:
    """RFC 9309, 2.2.4: what is no rule must not interfere with groups."""
    assert robots(text.format(line=line), tokens=("MyBot",)).rights == "refused"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-16-be with mark", "utf-32", "utf-32-be with mark"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\r", "\r\r\n"])
def test_a_refusal_is_read_in_every_encoding_and_with_every_line_end(encoding: str, end: str) -> None:
    marks = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}
    name, _, marked = encoding.partition(" ")
    for comment in ("# ours", "# наши правила"):
        text = end.join((comment, "User-agent: *", "Disallow: /a/", ""))
        body = (marks[name] if marked else b"") + text.encode(name)
        assert parse_robots(200, body, TOKENS).decide(IMAGE, STRICT).rights == "refused"
        assert parse_robots(200, body, TOKENS).decide("https://img.example/b/", STRICT).rights == "allowed"


@pytest.mark.parametrize(
    "text",
    [
        "  User-agent: *\n\tDisallow: /",
        "User-agent : *\nDisallow : /",
        "User-agent\t:\t*\nDisallow\t:\t/",
        "User-agent *\nDisallow /",
        "User-agent\t*\nDisallow\t/",
        "useragent: *\ndisallow: /",
        "User agent: *\nDisallow: /",
        "user agent *\ndisallow /",
        "User-agent: *\nDissallow: /",
        "User-agent: *\nDisalow: /",
        "User-agent: *\0\nDisallow: /\0",
        "User-agent: *\nDisallow: a/",
        "User-agent: *\nDisallow: https://img.example/a/",
        "User-agent: *\nDisallow: *",
        "User-agent: *\nDisallow: /**/*.jpg",
        "User-agent: *\nDisallow: /***.jpg$",
        "\ufeff\ufeffUser-agent: *\nDisallow: /",
        "User-agent: MyBot, CCBot\nDisallow: /",
        "User-agent: * # all\nDisallow: / # of it",
        "\xa0User-agent:\xa0*\nDisallow:\u3000/",
        "\u200bUser-agent: *\u200b\nDisallow: \u200b/\u2060",
        "User-agent: \"CCBot\"\nDisallow: '/'",
        'User-agent: *\nAllow: /\nContent-Signal: "ai-train=no"',
    ],
)
def test_a_refusal_that_can_be_understood_counts(text: str) -> None:
    assert robots(text).rights == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "User-agent: *\nDisallow",
        "User-agent: *\nDisallow: # nothing",
        "User-agent: *\nDisallow is not what we want",
        "User-agent: *\nDisallow: /*/b\nDisallow: /a/*/*",
        "User-agent: *\nDisallow: /$",
        "User-agent: *\nDisallow: /a/fox$",
        "User-agent: *\nDisallow: /*.jpg*.jpg$",
        "Disallow: /",
    ],
)
def test_what_refuses_nothing_is_no_refusal(text: str) -> None:
    assert robots(text).rights == "allowed"


_NAMES = "".join(f"User-agent: {token}\n" for token in (*TOKENS, "GPTBot", "ClaudeBot", "*"))
_HOSTILE = {
    "blanks behind a name": "User-agent" + " " * MAX_FILE_BYTES,
    "lines of blanks": ("User-agent" + " " * 16_000 + "\n") * 32,
    "names times rules": _NAMES + "".join(f"Disallow: /{place:x}\n" for place in range(40_000)),
    "many names, many rules": "User-agent: CCBot\n" * 12_000 + "".join(f"Allow: /{n:x}\n" for n in range(24_000)),
    "a group for each rule": "".join(f"User-agent: MyBot\nDisallow: /{place:x}\n" for place in range(16_000)),
    "wildcards": _NAMES + "".join(f"Disallow: /*{place:x}b\n" for place in range(34_000)),
    "one rule of wildcards": _NAMES + "Disallow: /" + "*a" * 250_000 + "b",
    "rules of wildcards": _NAMES + ("Disallow: /" + "*a" * 1_000 + "*b$\n") * 250,
    "escapes": _NAMES + ("Disallow: /" + "%61" * 1_000 + "b\n") * 165,
    "commas": "User-agent: " + "," * MAX_FILE_BYTES,
    "names in one line": "User-agent: " + "mybot, " * 73_000,
    "delays": "User-agent: *\nCrawl-delay: 1\n" * 17_000,
    "usage": _NAMES + "Content-Usage: /b* train-ai=n\n" * 16_000,
    "many usages": _NAMES + "".join(f"Content-Usage: /*{place:x}b train-ai=n\n" for place in range(14_000)),
    "licences": "".join(f"License: {place}\n\n" for place in range(30_000)),
    "empty lines": "\n" * MAX_FILE_BYTES,
    "no colons": ("Disallow" + "\t " * 100 + "/b\n") * 2_400,
    "outside of ASCII": _NAMES + ("Disallow: /" + "\u0416" * 1_000 + "\n") * 250,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_a_hostile_file_costs_neither_time_nor_memory(text: str) -> None:
    body = text.encode()[:MAX_FILE_BYTES]
    path = "https://img.example/" + "a" * 2_000
    began = time.process_time()
    rules = parse_robots(200, body, TOKENS, ("GPTBot", "ClaudeBot"))
    for _ in range(5):
        rules.decide(path, STRICT)
    # Ordinary files of this size take a third of it on a slow machine.
    assert time.process_time() - began < 3.0
    tracemalloc.start()
    try:
        parse_robots(200, body, TOKENS, ("GPTBot", "ClaudeBot")).decide(path, STRICT)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "/", ".jpg", "?", "*", "%61", "%2F", "ж"]), max_size=5)
_RULES = st.lists(st.tuples(st.sampled_from(["Allow", "Disallow"]), _PATHS.map("".join), st.booleans()), max_size=6)
_GROUPS = st.lists(st.tuples(st.lists(st.sampled_from(["MyBot", "Other", "*"]), min_size=1), _RULES), max_size=4)


@given(_GROUPS, _PATHS)
def test_ordinary_files_are_read_as_another_parser_reads_them(
    groups: list[tuple[list[str], list[tuple[str, str, bool]]]], path: list[str]
) -> None:
    lines = []
    for names, rules in groups:
        lines += [f"User-agent: {name}" for name in names]
        # Without a rule the names would go on in the next group.
        lines += [f"{key}: /{pattern}{'$' * ended}" for key, pattern, ended in rules] or ["Disallow:"]
    url = f"https://img.example/{''.join(path).replace('*', '')}"
    text = "\n".join(lines)
    expected = Protego.parse(text).can_fetch(url, "MyBot")
    assert (robots(text, url, tokens=("MyBot",)).rights == "allowed") is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://a.example/l.xml https://b.example/m.xml", ("https://a.example/l.xml", "https://b.example/m.xml")),
        ("https://a.example/l.xml, /m.xml", ("https://a.example/l.xml", "/m.xml")),
        ("<https://a.example/l.xml>", ("https://a.example/l.xml",)),
        ('"https://a.example/l.xml"', ("https://a.example/l.xml",)),
        ("MIT", ()),
        ("see https://a.example/l.xml", ()),
        ("", ()),
    ],
)
def test_the_addresses_of_licences_are_taken_out_of_a_line(value: str, expected: tuple[str, ...]) -> None:
    assert parse_robots(200, f"License: {value}\n".encode(), TOKENS).licenses == expected
