"""What hosts, responses and pages say in: decisions out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask import params
from laion_dask.schema.values import SIGNALS
from laion_dask.web.rights import decision as rights
from laion_dask.web.rights import pages
from laion_dask.web.rights.decision import SILENT, Decision, Policy, utc
from laion_dask.web.rights.headers import decide_response
from laion_dask.web.rights.pages import page_signals
from laion_dask.web.rights.tdmrep import parse_tdmrep

TOKENS = ("MyBot", "CCBot")
POLICY = ("noai", "noimageai", "noml", "noindex", "noimageindex", "none")
STRICT = Policy(tokens=TOKENS, directives=POLICY)
IMAGE = "https://img.example/a/fox.jpg"


def answer(*headers: tuple[str, str], policy: Policy = STRICT, tdmrep: Decision = SILENT) -> Decision:
    """Decide by headers."""
    return decide_response(headers, policy, tdmrep)


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
    assert STRICT.binds(decision) is refuses
    assert decision.signal == ("x_robots_tag" if refuses else "")
    assert decision.rights == ("refused" if refuses else "unknown")
    if refuses:
        assert decision.evidence in lines
        assert decision.source == "x-robots-tag"


def test_the_policy_says_which_directives_refuse() -> None:
    def refuses(value: str, *directives: str) -> bool:
        policy = Policy(tokens=TOKENS, directives=directives)
        return policy.binds(answer(("x-robots-tag", value), policy=policy))

    assert not refuses("noindex", "noai")
    assert not refuses("none", "noai")
    assert refuses("none", "noindex")
    assert refuses("none", "none")
    assert refuses("noai", "NoAI")


@pytest.mark.parametrize(
    ("headers", "file", "rights_", "signal"),
    [
        ([], None, "unknown", ""),
        ([("tdm-reservation", "1")], None, "refused", "tdm_reservation"),
        ([("TDM-Reservation", " 1 ")], None, "refused", "tdm_reservation"),
        ([("tdm-reservation", "0")], None, "allowed", "tdm_reservation"),
        ([("tdm-reservation", "yes")], None, "unknown", "tdm_reservation"),
        ([("tdm-reservation", "1.0")], None, "unknown", "tdm_reservation"),
        ([("tdm-reservation", "")], None, "unknown", ""),
        ([("tdm-reservation", "0"), ("tdm-reservation", "what")], None, "unknown", "tdm_reservation"),
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
        ([("content-usage", "train-ai=N")], None, "unknown", "content_usage"),
        ([("content-usage", "Train-AI=n")], None, "unknown", ""),
        ([("content-usage", "train-ai")], None, "unknown", "content_usage"),
        ([("content-usage", "train-ai=y, train-ai=maybe")], None, "unknown", "content_usage"),
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
    policy = Policy(("content_usage",), tokens=TOKENS, directives=POLICY)
    headers = [("x-robots-tag", "noai"), ("content-usage", "train-ai=n")]
    decision = answer(*headers, policy=policy)
    assert (decision.signal, policy.binds(decision)) == ("content_usage", True)
    recorded = answer(*headers[:1], policy=policy)
    assert (recorded.rights, recorded.signal, policy.binds(recorded)) == ("refused", "x_robots_tag", False)


def test_the_strictest_decision_wins() -> None:
    refused, allowed = Decision("refused", "robots"), Decision("allowed", "tdm_reservation")
    unread = Decision("unknown", "content_usage")
    assert STRICT.strictest([]) == SILENT
    assert STRICT.strictest([SILENT, allowed]) == allowed
    assert STRICT.strictest([SILENT, Decision("allowed")]) == Decision("allowed")
    assert STRICT.strictest([allowed, unread]) == unread
    assert STRICT.strictest([allowed, refused, unread, SILENT]) == refused
    assert STRICT.strictest([Decision("refused", "content_usage"), refused]) == refused


def test_what_cannot_be_read_binds_where_the_policy_says_so() -> None:
    unread = Decision("unknown", "c2pa")
    refused = Decision("refused", "robots")
    assert Policy(unknown=("c2pa",)).binds(unread)
    assert not Policy().binds(unread)
    assert not Policy(("robots",), ("c2pa",)).binds(unread)
    assert not Policy(unknown=("c2pa",)).binds(SILENT)
    assert Policy(unknown=("c2pa",)).strictest([unread, refused]) == refused
    assert Policy(("c2pa",), ("c2pa",)).strictest([unread, refused]) == unread


def test_by_default_every_known_signal_binds_and_training_crawlers_speak_for_us(defaults: params.Params) -> None:
    policy = Policy.of(defaults.download)
    assert set(policy.binding) == set(SIGNALS)
    assert all(policy.binds(Decision("refused", signal)) for signal in SIGNALS)
    assert {"laion-dask", "CCBot", "GPTBot"} <= set(policy.tokens)
    assert policy.binds(answer(("X-Robots-Tag", "GPTBot: noai"), policy=policy))
    assert not policy.binds(answer(("X-Robots-Tag", "googlebot: noindex"), policy=policy))


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", "2015-10-21T07:28:00Z"),
        ("Wed, 21 Oct 2015 09:28:00 +0200", "2015-10-21T07:28:00Z"),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", "2015-10-21T07:28:00Z"),
        ("Wed Oct 21 07:28:00 2015", "2015-10-21T07:28:00Z"),
        ("yesterday", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("", None),
        (None, None),
    ],
)
def test_the_time_is_the_date_of_the_response(date: str | None, expected: str | None) -> None:
    assert utc(date) == expected
    headers = [("x-robots-tag", "noai"), *([("Date", date)] if date is not None else [])]
    assert answer(*headers).time == expected


def test_a_policy_of_the_owner_is_recorded_with_its_reservation() -> None:
    decision = answer(("tdm-reservation", "1"), ("tdm-policy", "https://x.example/tdm"))
    assert decision.evidence == "tdm-reservation: 1; tdm-policy: https://x.example/tdm"
    assert decision.source == "tdm-reservation"


def test_evidence_is_kept_as_received_and_short() -> None:
    decision = answer(("x-robots-tag", "noai, " + "ä\udc80" * 2000))
    assert len(decision.evidence) == rights.MAX_EVIDENCE_CHARS
    decision.evidence.encode("utf-8")


@given(st.lists(st.tuples(st.sampled_from(["X-Robots-Tag", "tdm-reservation", "Content-Usage", "Date"]), st.text())))
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
    remembered = pages._refusals_of.cache_info().currsize  # noqa: SLF001 - its memory is what matters
    for words in range(100):
        long = ", ".join(["index"] * (100 + words))
        assert page_signals([("x-robots-tag", f"{long}, noai")], [("robots", f"{long}, none")], POLICY) == (
            "header-x-robots-tag:noai",
            "meta-robots:none",
        )
    assert pages._refusals_of.cache_info().currsize == remembered  # noqa: SLF001
