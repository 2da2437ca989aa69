"""A host that asks for pauses, or fails for now, holds a shard no longer than its budget; the others lose nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from made.processes import deadlines
from made.servers.downloads import picture, write_work

from laion_dask import params
from laion_dask.download import rounds
from laion_dask.download.part import download
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import LATER
from laion_dask.storage import shards
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.warc import cdxj

GOOD = [f"http://good{place % 4}.example/{place}.jpg" for place in range(24)]
PICTURE = picture(1, 64, 64)
BUDGET_S = 2.0
# Without a budget each of these would take from ten minutes to hours.
ENOUGH_S = 300.0


class Hosts:
    """Hosts by the first word of their names: good, busy (429, for half a minute), down (503), and others."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.host.partition(":")[0]
        if request.path in {"/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"} and host != "busy-rules.example":
            return web.Response(status=404)
        self.asked[host] += 1
        kind = host.partition(".")[0].partition("-")[0].rstrip("0123456789")
        if kind == "busy":
            return web.Response(status=429, headers={"Retry-After": "30"})
        if kind == "down" or (kind == "half" and self.asked[host] % 2):
            return web.Response(status=503)
        if kind == "moved":
            return web.Response(status=302, headers={"Location": f"http://busy.example{request.path}"})
        if kind == "drip" and self.asked[host] % 3:
            await asyncio.sleep(ENOUGH_S)
        return web.Response(body=PICTURE, content_type="image/jpeg")


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def settings(defaults: params.Params, **changes: object) -> params.Download:
    given: dict[str, Any] = {
        "source": "web",
        "contact": "https://crawler.example",
        "host_budget_s": BUDGET_S,
        "host_budget_rows": 10_000,
        "max_retry_after_s": 30.0,
        "retries": 2,
        "timeout_s": deadlines.LONG_S,
    }
    return defaults.download.model_copy(update=given | changes)


