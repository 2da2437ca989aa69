"""What was asked for once is not asked for again: rows of earlier parts are taken over, counted at the server."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from made.servers.downloads import picture, write_work

from laion_dask import params, schema
from laion_dask.download import parts, takeover
from laion_dask.download.part import download
from laion_dask.params.download import PACING, Recheck
from laion_dask.runner import part_files
from laion_dask.runner import parts as runner_parts
from laion_dask.runner.attempts import PartFunction, finish_part
from laion_dask.runner.part import Done, Part, with_code
from laion_dask.runner.stage import Resources, home, taken_over
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import shards
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.workers import code_digest


class Web:
    """Answers with pictures and without a date; `/gone/…` is 404, and `/busy/…` 503 until `well`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.well = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked[request.path] += 1
        kind = request.path.split("/")[1]
        if kind in {"robots.txt", ".well-known", "ai.txt"}:
            return web.Response(status=404)
        if kind == "gone":
            return web.Response(status=404, headers={"Date": ""})
        if kind == "busy" and not self.well:
            return web.Response(status=503)
        return web.Response(body=picture(int(request.path.split("/")[2]), 64, 64), headers={"Date": ""})

    def pictures(self) -> int:
        """Count the requests for anything but rules of hosts."""
        return sum(times for path, times in self.asked.items() if path.split("/")[1] in {"ok", "gone", "busy"})


@pytest.fixture
def web_() -> Web:
    return Web()


@pytest.fixture
def server(web_: Web) -> Iterator[Loopback]:
    with Loopback(web_.answer) as loopback:
        yield loopback


