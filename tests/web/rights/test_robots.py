"""robots.txt in, decisions out: RFC 9309, AIPREF and Content Signals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.texts.robots_txt import IMAGE, STRICT, TOKENS, robots

from laion_dask.web.rights.decision import Decision, Policy
from laion_dask.web.rights.robots import parse_robots


@pytest.mark.parametrize(
    ("status", "rights_", "signal"),
    [
        (200, "refused", "robots"),
        (201, "refused", "robots"),
        (203, "refused", "robots"),
        (206, "refused", "robots"),
        (226, "refused", "robots"),
        (299, "refused", "robots"),
        (300, "allowed", ""),
        (304, "allowed", ""),
        (301, "allowed", ""),
        (400, "allowed", ""),
        (401, "allowed", ""),
        (403, "allowed", ""),
        (404, "allowed", ""),
        (410, "allowed", ""),
        (402, "allowed", ""),
        (418, "allowed", ""),
        (451, "allowed", ""),
        (429, "refused", "robots"),
        (500, "refused", "robots"),
        (503, "refused", "robots"),
        (599, "refused", "robots"),
        (0, "refused", "robots"),
    ],
)
def test_the_status_of_robots_txt_decides_first(status: int, rights_: str, signal: str) -> None:
    decision = parse_robots(status, b"User-agent: *\nDisallow: /", TOKENS).decide(IMAGE, STRICT)
    assert (decision.rights, decision.signal) == (rights_, signal)
    assert decision.evidence == ("robots.txt is unreachable" if status == 0 else f"robots.txt answered {status}") or (
        200 <= status < 300
    )


@pytest.mark.parametrize(
    ("text", "rights_"),
    [
        ("", "allowed"),
        ("User-agent: *\nDisallow:", "allowed"),
        ("User-agent: *\nDisallow: /", "refused"),
        ("\ufeffUser-agent: *\nDisallow: /", "refused"),
        ("user-agent: ccbot\ndisallow: /a/", "refused"),
        ("User-agent: CCBot/2.0\nDisallow: /a/", "refused"),
        ("User-agent: CCBot (https://commoncrawl.org)\nDisallow: /a/", "refused"),
        ("User-agent: GPTBot\nDisallow: /", "allowed"),
        ("User-agent: MyBotX\nDisallow: /", "allowed"),
        ("User-agent: MyBot\nAllow: /\n\nUser-agent: *\nDisallow: /", "refused"),
        ("User-agent: MyBot\nUser-agent: CCBot\nAllow: /\n\nUser-agent: *\nDisallow: /", "allowed"),
        ("User-agent: *\nDisallow: /a/\nAllow: /a/fox", "allowed"),
        ("User-agent: *\nDisallow: /a/fox.jpg\nAllow: /a/fox.jpg", "allowed"),
        ("User-agent: *\nDisallow: /*.jpg$", "refused"),
        ("User-agent: *\nDisallow: /*.png$", "allowed"),
        ("User-agent: *\nDisallow: /A/", "allowed"),
        ("<html>not found</html>", "allowed"),
        ("User-agent: *\nDisallow: /b/\nUser-agent: *\nDisallow: /a/", "refused"),
        ("# User-agent: *\n# Disallow: /", "allowed"),
    ],
)
def test_robots_txt_is_read_by_rfc_9309(text: str, rights_: str) -> None:
    decision = robots(text)
    assert (decision.rights, decision.signal) == (rights_, "robots")


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("User-agent: *\nContent-Usage: train-ai=n", True),
        ("User-agent: *\nContent-Usage: train-ai=y", False),
        ("User-agent: *\nContent-Usage: search=n", False),
        ("User-agent: *\nAllow: /\nContent-Usage: /a/ train-ai=n", True),
        ("User-agent: *\nAllow: /\nContent-Usage: /b/ train-ai=n", False),
        ("User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /a/ train-ai=y", False),
        ("User-agent: *\nContent-Usage: train-ai=y\nContent-Usage: /a/*.jpg$ train-ai=n", True),
        ("User-agent: *\nContent-Usage: /a/ train-ai=y\nContent-Usage: /a/ train-ai=n", True),
        ("User-agent: *\nContent-Usage: /a/\ttrain-ai=n # ours", True),
        ("User-agent: otherbot\nContent-Usage: train-ai=n", False),
        ("User-agent: otherbot\nUser-agent: ccbot\nContent-Usage: train-ai=n", True),
        ("User-agent: otherbot\nAllow: /\nUser-agent: ccbot\nContent-Usage: train-ai=n", True),
        ("User-agent: *\nContent-Signal: ai-train=no, search=yes, ai-input=yes", True),
        ("User-Agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /", True),
        ("User-agent: *\nContent-Signal: ai-train=yes", False),
        ("User-agent: *\nContent-Signal: search=no", False),
        ("Content-Signal: ai-train=no\nUser-agent: *\nAllow: /", True),
        ("User-agent: MyBot\nUser-agent: CCBot\nAllow: /\nUser-agent: *\nContent-Signal: ai-train=no", False),
        ("User-agent: MyBot\nAllow: /\nUser-agent: *\nContent-Signal: ai-train=no", True),
        ("User-agent: *\nSitemap: https://x.example/s.xml\nContent-Signal: ai-train=no", True),
    ],
)
def test_usage_rules_of_robots_txt(text: str, refuses: bool) -> None:  # noqa: FBT001
    decision = robots(text)
    assert STRICT.binds(decision) is refuses
    used = "content_signal" if "Content-Signal" in text else "content_usage"
    assert decision.signal == (used if refuses else "robots")


def test_a_disallow_comes_before_a_usage_rule() -> None:
    text = "User-agent: *\nDisallow: /\nContent-Usage: train-ai=n"
    assert robots(text).signal == "robots"
    rules = parse_robots(200, text.encode(), TOKENS)
    assert rules.decide(IMAGE, Policy(("content_usage",))).signal == "content_usage"


def test_only_the_first_500_kib_of_robots_txt_count() -> None:
    padding = "# padding\n" * 60_000
    assert STRICT.binds(robots("User-agent: *\nDisallow: /\n" + padding))
    assert not STRICT.binds(robots(padding + "User-agent: *\nDisallow: /\n"))


def test_crawl_delay_is_the_longest_that_is_asked_of_us() -> None:
    text = b"User-agent: MyBot\nCrawl-delay: 2\n\nUser-agent: *\nCrawl-delay: 5.5\n\nUser-agent: x\nCrawl-delay: 60"
    assert parse_robots(200, text, TOKENS).crawl_delay_s == 5.5
    assert parse_robots(404, b"", TOKENS).crawl_delay_s == 0.0


@given(st.binary(max_size=300) | st.text().map(lambda text: f"User-agent: *\n{text}".encode("utf-8", "replace")))
def test_no_robots_txt_crashes(body: bytes) -> None:
    assert parse_robots(200, body, TOKENS).decide(IMAGE, STRICT).rights in {"allowed", "refused"}


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        # 2.1: line syntax; what is no rule is passed over, rules outside groups do not count.
        ("user-agent: MyBot\ndisallow: /\n", "/x", False),
        ("foo: MyBot\nbar: /\n", "/x", True),
        ("allow: /x\nuser-agent: MyBot\ndisallow: /\n", "/x", False),
        ("disallow: /\n", "/x", True),
        ("USER-AGENT: MyBot\nALLOW: /x/\nDISALLOW: /\n", "/x/y", True),
        ("uSeR-aGeNt: MyBot\naLLoW: /x/\ndIsAlLoW: /\n", "/y", False),
        # 2.2.1: groups of several names, merged where a name comes again; a name does not know case.
        ("user-agent: Other\nuser-agent: MyBot\ndisallow: /y\n", "/y", False),
        ("user-agent: Other\n\nuser-agent: MyBot\n\n\ndisallow: /y\n", "/y", False),
        (
            "user-agent: MyBot\ndisallow: /a\nuser-agent: Other\ndisallow: /b\nuser-agent: MyBot\ndisallow: /c",
            "/c",
            False,
        ),
        (
            "user-agent: MyBot\ndisallow: /a\nuser-agent: Other\ndisallow: /b\nuser-agent: MyBot\ndisallow: /c",
            "/b",
            True,
        ),
        ("user-agent: MYBOT\ndisallow: /\n", "/x", False),
        ("user-agent: MyBot/2.1 (+https://x.example)\ndisallow: /\n", "/x", False),
        ("user-agent: MyBot Images\ndisallow: /\n", "/x", False),
        ("user-agent: *\nallow: /\nuser-agent: MyBot\ndisallow: /\n", "/x", False),
        ("user-agent: *\ndisallow: /x\nuser-agent: MyBot\ndisallow: /y\n", "/x", True),
        ("user-agent: Other\ndisallow: /\n", "/x", True),
        ("user-agent: MyBot\nuser-agent: *\ndisallow: /x\n", "/x", False),
        # A group for a shorter or longer name is another's.
        ("user-agent: My\ndisallow: /\n", "/x", True),
        ("user-agent: MyBot-Images\ndisallow: /\n", "/x", True),
        ("user-agent: My\nallow: /\nuser-agent: *\ndisallow: /\n", "/x", False),
        ("user-agent: Bot\nallow: /\nuser-agent: *\ndisallow: /\n", "/x", False),
        # 2.2.2: case-sensitive paths, longest match, escapes.
        ("user-agent: MyBot\ndisallow: /X/\n", "/x/y", True),
        ("user-agent: MyBot\ndisallow: /x/page.html\nallow: /x/\n", "/x/page.html", False),
        ("user-agent: MyBot\nallow: /x/page.html\ndisallow: /x/\n", "/x/page.html", True),
        ("user-agent: MyBot\ndisallow: \nallow: \n", "/x", True),
        ("user-agent: MyBot\ndisallow: /x\nallow: /x/\n", "/x", False),
        ("user-agent: MyBot\ndisallow: /x\nallow: /x/\n", "/x/", True),
        ("user-agent: MyBot\nallow: /page\ndisallow: /*.html\n", "/page.html", False),
        ("user-agent: MyBot\nallow: /x/page.\ndisallow: /*.html\n", "/x/page.html", True),
        ("user-agent: MyBot\ndisallow: /\nallow: /a?b=c&d=http://e.example?f\n", "/a?b=c&d=http://e.example?f", True),
        ("user-agent: MyBot\ndisallow: /\nallow: /a/ツ\n", "/a/%E3%83%84", True),
        ("user-agent: MyBot\ndisallow: /\nallow: /a/%E3%83%84\n", "/a/ツ", True),
        ("user-agent: MyBot\ndisallow: /a/%62%61%7A\n", "/a/baz", False),
        ("user-agent: MyBot\ndisallow: /a%2Fb\n", "/a/b", True),
        ("user-agent: MyBot\ndisallow: /a?*\n", "/a?b", False),
        # 2.2.3: special characters.
        ("user-agent: MyBot\ndisallow: /a/b/c\nallow: /a/*/d\n", "/a/b/c", False),
        ("user-agent: MyBot\ndisallow: /a/b$\nallow: /a/b/d\n", "/a/b", False),
        ("user-agent: MyBot\ndisallow: /a/b$\nallow: /a/b/d\n", "/a/b/", True),
        ("user-agent: MyBot\n# disallow: /\ndisallow: /a#b\nallow: /\n", "/a", False),
        ("user-agent: MyBot\n# disallow: /\ndisallow: /a#b\nallow: /\n", "/c", True),
        ("user-agent: MyBot\nallow: /$\ndisallow: /\n", "/", True),
        ("user-agent: MyBot\nallow: /$\ndisallow: /\n", "/page", False),
        ("user-agent: MyBot\ndisallow: /*.php$\n", "/a.php?b", True),
        ("user-agent: MyBot\ndisallow: /*.php\n", "/a.php?b", False),
        ("user-agent: MyBot\ndisallow: /robots.txt\n", "/robots.txt", True),
        # Line ends: CR, LF, both, none at the end; others are characters.
        ("user-agent: MyBot\rdisallow: /\r", "/x", False),
        ("user-agent: MyBot\r\ndisallow: /\r\n", "/x", False),
        ("user-agent: MyBot\n\r\ndisallow: /", "/x", False),
        ("user-agent: MyBot\n# a\x85disallow: /\n", "/x", True),
        ("user-agent: MyBot\n# a\u2028disallow: /\n", "/x", True),
        # 2.2.4: other records do not part a group.
        ("user-agent: MyBot\nsitemap: https://x.example/s.xml\ndisallow: /\n", "/x", False),
        ("user-agent: MyBot\nunknown: 5\ndisallow: /\n", "/x", False),
    ],
)
def test_rfc_9309_line_by_line(text: str, path: str, allowed: bool) -> None:  # noqa: FBT001
    decision = robots(text, f"https://img.example{path}", ("MyBot",))
    assert decision.rights == ("allowed" if allowed else "refused")


@pytest.mark.parametrize(
    ("text", "refused_for"),
    [
        ("User-agent: GPTBot\nDisallow: /", "GPTBot"),
        ("User-agent: AI2Bot\nDisallow: /", "AI2Bot"),
        ("User-agent: AI2\nDisallow: /", ""),
        ("User-agent: gptbot\nUser-agent: CCBot\nDisallow: /", "CCBot"),
        ("User-agent: GPTBot\nAllow: /\nUser-agent: *\nDisallow: /", "MyBot"),
        ("User-agent: MyBot\nUser-agent: CCBot\nAllow: /\nUser-agent: *\nDisallow: /", "GPTBot"),
        ("User-agent: Applebot\nDisallow: /", ""),
        ("User-agent: Applebot\nAllow: /\nUser-agent: Applebot-Extended\nDisallow: /", "Applebot-Extended"),
        ("User-agent: GPTBot\nDisallow: /b/", ""),
        ("User-agent: GPTBot\nContent-Signal: ai-train=no", "content_signal"),
    ],
)
def test_a_refusal_of_a_training_crawler_is_meant_for_us(text: str, refused_for: str) -> None:
    decision = robots(text, ai_tokens=("GPTBot", "Applebot-Extended", "AI2Bot"))
    assert STRICT.binds(decision) is bool(refused_for)
    assert refused_for in f"{decision.signal} {decision.evidence}"
    # Without their names in the list the word is not ours, but for what everybody is told.
    if refused_for in {"GPTBot", "AI2Bot", "Applebot-Extended"} and "*" not in text:
        assert not STRICT.binds(robots(text))


def test_the_delay_of_another_crawler_is_not_ours() -> None:
    text = b"User-agent: GPTBot\nCrawl-delay: 60\n\nUser-agent: MyBot\nCrawl-delay: 2"
    assert parse_robots(200, text, ("MyBot",), ("GPTBot",)).crawl_delay_s == 2.0


def test_evidence_names_the_file_and_its_date() -> None:
    where, when = "https://img.example/robots.txt", "2015-10-21T07:28:00Z"
    text = b"User-agent: *\nDisallow: /b/\nContent-Usage: /a/ train-ai=n"
    rules = parse_robots(200, text, TOKENS, source=where, time=when)
    used, refused = rules.decide(IMAGE, STRICT), rules.decide("https://img.example/b/", STRICT)
    assert used == Decision("refused", "content_usage", "Content-Usage: /a/ train-ai=n", where, when)
    assert refused == Decision("refused", "robots", "robots.txt disallows the path for MyBot", where, when)
    down = parse_robots(503, b"", TOKENS, source=where, time=when).decide(IMAGE, STRICT)
    assert down == Decision("refused", "robots", "robots.txt answered 503", where, when)


@given(
    st.lists(
        st.tuples(st.sampled_from(["MyBot", "CCBot", "GPTBot", "Other", "*"]), st.sampled_from(["/", "/a/", "/b", ""]))
    )
)
def test_more_tokens_never_lift_a_refusal(groups: list[tuple[str, str]]) -> None:
    text = "\n".join(f"User-agent: {name}\nDisallow: {path}" for name, path in groups)
    if STRICT.binds(robots(text)):
        assert STRICT.binds(robots(text, ai_tokens=("GPTBot",)))
    each = [STRICT.binds(robots(text, tokens=(token,))) for token in ("MyBot", "CCBot", "GPTBot")]
    assert STRICT.binds(robots(text, ai_tokens=("GPTBot",))) is any(each)
