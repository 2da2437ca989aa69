"""A work list becomes a shard: a row for every attempt, in order, and the same bytes every time."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.images import marked
from made.processes.deadlines import LONG_S
from made.servers.downloads import JPEG, Response, picture, run, write_warc, write_work
from PIL import Image
from warcio.archiveiterator import ArchiveIterator

from laion_dask import params
from laion_dask.schema.ledger import Ledger
from laion_dask.storage import shards
from laion_dask.web.archive.replay import Replay
from laion_dask.web.fetch import guard
from laion_dask.web.fetch.replay_address import ReplayAddress

REMOTE = marked.packet(attributes='xmlns:d="http://purl.org/dc/terms/" d:provenance="https://x.example/m"')


@pytest.fixture
def settings(defaults: params.Params) -> params.Download:
    quick = {"timeout_s": LONG_S, "retries": 1, "connections": 8, "max_bytes": 200_000, "max_pixels": 1_000_000}
    return defaults.download.model_copy(update=quick)


# Address of the row, what the archive answers, reason.
CASES: list[tuple[str, tuple[str, list[tuple[str, str]], bytes] | None, str]] = [
    ("http://a.example/0.jpg", ("200 OK", JPEG, picture(0)), "keep"),
    ("https://a.example/1.jpg", ("200 OK", JPEG, picture(1)), "keep"),
    ("http://a.example/2.jpg", None, "not_found"),
    ("http://a.example/html.jpg", ("200 OK", JPEG, b"<html>gone</html>"), "not_an_image"),
    ("http://a.example/empty.jpg", ("200 OK", JPEG, b""), "not_an_image"),
    ("http://a.example/cut.jpg", ("200 OK", JPEG, picture(5)[:3000]), "truncated_image"),
    ("http://a.example/cut.webp", ("200 OK", JPEG, picture(5, kind="WEBP")[:1000]), "truncated_image"),
    ("http://a.example/wide.png", ("200 OK", JPEG, picture(6, 2000, 600, "PNG")), "too_many_pixels"),
    ("http://a.example/fat.jpg", ("200 OK", JPEG, bytes(300_000)), "too_large"),
    ("http://a.example/moved.jpg", ("302 Found", [("Location", "/0.jpg")], b""), "keep"),
    ("http://a.example/noai.jpg", ("200 OK", [*JPEG, ("X-Robots-Tag", "noai")], picture(9)), "x_robots_tag"),
    ("http://a.example/error.jpg", ("500 Oops", [], b""), "http_error"),
    ("http://no.example/closed/a.jpg", ("200 OK", JPEG, picture(12)), "robots"),
    ("http://tdm.example/a.jpg", ("200 OK", JPEG, picture(13)), "tdmrep"),
    ("http://nowhere.example/a.jpg", None, "unreachable"),
    ("http://10.0.0.1/a.jpg", None, "private_address"),
    ("http://b.example/portrait.png", ("200 OK", [("Content-Type", "image/png")], picture(16, 64, 400, "PNG")), "keep"),
    ("http://a.example/0.jpg", None, "keep"),
]
HOST_FILES: list[Response] = [
    ("http://no.example/robots.txt", "200 OK", [], b"User-agent: *\nDisallow: /closed\n"),
    ("http://tdm.example/.well-known/tdmrep.json", "200 OK", [], b'[{"location": "/", "tdm-reservation": 1}]'),
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    answers = [(url, *answer) for url, answer, _ in CASES if answer is not None]
    return write_warc(tmp_path / "a.warc.gz", [*HOST_FILES, *answers])


def test_every_row_ends_as_it_should_and_the_counts_add_up(
    tmp_path: Path, archive: Path, settings: params.Download
) -> None:
    work = write_work(tmp_path / "work.parquet", [url for url, _, _ in CASES])
    with Replay([archive]) as replay:
        counts = run(tmp_path / "out", work, settings, replay.address)
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    assert [(row["url"], row["reason"]) for row in rows] == [(url, reason) for url, _, reason in CASES]
    assert [row["key"] for row in rows] == [f"00003{place:04d}" for place in range(len(CASES))]
    assert [row["uid"] for row in rows] == [f"{place:032x}" for place in range(len(CASES))]
    ledger = Ledger.from_dict(counts["images"])
    ledger.check("test", expected=len(CASES))
    assert ledger.kept == sum(reason == "keep" for _, _, reason in CASES)
    assert counts["bytes"] == sum(row["bytes"] for row in rows) > 0
    assert counts["hosts"] == 6
    stats = json.loads((tmp_path / "out" / "00003_stats.json").read_text())
    assert stats["count"] == len(CASES)
    assert stats["successes"] == ledger.kept
    assert stats["failed_to_resize"] == 5
    assert stats["failed_to_download"] == len(CASES) - 5 - ledger.kept


def test_a_success_carries_what_is_known_of_the_original(
    tmp_path: Path, archive: Path, settings: params.Download
) -> None:
    work = write_work(tmp_path / "work.parquet", [url for url, _, _ in CASES])
    with Replay([archive]) as replay:
        run(tmp_path / "out", work, settings, replay.address)
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    first, missing, portrait, moved = rows[0], rows[2], rows[16], rows[9]
    assert first["md5"] == hashlib.md5(picture(0), usedforsecurity=False).hexdigest()
    assert first["sha256"] == hashlib.sha256(picture(0)).hexdigest()
    assert (first["format"], first["bytes"], first["content_type"]) == ("JPEG", len(picture(0)), "image/jpeg")
    assert (first["original_width"], first["original_height"], first["width"], first["height"]) == (320, 200, 256, 160)
    assert (first["status"], first["error_message"], first["http_status"]) == ("success", None, 200)
    assert (portrait["format"], portrait["width"], portrait["height"]) == ("PNG", 41, 256)
    assert (moved["url"], moved["final_url"]) == ("http://a.example/moved.jpg", "http://a.example/0.jpg")
    assert (missing["status"], missing["error_message"], missing["md5"]) == ("failed_to_download", "HTTP 404", None)
    refused = rows[10]
    assert (refused["rights"], refused["rights_signal"], refused["rights_evidence"]) == (
        "refused",
        "x_robots_tag",
        "noai",
    )
    assert (refused["bytes"], refused["sha256"]) == (0, None)


def test_a_picture_that_refuses_in_its_own_bytes_is_known_by_its_hashes_and_not_stored(
    tmp_path: Path, settings: params.Download
) -> None:
    """The decision says where it stood and when it came; no date means no time, whatever our clock says."""
    dated = [*JPEG, ("Date", "Wed, 21 Oct 2015 07:28:00 GMT")]
    refusing = marked.with_xmp("JPEG", marked.mining("DMI-PROHIBITED"))
    answers: list[Response] = [
        ("http://a.example/robots.txt", "200 OK", dated[1:], b"User-agent: *\nDisallow: /closed\n"),
        ("http://a.example/no.jpg", "200 OK", dated, refusing),
        ("http://a.example/undated.jpg", "200 OK", JPEG, refusing),
        ("http://a.example/remote.jpg", "200 OK", JPEG, marked.with_xmp("JPEG", REMOTE)),
        ("http://a.example/noai.jpg", "200 OK", [*dated, ("X-Robots-Tag", "noai")], picture(1)),
        ("http://a.example/yes.jpg", "200 OK", dated, picture(2)),
        ("http://a.example/closed/a.jpg", "200 OK", dated, picture(3)),
        ("http://b.example/free.jpg", "200 OK", dated, picture(4)),
    ]
    urls = [url for url, *_ in answers[1:]]
    work = write_work(tmp_path / "work.parquet", urls)
    with Replay([write_warc(tmp_path / "a.warc.gz", answers)]) as replay:
        run(tmp_path / "strict", work, settings, replay.address)
        lax = settings.model_copy(update={"rights": (), "rights_unknown": ()})
        run(tmp_path / "lax", work, lax, replay.address)
    names = ("reason", "rights", "rights_signal", "rights_source", "rights_time")
    rows = shards.read_rows(tmp_path / "strict" / "00003.parquet").to_pylist()
    time, robots = "2015-10-21T07:28:00Z", "http://a.example/robots.txt"
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("xmp_data_mining", "refused", "xmp_data_mining", "file", time),
        ("xmp_data_mining", "refused", "xmp_data_mining", "file", None),
        ("c2pa", "unknown", "c2pa", "file", None),
        ("x_robots_tag", "refused", "x_robots_tag", "x-robots-tag", time),
        ("keep", "allowed", "robots", robots, time),
        ("robots", "refused", "robots", robots, time),
        ("keep", "allowed", "", "http://b.example/robots.txt", None),
    ]
    first = rows[0]
    assert (first["sha256"], first["bytes"]) == (hashlib.sha256(refusing).hexdigest(), len(refusing))
    assert (first["status"], first["width"], first["format"]) == ("failed_to_download", None, None)
    assert first["rights_evidence"] == "plus:DataMining http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"
    assert [key for key, _ in shards.read_shard(tmp_path / "strict" / "00003.tar")] == [rows[4]["key"], rows[6]["key"]]
    recorded = shards.read_rows(tmp_path / "lax" / "00003.parquet").to_pylist()
    assert [row["reason"] for row in recorded] == ["keep"] * 7
    assert [row["rights_signal"] for row in recorded] == [row["rights_signal"] for row in rows]


def test_the_tar_holds_the_images_of_the_successes(tmp_path: Path, archive: Path, settings: params.Download) -> None:
    work = write_work(tmp_path / "work.parquet", [url for url, _, _ in CASES])
    with Replay([archive]) as replay:
        run(tmp_path / "out", work, settings, replay.address)
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    stored = dict(shards.read_shard(tmp_path / "out" / "00003.tar"))
    assert list(stored) == [row["key"] for row in rows if row["reason"] == "keep"]
    for row in rows:
        if row["reason"] == "keep":
            assert Image.open(io.BytesIO(stored[row["key"]])).size == (row["width"], row["height"])


@pytest.mark.parametrize("encode", ["png", "webp"])
def test_pictures_are_stored_in_the_encoding_that_is_asked_for(
    tmp_path: Path, archive: Path, settings: params.Download, encode: str
) -> None:
    work = write_work(tmp_path / "work.parquet", ["http://a.example/0.jpg"])
    changed = settings.model_copy(update={"encode": encode, "hashes": ("md5", "sha1", "sha256"), "resize": "border"})
    with Replay([archive]) as replay:
        run(tmp_path / "out", work, changed, replay.address)
    (row,) = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    with tarfile.open(tmp_path / "out" / "00003.tar") as tar:
        assert tar.getnames() == [f"000030000.{kind}" for kind in (encode, "txt", "json")]
    ((_, body),) = shards.read_shard(tmp_path / "out" / "00003.tar")
    with Image.open(io.BytesIO(body)) as stored:
        assert (stored.format, stored.size) == (encode.upper(), (256, 256))
    assert row["sha1"] == hashlib.sha1(picture(0), usedforsecurity=False).hexdigest()
    assert (row["width"], row["height"], row["animated"], row["pdq_quality"]) == (256, 256, False, 100)
    assert len(row["pdq"]) == 64


def test_bodies_are_stored_as_received_where_it_is_asked_for(
    tmp_path: Path, archive: Path, settings: params.Download
) -> None:
    work = write_work(tmp_path / "work.parquet", [url for url, _, _ in CASES])
    changed = settings.model_copy(update={"encode": "original", "resize": "no"})
    with Replay([archive]) as replay:
        counts = run(tmp_path / "out", work, changed, replay.address)
    stored = dict(shards.read_shard(tmp_path / "out" / "00003.tar"))
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    assert counts["images"]["kept"] == len(stored) == sum(reason == "keep" for _, _, reason in CASES)
    for row in rows:
        if row["reason"] == "keep":
            assert hashlib.sha256(stored[row["key"]]).hexdigest() == row["sha256"]
            assert (row["width"], row["height"]) == (row["original_width"], row["original_height"])


@pytest.mark.slow
def test_an_image_that_takes_too_much_memory_costs_its_row_alone(tmp_path: Path, settings: params.Download) -> None:
    large = io.BytesIO()
    Image.new("RGBA", (6_000, 6_000)).save(large, "PNG")
    bodies = [picture(0), large.getvalue(), picture(2), large.getvalue(), picture(4)]
    urls = [f"http://a.example/{place}.jpg" for place in range(len(bodies))]
    answers = [(url, "200 OK", JPEG, body) for url, body in zip(urls, bodies, strict=True)]
    limits = {"decode_memory_mb": 300, "max_pixels": 40_000_000}
    with Replay([write_warc(tmp_path / "a.warc.gz", answers)]) as replay:
        work = write_work(tmp_path / "work.parquet", urls)
        counts = run(tmp_path / "out", work, settings.model_copy(update=limits), replay.address)
    assert counts["images"] == {"seen": 5, "kept": 3, "dropped": {"decoder_crashed": 2}}
    rows = shards.read_rows(tmp_path / "out" / "00003.parquet").to_pylist()
    assert {row["error_message"] for row in rows} == {None, "decoding takes more memory than 300 MB"}
    # What the body was is known all the same.
    assert rows[1]["sha256"] == hashlib.sha256(bodies[1]).hexdigest()
    assert (rows[1]["status"], rows[1]["animated"], rows[1]["pdq"]) == ("failed_to_resize", None, None)


def test_the_same_shard_has_the_same_bytes_whoever_works_beside(
    tmp_path: Path, archive: Path, settings: params.Download
) -> None:
    work = write_work(tmp_path / "work.parquet", [url for url, _, _ in CASES])
    for name, workers, connections in (("one", 1, 8), ("two", 1, 8), ("four", 4, 2)):
        changed = settings.model_copy(update={"connections": connections})
        # A new server each time: no port and no certificate may show in the files.
        with Replay([archive]) as replay:
            run(tmp_path / name, work, changed, replay.address, workers)
    names = sorted(path.name for path in (tmp_path / "one").iterdir() if path.is_file())
    assert names == ["00003.parquet", "00003.tar", "00003_stats.json"]
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == content
        assert (tmp_path / "four" / name).read_bytes() == content


def test_many_rows_pass_through_a_small_window_in_order(tmp_path: Path, settings: params.Download) -> None:
    urls = [f"http://h{place % 7}.example/{place}.jpg" for place in range(120)]
    archive = write_warc(
        tmp_path / "a.warc.gz", [(url, "200 OK", JPEG, picture(place, 64, 64)) for place, url in enumerate(urls)]
    )
    work = write_work(tmp_path / "work.parquet", urls)
    with Replay([archive]) as replay:
        counts = run(tmp_path / "out", work, settings.model_copy(update={"connections": 3}), replay.address)
        assert max(replay.peak.values()) <= settings.connections_per_host
    assert counts["images"] == {"seen": 120, "kept": 120, "dropped": {}}
    keys = [key for key, _ in shards.read_shard(tmp_path / "out" / "00003.tar")]
    assert keys == [f"00003{place:04d}" for place in range(120)]


def test_an_empty_work_list_is_an_empty_shard(tmp_path: Path, archive: Path, settings: params.Download) -> None:
    work = write_work(tmp_path / "work.parquet", [])
    with Replay([archive]) as replay:
        counts = run(tmp_path / "out", work, settings, replay.address)
    ledger = {"seen": 0, "kept": 0, "dropped": {}}
    beside = {"taken": {"made": 0, "taken_over": 0}, "offers": {"rules": "", "rank": 0}}
    assert counts == {"images": ledger, "bytes": 0, "hosts": 0, "later": 0, "slow": [], "listed": {}} | beside


def test_an_error_that_is_no_verdict_shows_as_itself(
    tmp_path: Path, archive: Path, settings: params.Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "add", full)
    work = write_work(tmp_path / "work.parquet", ["http://a.example/0.jpg", "http://a.example/2.jpg"])
    with Replay([archive]) as replay, pytest.raises(OSError, match="No space left"):
        run(tmp_path / "out", work, settings, replay.address)
    assert not (tmp_path / "out" / "00003.parquet").exists()


def test_it_runs_beside_an_event_loop_of_its_caller(tmp_path: Path, archive: Path, settings: params.Download) -> None:
    work = write_work(tmp_path / "work.parquet", ["http://a.example/0.jpg"])

    async def inside(address: ReplayAddress) -> dict[str, Any]:
        return await asyncio.to_thread(run, tmp_path / "out", work, settings, address)

    with Replay([archive]) as replay:
        assert asyncio.run(inside(replay.address))["images"]["kept"] == 1


@pytest.mark.parametrize(
    ("name", "pairs", "images"),
    [
        ("node-warc__books.toscrape.warc", 20, 20),
        ("ukwa__main-page.warc.gz", 17, 17),
        ("aut__example.warc.gz", 99, 69),
    ],
)
def test_the_images_of_a_real_crawl_come_out_of_its_warc(
    tmp_path: Path, shared_data: Path, defaults: params.Params, name: str, pairs: int, images: int
) -> None:
    wat = shared_data / "wat_derived" / f"{name.removesuffix('.gz')}.wat.gz"
    work = write_work(tmp_path / "work.parquet", image_links(wat))
    assert pq.read_metadata(work).num_rows == pairs
    settings = defaults.download.model_copy(update={"retries": 0})
    with Replay([shared_data / "warc_real" / name]) as replay:
        counts = run(tmp_path / "out", work, settings, replay.address)
    assert counts["images"]["kept"] == images, counts


def image_links(wat: Path) -> list[str]:
    """Addresses of the distinct pairs of a WAT, straight from its JSON."""
    found: dict[tuple[str, str], None] = {}
    with wat.open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_type != "metadata":
                continue
            envelope = json.loads(record.content_stream().read())["Envelope"]
            html = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {}).get("HTML-Metadata", {})
            page = envelope["WARC-Header-Metadata"].get("WARC-Target-URI", "")
            base = guard.parse(html.get("Head", {}).get("Base", ""), page) or guard.parse(page)
            for link in html.get("Links", []):
                if link.get("path") == "IMG@/src" and link.get("alt", "").strip() and base:
                    target = guard.parse(link["url"], base.href)
                    if target:
                        found[target.href, link["alt"]] = None
    return [url for url, _ in found]
