"""A machine that is slow or busy gives the same version: what answers a replay is ours, and no clock ends a row."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from made.processes import programs
from made.projects.project import SMALL, Project
from made.servers.downloads import JPEG, Response, picture, write_warc, write_work

from laion_dask import params, schema
from laion_dask.download.part import download
from laion_dask.web.archive.replay import Loopback, Replay
from laion_dask.web.fetch.exchange import ReplayGoneError
from laion_dask.web.fetch.replay_address import MARK, NO_ANSWER
from laion_dask.web.fetch.retry_after import retry_after_s
from laion_dask.web.warc import cdxj

ANSWERS: list[Response] = [
    *((f"http://h{place % 3}.example/{place}.jpg", "200 OK", JPEG, picture(place, 64, 64)) for place in range(12)),
    ("https://tls.example/a.jpg", "200 OK", JPEG, picture(20)),
    ("http://ill.example/busy.jpg", "429 Too Many Requests", [("Retry-After", "3600")], b""),
    ("http://ill.example/later.jpg", "429 Too Many Requests", [("Retry-After", "20")], b""),
    ("http://ill.example/error.jpg", "503 Oops", [], b""),
    ("http://ill.example/away.jpg", "302 Found", [("Location", "http://nowhere.example/b.jpg")], b""),
    ("http://busy-robots.example/robots.txt", "503 Oops", [("Retry-After", "20")], b""),
    ("http://busy-robots.example/a.jpg", "200 OK", JPEG, picture(21)),
    ("https://under_score.example/a.jpg", "200 OK", JPEG, picture(23)),
    ("http://forged.example/a.jpg", "200 OK", [*JPEG, (MARK, NO_ANSWER)], picture(22)),
]
URLS = [
    *(url for url, *_ in ANSWERS if "robots.txt" not in url),
    *(f"http://nowhere.example/{place}.jpg" for place in range(6)),
    "http://h0.example/gone.jpg",
    "http://8.8.8.8/a.jpg",
    f"https://{'long' * 20}.example/a.jpg",
]
# Values that a live host that is as slow as this would fail by; the version may depend on them, never on the clock.
HASTY = {"timeout_s": 0.05, "retries": 1, "host_failures": 1, "host_budget_s": 0.05, "host_budget_rows": 1}


class Busy(Replay):
    """Answers late, and loses the first connections that ask for an address."""

    def __init__(self, paths: list[Path], *, delay_s: float = 0.0, lost: int = 0) -> None:
        super().__init__(paths)
        self._delay_s = delay_s
        self._lost = lost
        self._asked: Counter[str] = Counter()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(self._delay_s)
        self._asked[request.host + request.path] += 1
        if self._asked[request.host + request.path] <= self._lost and request.transport is not None:
            request.transport.abort()
        return await super()._answer(request)


def shard(
    folder: Path, replay: Loopback, settings: params.Download, workers: int = 1, urls: Sequence[str] = URLS
) -> dict[str, Any]:
    """Download the work list, and return the bytes of each file of the version, and the counts without the trace."""
    work = write_work(folder.with_suffix(".parquet"), urls)
    folder.mkdir()
    counts = download(
        folder, name="00000", work=work, settings=settings, replay=replay.address, user_agent="t", workers=workers
    )
    counts.pop("slow")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} | {"counts": counts}


@pytest.fixture(scope="module")
def warc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_warc(tmp_path_factory.mktemp("warc") / "a.warc.gz", ANSWERS)


@pytest.fixture(scope="module")
def settings(defaults: params.Params) -> params.Download:
    return defaults.download.model_copy(update={**HASTY, "archive": True})


@pytest.fixture(scope="module")
def fast(warc: Path, settings: params.Download, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with Replay([warc]) as replay:
        return shard(tmp_path_factory.mktemp("fast") / "out", replay, settings)


def test_the_first_run_has_good_rows_and_those_of_hosts_that_do_not_answer(fast: dict[str, Any]) -> None:
    dropped = {"unreachable": 9, "http_error": 3, "robots": 1, "not_found": 1}
    assert fast["counts"]["images"] == {"seen": len(URLS), "kept": 15, "dropped": dropped}
    assert fast.keys() == {f"00000{end}" for end in (".tar", ".parquet", "_stats.json", ".warc.gz", ".cdxj")} | {
        "counts"
    }


@pytest.mark.parametrize(
    "busy",
    [
        lambda warc: Busy([warc], delay_s=0.3),
        lambda warc: Busy([warc], lost=1),
        lambda warc: Busy([warc], delay_s=0.1, lost=2),
    ],
    ids=["late", "connections lost", "both"],
)
@pytest.mark.parametrize("changes", [{"connections": 64}, {"connections": 1}], ids=["many", "one by one"])
def test_a_server_that_is_late_or_loses_connections_gives_the_same_bytes(
    tmp_path: Path,
    warc: Path,
    settings: params.Download,
    fast: dict[str, Any],
    busy: Callable[[Path], Busy],
    changes: dict[str, object],
) -> None:
    with busy(warc) as replay:
        assert shard(tmp_path / "out", replay, settings.model_copy(update=changes), workers=3) == fast


def test_a_server_that_loses_every_connection_is_an_error_and_no_verdict(
    tmp_path: Path, warc: Path, settings: params.Download
) -> None:
    # Without TLS: a connection that is lost while it is made complains of the loop that has ended meanwhile.
    with Busy([warc], lost=1_000) as replay, pytest.raises(ReplayGoneError, match=r"is gone.*Remedy: run again"):
        shard(tmp_path / "out", replay, settings, urls=URLS[:12])


def test_nobody_waits_for_a_host_that_was_recorded(tmp_path: Path, warc: Path, settings: params.Download) -> None:
    # Retry-After of 20 s is in the archive three times; intervals of an hour are for hosts that are there.
    slow = {"max_retry_after_s": 60.0, "host_interval_s": 3600.0, "domain_interval_s": 3600.0, "retries": 3}
    began = time.monotonic()
    with Replay([warc]) as replay:
        shard(tmp_path / "out", replay, settings.model_copy(update=slow))
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("kind", ["how often a row was tried", "which round it is of"])
def test_no_column_of_a_version_has(kind: str) -> None:
    column = {"how often a row was tried": "attempts", "which round it is of": "round"}[kind]
    assert all(column not in table.names for table in schema.TABLES if table is not schema.TRIES)


def test_a_rebuild_from_the_archive_of_a_replay_has_the_same_bytes(
    tmp_path: Path, settings: params.Download, fast: dict[str, Any]
) -> None:
    for name in ("00000.warc.gz", "00000.cdxj"):
        (tmp_path / name).write_bytes(fast[name])
    index = cdxj.collect([tmp_path / "00000.warc.gz"], tmp_path / "all.cdxj")
    work = write_work(tmp_path / "work.parquet", URLS)
    (tmp_path / "out").mkdir()
    changed = settings.model_copy(update={"source": "archive"})
    download(
        tmp_path / "out",
        name="00000",
        work=work,
        settings=changed,
        replay=None,
        user_agent="t",
        workers=2,
        archive=index,
    )
    again = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert again == {name: body for name, body in fast.items() if name != "counts"}


def test_a_date_counts_from_when_a_recorded_answer_came() -> None:
    came = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)
    assert retry_after_s((("Retry-After", "Wed, 21 Oct 2015 07:28:09 GMT"),), came) == 9.0


@pytest.mark.slow
def test_the_demo_has_the_same_bytes_where_the_machine_stands_still_again_and_again(
    small: Project, tmp_path: Path
) -> None:
    hasty = {f"download.{name}": value for name, value in HASTY.items()} | {"download.timeout_s": 0.3}
    busy = Project.create(tmp_path / "busy", {**SMALL, **hasty})
    busy.adopt(small, "crawl", "extract", "catalog")
    process = busy.start("download", workers=1)
    parts = busy.folder / ".laion_dask" / "parts" / "download"
    programs.until(lambda: any(parts.glob("*")), "a part is under way", process)
    # Stopped for longer than any deadline of a host, with all its workers: servers, clients, decoders.
    stops = 0
    deadline = time.monotonic() + programs.PATIENCE_S
    # It stands still every other half second; when the time is up it runs on, and has as long once more to end.
    while process.poll() is None and time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            _signal_group(process.pid, number)
            time.sleep(0.5)
        stops += 1
    said = programs.ended(process)
    assert process.returncode == 0, said
    assert stops > 0
    assert busy.digests("download") == small.digests("download")
    assert busy.metrics("download") == small.metrics("download")


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
