"""robots.txt in, decisions out: RFC 9309, AIPREF and Content Signals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.rights import Decision, Policy
from laion_dask.robots import parse_robots

TOKENS = ("MyBot", "CCBot")
STRICT = Policy()
IMAGE = "https://img.example/a/fox.jpg"


def robots(text: str, url: str = IMAGE, tokens: tuple[str, ...] = TOKENS, ai_tokens: tuple[str, ...] = ()) -> Decision:
    """Ask a robots.txt."""
    return parse_robots(200, text.encode(), tokens, ai_tokens).decide(url, STRICT)


@pytest.mark.parametrize(
    ("status", "rights_", "signal"),
    [
        (200, "refused", "robots"),
        (206, "refused", "robots"),
        (301, "allowed", ""),
        (400, "allowed", ""),
        (401, "allowed", ""),
        (403, "allowed", ""),
        (404, "allowed", ""),
        (410, "allowed", ""),
        (429, "refused", "robots"),
        (500, "refused", "robots"),
        (503, "refused", "robots"),
        (0, "refused", "robots"),
    ],
)
def test_the_status_of_robots_txt_decides_first(status: int, rights_: str, signal: str) -> None:
    decision = parse_robots(status, b"User-agent: *\nDisallow: /", TOKENS).decide(IMAGE, STRICT)
    assert (decision.rights, decision.signal) == (rights_, signal)
    assert decision.evidence or rights_ == "allowed"


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