def shard(folder: Path, hosts: Hosts, rules: params.Download, urls: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Download a shard; return the reason of each row, and the counts."""
    work = write_work(folder.with_suffix(".parquet"), urls)
    folder.mkdir()
    with Loopback(hosts.answer) as server:
        counts = download(
            folder, name="00000", work=work, settings=rules, replay=server.address, user_agent="t", workers=1
        )
    Ledger.from_dict(counts["images"]).check("test", expected=len(urls))
    return shards.read_rows(folder / "00000.parquet")["reason"].to_pylist(), counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("urls", "changes", "ends", "most_asked"),
    [
        ([f"http://busy.example/{row}" for row in range(6)], {}, {"http_error", "host_budget"}, 4),
        ([f"http://busy.example/{row}" for row in range(500)], {}, {"http_error", "host_budget"}, 4),
        ([f"http://busy.example/{row}" for row in range(500)], {"retries": 0}, {"http_error", "host_budget"}, 4),
        ([f"http://busy-rules.example/{row}" for row in range(500)], {}, {"robots", "host_budget"}, 4),
        ([f"http://moved{row}.example/{row}" for row in range(500)], {}, {"http_error", "host_budget"}, 4),
        ([f"http://drip.example/{row}" for row in range(500)], {}, {"timeout", "host_budget"}, 40),
        ([f"http://down.example/{row}" for row in range(500)], {}, {"http_error", "host_budget"}, 40),
        (
            [f"http://down.example/{row}" for row in range(500)],
            {"host_budget_s": 3600.0, "host_budget_rows": 5},
            {"http_error", "host_budget"},
            40,
        ),
    ],
    ids=["six rows", "pauses", "no further try", "pauses of rules", "elsewhere", "timeouts", "errors", "rows"],
)
def test_a_shard_ends_within_the_budget_of_a_host_and_all_good_rows_are_there(
    tmp_path: Path,
    defaults: params.Params,
    hosts: Hosts,
    urls: list[str],
    changes: Mapping[str, object],
    ends: set[str],
    most_asked: int,
) -> None:
    began = time.monotonic()
    with deadlines.short_for(lambda url: "//drip.example/" in url):
        found, counts = shard(tmp_path / "out", hosts, settings(defaults, **changes), [*urls, *GOOD])
    assert time.monotonic() - began < ENOUGH_S
    assert found[len(urls) :] == ["keep"] * len(GOOD)
    assert ends <= set(found[: len(urls)]) <= ends | {"keep"}
    assert counts["later"] == sum(reason != "keep" for reason in found)
    asked = sum(count for host, count in hosts.asked.items() if not host.startswith(("good", "moved")))
    assert asked <= most_asked


def test_a_host_that_answers_every_other_time_loses_no_row_to_its_budget(
    tmp_path: Path, defaults: params.Params, hosts: Hosts
) -> None:
    rules = settings(defaults, host_budget_s=3600.0, host_budget_rows=5, retries=0)
    found, _ = shard(tmp_path / "out", hosts, rules, [f"http://half.example/{row}" for row in range(60)])
    assert Counter(found) == {"keep": 30, "http_error": 30}


@pytest.mark.slow
def test_a_shard_that_has_taken_its_time_leaves_the_rest_for_later(
    tmp_path: Path, defaults: params.Params, hosts: Hosts
) -> None:
    slow = [f"http://slow.example/{row}.jpg" for row in range(200)]
    rules = settings(defaults, shard_budget_s=3.0, host_interval_s=600.0)
    began = time.monotonic()
    # Each host may be asked once in ten minutes: the slow one for its rules, then for its first picture.
    found, counts = shard(tmp_path / "out", hosts, rules.model_copy(update={"rights": ()}), slow)
    assert time.monotonic() - began < ENOUGH_S
    assert set(found) == {"shard_budget"}
    assert counts["later"] == 200


@pytest.mark.slow
def test_what_a_budget_leaves_is_tried_in_the_next_round_with_a_new_budget(
    tmp_path: Path, defaults: params.Params, hosts: Hosts
) -> None:
    urls = [f"http://busy.example/{row}" for row in range(20)]
    rules = settings(defaults, retries=0)
    shard(tmp_path / "1", hosts, rules, urls)
    left = rounds.read_later(tmp_path / "1", "00000")
    assert left == list(range(20))
    (tmp_path / "2").mkdir()

    async def well(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=PICTURE, content_type="image/jpeg")

    with Loopback(well) as server:
        counts = download(
            tmp_path / "2",
            name="00000",
            work=tmp_path / "1.parquet",
            settings=rules,
            replay=server.address,
            user_agent="t",
            workers=1,
            before=tmp_path / "1",
            round_number=2,
        )
    assert (counts["images"]["kept"], counts["later"]) == (20, 0)
    tries = pq.read_table(rounds.tries_file(tmp_path / "1", "00000")).to_pylist()
    assert {(row["outcome"], row["http_status"]) for row in tries} == {("http_error", 429)}


@pytest.mark.slow
def test_what_a_budget_left_is_rebuilt_from_the_archive(tmp_path: Path, defaults: params.Params, hosts: Hosts) -> None:
    rules = settings(defaults, archive=True)
    found, _ = shard(tmp_path / "out", hosts, rules, [*(f"http://busy.example/{row}" for row in range(30)), *GOOD])
    assert "host_budget" in found
    index = cdxj.collect([tmp_path / "out" / "00000.warc.gz"], tmp_path / "all.cdxj")
    (tmp_path / "again").mkdir()
    began = time.monotonic()
    download(
        tmp_path / "again",
        name="00000",
        work=tmp_path / "out.parquet",
        settings=rules.model_copy(update={"source": "archive"}),
        replay=None,
        user_agent="t",
        workers=1,
        archive=index,
    )
    assert time.monotonic() - began < ENOUGH_S
    files = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert len(files) == 5
    assert {path.name: (tmp_path / "again" / path.name).read_bytes() for path in files} == {
        path.name: path.read_bytes() for path in files
    }


def test_the_reasons_of_budgets_are_tried_again() -> None:
    assert {"host_budget", "shard_budget"} <= LATER
