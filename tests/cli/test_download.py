"""`laion-dask download` without a project: tables in; shards, a funnel and one clear line for every mistake out."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from aiohttp import web
from made.places import ROOT
from made.processes import programs
from made.processes.dask_clients import threads_of_this_process
from made.servers.downloads import JPEG, Response, picture, write_warc
from PIL import Image
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.cluster import kinds, settings
from laion_dask.download.rates import DownloadRates
from laion_dask.images.blur import blur
from laion_dask.runner.progress import Progress
from laion_dask.standalone.download import WORK
from laion_dask.storage import shards
from laion_dask.storage.shards import SIZES
from laion_dask.web.archive.replay import Replay

if TYPE_CHECKING:
    from distributed import Client

PICTURES = {f"http://h{place}.example/{place}.jpg": picture(place) for place in range(6)}
URLS = [*PICTURES, "http://h0.example/gone.jpg", "ftp://h1.example/1.jpg", "no address", ""]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, without a project, with an archive of six images beside it."""
    no: Response = ("http://h5.example/robots.txt", "200 OK", [], b"User-agent: *\nDisallow: /\n")
    write_warc(tmp_path / "a.warc.gz", [no, *((url, "200 OK", JPEG, body) for url, body in PICTURES.items())])
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture(autouse=True)
def asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run on threads of this process; holds the workers that each run asked for."""
    found: list[int] = []

    @contextmanager
    def opened(stage: str, *, gpu: bool = False) -> Iterator[Client]:
        assert not gpu
        found.append(settings.settings(stage).workers or 0)
        yield client

    monkeypatch.setattr(kinds, "open_client", opened)
    return found


def run(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["download", *map(str, args)], env={"COLUMNS": "80"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def write(path: Path, urls: Sequence[str] = URLS, **columns: Sequence[Any]) -> Path:
    texts = [f"text {place}" for place in range(len(urls))]
    pq.write_table(pa.table({"url": urls, "text": texts, **columns}), path)
    return path


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


# What comes out


def test_a_table_becomes_shards_with_a_row_for_every_url_and_a_funnel(here: Path) -> None:
    status, said, told = run(write(here / "t.parquet"), "--out", "o", "--replay", "../a.warc.gz", "--shard-rows", 4)
    assert status == 0, told
    out = here / "o"
    shards = ("00000", "00001", "00002")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"{name}{end}" for name in shards for end in (".parquet", ".tar", "_stats.json")), SIZES]
    )
    found = {row["url"]: row for row in rows(out)}
    assert {url: row["reason"] for url, row in found.items()} == {
        **dict.fromkeys(list(PICTURES)[:5], "keep"),
        "http://h5.example/5.jpg": "robots",
        "http://h0.example/gone.jpg": "not_found",
        "ftp://h1.example/1.jpg": "unreachable",
        "no address": "unreachable",
        "": "unreachable",
    }
    first = found["http://h0.example/0.jpg"]
    assert first["uid"] == hashlib.md5(b"text 0http://h0.example/0.jpg").hexdigest()
    assert first["sha256"] == hashlib.sha256(PICTURES["http://h0.example/0.jpg"]).hexdigest()
    assert first["caption"] == "text 0"
    assert sum(json.loads((out / SIZES).read_text()).values()) == 5
    words = " ".join(said.split())
    assert "images │ 10 │ 5 │ robots 1, unreachable 3, not_found 1" in words
    assert "50.0% success" in words
    assert "wrote 5 images" in words
    assert "t.parquet into o, rules: the package's" in told


def test_the_line_that_shows_how_to_look_at_it_works_as_printed(here: Path) -> None:
    _, said, _ = run(write(here / "t.parquet"), "--out", here / "o [red]", "--replay", "../a.warc.gz")
    (line,) = [line for line in said.splitlines() if line.startswith("look")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = programs.finished(["bash", "-c", line.removeprefix("look")], check=True, env={"PATH": path})
    assert "http://h0.example/gone.jpg" in shown.stdout


@pytest.mark.parametrize("order", ["spread", "given"])
def test_the_same_table_gives_the_same_bytes_with_one_worker_and_two(here: Path, asked: list[int], order: str) -> None:
    table = write(here / "t.parquet")
    for workers in (1, 2):
        options = ["--replay", "../a.warc.gz", "--shard-rows", 4, "--workers", workers, "--order", order]
        assert run(table, "--out", here / str(workers), *options)[0] == 0
    assert digests(here / "1") == digests(here / "2")
    assert asked == [1, 2]


def test_rows_keep_the_order_of_the_tables_where_it_is_asked_for(here: Path) -> None:
    tables = [write(here / "a.parquet", URLS[:3]), write(here / "b.parquet", URLS[3:])]
    run(*tables, "--out", "o", "--replay", "../a.warc.gz", "--shard-rows", 4, "--order", "given")
    assert [row["url"] for row in rows(here / "o")] == URLS
    assert [row["key"] for row in rows(here / "o")][:5] == ["000000", "000001", "000002", "000003", "000010"]


def test_images_are_made_as_the_options_say(here: Path) -> None:
    options = ["--image-size", 64, "--resize-mode", "center_crop", "--shard-digits", 8]
    run(write(here / "t.parquet"), "--out", "o", "--replay", "../a.warc.gz", *options)
    assert (here / "o" / "00000000.tar").is_file()
    kept = [row for row in rows(here / "o") if row["reason"] == "keep"]
    assert {(row["width"], row["height"]) for row in kept} == {(64, 64)}
    assert all(len(row["key"]) == 12 for row in kept)


def test_further_columns_stay_with_their_types(here: Path) -> None:
    table = write(here / "t.parquet", score=[place / 10 for place in range(10)], tags=[[str(i)] for i in range(10)])
    run(table, "--out", "o", "--replay", "../a.warc.gz", "--save-additional-columns", "score,tags")
    found = pq.read_table(here / "o" / "00000.parquet")
    assert found.schema.field("score").type == pa.float64()
    assert found.schema.field("tags").type.value_type == pa.string()
    (row,) = [row for row in found.to_pylist() if row["url"] == URLS[3]]
    assert (row["score"], row["tags"]) == (0.3, ["3"])


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256", "sha512"])
def test_bytes_with_another_hash_than_the_table_says_are_refused(here: Path, kind: str) -> None:
    urls = list(PICTURES)[:3]
    hashes = [hashlib.new(kind, PICTURES[urls[0]]).hexdigest().upper(), hashlib.new(kind, b"other").hexdigest(), None]
    table = write(here / "t.parquet", urls, h=hashes)
    status, said, told = run(table, "--out", "o", "--replay", "../a.warc.gz", "--hash-col", "h")
    assert status == 0, told
    found = {row["url"]: row for row in rows(here / "o")}
    assert [found[url]["reason"] for url in urls] == ["keep", "hash_mismatch", "keep"]
    assert found[urls[1]]["status"] == "failed_to_download"
    assert found[urls[1]]["error_message"] == "hash mismatch"
    assert "hash_mismatch 1" in said


@pytest.mark.slow
def test_boxes_of_a_column_are_blurred_and_the_hashes_are_of_what_was_received(here: Path) -> None:
    urls = list(PICTURES)[:3]
    boxes = [[[0.25, 0.2, 0.5, 0.8]], [], None]
    table = write(here / "t.parquet", urls, bboxes=pa.array(boxes, pa.list_(pa.list_(pa.float64()))))
    usual = [table, "--replay", "../a.warc.gz", "--encode-format", "png", "--order", "given"]
    assert run(*usual, "--out", "plain")[0] == 0
    more = ["--bbox-col", "bboxes", "--save-additional-columns", "bboxes"]
    assert run(*usual, "--out", "blurred", *more)[0] == 0
    plain, blurred = (dict(shards.read_shard(here / name / "00000.tar")) for name in ("plain", "blurred"))
    for place, key in enumerate(plain):
        before, after = (Image.open(io.BytesIO(one[key])) for one in (plain, blurred))
        wanted = blur(before, boxes[place] or ())
        assert np.array_equal(np.asarray(after), np.asarray(wanted))
        assert np.array_equal(np.asarray(after), np.asarray(before)) == (place > 0)
    hashed = ("md5", "sha256", "pdq")
    assert [[row[name] for name in hashed] for row in rows(here / "blurred")] == [
        [row[name] for name in hashed] for row in rows(here / "plain")
    ]
    assert [row["bboxes"] for row in rows(here / "blurred")] == boxes


@pytest.mark.slow
def test_rights_bind_as_asked(here: Path) -> None:
    table = write(here / "t.parquet", ["http://h5.example/5.jpg"])
    for words, reason in [("strict", "robots"), ("none", "keep"), ("tdmrep", "keep"), ("tdmrep,robots", "robots")]:
        run(table, "--out", here / words, "--replay", "../a.warc.gz", "--rights", words)
        assert [row["reason"] for row in rows(here / words)] == [reason], words


# Again


def test_a_finished_download_is_replaced_only_on_demand_and_what_is_not_ours_stays(here: Path) -> None:
    table = write(here / "t.parquet")
    run(table, "--out", "o", "--replay", "../a.warc.gz", "--shard-rows", 4)
    (here / "o" / "notes.txt").write_text("mine")
    before = digests(here / "o")
    write(table, URLS[:2])
    status, _, told = run(table, "--out", "o", "--replay", "../a.warc.gz")
    assert (status, digests(here / "o")) == (1, before)
    assert "o holds a finished download. Remedy: --overwrite" in told
    assert run(table, "--out", "o", "--replay", "../a.warc.gz", "--overwrite")[0] == 0
    names = {"00000.parquet", "00000.tar", "00000_stats.json", SIZES, "notes.txt"}
    assert {path.name for path in (here / "o").iterdir()} == names


@pytest.mark.slow
def test_an_interrupted_download_goes_on_and_asks_for_nothing_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write(here / "t.parquet")
    options = [table, "--replay", "../a.warc.gz", "--shard-rows", 2, "--workers", 1]
    assert run(*options, "--out", "whole")[0] == 0
    finish = Progress.finish

    def interrupted(self: Progress, name: str, weight: int, counts: dict[str, Any]) -> None:
        finish(self, name, weight, counts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "finish", interrupted)
        status, _, told = run(*options, "--out", "o")
    assert status == 130
    assert "Finished shards are kept" in told
    kept = {path.parent.name for path in (here / "o" / WORK / "parts").glob("*/counts.json")}
    assert kept
    asked: list[str] = []

    class Noted(Replay):
        async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
            asked.append(f"http://{request.host}{request.raw_path}")
            return await super()._answer(request)

    monkeypatch.setattr("laion_dask.download.answers.Replay", Noted)
    fetched = {
        row["url"]
        for name in kept
        for path in (here / "o" / WORK / "parts" / name).glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    status, _, told = run(*options, "--out", "o")
    assert (status, "resuming" in told) == (0, True), told
    assert asked
    assert not fetched & set(asked)
    assert digests(here / "o") == digests(here / "whole")


def test_a_second_run_on_the_same_folder_is_refused(here: Path) -> None:
    (here / "o" / WORK).mkdir(parents=True)
    with (here / "o" / WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, told = run(write(here / "t.parquet"), "--out", "o", "--replay", "../a.warc.gz")
    assert status == 1
    assert "another run is writing into o" in told


# Mistakes


GOOD = "t.parquet --out o --replay ../a.warc.gz"
MISTAKES = [
    ("t.parquet --replay ../a.warc.gz", 2, "no output folder. Remedy: give --out DIR"),
    ("--out o", 2, "no table given"),
    ("--contact you@your.example", 2, "no table given"),
    ("t.parquet --out o", 1, "no contact given, which the user agent must name. Remedy: --contact"),
    ("no.parquet --out o --replay ../a.warc.gz", 1, "no.parquet: no such file"),
    ("empty.csv --out o --replay ../a.warc.gz", 1, "empty.csv has no rows: nothing is asked for. Remedy: give a table"),
    ("t.parquet --out o --replay no.warc.gz", 1, "no such file: no.warc.gz"),
    (f"{GOOD} --url-col link", 1, "has no column 'link', but url, text, h. Remedy: correct --url-col"),
    (f"{GOOD} --caption-col alt", 1, "no column 'alt', but url, text, h. Remedy: correct --caption-col"),
    (f"{GOOD} --save-additional-columns x", 1, "no column 'x'"),
    (f"{GOOD} --save-additional-columns url", 1, "'url' is written by the download itself"),
    (f"{GOOD} --hash-col h", 1, "'abc', 3 characters, which is not a digest"),
    (f"{GOOD} --hash-col x", 1, "no column 'x'"),
    (f"{GOOD} --bbox-col x", 1, "no column 'x'"),
    (f"{GOOD} --bbox-col h", 1, "t.parquet cannot be read: "),
    (f"{GOOD} --bbox-col h --encode-format original --resize-mode no", 1, "Remedy: --encode-format jpg"),
    (f"{GOOD} --rights robot", 1, "no such signal: robot. Remedy: strict, none, or some of robots, "),
    (f"{GOOD} --input-format jsonl", 1, "t.parquet cannot be read: "),
    ("t.dat --out o --replay ../a.warc.gz", 1, "what format is it? Remedy: --input-format"),
    ("t.parquet --out t.dat --replay ../a.warc.gz", 1, "cannot write into t.dat"),
    (f"{GOOD} --shard-rows 1 --shard-digits 1", 1, "more than 10 shards. Remedy: more --shard-digits"),
    (f"{GOOD} --recipe nothing", 1, "there is no recipe 'nothing'"),
    ("t.parquet --out foreign --replay ../a.warc.gz", 1, "00000.tar does not belong to a download"),
]


@pytest.mark.parametrize(("options", "status", "told"), MISTAKES)
def test_a_mistake_is_told_in_one_message_with_the_remedy(here: Path, options: str, status: int, told: str) -> None:
    write(here / "t.parquet", [*URLS, "x"], h=["abc", *[None] * 10])
    (here / "t.dat").write_text("x")
    (here / "empty.csv").write_text("url,text\n")
    (here / "foreign").mkdir()
    (here / "foreign" / "00000.tar").write_bytes(b"")
    found, _, said = run(*options.split())
    assert found == status
    assert told in " ".join(said.split())
    # What is refused leaves nothing behind, and what was there is as it was.
    assert {path.name for path in here.iterdir()} == {"t.parquet", "t.dat", "empty.csv", "foreign"}
    assert [path.name for path in (here / "foreign").iterdir()] == ["00000.tar"]


def test_where_no_url_gives_an_image_the_command_fails(here: Path) -> None:
    status, said, told = run(write(here / "t.parquet", ["no"]), "--out", "o", "--replay", "../a.warc.gz")
    assert status == 1
    assert "unreachable 1" in said
    assert "none of 1 URLs gave an image" in told


# Progress


def test_progress_has_rates_success_reasons_slow_hosts_and_time_left() -> None:
    rates = DownloadRates()
    progress = Progress("download", "images", rates)
    progress.start(4, [], [100] * 4)
    progress.begin("00001")
    images = {"seen": 100, "kept": 60, "dropped": {"not_found": 30, "timeout": 10}}
    slow = [{"host": "slow.example", "tries": 2, "seconds": 9.0}, {"host": "quick.example", "tries": 4, "seconds": 2.0}]
    progress.finish("00000", 100, {"images": images, "bytes": 5_000_000, "hosts": 2, "slow": slow})
    line = progress.line()
    assert "download 1/4 parts" in line
    assert "100 images, " in line
    assert "60% good" in line
    assert re.fullmatch(r"[\d,]+ images/s, [\d,.]+ MB/s, 60\.0% success", rates.rates())
    assert "s left" in line
    assert "not_found 30, timeout 10" in line
    assert "slowest slow.example 4.5 s, quick.example 0.5 s" in line


# The documentation

PARAMETERS_OF_IMG2DATASET = """
    url_list image_size output_folder processes_count resize_mode resize_only_if_bigger upscale_interpolation
    downscale_interpolation encode_quality encode_format skip_reencode output_format input_format url_col caption_col
    bbox_col thread_count number_sample_per_shard extract_exif save_additional_columns timeout enable_wandb
    wandb_project oom_shard_count compute_hash verify_hash distributor subjob_size retries disable_all_reencoding
    min_image_size max_image_area max_aspect_ratio incremental_mode max_shard_retry user_agent_token
    disallowed_header_directives