@pytest.fixture
def rules(defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Download:
    monkeypatch.setenv("LAION_DASK_HOME", str(tmp_path / "home"))
    return defaults.download.model_copy(update={"retries": 0, "rounds": 2})


ROWS = 12  # of a shard


def addresses(count: int, kinds: Sequence[str] = ("ok", "ok", "gone")) -> list[str]:
    return [f"http://h{place % 5}.example/{kinds[place % len(kinds)]}/{place}" for place in range(count)]


def work_lists(folder: Path, urls: Sequence[str | None], rows: int = ROWS) -> list[Path]:
    """Write the work lists of a version; None is a pair that a removal took out: a gap."""
    folder.mkdir(parents=True)
    paths = []
    for number, first in enumerate(range(0, len(urls), rows)):
        some = [(place, url) for place, url in enumerate(urls[first : first + rows]) if url is not None]
        path = write_work(folder / f"{number:05d}.parquet", [url for _, url in some])
        named = [
            row | {"uid": uid(url), "place": place, "text": f"seen at {url}"}
            for row, (place, url) in zip(pq.read_table(path).to_pylist(), some, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(named, schema=schema.WORK.schema), path)
        paths.append(path)
    return paths


def uid(url: str) -> str:
    return hashlib.md5(url.encode()).hexdigest()


def run(paths: Sequence[Path], rules: params.Download, server: Loopback, rows: int = ROWS) -> dict[str, Done]:
    """Run the stage's parts as its frame does, in this process; return the parts of the shards by name."""
    work = home() / "parts" / "download"
    work.mkdir(parents=True, exist_ok=True)
    code = code_digest.of_stage("download")

    def run_parts(function: PartFunction, todo: Sequence[Part], shared: Resources) -> list[Done]:
        coded = with_code(todo, code)
        reused = {part.key for part in coded if (work / part.key).exists()}
        return [
            Done(part, folder, finish_part(function, folder, {**part.args, **shared}), part.key in reused)
            for part, folder in ((part, work / part.key) for part in coded)
        ]

    with LimitServer(rules) as limit_server:
        shared = {"replay": server.address, "user_agent": "test", "workers": 1, "limit_server": limit_server.address}
        todo = parts.with_earlier(parts.of_work_lists(paths, rules, rows, "answers", []))
        done = parts.try_again(rules, shared, run_parts(download, todo, shared), run_parts)
    return {one.part.name: one for one in done}


def files(done: Mapping[str, Done]) -> dict[str, str]:
    """Return the sha256 of every file that is published, but of archives, which say when each answer came."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for one in done.values()
        for path in runner_parts.files(one)
        if path.parent == one.folder and not path.name.endswith((".warc.gz", ".cdxj"))
    }


def forget() -> None:
    """Remove all earlier parts."""
    part_files.remove(home() / "parts")


def taken(done: Mapping[str, Done]) -> dict[str, int]:
    return {"made": 0, "taken_over": 0} | taken_over([*done.values()])


def shuffled(urls: Sequence[str]) -> list[str]:
    return random.Random(3).sample(urls, len(urls))


URLS = addresses(60)
VERSIONS: dict[str, tuple[list[str | None], int, int]] = {
    "a removal of some": ([None if place % 7 == 2 else url for place, url in enumerate(URLS)], ROWS, 0),
    "a whole shard removed": ([None if ROWS <= place < 2 * ROWS else url for place, url in enumerate(URLS)], ROWS, 0),
    "two shards removed": ([None if ROWS <= place < 3 * ROWS else url for place, url in enumerate(URLS)], ROWS, 0),
    "another order": ([*shuffled(URLS)], ROWS, 0),
    "another number of rows in a shard": ([*URLS], 20, 0),
    "one more crawl": ([*URLS, *addresses(80)[60:]], ROWS, 20),
    "one more WAT, in the middle": ([*URLS[:10], *addresses(80)[60:], *URLS[10:]], ROWS, 20),
    "all at once": ([*shuffled([*URLS[5:], *addresses(80)[60:]])], 16, 20),
}
"""Work list of the next version, rows of its shards, and how many pairs are new."""


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("archive", [False, True])
def test_a_next_version_asks_for_new_pairs_only_and_has_the_bytes_of_one_from_nothing(
    name: str, *, archive: bool, tmp_path: Path, rules: params.Download, server: Loopback, web_: Web
) -> None:
    rules = rules.model_copy(update={"archive": archive})
    urls, rows, new = VERSIONS[name]
    run(work_lists(tmp_path / "first", URLS), rules, server)
    asked = web_.asked.copy()
    lists = work_lists(tmp_path / "next", urls, rows)
    grown = run(lists, rules, server, rows)
    again = web_.asked - asked
    old = {url.partition(".example")[2] for url in URLS}
    assert [path for path in again if path in old] == []
    assert len([path for path in again if path.split("/")[1] in {"ok", "gone", "busy"}]) == new
    assert new or not again  # not even the rules of a host
    for shard, one in grown.items():
        table = shards.read_rows(one.folder / f"{shard}.parquet")
        assert [key for key, _ in shards.read_shard(one.folder / f"{shard}.tar")] == [
            row["key"] for row in table.to_pylist() if row["reason"] == KEEP
        ]
        if archive:
            recorded = (one.folder / f"{shard}.cdxj").read_text()
            assert all(row["url"] in recorded for row in table.to_pylist())
    written = files(grown)
    unchanged = sum(one.counts["images"]["seen"] for one in grown.values() if one.reused)
    kept = sum(url is not None for url in urls)
    assert taken(grown) == {"made": new, "taken_over": kept - new - unchanged}
    forget()
    fresh = run(lists, rules, server, rows)
    assert written == files(fresh)
    assert taken(fresh)["taken_over"] == 0


def test_what_failed_in_the_first_round_is_taken_over_as_the_last_round_left_it(
    tmp_path: Path, rules: params.Download, server: Loopback, web_: Web
) -> None:
    urls = addresses(ROWS, ("ok", "busy"))
    first = run(work_lists(tmp_path / "first", urls), rules.model_copy(update={"rounds": 1}), server)
    web_.well = True
    second = run(work_lists(tmp_path / "second", urls), rules, server)
    assert (first["00000"].counts["images"]["kept"], second["00000"].counts["images"]["kept"]) == (6, 12)
    asked = web_.pictures()
    third = run(work_lists(tmp_path / "third", [*reversed(urls)]), rules, server)
    assert web_.pictures() == asked
    assert third["00000"].counts["images"]["kept"] == 12


@pytest.mark.parametrize(
    ("changed", "asks"),
    [
        ({"side_px": 48}, True),
        ({"quality": 50}, True),
        ({"rights": ("robots",)}, True),
        ({"robots_tokens": ("another",)}, True),
        ({"connections": 3}, False),
        ({"timeout_s": 77.0, "host_failures": 9}, False),
        ({"rounds": 4}, False),
    ],
    ids=str,
)
def test_rows_are_taken_over_where_the_rules_of_rights_and_pictures_are_the_same(
    changed: dict[str, Any], *, asks: bool, tmp_path: Path, rules: params.Download, server: Loopback, web_: Web
) -> None:
    # As on the live web: the address of a server for tests stands for it.
    rules = rules.model_copy(update={"source": "web", "contact": "https://a.example/"})
    run(work_lists(tmp_path / "first", URLS), rules, server)
    asked = web_.pictures()
    run(work_lists(tmp_path / "next", shuffled(URLS)), rules.model_copy(update=changed), server)
    assert (web_.pictures() > asked) is asks


def test_every_parameter_of_a_download_either_paces_it_or_is_a_rule(defaults: params.Params) -> None:
    assert params.Download.model_fields.keys() >= PACING
    of = defaults.download.model_copy(update={"source": "web"})
    for name in params.Download.model_fields.keys() - PACING - {"rounds", "recheck", "warcs", "source"}:
        changed = of.model_copy(update={name: _another(getattr(of, name))})
        assert takeover.rules(changed, "", "") != takeover.rules(of, "", ""), name


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("counts.json", ROWS),
        ("00000.parquet", ROWS),
        ("pictures/00000.parquet", ROWS),
        ("00000.tar", 1),  # the picture whose bytes are hit; the others have the digest that was written
    ],
)
def test_what_is_damaged_in_an_earlier_part_is_asked_for_again(
    file: str, again: int, tmp_path: Path, rules: params.Download, server: Loopback, web_: Web
) -> None:
    urls = addresses(ROWS, ("ok",))
    first = run(work_lists(tmp_path / "first", urls), rules, server)
    path = first["00000"].folder / file
    content = bytearray(path.read_bytes())
    content[1000 if file.endswith(".tar") else len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    asked = web_.pictures()
    lists = work_lists(tmp_path / "next", shuffled(urls))
    grown = files(run(lists, rules, server))
    assert web_.pictures() == asked + again
    forget()
    assert grown == files(run(lists, rules, server))


def _another(value: Any) -> Any:  # noqa: ANN401 - of any parameter
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return value[1:] or ("another",)
    if isinstance(value, int | float):
        return value + 1
    others = ["drop", "strict", "keep", "no", "border", "jpg", "png", "enlarge", "quick", "exact", "another"]
    return next(other for other in others if other != value)


# Asking again


@pytest.mark.parametrize(
    ("rule", "day", "due"),
    [
        (None, "2020-01-01", False),
        ({"older_than": "2025-01-01"}, "2024-12-31", True),
        ({"older_than": "2025-01-01"}, "2025-01-01", False),
        ({"older_than": "2025-01-01"}, None, True),
        ({"share": 1.0, "month": "2025-02"}, "2025-01-31", True),
        ({"share": 1.0, "month": "2025-02"}, "2025-02-01", False),
    ],
)
def test_a_row_is_due_by_its_day(rule: dict[str, Any] | None, day: str | None, *, due: bool) -> None:
    assert takeover.is_due(Recheck(**rule) if rule else None, uid("x"), day) is due


@pytest.mark.parametrize("share", [0.25, 0.1])
def test_consecutive_months_ask_for_every_row_once(share: float) -> None:
    months = [f"2025-{month:02d}" for month in range(1, 1 + round(1 / share))]
    for number in range(300):
        due = [takeover.is_due(Recheck(share=share, month=month), uid(str(number)), "2024-01-01") for month in months]
        assert due.count(True) == 1


def test_rows_that_are_due_are_asked_for_once_more_and_no_others(
    tmp_path: Path, rules: params.Download, server: Loopback, web_: Web
) -> None:
    urls = addresses(24, ("ok", "gone", "busy"))
    lists = work_lists(tmp_path / "first", urls)
    live = rules.model_copy(update={"source": "web", "contact": "https://a.example/"})
    run(lists, live, server)
    asked = web_.pictures()
    web_.well = True
    later = live.model_copy(update={"recheck": Recheck(older_than="2999-01-01")})
    done = run(lists, later, server)
    assert web_.pictures() == asked + 24
    assert taken(done) == {"made": 24, "alive": 8, "still_dead": 8, "back": 8, "taken_over": 0}
    before = live.model_copy(update={"recheck": Recheck(older_than="2000-01-01")})
    assert taken(run(lists, before, server))["taken_over"] == 24
    assert web_.pictures() == asked + 24


@pytest.mark.parametrize(
    "wrong", [{}, {"share": 0.1}, {"month": "2025-01"}, {"older_than": "2025-01-01", "share": 0.1, "month": "2025-01"}]
)
def test_a_rule_that_says_too_little_or_too_much_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is no rule of recheck\. Remedy: older_than"):
        Recheck(**wrong)
