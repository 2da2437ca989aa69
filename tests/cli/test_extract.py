"""`laion-dask extract` without a project: WATs in; tables, a funnel and one clear line for every mistake out."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import dask
import pyarrow.parquet as pq
import pytest
from made.crawls.wat_bytes import image, members, page_json, record
from made.places import ROOT
from made.processes import programs
from made.processes.dask_clients import threads_of_this_process
from made.projects.project import left_behind
from typer.testing import CliRunner

from laion_dask import params, schema
from laion_dask.cli.main import app
from laion_dask.cluster import kinds, settings
from laion_dask.extract.rates import ExtractRates
from laion_dask.params import recipes
from laion_dask.runner.progress import Progress
from laion_dask.standalone.extract import OUTS, WORK
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from distributed import Client

TABLES = {"reads.parquet": schema.READS, "losses.parquet": schema.LOSSES, "times.parquet": schema.TIMES}


def wat(*names: str, pages: int = 1) -> bytes:
    """Return a WAT with a page for each name, and an image on it that carries the name."""
    return members(
        *(
            record(
                page_json([image(f"a red {name} number {page}", f"{name}{page}.jpg")], url=f"https://{name}.example/")
            )
            for name in names
            for page in range(pages)
        )
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, without a project, with two WATs beside it."""
    for place, names in enumerate([("fox", "owl"), ("cat",)]):
        (tmp_path / "wats").mkdir(exist_ok=True)
        (tmp_path / "wats" / f"{place}.warc.wat.gz").write_bytes(wat(*names))
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture
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
    done = CliRunner().invoke(app, ["extract", *map(str, args)], env={"COLUMNS": "80"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "times.parquet")
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def texts(out: Path) -> list[str]:
    return sorted(text for path in (out / "pairs").glob("*") for text in pq.read_table(path)["text"].to_pylist())


# What comes out


@pytest.mark.usefixtures("asked")
def test_a_folder_of_wats_becomes_tables_a_funnel_and_rates(here: Path) -> None:
    status, said, told = run("../wats", "--out", "o")
    assert status == 0, told
    out = here / "o"
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTS)
    assert texts(out) == ["a red cat number 0", "a red fox number 0", "a red owl number 0"]
    for path in sorted((out / "pairs").iterdir()):
        schema.PAIRS.check(pq.read_table(path))
    for name, table in TABLES.items():
        table.check(pq.read_table(out / name))
    reads = pq.read_table(out / "reads.parquet").to_pylist()
    assert [(row["order"], row["pages"], row["pairs"]) for row in reads] == [(0, 2, 2), (1, 1, 1)]
    assert pq.read_table(out / "times.parquet")["wat"].to_pylist() == [row["wat"] for row in reads]
    words = " ".join(said.split())
    assert re.search(r"records │ 3 │ 3 .* links │ 3 │ 3 ", words)
    assert re.search(r"[\d,]+ pages/s, [\d,]+ pairs/s, [\d.]+ MB/s", words)
    assert "wrote 3 pairs" in words
    assert "2 WATs into o, rules: the package's" in told


