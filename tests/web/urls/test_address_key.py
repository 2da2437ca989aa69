"""Spellings of addresses in: one key for those that mean the same picture, another one for those that do not."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laion_dask.web.urls import address_key

PICTURE = "https://a.example/p/~b(1).jpg?x=1"


@pytest.mark.parametrize(
    "spelling",
    [
        "http://a.example/p/~b(1).jpg?x=1",
        "HTTPS://A.Example/p/~b(1).jpg?x=1",
        "https://a.example/p/~b(1).jpg?x=1#top",
        "https://a.example/p/~b(1).jpg?x=1#",
        "https://reader@a.example/p/~b(1).jpg?x=1",
        "https://reader:word@a.example/p/~b(1).jpg?x=1",
        "https://a.example./p/~b(1).jpg?x=1",
        "https://a.example:443/p/~b(1).jpg?x=1",
        "http://a.example:80/p/~b(1).jpg?x=1",
        "http://a.example:443/p/~b(1).jpg?x=1",
        "https://a.example:/p/~b(1).jpg?x=1",
        "https://a.example/p/%7Eb(1).jpg?x=1",
        "https://a.example/p/%7eb(1).jpg?x=1",
        "https://a.example/p/~b%281%29.jpg?x=1",
        "https://a.example/q/../p/./~b(1).jpg?x=1",
        "https:\\\\a.example\\p\\~b(1).jpg?x=1",
        " https://a.example/p/~b(1).jpg?x=1\n",
        "http://reader@A.EXAMPLE.:80/p/%7eb%281).jpg?%78=1#top",
    ],
)
def test_every_spelling_of_one_picture_has_one_key(spelling: str) -> None:
    assert address_key.key(spelling) == address_key.key(PICTURE)
    assert address_key.digest(spelling) == address_key.digest(PICTURE)
    assert address_key.host(spelling) == "a.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.example/1.jpg", "http://a.example/1.jpg?"),
        ("http://a.example/1.jpg", "http://a.example/1.jpg?#x"),
        ("http://a.example", "https://a.example/"),
        ("http://bücher.example/é.jpg", "https://xn--bcher-kva.example./%c3%a9.jpg"),
        ("http://127.0.0.1/1.jpg", "http://0x7f.1/1.jpg"),
        ("http://[2001:DB8::1]/1.jpg", "http://[2001:db8:0:0:0:0:0:1]:80/1.jpg"),
        ("http://a.example/[1]|2^.jpg", "http://a.example/%5B1%5d%7C2%5E.jpg"),
        ("http://a.example/x?u=http%3A%2f%2fb.example%2F", "http://a.example/x?u=http://b.example/"),
        ("ftp://U@A.example:21/1%7e.jpg", "ftp://a.example/1~.jpg#x"),
        ("http://a.example/1.jpg", "//a.example/1.jpg"),
        ("http://a.example/100%.jpg?%", "http://a.example/100%25.jpg?%25"),
        ("http://a.example/%%41a", "http://a.example/%25Aa"),
    ],
)
def test_what_is_written_in_another_way_is_the_same(one: str, other: str) -> None:
    assert address_key.key(one) == address_key.key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.example/1.jpg", "http://a.example/1.JPG"),
        ("http://a.example/1.jpg", "http://www.a.example/1.jpg"),
        ("http://a.example/1.jpg", "http://a.example:8080/1.jpg"),
        ("http://a.example/1.jpg", "http://a.example/1.jpg/"),
        ("http://a.example/a/b.jpg", "http://a.example/a%2Fb.jpg"),
        ("http://a.example/a;b.jpg", "http://a.example/a%3Bb.jpg"),
        ("http://a.example/%25.jpg", "http://a.example/%2525.jpg"),
        ("http://a.example/x?a=1&b=2", "http://a.example/x?a=1%26b=2"),
        ("http://a.example/x?a=1&b=2", "http://a.example/x?b=2&a=1"),
        ("http://a.example/x?a=1+2", "http://a.example/x?a=1%2B2"),
        ("ftp://a.example/1.jpg", "http://a.example/1.jpg"),
        ("http://a.example:8443/1.jpg", "https://a.example/1.jpg"),
    ],
)
def test_what_may_be_another_picture_has_another_key(one: str, other: str) -> None:
    assert address_key.key(one) != address_key.key(other)


@pytest.mark.parametrize("text", ["", "no url", "mailto:reader@a.example", "http://", "http://[::1", "a.example/1.jpg"])
def test_what_is_no_url_is_its_own_key(text: str) -> None:
    assert address_key.key(text) == text
    assert address_key.spellings(text)[0] == text


def test_a_digest_has_16_bytes_however_long_the_address_is() -> None:
    assert len(address_key.digest(f"https://a.example/{'x' * 100_000}")) == 16
    assert address_key.digest("\ud800")


def test_the_spellings_of_an_address_are_those_that_a_partner_may_have_hashed() -> None:
    found = address_key.spellings("https://me@a.example/%7eb.jpg#top")
    assert found[0] == "https://me@a.example/%7eb.jpg#top"
    assert set(found) >= {
        "https://me@a.example/%7eb.jpg",
        "http://a.example/%7eb.jpg#top",
        "http://a.example/~b.jpg",
        "http://a.example/%7Eb.jpg",
        "https://a.example./~b.jpg",
        "https://a.example/~b.jpg?",
    }
    assert "http://bücher.example/é.jpg" in address_key.spellings("https://xn--bcher-kva.example/%C3%A9.jpg")


HOSTS = [
    "a.example",
    "b-c.a.example",
    "A.example",
    "a_.e1",
    "1.2.3.4",
    "a.example.",
    "u:w@a.example",
    "a.example:80",
    "u:8@0x7f.1.",
    "0x7f.1",
    "a.example..:8",
]
PIECES = [*"ab./?#;:@&=+%~'()[]|-_!,*$ <\\", "%7e", "%2F", "%2e", "%41", "..", "//", "é", "%C3%A9", "%c3", "\t"]
ADDRESSES = st.builds(
    lambda scheme, host, rest: f"{scheme}://{host}/{''.join(rest)}",
    st.sampled_from(["http", "https"]),
    st.sampled_from(HOSTS),
    st.lists(st.sampled_from(PIECES), max_size=10),
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@example("http://a.example/%%41a")
@given(ADDRESSES)
def test_all_spellings_have_the_key_of_their_address_and_a_key_is_its_own(url: str) -> None:
    key = address_key.key(url)
    assert {address_key.key(spelling) for spelling in address_key.spellings(url)} == {key}
    assert {address_key.host(spelling) for spelling in address_key.spellings(url)} == {address_key.host(url)}
    assert address_key.key(key) == key


@settings(max_examples=500, deadline=None)
@given(ADDRESSES)
def test_a_host_that_is_read_without_parsing_is_the_one_of_the_address(url: str) -> None:
    found = pc.struct_field(pc.extract_regex(pa.array([url]), pattern=address_key.PLAIN_HOST), "host").to_pylist()[0]
    plain = found is not None and not re.search(address_key.NUMBER_HOST, found.rstrip("."))
    assert not plain or found.rstrip(".") == address_key.host(url)
    assert address_key.host(address_key.key(url)) == address_key.host(url)


@settings(max_examples=500, deadline=None)
@given(ADDRESSES)
def test_the_short_way_for_plain_addresses_gives_what_the_long_way_gives(url: str) -> None:
    spellings, key = set(address_key.spellings(url)), address_key.key(url)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(address_key, "_PLAIN", address_key._ESCAPE)  # noqa: SLF001 - it matches no address
        assert set(address_key.spellings(url)) == spellings
        assert address_key.key(url) == key