"""


def test_the_page_maps_every_parameter_of_img2dataset_to_options_that_exist() -> None:
    page = (ROOT / "docs" / "download.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| `")]
    mapped = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(PARAMETERS_OF_IMG2DATASET.split()) <= mapped
    shown = typer.main.get_command(app).commands["download"]  # type: ignore[attr-defined]
    options = {option for parameter in shown.params for option in parameter.opts}
    theirs = {f"--{name}" for name in PARAMETERS_OF_IMG2DATASET.split()}
    assert set(re.findall(r"--[a-z][a-z_-]+", page)) - theirs <= options


def test_rows_that_cannot_be_used_are_counted_with_their_line_and_the_others_are_downloaded(here: Path) -> None:
    good = [json.dumps({"url": url, "caption": 'a "quoted" text'}) for url in list(PICTURES)[:5]]
    odd = ['{"url": "http://h0.example/0.jpg", "caption": ["a"]}', '{"url": ', '{"url": ["http://h0.example/0.jpg"]}']
    (here / "urls [1].jsonl").write_text("\n".join([*good, *odd]) + "\n")
    (here / "urls 1.jsonl").write_text("another table")
    status, said, told = run("urls [1].jsonl", "--out", "o", "--replay", "../a.warc.gz", "--order", "given")
    assert status == 0, told
    found = rows(here / "o")
    assert [row["reason"] for row in found] == ["keep"] * 5 + ["bad_row"] * 3
    assert [row["caption"] for row in found[:5]] == ['a "quoted" text'] * 5
    places = [row["error_message"].split(": ")[0] for row in found[5:]]
    assert places == [f"urls [1].jsonl, line {number}" for number in (6, 7, 8)]
    assert {row["status"] for row in found[5:]} == {"failed_to_download"}
    assert "bad_row 3" in said