@pytest.mark.usefixtures("asked")
def test_the_line_that_shows_how_to_look_at_it_works_as_printed(here: Path) -> None:
    _, said, _ = run("../wats", "--out", here / "o [red]")
    (line,) = [line for line in said.splitlines() if line.startswith("look")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = programs.finished(["bash", "-c", line.removeprefix("look")], check=True, env={"PATH": path})
    assert "a red fox number 0" in shown.stdout


@pytest.mark.usefixtures("asked")
def test_nothing_is_written_beside_the_out(here: Path) -> None:
    assert run("../wats", "--out", "o")[0] == 0
    assert [path.name for path in here.iterdir()] == ["o"]


def test_no_more_workers_are_started_than_there_are_wats(here: Path, asked: list[int]) -> None:
    with dask.config.set({"laion-dask.cluster.workers": 7}):
        assert run("../wats", "--out", here / "a", "--workers", 9)[0] == 0
        assert run("../wats", "--out", here / "b")[0] == 0
        assert run("../wats", "--out", here / "c", "--workers", 1)[0] == 0
    assert asked == [2, 2, 1]


@pytest.mark.usefixtures("asked")
def test_the_same_wats_give_the_same_bytes_with_one_worker_and_two(here: Path) -> None:
    run("../wats", "--out", here / "a", "--workers", 1)
    run("../wats", "--out", here / "b", "--workers", 2)
    assert digests(here / "a") == digests(here / "b") != {}


@pytest.mark.usefixtures("asked")
def test_both_readers_give_the_same_pairs(here: Path) -> None:
    for reader in ("fastwarc", "warcio"):
        assert run("../wats", "--out", here / reader, "--reader", reader)[0] == 0
    tables = [pq.read_table(here / reader / "pairs") for reader in ("fastwarc", "warcio")]
    assert tables[0].equals(tables[1])


# Rules


def test_the_package_carries_its_params() -> None:
    assert params.load(packaged.parameters()) == params.load(ROOT / "params.yaml")


@pytest.mark.usefixtures("asked")
def test_rules_come_from_the_package_a_file_or_a_recipe(here: Path) -> None:
    (here.parent / "wats" / "short.warc.wat.gz").write_bytes(members(record(page_json([image("ox")]))))
    text = (ROOT / "params.yaml").read_text()
    assert "  min_chars: 5 " in text
    (here / "mine.yaml").write_text(text.replace("  min_chars: 5 ", "  min_chars: 18 "))
    assert recipes.load("cc2dataset", ROOT / "params.yaml").extract.min_chars < 3
    pairs = {}
    for name, options in {"own": [], "file": ["--params", "mine.yaml"], "recipe": ["--recipe", "cc2dataset"]}.items():
        status, _, told = run("../wats", "--out", here / name, *options)
        assert status == 0, told
        pairs[name] = len(texts(here / name))
    assert pairs == {"own": 3, "file": 3, "recipe": 4}
    assert "recipe cc2dataset" in told


# Again


@pytest.mark.usefixtures("asked")
def test_a_finished_extraction_is_replaced_only_on_demand_and_what_is_not_ours_stays(here: Path) -> None:
    run("../wats", "--out", here / "o")
    (here / "o" / "notes.txt").write_text("mine")
    before = digests(here / "o")
    (here.parent / "wats" / "1.warc.wat.gz").unlink()
    status, _, told = run("../wats", "--out", here / "o")
    assert status == 1
    assert "o holds a finished extraction" in told
    assert "Remedy: --overwrite replaces it" in told
    assert digests(here / "o") == before
    assert run("../wats", "--out", here / "o", "--overwrite")[0] == 0
    assert texts(here / "o") == ["a red fox number 0", "a red owl number 0"]
    assert (here / "o" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_folder_that_only_has_the_same_name_is_never_replaced(here: Path, options: list[str]) -> None:
    (here / "o" / "pairs").mkdir(parents=True)
    (here / "o" / "pairs" / "photo.jpg").touch()
    status, _, told = run("../wats", "--out", here / "o", *options)
    assert status == 1
    assert "o/pairs does not belong to an extraction. Remedy: give another folder" in told
    assert [path.name for path in (here / "o").rglob("*")] == ["pairs", "photo.jpg"]


@pytest.mark.usefixtures("asked")
def test_a_second_run_on_the_same_folder_is_refused(here: Path) -> None:
    (here / "o" / WORK).mkdir(parents=True)
    with (here / "o" / WORK / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, told = run("../wats", "--out", here / "o")
    assert status == 1
    assert "another run is writing into" in told
    assert run("../wats", "--out", here / "o")[0] == 0


# Hosts


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def host(here: Path) -> Iterator[str]:
    folder = here.parent / "wats"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("asked")
def test_a_wat_that_is_not_there_is_told_and_asked_for_again_by_the_same_command(here: Path, host: str) -> None:
    args = [f"{host}/0.warc.wat.gz", f"{host}/2.warc.wat.gz", "--out", here / "o"]
    status, said, told = run(*args)
    assert status == 1
    assert f"1 of 2 WATs could not be read completely:\n  {host}/2.warc.wat.gz: " in told
    assert "wat_unreadable 1" in said
    assert texts(here / "o") == ["a red fox number 0", "a red owl number 0"]
    (here.parent / "wats" / "2.warc.wat.gz").write_bytes(wat("elk"))
    (here.parent / "wats" / "0.warc.wat.gz").unlink()  # it was finished: nobody asks for it
    status, _, told = run(*args)
    assert status == 0, told
    assert "resuming" in told
    assert texts(here / "o") == ["a red elk number 0", "a red fox number 0", "a red owl number 0"]
    assert not (here / "o" / WORK).exists()


@pytest.mark.usefixtures("asked")
def test_where_no_wat_can_be_read_nothing_is_published(here: Path, host: str) -> None:
    status, _, told = run(f"{host}/8.warc.wat.gz", f"{host}/9.warc.wat.gz", "--out", here / "o")
    assert status == 1
    assert "none of the 2 WATs can be read; http" in told
    assert [path.name for path in (here / "o").iterdir()] == [WORK]


# Mistakes


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["../wats"], 2, "no output folder. Remedy: give --out DIR with ../wats"),
        (["--out", "o"], 2, "no WAT given. Remedy: give at least one file, folder, glob or URL"),
        (["--overwrite"], 2, "no WAT given"),
        (["../wats", "--out", "o", "--reader", "zip"], 2, "--reader"),
        (["../wats", "--out", "o", "--workers", "0"], 2, "--workers"),
        (["../wats", "--out", "o", "--wokers", "2"], 2, "--wokers"),
        (["none.wat.gz", "--out", "o"], 1, "none.wat.gz does not exist in"),
        (["../wats", "none.wat.gz", "--out", "o"], 1, "none.wat.gz does not exist in"),
        (["*.wat.gz", "--out", "o"], 1, "*.wat.gz does not exist in"),
        ([".", "--out", "o"], 1, ". holds no *.wat.gz"),
        (["gopher://a.example/x", "--out", "o"], 1, "Remedy: a local path, https:// or s3://"),
        (
            ["../wats", "--out", "o", "--recipe", "laion5b"],
            1,
            "there is no recipe 'laion5b'. Remedy: 'laion-5b', perhaps",
        ),
        (["../wats", "--out", "o", "--params", "none.yaml"], 1, "none.yaml is missing"),
        (["../wats", "--out", "../wats/0.warc.wat.gz"], 1, "cannot write into ../wats/0.warc.wat.gz (Not a directory)"),
        (
            ["../wats", "--out", "../wats/0.warc.wat.gz/o"],
            1,
            "(Not a directory). Remedy: give another folder with --out",
        ),
    ],
)
def test_every_mistake_ends_in_one_clear_message_and_writes_nothing(
    here: Path, args: list[str], status: int, message: str
) -> None:
    found, _, told = run(*args)
    assert found == status
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert list(here.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="a folder that nobody can write into is found in /proc")
@pytest.mark.usefixtures("here")
def test_an_out_that_cannot_be_written_is_refused() -> None:
    status, _, told = run("../wats", "--out", "/proc/sys/o")
    assert status == 1
    assert "cannot write into /proc/sys/o (" in told


