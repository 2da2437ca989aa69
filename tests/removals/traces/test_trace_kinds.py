"""A trace is found in whatever kind of file it stands, and in whatever form it is written there."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import stat
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.texts import trace_cases
from made.texts.trace_cases import CASES, parquet

from laion_dask.removals.traces import trace_files, trace_forms, traces
from laion_dask.removals.traces.trace_search import BLOCK
from laion_dask.removals.traces.traces import Seen, Traces

URL: Final = "https://a.example/pictures/1.jpg?size=big&x=1"
TEXT: Final = "Ein roter Fuchs & ein Hund, müde"
DIGEST: Final = hashlib.sha256(b"as it came").hexdigest()
BODY: Final = b"\xff\xd8" + random.Random(1).randbytes(4000)
UID: Final = "0" * 31 + "1"
GONE: Final = Traces(
    frozenset({UID}),
    frozenset({URL}),
    frozenset({TEXT}),
    frozenset({DIGEST}),
    frozenset({hashlib.sha256(BODY).hexdigest()}),
    frozenset({trace_forms.sample_of(BODY)}),
    frozenset({"gone.example"}),
    frozenset({"https://a.example/pictures/1.jpg?size=big&x=12", f"{TEXT} am Abend", "https://sub.gone.example/page"}),
)
VALUES: Final = {"address": URL, "text": TEXT, "digest": DIGEST, "domain": "http://www.gone.example/any.png"}


def look(folder: Path, content: bytes, name: str = "file") -> tuple[str, Seen]:
    (folder / name).write_bytes(content)
    seen = Seen()
    return traces.look(folder / name, GONE, seen), seen


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("case", CASES)
def test_every_trace_is_found_in_every_kind_of_file(tmp_path: Path, case: str, value: str) -> None:
    found, seen = look(tmp_path, CASES[case](VALUES[value]))
    assert found, f"{value} in {case}: not found"
    assert not seen.unread


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_is_no_trace_in_any_kind_of_file(tmp_path: Path, case: str) -> None:
    for kept in sorted(GONE.kept):
        found, seen = look(tmp_path, CASES[case](kept))
        assert not found, f"{kept} in {case}: {found}"
        assert not seen.unread


@pytest.mark.parametrize(
    "make",
    [
        lambda body: body,
        lambda body: trace_cases.tar("a.jpg", body),
        trace_cases.zipped,
        lambda body: parquet(pa.array([body])),
        lambda body: parquet(pa.array([{"bytes": body, "path": None}])),
        lambda body: parquet(pa.array([list(body)], pa.list_(pa.uint8()))),
        lambda body: b"before" + body + b"behind",
        lambda body: b'{"image": "' + base64.b64encode(body) + b'"}',
        lambda body: b"<img src='data:image/jpeg;base64," + base64.b64encode(body).replace(b"/", b"%2F") + b"'>",
        lambda body: trace_cases.zipped(trace_cases.tar("a.jpg", body)),
        base64.encodebytes,
        lambda body: json.dumps({"image/png": base64.encodebytes(body).decode()}).encode(),
        lambda body: b"\r\n".join(re.findall(b".{1,64}", base64.b64encode(body))),
        base64.urlsafe_b64encode,
        lambda body: b"insert into t values (X'" + body.hex().encode() + b"');",
        lambda body: b"\\\\x" + body.hex().upper().encode(),
    ],
)
def test_a_stored_picture_is_found_as_a_file_of_any_name_and_inside_of_others(
    tmp_path: Path, make: Callable[[bytes], bytes]
) -> None:
    found, seen = look(tmp_path, make(BODY))
    assert "picture" in found
    assert not seen.unread
    assert look(tmp_path, make(random.Random(2).randbytes(4000)))[0] == ""


@pytest.mark.parametrize(
    ("url", "written", "is_one"),
    [
        ("http://a.example/1.png", "http://a.example/1.png?x=2", False),
        ("http://a.example/1.png", "http://a.example/1.png2", False),
        ("http://a.example/1.png", "http://a.example/1.png/more", False),
        ("http://a.example/1.png", "http://a.example/1.pnghttps://b.example/2.png", True),
        ("http://a.example/1.png", "http://ba.example/1.png", False),
        ("http://a.example/1.png", "http://b.a.example/1.png", False),
        ("http://a.example/1.png", "http://a.example/1.png?", True),
        ("http://a.example/1.png", "http://a.example/1.png#top", True),
        ("http://a.example/1.png", "https://a.example/1.png", True),
        ("http://a.example/1.png", "//a.example/1.png", True),
        ("http://a.example/1.png", "http://me:pass@a.example/1.png", True),
        ("http://a.example/1.png", "http://a.example./1.png", True),
        ("http://a.example/1.png", "http://a.example:80/1.png", True),
        ("http://a.example/1.png", "HTTP://A.Example/1.png", True),
        ("http://a.example/1.png", "http://a.example/%31.png", True),
        ("http://a.example/b%C3%BCcher.png", "http://a.example/bücher.png", True),
        ("http://xn--bcher-kva.example/1.png", "http://bücher.example/1.png", True),
        ("http://a.example/", "http://a.example", True),
        ("http://a.example/", "http://a.example/ and", True),
        ("http://a.example/", "http://a.example/robots.txt", False),
        ("http://a.example/", "http://a.example.org/", False),
    ],
)
def test_an_address_is_found_in_every_spelling_and_another_one_is_none(
    tmp_path: Path,
    url: str,
    written: str,
    is_one: bool,  # noqa: FBT001 - a table
) -> None:
    (tmp_path / "file").write_text(f"see {written}\n", encoding="utf-8")
    assert bool(traces.found_in(tmp_path / "file", Traces(urls=frozenset({url})))) is is_one


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        ("http://gone.example/", True),
        ("https://www.gone.example/1.png", True),
        ("http://me@gone.example:8080/1", True),
        ("http://gone.example", True),
        ("gone.example", False),
        ("http://bygone.example/", False),
        ("http://gone.example.org/", False),
        ("http://b.example/gone.example/", False),
    ],
)
def test_an_address_on_a_removed_domain_or_below_it_is_a_trace(
    tmp_path: Path,
    written: str,
    is_one: bool,  # noqa: FBT001 - a table
) -> None:
    assert bool(look(tmp_path, f"see '{written}'".encode())[0]) is is_one


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        ("the Homepage of all", False),
        ("Homepages", False),
        ("<b>Homepage</b>", True),
        ('"Homepage"', True),
        ("1,Homepage,2", True),
        ("Homepage", True),
    ],
)
def test_one_word_is_a_trace_only_where_it_stands_alone(tmp_path: Path, written: str, is_one: bool) -> None:  # noqa: FBT001
    (tmp_path / "file").write_text(written, encoding="utf-8")
    assert bool(traces.found_in(tmp_path / "file", Traces(texts=frozenset({"Homepage"})))) is is_one


def warc(value: str) -> bytes:
    """A response that its server has packed and sent in chunks, in a member of its own."""
    packed = trace_cases.gzip.compress(value.encode())
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (packed[:9], packed[9:])) + b"0\r\n\r\n"
    http = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:1>\r\nContent-Length: {len(http)}\r\n"
    head += "WARC-Target-URI: http://b.example/\r\nContent-Type: application/http; msgtype=response\r\n\r\n"
    return trace_cases.gzip.compress(head.encode() + http + b"\r\n\r\n")


def pdf(value: str) -> bytes:
    packed = trace_cases.zlib.compress(f"({value}) Tj".encode())
    head = f"%PDF-1.4\n1 0 obj\n<< /Filter /FlateDecode /Length {len(packed)} >>\nstream\n".encode()
    return head + packed + b"\nendstream\nendobj\n%%EOF\n"


@pytest.mark.parametrize(
    ("name", "make"),
    [("a.warc.gz", warc), ("a.pdf", pdf), ("a.txt.br", lambda value: trace_cases.packed(value, "brotli"))],
)
def test_what_a_server_a_printer_or_a_name_says_is_packed_is_unpacked(
    tmp_path: Path, name: str, make: Callable[[str], bytes]
) -> None:
    for value in VALUES.values():
        found, seen = look(tmp_path, make(value), name)
        assert found
        assert not seen.unread
    assert look(tmp_path, make("nothing"), name)[0] == ""


def encrypted_zip() -> bytes:
    body = bytearray(trace_cases.zipped(b"secret"))
    # The bit that says so, in the member's header and in the list at the end.
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    return bytes(body)


@pytest.mark.parametrize(
    "content",
    [
        trace_cases.gzip.compress(b"a" * 9999)[:-9],
        trace_cases.bz2.compress(random.Random(3).randbytes(9999))[:-99],
        trace_cases.lzma.compress(random.Random(3).randbytes(9999))[:-99],
        trace_cases.packed("a" * 9999, "zstd")[:-3],
        trace_cases.tar("a.txt", b"a" * 9999)[:4000],
        trace_cases.zipped(b"a" * 9999)[:-9],
        parquet(pa.array(["a"]))[:-9],
        trace_cases.sqlite("a")[:-4097],
        encrypted_zip(),
        b"7z\xbc\xaf\x27\x1c" + bytes(99),
        b"Rar!\x1a\x07\x01\x00" + bytes(99),
        b"PARE" + bytes(99),
        b"Salted__" + bytes(99),
        b"-----BEGIN PGP MESSAGE-----\n",
        b"\x89HDF\r\n\x1a\n" + bytes(99),
        b"\x02\x21\x4c\x18" + bytes(99),
        b"!<arch>\na.gz/",
        b"070701" + b"0" * 104,
        b"xar!" + bytes(99),
    ],
)
def test_what_cannot_be_read_is_named_on_its_own_and_inside_of_others(tmp_path: Path, content: bytes) -> None:
    for made in (content, trace_cases.tar("inner", content), trace_cases.zipped(content)):
        found, seen = look(tmp_path, made)
        assert not found
        assert seen.unread
        assert all(name.startswith(str(tmp_path / "file")) and why for name, why in seen.unread.items())


@pytest.mark.parametrize(
    "written",
    [
        lambda text: '1,"' + text.replace('"', '""') + '"\n',
        lambda text: "insert into t values ('" + text.replace("'", "''") + "');",
        lambda text: json.dumps(json.dumps(text)).replace('"', '""'),
        lambda text: text,
    ],
)
@pytest.mark.parametrize("text", ['The "red" bicycle, it\'s here', '"Quoted" from end to "end"', 'pipes of 5"" here'])
def test_quotes_inside_of_a_text_do_not_hide_it(tmp_path: Path, text: str, written: Callable[[str], str]) -> None:
    (tmp_path / "file").write_text(written(text))
    assert traces.look(tmp_path / "file", Traces(texts=frozenset({text})), Seen()) == "a text"


@pytest.mark.parametrize("written", [str, lambda one: str(one).upper(), lambda one: one.hex])
def test_a_digest_is_found_as_a_uuid_too(tmp_path: Path, written: Callable[[uuid.UUID], str]) -> None:
    one = uuid.UUID(hashlib.md5(b"as it came").hexdigest())
    (tmp_path / "file").write_text(f"x {written(one)} y")
    assert traces.look(tmp_path / "file", Traces(digests=frozenset({one.hex})), Seen()) == "a digest"


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    found, seen = look(tmp_path, b"")
    assert (found, seen.unread) == ("", {})
    (tmp_path / "file").unlink()
    assert traces.look(tmp_path / "file", GONE, seen) == ""
    assert list(seen.unread) == [str(tmp_path / "file")]
    with pytest.raises(OSError, match="cannot be read"):
        traces.found_in(tmp_path / "file", GONE)
    assert stat.S_ISDIR(tmp_path.stat().st_mode)


@pytest.mark.slow
def test_containers_that_lie_too_deep_or_grow_too_large_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = URL.encode()
    for _ in range(trace_files.MAX_DEPTH + 1):
        content = trace_cases.gzip.compress(content)
    found, seen = look(tmp_path, content)
    assert not found
    assert any("containers" in why for why in seen.unread.values())
    monkeypatch.setattr(trace_files, "_FREE_GROWTH", 1 << 20)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("zeros", bytes(1 << 26))
    found, seen = look(tmp_path, bomb.getvalue())
    assert not found
    assert any("unpacks to more" in why for why in seen.unread.values())


@pytest.mark.parametrize(
    "begin", [b"x\x9c not packed at all", b"ORCHID, a flower", b"]\x00\x00", b"\xff\xff\xff\xff", b"BZh"]
)
def test_what_only_begins_like_a_packed_file_is_searched_as_bytes(tmp_path: Path, begin: bytes) -> None:
    found, seen = look(tmp_path, begin + b" nothing")
    assert (found, seen.unread) == ("", {})
    assert look(tmp_path, begin + f" {URL} ".encode())[0] == "an address"


@pytest.mark.parametrize("place", [BLOCK - 40, BLOCK - 1, BLOCK, BLOCK + 9, 2 * BLOCK - 20, 3 * BLOCK])
@pytest.mark.parametrize("case", ["json", "json with \\u for all signs", "utf-16 without"])
def test_a_trace_is_found_where_two_blocks_meet_and_what_is_kept_is_none_there(
    tmp_path: Path, place: int, case: str
) -> None:
    for value in (URL, TEXT):
        content = b" " * place + CASES[case](value) + b" " * 100
        assert look(tmp_path, content)[0], f"{value} at {place}"
    for kept in GONE.kept:
        content = b" " * place + CASES[case](kept) + b" " * 100
        assert not look(tmp_path, content)[0], f"{kept} at {place}"


AROUND: Final = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=AROUND, after=AROUND, case=st.sampled_from(sorted(CASES)), value=st.sampled_from([TEXT, DIGEST]))
def test_any_text_around_a_trace_in_any_form_leaves_it_found(
    tmp_path: Path, before: str, after: str, case: str, value: str
) -> None:
    found, seen = look(tmp_path, CASES[case](f"{before}{value}{after}"))
    assert found
    assert not seen.unread


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=AROUND, after=AROUND, case=st.sampled_from(sorted(CASES)))
def test_any_text_around_an_address_that_ends_there_leaves_it_found(
    tmp_path: Path, before: str, after: str, case: str
) -> None:
    # A letter, digit, path or query behind it makes it another address, in a file that is text.
    after = after if not after[:1].isalnum() and after[:1] not in set("/?%") else f" {after}"
    found, seen = look(tmp_path, CASES[case](f"{before} {URL}{after}"))
    assert found
    assert not seen.unread


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=AROUND, case=st.sampled_from(sorted(CASES)))
def test_any_other_text_in_any_form_is_clean(tmp_path: Path, text: str, case: str) -> None:
    assert look(tmp_path, CASES[case](text or "x"))[0] == ""
