"""Each kind of record in a WARC file is answered alike by the replay server and as an archive, or counted."""

from __future__ import annotations

import asyncio
import gzip
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from made.crawls.odd_records import CODINGS, GIF, LEFT_OUT, ORIGINAL, PNG, chunked, revisit
from made.crawls.warcs import IDENTICAL, NOT_MODIFIED, PACKED, answer, by_record, record, response
from made.servers.downloads import picture
from made.servers.replies import ask

from laion_dask.web.archive import reader, writer
from laion_dask.web.archive.replay import Replay, ReplayError, ReplayIndex, usage
from laion_dask.web.fetch import exchange, guard
from laion_dask.web.fetch.exchange import ExchangeLimits, Reply
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.recorded import Survey

JPEG = picture(2, 64, 64)
WEBP = picture(3, 64, 64, "WEBP")
TEXT = b"User-agent: *\nDisallow: /private\n" * 40
ROBOTS = response("http://a.example/robots.txt", b"User-agent: *\nDisallow:\n", "Content-Type: text/plain")
LIMITS = ExchangeLimits(5.0, 10_000_000)


def ask_archive(index: Path, *urls: str) -> list[Reply]:
    async def run(found: cdxj.CdxjIndex) -> list[Reply]:
        exchange.asks_for("row", "0" * 32)
        targets = [guard.parse(url) for url in urls]
        return [await reader.ArchiveReader(found, "x").ask(one, LIMITS, lambda _: True) for one in targets if one]

    with cdxj.CdxjIndex(index) as found:
        return asyncio.run(run(found))


def both_ways(folder: Path, files: Sequence[Path], *urls: str) -> list[tuple[Reply, Reply]]:
    """Ask the replay server and the archive for the same addresses."""
    with Replay(files) as replay:
        served = ask(replay.address, *urls)
    index = cdxj.collect(files, folder / "work" / "all.cdxj")
    return list(zip(served, ask_archive(index, *urls), strict=True))


def write(path: Path, *records: bytes) -> Path:
    path.write_bytes(by_record(records))
    return path


