"""The small grammars: path patterns and licence addresses."""

from __future__ import annotations

import time

import pytest

from laion_dask.signals import creative_commons, matches, normal_path


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/x", True),
        ("", "/x", True),
        ("/a", "/ab", True),
        ("/a$", "/ab", False),
        ("/a$", "/a", True),
        ("/a*c", "/abbcd", True),
        ("/a*c$", "/abbcd", False),
        ("/a*c$", "/acbc", True),
        ("*", "/x", True),
        ("*$", "/x", True),
        ("/a**b", "/axb", True),
        ("/ab*b$", "/ab", False),
        ("/a?b=1", "/a?b=1&c", True),
        ("/%C3%A4", "/ä", True),
        ("/ä", "/%c3%a4", True),
        ("/%7Ea", "/~a", True),
        ("/a%2Fb", "/a/b", False),
    ],
)
def test_patterns_match_as_in_robots_txt(pattern: str, path: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(normal_path(pattern), normal_path(path)) is expected


def test_a_hostile_pattern_costs_no_time() -> None:
    start = time.monotonic()
    assert not matches("/" + "a*" * 5000 + "b$", "/" + "a" * 20_000)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "https://creativecommons.org/licenses/by-sa/4.0/"),
        ("http://creativecommons.org/licenses/by/4.0/?ref=chooser-v1", "https://creativecommons.org/licenses/by/4.0/"),
        ("//creativecommons.org/licenses/by-sa/3.0", "https://creativecommons.org/licenses/by-sa/3.0/"),
        (
            "http://www.creativecommons.org/licenses/BY-NC/4.0/deed.an",
            "https://creativecommons.org/licenses/by-nc/4.0/",
        ),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "https://creativecommons.org/licenses/by/4.0/"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode.de", "https://creativecommons.org/licenses/by/4.0/"),
        ("https://creativecommons.org/licenses/by/2.0/de/", "https://creativecommons.org/licenses/by/2.0/de/"),
        ("https://creativecommons.org/licenses/by/2.0/de/deed.en", "https://creativecommons.org/licenses/by/2.0/de/"),
        (
            "https://creativecommons.org/licenses/by/2.5/scotland/",
            "https://creativecommons.org/licenses/by/2.5/scotland/",
        ),
        ("http://creativecommons.org/licenses/publicdomain/", "https://creativecommons.org/licenses/publicdomain/"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("https://creativecommons.org/licenses/by/4.0/#x", "https://creativecommons.org/licenses/by/4.0/"),
        ("https://creativecommons.org/", ""),
        ("https://creativecommons.org/licenses/", ""),
        ("http://creativecommons.org/about/licenses/meet-the-licenses", ""),
        ("http://creativecommons.org/images/public/somerights20.png", ""),
        ("https://notcreativecommons.org/licenses/by/4.0/", ""),
        ("https://x.example/?u=https://creativecommons.org/licenses/by/4.0/", ""),
        ("", ""),
    ],
)
def test_creative_commons_licences_have_one_normal_form(url: str, expected: str) -> None:
    assert creative_commons(url) == expected