# As a program, on real processes


@pytest.mark.slow
@pytest.mark.usefixtures("asked")
def test_ctrl_c_ends_with_130_leaves_no_process_and_the_same_command_goes_on(here: Path) -> None:
    shutil.rmtree(here.parent / "wats")
    (here / "wats").mkdir()
    for place in range(12):
        (here / "wats" / f"{place:02d}.warc.wat.gz").write_bytes(wat("fox", "owl", pages=100))
    (here / "wats" / "99.warc.wat.gz").write_bytes(wat("cat", pages=6_000))
    command = [sys.executable, "-m", "laion_dask.cli.main", "extract", "wats", "--workers", "1", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    first = programs.start([*command, "o"], cwd=here, env=environment)
    parts = here / "o" / WORK / "parts"
    programs.until(lambda: any(parts.glob("*/counts.json")), "a part is finished", first)
    os.killpg(first.pid, signal.SIGINT)
    said = programs.ended(first)
    assert first.returncode == 130, said
    assert "extract: interrupted. Finished WATs are kept; the same command resumes from here." in said
    assert "Traceback" not in said
    assert left_behind(here) == []
    finished = {path: path.stat().st_ino for path in (here / "o" / WORK / "parts").glob("*/pairs.parquet")}
    assert 0 < len(finished) < 13
    again = programs.finished([*command, "o"], cwd=here, env=environment)
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    assert run("wats", "--out", "fresh")[0] == 0
    assert digests(here / "o") == digests(here / "fresh")
    # Linked, not read again.
    assert set(finished.values()) <= {path.stat().st_ino for path in (here / "o" / "pairs").iterdir()}


def test_progress_tells_rates_and_the_time_that_is_left() -> None:
    rates = ExtractRates()
    progress = Progress("extract", "records", rates)
    progress.start(3, [], [100, 100, 100])
    progress.begin("000000")
    progress.started("000000", 0.0)
    assert re.fullmatch(r"extract  0/3 WATs  oldest 000000 \d+ s", progress.line())
    assert rates.rates() == ""
    time.sleep(0.05)
    ledger = {"seen": 5, "kept": 4, "dropped": {"no_alt": 1}}
    progress.finish("000000", 100, {"records": ledger, "links": ledger, "pages": 4, "bytes": 10**6})
    assert re.fullmatch(r"extract  1/3 WATs  \d+ pages/s, \d+ pairs/s, [\d.]+ MB/s  \d+ s left", progress.line())
    progress.stop()