@pytest.mark.parametrize("name", PACKED)
def test_however_a_file_is_packed_its_pictures_are_answered(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(
        PACKED[name]([ROBOTS, response("http://a.example/1", PNG), response("http://a.example/2", JPEG)])
    )
    found = both_ways(tmp_path, [tmp_path / name], "http://a.example/1", "http://a.example/2")
    assert [(one.body, other.body) for one, other in found] == [(PNG, PNG), (JPEG, JPEG)]


@pytest.mark.parametrize("body", [PNG, JPEG, WEBP, GIF, TEXT, b""], ids=["png", "jpeg", "webp", "gif", "text", "none"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("chunks", [True, False], ids=["chunked", "in one piece"])
def test_a_body_is_answered_whether_it_was_stored_coded_or_decoded(
    coding: str, body: bytes, tmp_path: Path, *, chunks: bool
) -> None:
    headers = ["Content-Encoding: " + coding, *(["Transfer-Encoding: chunked"] if chunks else [])]
    coded = CODINGS[coding](body)
    partly = gzip.compress(body, mtime=0) if coding in {"gzip, gzip", "gzip, br"} else body
    stored = {"coded": coded, "decoded": body, "partly": partly}
    records = [response(f"http://a.example/{name}", data, *headers) for name, data in stored.items()]
    if chunks:
        # Kept as it came: chunks, and inside of them the coding.
        records.append(response("http://a.example/chunks", chunked(coded), *headers))
        records.append(response("http://a.example/decoded-chunks", chunked(body), *headers))
    file = write(tmp_path / "a.warc.gz", ROBOTS, *records)
    names = [*stored, *(["chunks", "decoded-chunks"] if chunks else [])]
    for name, (one, other) in zip(
        names, both_ways(tmp_path, [file], *(f"http://a.example/{name}" for name in names)), strict=True
    ):
        assert (one.failure, one.body) == ("", body), name
        assert (other.failure, other.body) == ("", body), name


TARGET = "WARC-Refers-To-Target-URI: http://a.example/original"


@pytest.mark.parametrize(
    ("second", "own"),
    [
        (revisit("http://a.example/x", "WARC-Refers-To: <urn:uuid:1>"), True),
        (revisit("http://a.example/x", "WARC-Refers-To: urn:uuid:1"), True),
        (revisit("http://a.example/x", "WARC-Refers-To-Target-URI: <http://a.example/original>"), True),
        (revisit("http://a.example/x", TARGET, "WARC-Refers-To-Date: 2024-05-06T07:08:09Z"), True),
        (revisit("http://a.example/x", TARGET, "WARC-Refers-To-Date: 1999-01-01", "WARC-Payload-Digest: sha1:C"), True),
        (revisit("http://a.example/x", "WARC-Payload-Digest: sha1:aaa"), True),
        (revisit("http://a.example/x", "WARC-Payload-Digest: sha1:AAA", block=b""), False),
        (revisit("http://a.example/x", "WARC-Refers-To: <urn:uuid:1>", profile=IDENTICAL.replace("1.1", "1.0")), True),
        (
            revisit(
                "http://a.example/x",
                "WARC-Refers-To: <urn:uuid:1>",
                block=answer(b"", "ETag: 1", status="HTTP/1.1 304 Not Modified"),
                profile=NOT_MODIFIED,
            ),
            False,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", ["before", "behind", "another file"])
def test_a_revisit_is_answered_with_the_body_that_it_refers_to(
    second: bytes, order: str, tmp_path: Path, *, own: bool
) -> None:
    if order == "another file":
        files = [write(tmp_path / "a.warc.gz", second), write(tmp_path / "b.warc.gz", ROBOTS, ORIGINAL)]
    else:
        files = [write(tmp_path / "a.warc.gz", *([second, ORIGINAL] if order == "before" else [ORIGINAL, second]))]
    for reply in both_ways(tmp_path, files, "http://a.example/x")[0]:
        assert (reply.status, reply.body, reply.header("content-type")) == (200, PNG, "image/png")
        assert reply.header("x-own") == ("yes" if own else None)


def test_a_revisit_of_a_revisit_is_followed_and_a_loop_ends(tmp_path: Path) -> None:
    records = [
        revisit("http://a.example/x", "WARC-Record-ID: <urn:uuid:3>", "WARC-Refers-To: <urn:uuid:2>"),
        revisit("http://a.example/y", "WARC-Record-ID: <urn:uuid:2>", "WARC-Refers-To: <urn:uuid:1>"),
        revisit("http://a.example/l", "WARC-Record-ID: <urn:uuid:5>", "WARC-Refers-To: <urn:uuid:6>"),
        revisit("http://a.example/m", "WARC-Record-ID: <urn:uuid:6>", "WARC-Refers-To: <urn:uuid:5>"),
        ORIGINAL,
    ]
    urls = [f"http://a.example/{name}" for name in "xylm"]
    found = both_ways(tmp_path, [write(tmp_path / "a.warc.gz", *records)], *urls)
    assert [one.body for one, _ in found] == [other.body for _, other in found] == [PNG, PNG, b"", b""]
    assert [one.failure for one, _ in found] == ["", "", "unreachable", "unreachable"]


def test_how_the_body_of_a_revisit_is_coded_is_said_where_it_is_stored(tmp_path: Path) -> None:
    stored = response(
        "http://a.example/o",
        gzip.compress(TEXT, mtime=0),
        "Content-Encoding: gzip",
        fields=["WARC-Record-ID: <urn:uuid:1>"],
    )
    later = revisit("http://a.example/x", "WARC-Refers-To: <urn:uuid:1>", block=answer(b"", "Content-Encoding: br"))
    for reply in both_ways(tmp_path, [write(tmp_path / "a.warc.gz", stored, later)], "http://a.example/x")[0]:
        assert reply.body == TEXT


@pytest.mark.parametrize(
    ("one", "status", "body"),
    [
        (record("resource", "http://a.example/x", PNG, "Content-Type: image/png"), 200, PNG),
        (record("resource", "http://a.example/x", PNG), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG, status="HTTP/2 200")), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG, status="HTTP/2.0 200 ")), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG, status="HTTP/3 200")), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG, status="http/1.0 200 ok")), 200, PNG),
        (record("response", "http://a.example/x", b"HTTP/1.1 200 OK\nX-A: 1\n\n" + PNG), 200, PNG),
        (record("response", "http://a.example/x", b"HTTP/1.1 200 OK\r\n\r\n" + PNG), 200, PNG),
        (record("response", "http://a.example/x", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(PNG)), 200, PNG),
        (response("http://a.example/x", PNG, "X-Folded: a\r\n b", b"X-Latin: caf\xe9", "Odd", "B\u00e4d: 1"), 200, PNG),
        (response("http://a.example/x", PNG, "Bad name : 1", ": 2", "Content-Length: 3"), 200, PNG),
        (response("<http://a.example/x>", PNG), 200, PNG),
        (response("http://A.EXAMPLE:80/b/../x#part", PNG), 200, PNG),
        (record("response", "http://a.example/x", answer(b"no", status="HTTP/1.1 999 Denied")), 999, b"no"),
        (record("RESPONSE", "http://a.example/x", answer(PNG)), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG), version="1.0"), 200, PNG),
        (record("response", "http://a.example/x", answer(PNG), version="0.17"), 200, PNG),
    ],
)  # fmt: skip
def test_what_writers_do_differently_is_answered(one: bytes, status: int, body: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "a.warc.gz", ROBOTS, one)
    for reply in both_ways(tmp_path, [file], "http://a.example/x")[0]:
        assert (reply.failure, reply.status, reply.body) == ("", status, body)


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("http://a.example/a picture.png", "http://a.example/a%20picture.png"),
        ("http://a.example/a picture.png", "http://a.example/a picture.png"),
        ("http://a.example/caf\u00e9.png", "http://a.example/caf\u00e9.png"),
        ("http://a.example/caf\u00e9.png", "http://a.example/caf%C3%A9.png"),
        (b"http://a.example/caf\xe9.png", "http://a.example/caf%E9.png"),
        ("http://a.example/x?q=a b", "http://a.example/x?q=a b"),
        ("http://a.example\\x", "http://a.example/x"),
        ("http://user:word@a.example/x", "http://a.example/x"),
        ("http://user:word@a.example/x", "http://user:word@a.example/x"),
        ("http://a.example/x#part", "http://a.example/x"),
    ],
)
def test_an_address_is_found_however_it_was_spelled(target: str | bytes, url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.warc.gz", ROBOTS, response(target, PNG))
    for reply in both_ways(tmp_path, [file], url)[0]:
        assert (reply.failure, reply.body) == ("", PNG)


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_an_address_that_a_file_names_without_an_answer_is_no_404(reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.warc.gz", ROBOTS, LEFT_OUT[reason])
    ((one, other), (absent, _)) = both_ways(tmp_path, [file], "http://a.example/x", "http://a.example/absent")
    assert (one.failure, one.status) == ("unreachable", 0)
    assert other.failure == "not_archived"
    # What no record names was not recorded; of a host that is known this is a plain 404.
    assert absent.status == 404


def test_records_without_a_target_or_with_another_kind_of_address_are_counted(tmp_path: Path) -> None:
    records = [
        record("warcinfo", None, b"software: test\r\n"),
        ROBOTS,
        record("response", None, answer(PNG)),
        record("response", "", answer(PNG)),
        record("response", "dns:a.example", b"a.example. 1 IN A 192.0.2.1"),
        record("resource", "urn:pageinfo:http://a.example/", b"{}"),
        record("metadata", "http://a.example/", b"{}"),
        record("metadata", None, b"{}"),
        record("", "http://a.example/", b""),
        *LEFT_OUT.values(),
    ]
    file = write(tmp_path / "a.warc.gz", *records)
    index = ReplayIndex(Survey(tmp_path))
    index.add(file)
    survey = index.survey
    assert survey.answered == 1
    assert survey.left_out == {
        "no target": 2,
        "target is not an http address": 2,
        "not an HTTP answer": 1,
        "in segments": 1,
        "revisit of a record that is in no file": 1,
    }
    assert survey.other == {
        "warcinfo": 1,
        "metadata": 3,
        "no type": 1,
        "conversion": 1,
        "request": 1,
        "another type": 1,
    }
    assert survey.answered + survey.left_out.total() + survey.other.total() == len(records)
    assert "2 left out: no target" in survey.lines()
    assert len(list(cdxj.scan(file, Survey(tmp_path)))) == 1


def test_what_a_strangers_file_says_steers_no_terminal_and_runs_in_no_shell(tmp_path: Path) -> None:
    harm = "http://a.example/x';touch$IFS'y"
    types = (f"\x1b]0;{number}\x07\x1b[2J" for number in range(1000))
    file = write(
        tmp_path / "a.warc.gz", record("response", harm, answer(PNG)), *(record(one, harm, b"") for one in types)
    )
    with Replay([file]) as replay:
        lines = usage(replay)
    assert "\x1b" not in "".join(lines)
    assert "1,000 without an answer: another type" in lines
    (curl,) = (line for line in lines if line.startswith("curl"))
    assert shlex.split(curl)[-1] == harm
    assert len(shlex.split(curl, comments=True)) == 4


def test_of_several_answers_to_one_address_the_first_one_counts(tmp_path: Path) -> None:
    one = write(
        tmp_path / "a.warc.gz", ROBOTS, response("http://a.example/x", PNG), response("http://a.example/x", GIF)
    )
    two = write(tmp_path / "b.warc.gz", response("http://a.example/x", JPEG), response("http://a.example/y", JPEG))
    found = both_ways(tmp_path, [one, two], "http://a.example/x", "http://a.example/y")
    assert [(one.body, other.body) for one, other in found] == [(PNG, PNG), (JPEG, JPEG)]


@pytest.mark.parametrize(
    "one",
    [
        response("http://a.example/x", PNG[:-20], fields=["WARC-Truncated: length"]),
        response("http://a.example/x", chunked(PNG)[:-20], "Transfer-Encoding: chunked"),
        response("http://a.example/x", chunked(PNG)[:-5], "Transfer-Encoding: chunked"),
        response("http://a.example/x", chunked(PNG)[:50], "Transfer-Encoding: chunked"),
        response("http://a.example/x", chunked(PNG[:100]) [:-5] + b"zz\r\n" + PNG[100:], "Transfer-Encoding: chunked"),
    ],
)  # fmt: skip
def test_a_body_that_was_not_recorded_in_full_is_not_passed_for_a_whole_one(one: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "a.warc.gz", ROBOTS, one)
    served, archived = both_ways(tmp_path, [file], "http://a.example/x")[0]
    assert (served.failure, archived.failure) == ("unreachable", "not_archived")


def test_a_redirect_leads_where_its_bytes_say(tmp_path: Path) -> None:
    moved = answer(b"", b"Location: /caf\xe9 x.png", "Content-Encoding: gzip", status="HTTP/1.1 302 Found")
    file = write(tmp_path / "a.warc.gz", ROBOTS, record("response", "http://a.example/x", moved))
    for reply in both_ways(tmp_path, [file], "http://a.example/x")[0]:
        assert (reply.status, reply.header("location")) == (302, "/caf%E9 x.png")


def test_a_damaged_coding_ends_as_an_answer_that_is_not_http_both_ways(tmp_path: Path) -> None:
    damaged = gzip.compress(bytes(100_000) + TEXT * 1_000, mtime=0)
    damaged = damaged[:200] + b"\xff" * 50 + damaged[250:]
    file = write(tmp_path / "a.warc.gz", ROBOTS, response("http://a.example/x", damaged, "Content-Encoding: gzip"))
    for reply in both_ways(tmp_path, [file], "http://a.example/x")[0]:
        assert (reply.failure, reply.body) == ("http_error", b"")


@pytest.mark.parametrize("said", ["junk", "[]", "{}", '{"reply": 1}', '{"asker": "row 1"}'])
def test_a_field_of_our_name_that_says_nothing_makes_no_record_ours(tmp_path: Path, said: str) -> None:
    one = response("http://a.example/x", PNG, fields=[f"Laion-Dask-Exchange: {said}"])
    for reply in both_ways(tmp_path, [write(tmp_path / "a.warc.gz", ROBOTS, one)], "http://a.example/x")[0]:
        assert (reply.failure, reply.body) == ("", PNG)


def test_a_file_that_cannot_be_read_in_full_stops_both_at_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.warc"
    bad.write_bytes(ROBOTS + record("response", "http://a.example/x", answer(PNG), length=len(answer(PNG)) - 1))
    good = write(tmp_path / "a.warc.gz", ROBOTS)
    pattern = rf"bad\.warc: the record at byte {len(ROBOTS)} does not end where .* Remedy: "
    with pytest.raises(ReplayError, match=pattern):
        Replay([good, bad])
    with pytest.raises(cdxj.ArchiveError, match=pattern):
        cdxj.collect([good, bad], tmp_path / "all.cdxj")


@pytest.mark.parametrize("name", PACKED)
def test_what_was_used_of_another_crawlers_file_makes_an_archive_of_its_own(name: str, tmp_path: Path) -> None:
    later = revisit("http://a.example/copy", "WARC-Refers-To: <urn:uuid:1>")
    coded = response("http://a.example/coded", gzip.compress(PNG, mtime=0), "Content-Encoding: gzip")
    (tmp_path / name).write_bytes(PACKED[name]([ROBOTS, later, ORIGINAL, coded]))
    index = cdxj.collect([tmp_path / name], tmp_path / "work" / "all.cdxj")
    urls = ["http://a.example/copy", "http://a.example/original", "http://a.example/coded"]
    with cdxj.CdxjIndex(index) as found:
        entries = [entry for url in urls for entry in found.find(url)]
    (tmp_path / "out").mkdir()
    writer.write(tmp_path / "out", "00000", entries)
    beside = cdxj.collect([tmp_path / "out" / "00000.warc.gz"], tmp_path / "beside")
    assert [(reply.status, reply.body) for reply in ask_archive(beside, *urls)] == [(200, PNG)] * 3
    (tmp_path / "out" / "00000.cdxj").unlink()
    alone = cdxj.collect([tmp_path / "out" / "00000.warc.gz"], tmp_path / "alone")
    assert cdxj.digest(alone) == cdxj.digest(beside)


def test_the_index_of_another_tool_beside_a_file_is_not_taken_for_ours(tmp_path: Path) -> None:
    file = write(tmp_path / "a.warc.gz", ROBOTS, response("http://a.example/x", PNG))
    line = '{"url": "http://a.example/x", "mime": "warc/revisit", "digest": "A", "length": "%d", "offset": "0", '
    line = f'example,a)/x 20240506070809 {line % file.stat().st_size}"filename": "a.warc.gz"}}\n'
    (tmp_path / "a.cdxj").write_text(line)
    assert [reply.body for reply in ask_archive(cdxj.collect([file], tmp_path / "all"), "http://a.example/x")] == [PNG]
