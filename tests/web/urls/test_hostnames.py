"""Hosts in: well-formed or not, public or not, and the domain that somebody registered."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.web.urls import hostnames, ip_addresses, resolver


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example", True),
        ("a.example.", True),
        ("under_score.example", True),
        ("[2606:4700::1111]", True),
        ("", False),
        (".", False),
        ("a..example", False),
        (".example", False),
        (f"{'a' * 63}.example", True),
        (f"{'a' * 64}.example", False),
        ("a." * 59 + "b", True),
        ("a." * 60 + "b", False),
        ("abcdefgh." * 28 + "x", True),
        ("abcdefgh." * 28 + "xy", False),
    ],
)
def test_a_well_formed_host_has_the_lengths_that_a_resolver_accepts(host: str, *, expected: bool) -> None:
    assert hostnames.is_well_formed(host) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example", True),
        ("8.8.8.8", True),
        ("[2606:4700::1111]", True),
        ("localhost", False),
        ("localhost.", False),
        ("dev.localhost", False),
        ("printer.local", False),
        ("metadata.google.internal", False),
        ("router.home.arpa", False),
        ("intranet", False),
        ("127.0.0.1", False),
        ("127.0.0.1.", False),
        ("192.168.0.9", False),
        ("169.254.169.254", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("[64:ff9b::7f00:1]", False),
        ("[2002:7f00:1::]", False),
        ("", False),
    ],
)
def test_hosts_are_public_by_their_name_alone(host: str, *, expected: bool) -> None:
    assert hostnames.is_public_host(host) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example", True),
        ("A-1.Example.", True),
        ("xn--e1afmkfd.xn--p1ai", True),
        ("пример.рф", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("example", False),
        ("", False),
        (".", False),
        ("[::1", False),
        ("[a.example]", False),
        ("a..example", False),
        ("-a.example", False),
        ("a-.example", False),
        ("under_score.example", False),
        ("a b.example", False),
        ("a.example\\x", False),
        ("a.e", False),
        ("a.1", False),
        ("a.e1", False),
        ("127.0.0.256", False),
        ("127.1", False),
        (f"{'a' * 64}.example", False),
    ],
)
def test_names_are_valid_as_the_validator_of_laion_5b_is_documented(host: str, *, expected: bool) -> None:
    assert hostnames.is_dns_name(host) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_crashes_a_question_about_hosts(text: str) -> None:
    answers = [
        hostnames.is_well_formed(text),
        hostnames.is_dns_name(text),
        hostnames.is_public_host(text),
        ip_addresses.is_public_address(text),
    ]
    assert set(answers) <= {True, False}


def test_registrable_domains_follow_the_public_suffix_list(shared_data: Path) -> None:
    lines = (shared_data / "url" / "psl_tests_half.txt").read_text().splitlines()
    cases = [line.split() for line in lines if line.strip() and not line.startswith("//")]
    wrong = [
        (host, resolver.registrable_domain("" if host == "null" else host), expected)
        for host, expected in cases
        if resolver.registrable_domain("" if host == "null" else host) != ("" if expected == "null" else expected)
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
    assert resolver.registrable_domain(host) == expected
