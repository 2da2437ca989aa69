"""Rounds: what failed for now is tried again, and nothing else is; the shard is as if it had been tried once."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from made.servers.downloads import picture, write_work

from laion_dask import params, schema
from laion_dask.download import parts as download_parts
from laion_dask.download import rounds
from laion_dask.download.part import download
from laion_dask.runner import parts, tasks
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources
from laion_dask.schema.ledger import Ledger
from laion_dask.storage import shards
from laion_dask.storage.files import digest
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.fetch.limit_server import LimitServer


class Web:
    """Answers with pictures; `/ill/N` fails N times first, `/gone` is 404, `/down` never answers."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.well = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] += 1
        _, kind, *rest = request.path.split("/")
        if kind == "gone" or kind in {"robots.txt", ".well-known"}:
            return web.Response(status=404)
        failing = kind == "down" or (kind == "ill" and self.asked[request.path] <= int(rest[0]))
        if failing and not self.well:
            return web.Response(status=503)
        headers = {"Date": "Thu, 26 Nov 2026 12:00:00 +0100"} if kind == "ill" else {"Date": ""}
        return web.Response(body=picture(len(request.path), 64, 64), headers=headers)


@pytest.fixture
def web_() -> Web:
    return Web()


@pytest.fixture
def server(web_: Web) -> Iterator[Loopback]:
    with Loopback(web_.answer) as loopback:
        yield loopback


@pytest.fixture
def settings(defaults: params.Params) -> params.Params:
    quick = {"retries": 0, "rounds": 3, "rights": ()}
    return defaults.model_copy(update={"download": defaults.download.model_copy(update=quick)})


PATHS = ["/ok/1", "/ill/1", "/gone", "/ill/2", "/down", "/ok/22", "/ill/1/333"]


