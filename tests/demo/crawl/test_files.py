"""The files of the demo crawl: formats, equal bytes for any order, answers that are as broken as their label says."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from hashlib import sha256
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat
from warcio.archiveiterator import ArchiveIterator

from laion_dask import schema
from laion_dask.demo.crawl import answers
from laion_dask.demo.crawl import files as crawl
from laion_dask.demo.crawl.answers import DrawnPicture, HostAnswer
from laion_dask.demo.crawl.pages import plan, warc_count
from laion_dask.demo.crawl.scenes import Scene, draw

SIZE: dict[str, Any] = {"seed": 1, "pages": 240, "wats": 4}
PARTS: dict[str, int] = {"pages": 240, "wats": 4}
SCENE = Scene("star", "red", "large", "snow", 7.0, seed=3)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "wats.parquet"
    }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawl")
    for name in crawl.part_names(SIZE["pages"], SIZE["wats"]):
        crawl.write_part(folder, name=name, **SIZE)
    crawl.finish(folder, **PARTS)
    return folder


@pytest.fixture(scope="module")
def records(demo: Path) -> list[tuple[dict[str, str], bytes]]:
    found = []
    for path in sorted((demo / "wat").iterdir()):
        with path.open("rb") as file:
            found += [
                (dict(record.rec_headers.headers), record.content_stream().read()) for record in ArchiveIterator(file)
            ]
    return found


def envelopes(records: list[tuple[dict[str, str], bytes]]) -> list[dict[str, Any]]:
    parsed = []
    for headers, body in records:
        if headers["WARC-Type"] == "metadata":
            try:
                parsed.append(json.loads(body))
            except ValueError:
                continue
    return [record["Envelope"] for record in parsed if "Envelope" in record]


@pytest.mark.slow
def test_parts_in_another_order_and_without_a_kept_plan_give_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    for name in reversed(crawl.part_names(SIZE["pages"], SIZE["wats"])):
        plan.cache_clear()
        crawl.write_part(tmp_path, name=name, **SIZE)
    crawl.finish(tmp_path, **PARTS)
    assert files(tmp_path) == files(demo)
    assert (demo / "wats.parquet").stat().st_size


def test_a_larger_crawl_has_more_warcs_so_that_more_workers_can_draw() -> None:
    assert [warc_count(pages) for pages in (240, 1_000, 3_000, 8_999, 30_000, 100_000)] == [2, 8, 8, 8, 30, 100]


def test_the_default_crawl_is_spread_over_24_wats_and_8_warcs() -> None:
    names = crawl.part_names(3000, 24)
    assert (names[0], names[23], names[24], names[-1]) == ("wat-00000", "wat-00023", "warc-00000", "warc-00007")
    assert len(names) == len(set(names)) == 32


def test_every_record_is_a_gzip_member_without_a_time(demo: Path) -> None:
    for path in sorted(demo.glob("*/*.gz")):
        data = path.read_bytes()
        assert data[:4] == b"\x1f\x8b\x08\x00"
        assert data[4:8] == bytes(4)
        with path.open("rb") as file:
            iterator = ArchiveIterator(file)
            offsets = [iterator.get_record_offset() for _ in iterator]
        for offset in offsets[:50]:
            assert data[offset : offset + 3] == b"\x1f\x8b\x08"
            assert data[offset + 4 : offset + 8] == bytes(4)


def test_digests_and_lengths_are_right_for_a_strict_reader(demo: Path) -> None:
    for path in sorted(demo.glob("*/*.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, check_digests="raise"):
                record.content_stream().read()


def test_a_wat_has_a_warcinfo_and_three_metadata_records_for_each_page(
    records: list[tuple[dict[str, str], bytes]],
) -> None:
    kinds = Counter(headers["WARC-Type"] for headers, _ in records)
    assert kinds == {"warcinfo": 4, "metadata": 4 + 3 * 240}
    assert records[0][0]["WARC-Type"] == "warcinfo"
    assert len({headers["WARC-Record-ID"] for headers, _ in records}) == len(records)
    for headers, _ in records[1:4]:
        assert headers["Content-Type"] == "application/json"
        assert headers["WARC-Refers-To"].startswith("<urn:uuid:")


def test_only_responses_of_html_pages_carry_html_metadata(records: list[tuple[dict[str, str], bytes]]) -> None:
    for envelope in envelopes(records):
        payload = envelope.get("Payload-Metadata", {})
        kind = envelope["WARC-Header-Metadata"]["WARC-Type"]
        response = payload.get("HTTP-Response-Metadata", {})
        assert "HTML-Metadata" not in response or kind == "response"
        if kind == "response" and payload:
            is_html = envelope["WARC-Header-Metadata"]["WARC-Identified-Payload-Type"] == "text/html"
            assert ("HTML-Metadata" in response) == is_html


def shape(value: Any, path: str = "") -> set[str]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return {item for name, inner in value.items() for item in shape(inner, f"{path}/{name}")}
    return {f"{path}: {type(value).__name__}"}


def test_levels_and_types_are_those_of_a_real_record(
    records: list[tuple[dict[str, str], bytes]], shared_data: Path
) -> None:
    with (shared_data / "wat_real" / "whirlwind.warc.wat.gz").open("rb") as file:
        real = [record.content_stream().read() for record in ArchiveIterator(file)][-1]
    mine = next(body for _, body in records[2:] if b"msgtype=request" in body)
    # Headers are whatever the client sent.
    assert {item for item in shape(json.loads(real)) if "/Headers/" not in item} == {
        item for item in shape(json.loads(mine)) if "/Headers/" not in item
    }


def test_levels_and_types_of_a_response_are_those_of_the_real_extractor(
    records: list[tuple[dict[str, str], bytes]], shared_data: Path
) -> None:
    path = shared_data / "wat_derived" / "chatnoir-resiliparse__warcfile.warc.wat.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    real = shape(json.loads(next(line for line in lines if b"HTML-Metadata" in line)))
    mine = shape(json.loads(next(body for _, body in records if b"HTML-Metadata" in body)))
    optional = ("/Headers/", "/Scripts", "/Head/Link", "/Base")
    assert {item for item in real if not any(part in item for part in optional)} == {
        item for item in mine if not any(part in item for part in optional)
    }


def test_damaged_records_are_there_and_carry_no_truth(demo: Path, records: list[tuple[dict[str, str], bytes]]) -> None:
    broken, headless = [], []
    for headers, body in records:
        if headers["WARC-Type"] == "metadata":
            try:
                record = json.loads(body)
            except ValueError:
                broken.append(headers["WARC-Target-URI"])
            else:
                if "Payload-Metadata" not in record.get("Envelope", {}):
                    headless.append(headers["WARC-Target-URI"])
    assert len(broken) == 1
    assert len(headless) == 2
    labelled = set(pq.read_table(demo / "truth.parquet")["page_url"].to_pylist())
    assert labelled.isdisjoint([*broken, *headless])


def test_truth_rows_point_at_their_links(demo: Path, records: list[tuple[dict[str, str], bytes]]) -> None:
    links = {}
    for envelope in envelopes(records):
        response = envelope.get("Payload-Metadata", {}).get("HTTP-Response-Metadata", {})
        if "HTML-Metadata" in response:
            address = envelope["WARC-Header-Metadata"]["WARC-Target-URI"]
            links[address] = [
                link for link in response["HTML-Metadata"].get("Links", []) if link.get("path") == "IMG@/src"
            ]
    table = schema.TRUTH.check(pq.read_table(demo / "truth.parquet"))
    for row in table.to_pylist():
        link = links[row["page_url"]][row["link_index"]]
        assert row["expected"] != "keep" or " ".join(link["alt"].split()) == row["text"]
    wats = pq.read_table(demo / "wats.parquet")
    assert set(table["wat"].to_pylist()) == set(wats["wat"].to_pylist())


def test_the_list_of_wats_has_their_place_and_size(demo: Path) -> None:
    rows = schema.WATS.check(pq.read_table(demo / "wats.parquet")).to_pylist()
    assert [row["order"] for row in rows] == [0, 1, 2, 3]
    for row in rows:
        assert row["crawl"] == "demo"
        assert row["wat"].startswith("demo/segments/")
        assert row["location"] == (demo / "wat" / Path(row["wat"]).name).as_posix()
        assert row["bytes"] == Path(row["location"]).stat().st_size


def test_the_list_of_wats_says_where_the_crawl_will_be_published(demo: Path, tmp_path: Path) -> None:
    for name in crawl.part_names(**PARTS)[: PARTS["wats"]]:
        crawl.write_part(tmp_path, name=name, **SIZE)
    shutil.copytree(demo / "warc", tmp_path / "warc")
    crawl.finish(tmp_path, **PARTS, home=Path("data/crawl"))
    locations = pq.read_table(tmp_path / "wats.parquet")["location"].to_pylist()
    assert all(str(location).startswith("data/crawl/wat/DEMO-") for location in locations)


def test_the_truth_joined_by_row_groups_has_the_bytes_of_a_table_written_at_once(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = pq.read_table(demo / "truth.parquet")
    assert not (demo / "truth").exists()
    cuts = [0, 100, 100, 350, truth.num_rows]
    pieces = [tmp_path / f"{at}.parquet" for at in range(4)]
    for piece, (start, stop) in zip(pieces, pairwise(cuts), strict=True):
        pq.write_table(truth.slice(start, stop - start), piece)
    for rows in (64, 1 << 20):
        monkeypatch.setattr(crawl, "_GROUP_ROWS", rows)
        crawl.join_truth(pieces, tmp_path / "joined.parquet")
        pq.write_table(truth, tmp_path / "at-once.parquet", compression="zstd", row_group_size=rows)
        assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "at-once.parquet").read_bytes()


def test_known_content_is_listed_by_the_digest_of_its_bytes(demo: Path) -> None:
    truth = pq.read_table(demo / "truth.parquet").to_pylist()
    listed = {row["url"] for row in truth if row["expected"] == "listed_hash"}
    known = [line for line in (demo / "known.txt").read_text().splitlines() if not line.startswith("#")]
    digests = set()
    for path in sorted((demo / "warc").iterdir()):
        with path.open("rb") as file:
            for record in ArchiveIterator(file):
                if record.rec_headers.get_header("WARC-Target-URI") in listed:
                    digests.add(sha256(record.content_stream().read()).hexdigest())
    assert sorted(digests) == known
    assert len(known) == len(listed)


def test_answers_are_as_broken_as_their_label_says(demo: Path) -> None:
    broken = {row["url"]: row["broken"] for row in pq.read_table(demo / "truth.parquet").to_pylist() if row["uid"]}
    seen = Counter[str]()
    for path in sorted((demo / "warc").iterdir()):
        with path.open("rb") as file:
            for record in ArchiveIterator(file):
                url = record.rec_headers.get_header("WARC-Target-URI")
                if url not in broken or record.http_headers.get_statuscode() != "200":
                    continue
                seen[broken[url]] += 1
                body = record.content_stream().read()
                if broken[url] == "html":
                    assert body.startswith(b"<!doctype html>")
                elif broken[url] == "too_many_pixels":
                    assert int.from_bytes(body[16:20], "big") * int.from_bytes(body[20:24], "big") > 40_000_000
                    assert len(body) < 1_000
                elif broken[url] == "truncated":
                    with pytest.raises(OSError, match="truncated"):
                        Image.open(BytesIO(body)).load()
                else:
                    Image.open(BytesIO(body)).verify()
    assert set(seen) == {"", "html", "too_many_pixels", "truncated"}


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_picture_is_upright_for_readers_who_obey_exif(orientation: int) -> None:
    data = answers.encode(DrawnPicture(SCENE, 160, 100, "JPEG", 95, orientation))
    image = Image.open(BytesIO(data))
    assert image.size == ((160, 100) if orientation == 3 else (100, 160))
    upright = ImageOps.exif_transpose(image)
    difference = ImageStat.Stat(ImageChops.difference(upright.convert("RGB"), draw(SCENE, 160, 100)))
    assert max(difference.mean) < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_has_its_format_and_size_and_the_same_bytes_again(kind: answers.Format) -> None:
    answer = HostAnswer("https://images.x.example/a", picture=DrawnPicture(SCENE, 120, 90, kind))
    assert answers.body(answer) == answers.body(answer)
    image = Image.open(BytesIO(answers.body(answer)))
    assert (image.format, image.size) == (kind, (120, 90))
    assert answers.content_type(answer) == f"image/{kind.lower()}"


def test_an_unknown_part_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(crawl.DemoError, match="see part_names"):
        crawl.write_part(tmp_path, name="wat-00004", **SIZE)


def test_an_unfinished_crawl_is_refused_with_the_missing_part(tmp_path: Path) -> None:
    crawl.write_part(tmp_path, name="wat-00000", **SIZE)
    with pytest.raises(crawl.DemoError, match="write the part 'wat-00001'"):
        crawl.finish(tmp_path, **PARTS)
