"""`laion-dask download TABLE --replay WARC`, as a user runs it, over files with every odd kind of record."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.crawls.odd_records import CODINGS, GIF, LEFT_OUT, ORIGINAL, PNG, chunked
from made.crawls.warcs import IDENTICAL, NOT_MODIFIED, PACKED, answer, by_record, record, response
from made.images.odd_pictures import JPEG, LONG, TRANSPARENT, WEBP, riff
from made.processes import programs

from laion_dask import params
from laion_dask.download.answers import archives
from laion_dask.runner.stage import StageError


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return programs.finished(
        [sys.executable, "-m", "laion_dask.cli.main", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "DASK_LAION_DASK__CLUSTER__WORKERS": "1", "LAION_DASK_HOME": str(folder / "home")},
    )


def robots(host: str) -> bytes:
    return response(f"http://{host}/robots.txt", b"User-agent: *\nDisallow:\n", "Content-Type: text/plain")


def at(name: str) -> str:
    return f"http://{name.replace('_', '-').lower()}.example/p"


def moved(location: bytes) -> bytes:
    return answer(b"", b"Location: " + location, status="HTTP/1.1 302 Found")


def cases() -> dict[str, tuple[str, list[bytes], str]]:
    """Return by name: an address, the records of its host, how its row ends."""
    found: dict[str, tuple[str, list[bytes], str]] = {}

    def add(name: str, ends: str, *records: bytes) -> None:
        url = at(name)
        found[name] = (url, [robots(url.split("/")[2]), *records], ends)

    for place, coding in enumerate(CODINGS):
        header = f"Content-Encoding: {coding}"
        add(f"coded-{place}", "keep", response(at(f"coded-{place}"), CODINGS[coding](PNG), header))
        add(f"decoded-{place}", "keep", response(at(f"decoded-{place}"), PNG, header))
    add("chunked", "keep", response(at("chunked"), chunked(PNG), "Transfer-Encoding: chunked"))
    add("dechunked", "keep", response(at("dechunked"), PNG, "Transfer-Encoding: chunked"))
    add("resource", "keep", record("resource", at("resource"), PNG, "Content-Type: image/png"))
    add("brackets", "keep", response(f"<{at('brackets')}>", PNG))
    add("http-2", "keep", record("response", at("http-2"), answer(PNG, status="HTTP/2 200")))
    identical = record(
        "revisit", at("identical"), answer(b""), f"WARC-Profile: {IDENTICAL}", "WARC-Refers-To: <urn:uuid:1>"
    )
    add("identical", "keep", identical, ORIGINAL)
    same = record("revisit", at("same"), b"", f"WARC-Profile: {NOT_MODIFIED}", "WARC-Refers-To: <urn:uuid:1>")
    add("same", "keep", same)
    latin = record("response", at("latin"), moved(b"/caf\xe9.png"))
    add("latin", "keep", latin, response(b"http://latin.example/caf\xe9.png", PNG))
    add("jpeg-without-end", "keep", response(at("jpeg-without-end"), JPEG[:-2]))
    add("webp-that-lies", "keep", response(at("webp-that-lies"), riff(WEBP["lossy"], 100)))
    add("png-with-texts", "keep", response(at("png-with-texts"), LONG))
    deep = TRANSPARENT["gray of 16 bits, a level is transparent"][0]
    add("deep", "keep", response(at("deep"), deep))
    add(
        "first",
        "keep",
        response(at("first"), PNG),
        record("response", at("first"), answer(b"", status="HTTP/1.1 404 No")),
    )
    for place, left in enumerate(LEFT_OUT.values()):
        name = f"left-{place}"
        add(name, "unreachable", left.replace(b"http://a.example/x", at(name).encode()))
    add("truncated", "unreachable", response(at("truncated"), PNG[:-30], fields=["WARC-Truncated: length"]))
    add("gone", "not_found", record("response", at("gone"), answer(b"", status="HTTP/1.1 404 No")))
    found["absent"] = ("http://gone.example/absent", [], "not_found")
    return found


@pytest.mark.slow
def test_every_kind_of_record_ends_as_it_should_through_the_command(tmp_path: Path) -> None:
    rows = cases()
    # A name by which a glob means something else.
    warcs = [tmp_path / "a[1].warc.gz"]
    warcs[0].write_bytes(by_record([one for _, records, _ in rows.values() for one in records]))
    for name, pack in PACKED.items():
        host = at(name.replace(".", "-")).split("/")[2]
        warcs.append(tmp_path / name)
        warcs[-1].write_bytes(
            pack([robots(host), response(f"http://{host}/p", GIF), response(f"http://{host}/q", PNG)])
        )
        rows |= {f"{name} {path}": (f"http://{host}/{path}", [], "keep") for path in "pq"}
    (tmp_path / "urls.txt").write_text("".join(f"{url}\n" for url, _, _ in rows.values()))
    given = [argument for path in warcs for argument in ("--replay", path.name)]
    done = command(tmp_path, "download", "urls.txt", "--out", "out", *given)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    found = {row["url"]: row["reason"] for row in table}
    assert found == {url: ends for url, _, ends in rows.values()}
    assert "1 left out: not an HTTP answer" in done.stderr
    assert "1 left out: revisit of a record that is in no file" in done.stderr


@pytest.mark.slow
def test_a_file_that_cannot_be_read_in_full_stops_the_command_before_it_asks_for_anything(tmp_path: Path) -> None:
    block = answer(PNG)
    (tmp_path / "bad.warc").write_bytes(record("response", "http://a.example/p", block, length=len(block) - 1))
    (tmp_path / "urls.txt").write_text("http://a.example/p\n")
    done = command(tmp_path, "download", "urls.txt", "--out", "out", "--replay", "bad.warc")
    assert done.returncode == 1
    assert (
        f"bad.warc: the record at byte 0 does not end where its Content-Length of {len(block) - 1} says" in done.stderr
    )
    assert "Remedy: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.tar"))


def test_the_command_that_serves_says_what_the_files_hold_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "bad.warc").write_bytes(b"no record\n")
    done = command(tmp_path, "replay", "bad.warc")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "bad.warc: the record at byte 0 does not begin as one of a WARC file. Remedy: " in done.stderr


def test_a_path_that_exists_is_taken_literally_and_no_file_twice(tmp_path: Path, defaults: params.Params) -> None:
    for name in ("a[1].warc.gz", "a1.warc.gz", "b.warc.gz"):
        (tmp_path / name).touch()

    def found(*patterns: str) -> list[str]:
        warcs = tuple(str(tmp_path / pattern) for pattern in patterns)
        download = defaults.download.model_copy(update={"warcs": warcs})
        return [path.name for path in archives(download)]

    assert found("a[1].warc.gz") == ["a[1].warc.gz"]
    assert found("a[1]*.gz") == ["a1.warc.gz"]
    assert found("b.warc.gz", "*.gz") == ["b.warc.gz", "a1.warc.gz", "a[1].warc.gz"]
    with pytest.raises(StageError, match="matches no file"):
        found("c[1].warc.gz")