class Runs:
    """Runs parts as the frame does, in this process; counts those that were not finished."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.ran: list[str] = []

    def __call__(self, function: PartFunction, todo: Sequence[Part], shared: Resources) -> list[Done]:
        done = []
        for part in todo:
            folder = self.work / part.key
            if not folder.exists():
                self.ran.append(part.name)
            done.append(Done(part, folder, tasks.finish_part(function, str(folder), {**part.args, **shared})))
        return done


def run(runs: Runs, work: Path, settings: params.Params, server: Loopback) -> Sequence[Done]:
    with LimitServer(settings.download) as limit_server:
        shared = {"replay": server.address, "user_agent": "test", "workers": 1, "limit_server": limit_server.address}
        args = {"name": "00000", "work": work, "settings": settings.download}
        first = runs(download, [Part("00000", digest(work), args)], shared)
        return download_parts.try_again(settings.download, shared, first, runs)


def rows_of(done: Sequence[Done]) -> list[dict[str, Any]]:
    return shards.read_rows(done[0].folder / "00000.parquet").to_pylist()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return write_work(tmp_path / "work.parquet", [f"http://h{place}.example{path}" for place, path in enumerate(PATHS)])


def test_what_failed_for_now_is_tried_again_and_nothing_else_is(
    tmp_path: Path, work: Path, settings: params.Params, server: Loopback, web_: Web
) -> None:
    (tmp_path / "parts").mkdir()
    runs = Runs(tmp_path / "parts")
    done = run(runs, work, settings, server)
    rows = rows_of(done)
    assert [row["reason"] for row in rows] == ["keep", "keep", "not_found", "keep", "http_error", "keep", "keep"]
    assert [web_.asked[path] for path in PATHS] == [1, 2, 1, 3, 3, 1, 2]
    assert runs.ran == ["00000", "00000-2", "00000-3", "00000"]
    counts = done[0].counts
    Ledger.from_dict(counts["images"]).check("test", expected=len(PATHS))
    assert (counts["images"]["kept"], counts["later"], counts["bytes"]) == (5, 1, sum(row["bytes"] for row in rows))
    dates = {path: row["server_date"] for path, row in zip(PATHS, rows, strict=True)}
    assert {dates[path] for path in PATHS if path.startswith("/ill")} == {"2026-11-26T11:00:00Z"}
    assert {dates[path] for path in PATHS if path.startswith("/ok")} == {None}


def test_a_shard_of_several_rounds_is_as_one_that_was_tried_once(
    tmp_path: Path, work: Path, settings: params.Params, server: Loopback, web_: Web
) -> None:
    for name in ("ill", "well"):
        web_.well = name == "well"
        (tmp_path / name).mkdir()
        done = run(Runs(tmp_path / name), work, settings, server)
        images = dict(shards.read_shard(done[0].folder / "00000.tar"))
        keys = [row["key"] for row in rows_of(done) if row["reason"] == "keep"]
        assert list(images) == keys
        if name == "ill":
            ill = images
    web_well = {key: images[key] for key in ill}
    assert ill == web_well
    assert len(images) == len(ill) + 1


def test_a_run_that_is_repeated_fetches_nothing_and_gives_the_same_bytes(
    tmp_path: Path, work: Path, settings: params.Params, server: Loopback, web_: Web
) -> None:
    (tmp_path / "parts").mkdir()
    runs = Runs(tmp_path / "parts")
    done = run(runs, work, settings, server)
    files = {path.name: path.read_bytes() for path in parts.files(done[0]) if path.parent == done[0].folder}
    asked = web_.asked.total()
    shutil.rmtree(done[0].folder)
    runs.ran.clear()
    again = run(runs, work, settings, server)
    assert (runs.ran, web_.asked.total()) == (["00000"], asked)
    assert {name: (again[0].folder / name).read_bytes() for name in files} == files
    assert set(files) == {"00000.tar", "00000.parquet", "00000_stats.json"}


def test_one_more_round_fetches_only_what_is_left(
    tmp_path: Path, work: Path, settings: params.Params, server: Loopback, web_: Web
) -> None:
    (tmp_path / "parts").mkdir()
    runs = Runs(tmp_path / "parts")
    for number in (1, 2):
        changed = settings.download.model_copy(update={"rounds": number})
        rows = rows_of(run(runs, work, settings.model_copy(update={"download": changed}), server))
        assert [row["reason"] for row in rows].count("keep") == (2 if number == 1 else 4)
    assert [web_.asked[path] for path in PATHS] == [1, 2, 1, 2, 2, 1, 2]


def test_every_try_is_timed_beside_the_shard(
    tmp_path: Path, work: Path, settings: params.Params, server: Loopback
) -> None:
    (tmp_path / "parts").mkdir()
    done = run(Runs(tmp_path / "parts"), work, settings, server)
    rounds.join_tries(
        [rounds.tries_file(part.folder, "00000") for part in done], tmp_path / "times" / "download.parquet"
    )
    tries = schema.TRIES.check(pq.read_table(tmp_path / "times" / "download.parquet")).to_pylist()
    keys = [row["key"] for row in rows_of(done)]
    assert [sum(row["key"] == key for row in tries) for key in keys] == [1, 2, 1, 3, 3, 1, 2]
    told = [(row["round"], row["attempt"], row["http_status"], row["outcome"], row["reason"]) for row in tries]
    assert [row for row, tried in zip(told, tries, strict=True) if tried["key"] == keys[3]] == [
        (1, 1, 503, "http_error", "http_error"),
        (2, 1, 503, "http_error", "http_error"),
        (3, 1, 200, "keep", "keep"),
    ]
    assert all(0 < row["seconds"] < 60 for row in tries)


def test_a_row_that_waits_for_all_others_holds_up_none_of_them(tmp_path: Path, settings: params.Params) -> None:
    others, asked = asyncio.Event(), Counter[str]()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked[request.path] += 1
        if request.path == "/slow":
            await others.wait()
        if sum(path.endswith(".jpg") for path in asked) == 299:
            others.set()
        return web.Response(body=picture(1, 64, 64))

    urls = ["http://slow.example/slow", *(f"http://h{place % 50}.example/{place}.jpg" for place in range(299))]
    work = write_work(tmp_path / "work.parquet", urls)
    quick = settings.download.model_copy(update={"connections": 8, "timeout_s": 60.0})
    (tmp_path / "out").mkdir()
    with Loopback(answer) as server:
        counts = download(
            tmp_path / "out", name="00000", work=work, settings=quick, replay=server.address, user_agent="t", workers=1
        )
    assert counts["images"]["kept"] == 300
    keys = [key for key, _ in shards.read_shard(tmp_path / "out" / "00000.tar")]
    assert keys == [f"00000{place:04d}" for place in range(300)]
