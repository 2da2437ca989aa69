"""Content codings are undone in pieces of any size within a limit, and recorded bodies told from decoded ones."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Sequence

import brotli
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.web.warc import codings
from laion_dask.web.warc.codings import BodyDecoder, CodingError


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": lambda data: bytes(pa.Codec("zstd").compress(data, asbytes=True)),
}
NOISE = random.Random(1).randbytes(300_000)
BODIES = st.binary(max_size=500) | st.sampled_from([b"", b";", bytes(200_000), NOISE, b"<html>" * 9_000])
NAMES = st.lists(st.sampled_from(sorted(PACKERS)), max_size=3)


def pack(names: Sequence[str], body: bytes) -> bytes:
    for name in names:
        body = PACKERS[name](body)
    return body


def unpack(names: Sequence[str], data: bytes, most: int, piece: int) -> BodyDecoder:
    decoder = BodyDecoder(names, most)
    for begin in range(0, len(data), piece):
        decoder.feed(data[begin : begin + piece])
        if decoder.full:
            return decoder
    decoder.finish()
    return decoder


@settings(max_examples=60, deadline=None)
@given(NAMES, BODIES, st.sampled_from([1, 7, 1_000, 70_000, 1_000_000]))
def test_any_list_of_codings_is_undone_in_reverse_in_pieces_of_any_size(
    names: list[str], body: bytes, piece: int
) -> None:
    data = pack(names, body)
    assert unpack(names, data, 1_000_000, max(piece, len(data) // 500)).body == body


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKERS)
def test_no_more_is_unpacked_than_a_piece_behind_the_limit(name: str) -> None:
    decoder = unpack([name], PACKERS[name](bytes(50_000_000)), 100_000, 4_000)
    assert decoder.full
    assert 100_000 < len(decoder.body) <= 100_000 + 2 * 65_536


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ([("Content-Encoding", "gzip")], ("gzip",)),
        ([("content-encoding", " GZip , BR ")], ("gzip", "br")),
        ([("Content-Encoding", "gzip"), ("X", "y"), ("Content-Encoding", "br")], ("gzip", "br")),
        ([("Content-Encoding", "identity")], ()),
        ([("Content-Encoding", "identity, gzip,,")], ("gzip",)),
        ([("Content-Type", "gzip")], ()),
    ],
)
def test_codings_are_named_as_headers_list_them(headers: list[tuple[str, str]], names: tuple[str, ...]) -> None:
    assert codings.names(headers) == names


@pytest.mark.parametrize("names", [["utf-8"], ["compress"], ["gzip", "rot13"], ["aes128gcm", "gzip"], ["gzip"] * 9])
def test_bytes_in_a_coding_that_is_not_known_stay_as_they_are(names: list[str]) -> None:
    data = gzip.compress(b"abc")
    assert unpack(names, data, 1_000, 10).body == data
    if len(names) < 9:
        assert codings.remaining(names, data) == tuple(names)


@pytest.mark.parametrize("name", PACKERS)
def test_other_bytes_are_an_error(name: str) -> None:
    for data in (b"\xff\xd8\xff\xe0 no coding", b"\x89PNG\r\n\x1a\n" * 40, b"<!doctype html><title>no</title>"):
        with pytest.raises(CodingError):
            unpack([name], data, 1_000, 5)


def test_gzip_members_that_hold_nothing_do_not_cost_time_for_ever() -> None:
    with pytest.raises(CodingError, match="next to nothing"):
        unpack(["gzip"], gzip.compress(b"") * 100_000, 10_000_000, 65_536)
    many = b"".join(gzip.compress(NOISE[begin : begin + 1_000]) for begin in range(0, len(NOISE), 1_000))
    assert unpack(["gzip"], many, 1_000_000, 65_536).body == NOISE


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(NAMES, BODIES)
def test_a_recorded_body_has_the_codings_that_were_not_undone(names: list[str], body: bytes) -> None:
    for undone in range(len(names) + 1):
        left = names[: len(names) - undone]
        found = codings.remaining(names, pack(left, body))
        # A body of a few bytes may itself be what a coding without a mark gives for nothing.
        assert found == tuple(left) or (len(body) < 600 and unpack(found, pack(left, body), 10**6, 10**6).ended)


MARKED = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0\0\x10JFIF",
    b"GIF89a",
    b"RIFF\x24\0\0\0WEBPVP8 ",
    b"\0\0\0\x1cftypavif",
]
SAID = [
    b"User-agent: *\nDisallow:\n",
    b"<!doctype html>",
    b"<svg xmlns=",
    b"{}",
    b"BM",
    b"II*\0",
    b"[]",
    b"K\n",
    b"7 bits",
]


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("start", [*MARKED, *SAID])
@pytest.mark.parametrize("size", [0, 10, 1_000, 300_000])
def test_a_body_that_was_stored_decoded_is_never_taken_for_coded(name: str, start: bytes, size: int) -> None:
    body = start + NOISE[:size]
    assert codings.remaining([name], body) == ()
    assert codings.remaining([name], PACKERS[name](body)) == (name,)
