"""What hosts, responses and pages say in: decisions out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask import rights
from laion_dask.rights import Decision, decide_response, page_signals, parse_robots, parse_tdmrep, strictest

TOKENS = ("MyBot", "CCBot")
POLICY = ("noai", "noimageai", "noml", "noindex", "noimageindex", "none")
IMAGE = "https://img.example/a/fox.jpg"


def answer(*headers: tuple[str, str], policy: tuple[str, ...] = POLICY, tdmrep: Decision | None = None) -> Decision:
    """Decide by headers."""
    return decide_response(headers, tokens=TOKENS, directives=policy, tdmrep=tdmrep or Decision())


@pytest.mark.parametrize(
    ("lines", "refuses"),
    [
        # The table of cases that other tools miss (img2dataset 1.47, datadiligence 0.1.7).
        (["noai"], True),
        ([" noimageai "], True),
        (["NOAI"], True),
        (["max-image-preview:large, noai"], True),
        (["noai, max-image-preview:large"], True),
        (["none"], True),
        (["noml"], True),
        (["noai;"], True),
        (["noai noimageai"], True),
        (["MyBot: noai"], True),
        (["mybot: noai"], True),
        (["MyBot : noai"], True),
        (["googlebot: noindex, MyBot: noai"], True),
        (["otherbot: noai"], False),
        (["otherbot: noindex, noai"], False),
        (["nofollow", "MyBot: noai"], True),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], False),
        (["all"], False),
        (["index, follow, max-snippet:-1"], False),
        # And others.
        ([""], False),
        ([" , ,"], False),
        (["noindex"], True),
        (["noimageindex"], True),
        (["nofollow, nosnippet, notranslate"], False),
        (["noai, all"], True),
        (["all", "noai"], True),
        (["CCBot: noai"], True),
        (["ccbot/2.0: noai"], True),
        (["*: noai"], True),
        (["*: all, otherbot: noai"], False),
        (["otherbot: noai", "noai"], True),
        (["otherbot: all, MyBot: noai, otherbot: noindex"], True),
        (["otherbot: noindex, *: noai"], True),
        (["max-image-preview: none"], False),
        (["max-image-preview:none, noai"], True),
        (["max-snippet:0 noai"], True),
        (["unavailable_after: Sat, 25 Jun 2010 15:00:00 GMT, noai"], True),
        (["unavailable_after: 2010-06-25T15:00:00Z, noai"], True),
        (["otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], False),
        (["MyBot: unavailable_after: 25 Jun 2010 15:00:00 PST"], False),
        (["MyBot: max-image-preview: none"], False),
        (["noai: true"], True),
        (['"noai"'], True),
        (["noaiprobably"], False),
        (["no-ai"], False),
        (["MyBotX: noai"], False),
        ([":noai"], True),
    ],
)
def test_x_robots_tag_is_read_by_its_grammar(lines: list[str], refuses: bool) -> None:  # noqa: FBT001
    decision = answer(*(("X-Robots-Tag", line) for line in lines))
    assert decision.binds() is refuses
    assert decision.signal == ("x_robots_tag" if refuses else "")
    assert decision.rights == ("refused" if refuses else "unknown")
    if refuses:
        assert decision.evidence in lines


def test_the_policy_says_which_directives_refuse() -> None:
    assert not answer(("x-robots-tag", "noindex"), policy=("noai",)).binds()
    assert not answer(("x-robots-tag", "none"), policy=("noai",)).binds()
    assert answer(("x-robots-tag", "none"), policy=("noindex",)).binds()
    assert answer(("x-robots-tag", "none"), policy=("none",)).binds()
    assert answer(("x-robots-tag", "noai"), policy=("NoAI",)).binds()


@pytest.mark.parametrize(
    ("headers", "file", "rights_", "signal"),
    [
        ([], None, "unknown", ""),
        ([("tdm-reservation", "1")], None, "refused", "tdm_reservation"),
        ([("TDM-Reservation", " 1 ")], None, "refused", "tdm_reservation"),
        ([("tdm-reservation", "0")], None, "allowed", "tdm_reservation"),
        ([("tdm-reservation", "yes")], None, "unknown", ""),
        ([("tdm-reservation", "1.0")], None, "unknown", ""),
        ([("tdm-reservation", "0"), ("tdm-reservation", "1")], None, "refused", "tdm_reservation"),
        ([], 1, "refused", "tdmrep"),
        ([], 0, "allowed", "tdmrep"),
        ([("tdm-reservation", "0")], 1, "allowed", "tdm_reservation"),
        ([("tdm-reservation", "1")], 0, "refused", "tdm_reservation"),
        ([("tdm-reservation", "what")], 1, "refused", "tdmrep"),
        ([("tdm-reservation", "0"), ("x-robots-tag", "noai")], 1, "refused", "x_robots_tag"),
        ([("tdm-policy", "https://x.example/")], 1, "refused", "tdmrep"),
        ([("content-usage", "train-ai=n")], None, "refused", "content_usage"),
        ([("Content-Usage", "search=y, train-ai=n;exp=1")], None, "refused", "content_usage"),
        ([("content-usage", "train-ai=y")], None, "allowed", "content_usage"),
        ([("content-usage", "train-ai=y"), ("content-usage", "train-ai=n")], None, "refused", "content_usage"),
        ([("content-usage", "train-ai=N")], None, "unknown", ""),
        ([("content-usage", "Train-AI=n")], None, "unknown", ""),
        ([("content-usage", "train-ai")], None, "unknown", ""),
        ([("content-usage", "search=n")], None, "unknown", ""),
        ([("content-usage", "train-ai=n"), ("tdm-reservation", "0")], 1, "refused", "content_usage"),
    ],
)
def test_headers_and_the_tdm_file_together(
    headers: list[tuple[str, str]],
    file: int | None,
    rights_: str,
    signal: str,
) -> None:
    rules = [{"location": "/", "tdm-reservation": file}] if file is not None else []
    decision = answer(*headers, tdmrep=parse_tdmrep(200, json.dumps(rules).encode()).decide(IMAGE))
    assert (decision.rights, decision.signal) == (rights_, signal)


def test_a_refusal_that_binds_comes_before_one_that_is_only_recorded() -> None:
    headers = [("x-robots-tag", "noai"), ("content-usage", "train-ai=n")]
    decision = decide_response(headers, tokens=TOKENS, directives=POLICY, binding=("content_usage",))
    assert (decision.signal, decision.binds(("content_usage",))) == ("content_usage", True)
    recorded = decide_response(headers[:1], tokens=TOKENS, directives=POLICY, binding=("content_usage",))
    assert (recorded.rights, recorded.signal, recorded.binds(("content_usage",))) == ("refused", "x_robots_tag", False)


def test_the_strictest_decision_wins() -> None:
    refused, allowed = Decision("refused", "robots"), Decision("allowed", "tdm_reservation")
    assert strictest([]) == Decision()
    assert strictest([Decision(), allowed]) == allowed
    assert strictest([allowed, refused, Decision()]) == refused
    assert strictest([Decision("refused", "content_usage"), refused]) == refused


def test_evidence_is_kept_as_received_and_short() -> None:
    decision = answer(("x-robots-tag", "noai, " + "ä\udc80" * 2000))
    assert len(decision.evidence) == rights.MAX_EVIDENCE_CHARS
    decision.evidence.encode("utf-8")


@given(st.lists(st.tuples(st.sampled_from(["X-Robots-Tag", "tdm-reservation", "Content-Usage"]), st.text())))
def test_no_header_crashes_the_decision(headers: list[tuple[str, str]]) -> None:
    assert answer(*headers).rights in {"allowed", "refused", "unknown"}
    page_signals(headers, headers, POLICY)


@pytest.mark.parametrize(
    ("headers", "metas", "expected"),
    [
        ([], [], ()),
        ([], [("robots", "noai")], ("meta-robots:noai",)),
        ([], [("ROBOTS", "INDEX, NoImageAI")], ("meta-robots:noimageai",)),
        ([], [("robots", "noindex,nofollow")], ("meta-robots:noindex",)),
        ([], [("robots", "noindex nofollow")], ("meta-robots:noindex",)),
        ([], [("robots", "max-image-preview:none")], ()),
        ([], [("robots", "index, follow, max-snippet:-1, max-image-preview:large")], ()),
        ([], [("googlebot", "noai")], ()),
        ([], [("ccbot", "noai")], ("meta-robots:noai",)),
        ([], [("description", "noai")], ()),
        ([], [("tdm-reservation", "1")], ("tdm-reservation:meta",)),
        ([], [("tdm-reservation", "0")], ()),
        ([], [("tdm-reservation", "1;")], ()),
        ([("X-Robots-Tag", "noimageai")], [], ("header-x-robots-tag:noimageai",)),
        ([("x-robots-tag", "googlebot: noai")], [], ()),
        ([("x-robots-tag", "googlebot: noindex, laion-dask: noai")], [], ("header-x-robots-tag:noai",)),
        ([("x-robots-tag", "unavailable_after: 25 Jun 2010 15:00:00 PST")], [], ()),
        ([("tdm-reservation", "1")], [], ("tdm-reservation:header",)),
        ([("content-usage", "train-ai=n")], [], ("content-usage:train-ai=n",)),
        ([("content-usage", "train-ai=y")], [], ()),
        # A header with several values, and several headers
        ([("Content-Usage", "search=y, train-ai=n")], [], ("content-usage:train-ai=n",)),
        ([("content-usage", "train-ai=y"), ("content-usage", "train-ai=n")], [], ("content-usage:train-ai=n",)),
        ([("content-usage", "train-ai=n;exp=1")], [], ("content-usage:train-ai=n",)),
        ([("content-usage", "search=n")], [], ()),
        ([("content-usage", "Train-AI=n")], [], ()),
        ([("x-robots-tag", "index"), ("x-robots-tag", "noai")], [], ("header-x-robots-tag:noai",)),
        # AIPREF defines a header and a line of robots.txt, no meta.
        ([], [("Content-Usage", "train-ai=n")], ()),
        # X-Robots-Tag as http-equiv
        ([], [("X-Robots-Tag", "noai")], ("meta-robots:noai",)),
        ([], [("x-robots-tag", "googlebot: noai")], ()),
        ([], [(" Robots ", " NONE ")], ("meta-robots:none",)),
        ([], [("robots", "noarchive, noodp"), ("googlebot", "noindex"), ("robots", "noai;")], ("meta-robots:noai",)),
        ([], [("laion-dask", "noindex, noimageindex")], ("meta-robots:noimageindex", "meta-robots:noindex")),
        ([], [("fb:robots", "noai"), ("st:robots", "noindex")], ()),
        # TDMRep: a meta supersedes the header, absence does not; a policy alone is no reservation.
        ([("tdm-reservation", "1")], [("tdm-reservation", "0")], ()),
        ([("tdm-reservation", "0")], [("tdm-reservation", "1")], ("tdm-reservation:meta",)),
        ([("tdm-reservation", "1")], [("tdm-reservation", "1")], ("tdm-reservation:meta",)),
        ([("tdm-reservation", "1")], [("tdm-reservation", "what")], ("tdm-reservation:header",)),
        ([("tdm-reservation", "0"), ("tdm-reservation", "1")], [], ("tdm-reservation:header",)),
        ([], [("tdm-reservation", "0"), ("tdm-reservation", " 1 ")], ("tdm-reservation:meta",)),
        ([("tdm-policy", "https://x.example/")], [("tdm-policy", "https://x.example/")], ()),
        ([("tdm-reservation", "0")], [("robots", "noai")], ("meta-robots:noai",)),
        ([], [("rights", "all rights reserved"), ("copyright", "noai"), ("dc.rights", "noai")], ()),
        (
            [("tdm-reservation", "1"), ("X-Robots-Tag", "noai")],
            [("robots", "noai, none"), ("robots", "noai")],
            ("header-x-robots-tag:noai", "meta-robots:noai", "meta-robots:none", "tdm-reservation:header"),
        ),
    ],
)
def test_pages_reserve_their_rights(
    headers: list[tuple[str, str]],
    metas: list[tuple[str, str]],
    expected: tuple[str, ...],
) -> None:
    assert page_signals(headers, metas, POLICY) == expected


def test_the_policy_and_the_tokens_decide_for_pages_too() -> None:
    metas = [("robots", "noindex"), ("mybot", "noai")]
    assert page_signals([], metas, ("noai",)) == ()
    assert page_signals([], metas, POLICY) == ("meta-robots:noindex",)
    assert page_signals([], metas, POLICY, TOKENS) == ("meta-robots:noai", "meta-robots:noindex")
    assert page_signals([], metas, list(POLICY), set(TOKENS)) == ("meta-robots:noai", "meta-robots:noindex")


def test_long_values_are_read_like_short_ones_and_not_remembered() -> None:
    remembered = rights._refusals_of.cache_info().currsize  # noqa: SLF001 - its memory is what matters
    for words in range(100):
        long = ", ".join(["index"] * (100 + words))
        assert page_signals([("x-robots-tag", f"{long}, noai")], [("robots", f"{long}, none")], POLICY) == (
            "header-x-robots-tag:noai",
            "meta-robots:none",
        )
    assert rights._refusals_of.cache_info().currsize == remembered  # noqa: SLF001


def robots(text: str, url: str = IMAGE, tokens: tuple[str, ...] = TOKENS) -> Decision:
    """Ask a robots.txt."""
    return parse_robots(200, text.encode(), tokens).decide(url)


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
    decision = parse_robots(status, b"User-agent: *\nDisallow: /", TOKENS).decide(IMAGE)
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
    assert decision.binds() is refuses
    assert decision.signal == ("content_usage" if refuses else "robots")


def test_a_disallow_comes_before_a_usage_rule() -> None:
    text = "User-agent: *\nDisallow: /\nContent-Usage: train-ai=n"
    assert robots(text).signal == "robots"
    rules = parse_robots(200, text.encode(), TOKENS)
    assert rules.decide(IMAGE, binding=("content_usage",)).signal == "content_usage"


def test_only_the_first_500_kib_of_robots_txt_count() -> None:
    padding = "# padding\n" * 60_000
    assert robots("User-agent: *\nDisallow: /\n" + padding).binds()
    assert not robots(padding + "User-agent: *\nDisallow: /\n").binds()


def test_crawl_delay_is_the_longest_that_is_asked_of_us() -> None:
    text = b"User-agent: MyBot\nCrawl-delay: 2\n\nUser-agent: *\nCrawl-delay: 5.5\n\nUser-agent: x\nCrawl-delay: 60"
    assert parse_robots(200, text, TOKENS).crawl_delay_s == 5.5
    assert parse_robots(404, b"", TOKENS).crawl_delay_s == 0.0


@given(st.binary(max_size=300) | st.text().map(lambda text: f"User-agent: *\n{text}".encode("utf-8", "replace")))
def test_no_robots_txt_crashes(body: bytes) -> None:
    assert parse_robots(200, body, TOKENS).decide(IMAGE).rights in {"allowed", "refused"}


@pytest.mark.parametrize(
    ("rules", "rights_"),
    [
        ([], "unknown"),
        ([{"location": "/", "tdm-reservation": 1}], "refused"),
        ([{"location": "/", "tdm-reservation": 0}], "allowed"),
        ([{"location": "/", "tdm-reservation": 2}], "unknown"),
        ([{"location": "/", "tdm-reservation": "1"}], "unknown"),
        ([{"location": "/", "tdm-reservation": True}], "unknown"),
        ([{"location": "/a/*.jpg", "tdm-reservation": 1, "tdm-policy": "https://x.example/p"}], "refused"),
        ([{"location": "/a/*.jpg$", "tdm-reservation": 1}], "refused"),
        ([{"location": "/a/*.png", "tdm-reservation": 1}], "unknown"),
        ([{"location": "/A/", "tdm-reservation": 1}], "unknown"),
        ([{"location": "/a/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], "allowed"),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/a/", "tdm-reservation": 0}], "refused"),
        ([{"location": "/a/", "tdm-reservation": None}, {"location": "/", "tdm-reservation": 1}], "unknown"),
        ([{"tdm-reservation": 1}], "unknown"),
        ([{"location": "/"}], "unknown"),
        ([7, None, {"location": 5, "tdm-reservation": 1}], "unknown"),
        ({"location": "/", "tdm-reservation": 1}, "unknown"),
        ({"policy": [{"location": "/", "tdm-reservation": 1}]}, "unknown"),
    ],
)
def test_tdmrep_is_an_array_of_rules_and_the_first_match_wins(rules: object, rights_: str) -> None:
    decision = parse_tdmrep(200, json.dumps(rules).encode()).decide(IMAGE)
    assert (decision.rights, decision.signal) == (rights_, "" if rights_ == "unknown" else "tdmrep")


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"[]"), (0, b""), (200, b""), (200, b"{"), (200, b"\xff"), (200, b"[" * 9999)]
)
def test_a_tdmrep_that_cannot_be_read_says_nothing(status: int, body: bytes) -> None:
    assert parse_tdmrep(status, body).decide(IMAGE) == Decision()
