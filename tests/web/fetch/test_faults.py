"""Servers that do wrong: every fault ends in its reason, and costs no memory and no other row."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pyarrow.parquet as pq
import pytest
from made.processes import deadlines
from made.processes.deadlines import LONG_S
from made.servers.downloads import write_work
from made.servers.faulty import FAULTS, MOVED, OK, READ, TLS_FAULTS, Faulty

from laion_dask import params
from laion_dask.download import rounds
from laion_dask.download.part import download
from laion_dask.storage import shards
from laion_dask.web.fetch.fetcher import open_fetcher
from laion_dask.web.fetch.outcome import Fetched

# Fault, how its URL ends, the status that is recorded.
TABLE: Final[dict[str, tuple[str, int]]] = {
    "ok": ("keep", 200),
    "reset": ("unreachable", 0),
    "closed": ("unreachable", 0),
    "reset-in-headers": ("unreachable", 0),
    "reset-in-body": ("unreachable", 0),
    "silence": ("timeout", 0),
    "slow-headers": ("timeout", 0),
    "drip": ("timeout", 0),
    "drip-redirect": ("timeout", 0),
    "endless": ("too_large", 200),
    "endless-chunks": ("too_large", 200),
    "endless-continue": ("timeout", 0),
    "claims-too-much": ("too_large", 200),
    "claims-nonsense": ("http_error", 0),
    "two-lengths": ("http_error", 0),
    "two-lengths-in-a-list": ("http_error", 0),
    "two-lengths-and-a-third": ("http_error", 0),
    "too-short": ("unreachable", 0),
    "too-long": ("keep", 200),
    "no-length": ("keep", 200),
    "zero-bytes": ("keep", 200),
    "no-content": ("http_error", 204),
    "html": ("keep", 200),
    "not-http": ("http_error", 0),
    "http-0.9": ("http_error", 0),
    "header-flood": ("http_error", 0),
    "long-header": ("http_error", 0),
    "many-headers": ("http_error", 0),
    "chunk-garbage": ("http_error", 0),
    "chunk-overflow": ("http_error", 0),
    "chunk-cut": ("unreachable", 0),
    "gzip-bomb": ("too_large", 200),
    "deflate-bomb": ("too_large", 200),
    "brotli-bomb": ("too_large", 200),
    "bomb-in-404": ("not_found", 404),
    "gzip-garbage": ("http_error", 0),
    "gzip-cut": ("keep", 200),
    "gzip-then-garbage": ("http_error", 0),
    "deflate-garbage": ("http_error", 0),
    "brotli-garbage": ("http_error", 0),
    "zstd-garbage": ("http_error", 0),
    "zstd-bomb": ("too_large", 200),
    "gzip-gzip-bomb": ("too_large", 200),
    "endless-empty-gzip": ("http_error", 0),
    "garbage-in-404": ("not_found", 404),
    "unknown-coding": ("keep", 200),
    "429": ("http_error", 429),
    "429-in-an-hour": ("http_error", 429),
    "503": ("http_error", 503),
    "503-in-a-second": ("http_error", 503),
    "500": ("http_error", 500),
    "404": ("not_found", 404),
    "403": ("http_error", 403),
    "999": ("http_error", 999),
    "loop": ("redirects", 302),
    "to-private": ("redirects", 0),
    "to-decimal": ("redirects", 0),
    "to-port": ("redirects", 0),
    "to-file": ("redirects", 302),
    "to-two-places": ("http_error", 302),
    "to-one-place-twice": ("keep", 200),
    "to-nowhere": ("redirects", 302),
    "to-garbage": ("redirects", 302),
    **dict.fromkeys(TLS_FAULTS, ("unreachable", 0)),
    "tls-silence": ("timeout", 0),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Faulty]:
    with Faulty() as faulty:
        yield faulty


@pytest.fixture
def settings(defaults: params.Params) -> params.Download:
    return quick(defaults)


def quick(defaults: params.Params, **changes: object) -> params.Download:
    # rights: these servers have no robots.txt that could end a row before its fault does.
    given: dict[str, Any] = {"timeout_s": LONG_S, "retries": 0, "max_bytes": 1_000_000, "rights": (), **changes}
    return defaults.download.model_copy(update=given)


def fetch(settings: params.Download, server: Faulty, urls: list[str]) -> list[Fetched]:
    async def run() -> list[Fetched]:
        opening = open_fetcher(settings, replay=server.address, user_agent="laion-dask/test", workers=1)
        async with opening as fetcher:
            return list(await asyncio.gather(*(fetcher.fetch(url) for url in urls)))

    return asyncio.run(run())


def address(fault: str) -> str:
    return f"https://{fault}.example/ok" if fault in TLS_FAULTS else f"http://{fault}.example/{fault}"


def hangs(url: str) -> bool:
    """Say whether a host ends what it is asked by the deadline alone: it says nothing, or drips for ever."""
    host = urlsplit(url).netloc
    return TABLE.get(host.removesuffix(".example"), ("", 0))[0] == "timeout"


@pytest.fixture(scope="module")
def ends(defaults: params.Params, server: Faulty) -> dict[str, Fetched]:
    """All faults at once, each on a host of its own."""
    with deadlines.short_for(hangs):
        return dict(zip(TABLE, fetch(quick(defaults), server, [address(fault) for fault in TABLE]), strict=True))


def test_the_table_has_every_fault() -> None:
    assert set(TABLE) == {*FAULTS, *TLS_FAULTS}


@pytest.mark.slow
@pytest.mark.parametrize("fault", TABLE)
def test_every_fault_ends_in_its_reason(ends: dict[str, Fetched], fault: str) -> None:
    fetched = ends[fault]
    assert (fetched.reason, fetched.status) == TABLE[fault], fetched
    assert (fetched.message is None) == (fetched.reason == "keep")
    if fault in TLS_FAULTS and fetched.reason != "timeout" and fault != "tls-reset":
        assert fetched.message == "TLS failed"
    assert bool(fetched.body) == (fetched.reason == "keep" and fault != "zero-bytes")


def test_what_browsers_read_is_read_with_every_byte(settings: params.Download, server: Faulty) -> None:
    found = fetch(settings, server, [f"http://{name}.example/{name}" for name in READ])
    assert {name: one for name, one in zip(READ, found, strict=True) if (one.reason, one.body) != ("keep", OK)} == {}


def test_a_length_that_was_said_twice_leaves_the_connection_for_the_next_request(
    settings: params.Download, server: Faulty
) -> None:
    one_by_one = settings.model_copy(update={"connections_per_host": 1})
    names = [name for name in READ for name in (name, "ok")]
    assert {fetched.body for fetched in fetch(one_by_one, server, [f"http://kept.example/{n}" for n in names])} == {OK}


@pytest.mark.parametrize(
    ("location", "final"),
    [
        (b"/caf\xe9.png", "http://m.example/caf%E9.png"),
        ("/caf\u00e9.png".encode(), "http://m.example/caf%C3%A9.png"),
        (b"/caf%E9.png", "http://m.example/caf%E9.png"),
        (b"http://n.example/\xff?\xe9=1", "http://n.example/%FF?%E9=1"),
        (b"/a b.png", "http://m.example/a%20b.png"),
        (b"\\a\\b", "http://m.example/a/b"),
        (b"next", "http://m.example/moved/next"),
        (b"../up", "http://m.example/up"),
        (b"//n.example/scheme-relative", "http://n.example/scheme-relative"),
        (b"http:\\\\n.example\\back", "http://n.example/back"),
        (b"HTTP://N.EXAMPLE/Upper", "http://n.example/Upper"),
        (b"http://user:word@n.example/user", "http://n.example/user"),
        (b"/fragment#part", "http://m.example/fragment"),
        (b"  /spaces  ", "http://m.example/spaces"),
        (b"/tab\there", "http://m.example/tabhere"),
        ("http://b\u00fccher.example/idn".encode(), "http://xn--bcher-kva.example/idn"),
        (b"javascript:alert(1)", None),
        (b"data:image/png;base64,AAAA", None),
        (b"mailto:a@b.example", None),
        (b"http://", None),
        (b"http://%zz/", None),
        (b"", None),
    ],
)
def test_a_redirect_is_followed_to_where_a_browser_goes(
    settings: params.Download, server: Faulty, location: bytes, final: str | None
) -> None:
    start = f"http://m.example{MOVED}{quote(location, safe='')}"
    (fetched,) = fetch(settings, server, [start])
    if final is None:
        assert (fetched.reason, fetched.status, fetched.final_url) == ("redirects", 302, start)
    elif "/moved/" not in final:
        assert (fetched.reason, fetched.final_url) == ("not_found", final)
        assert server.asked[final.removeprefix("http://")] >= 1
    else:
        # Redirected once more, to itself.
        assert (fetched.reason, fetched.final_url) == ("redirects", final)


def test_what_follows_an_answer_is_never_the_answer_of_the_next_request(
    settings: params.Download, server: Faulty
) -> None:
    one_by_one = settings.model_copy(update={"connections_per_host": 1})
    urls = ["http://smuggler.example/too-long", "http://smuggler.example/ok"] * 3
    assert {fetched.body for fetched in fetch(one_by_one, server, urls)} == {OK}


@pytest.mark.parametrize(
    ("path", "asked"),
    # reset: aiohttp asks a second time, in the same turn, where a connection is lost before an answer: it may have been
    # one that the server had closed meanwhile (RFC 9112, 9.3.1).
    [("404", 1), ("403", 1), ("loop", 4), ("429-in-an-hour", 1), ("429", 3), ("503", 3), ("500", 3), ("reset", 6)],
)
def test_only_what_may_help_is_tried_again(settings: params.Download, server: Faulty, path: str, asked: int) -> None:
    more = settings.model_copy(update={"retries": 2, "max_redirects": 3})
    host = f"again-{path}.example"
    (fetched,) = fetch(more, server, [f"http://{host}/{path}"])
    assert sum(count for place, count in server.asked.items() if place in {f"{host}/{path}", f"{host}/loop"}) == asked
    assert fetched.later == (path not in {"404", "403", "loop"})


def shard(folder: Path, settings: params.Download, server: Faulty, urls: list[str]) -> list[dict[str, Any]]:
    folder.mkdir()
    work = write_work(folder / "work.parquet", urls)
    (folder / "out").mkdir()
    download(
        folder / "out",
        name="00000",
        work=work,
        settings=settings,
        replay=server.address,
        user_agent="laion-dask/test",
        workers=1,
    )
    return shards.read_rows(folder / "out" / "00000.parquet").to_pylist()


@pytest.mark.slow
def test_no_fault_costs_another_row_and_a_dead_host_is_left_alone(
    tmp_path: Path, settings: params.Download, server: Faulty
) -> None:
    faults = [address(fault) for fault in TABLE]
    dead = [f"http://dead.example/reset?{place}" for place in range(20)]
    away = [f"http://away.example/429-in-an-hour?{place}" for place in range(20)]
    with deadlines.short_for(hangs):
        rows = shard(tmp_path / "s", settings, server, [*dead, *away, *faults])
    assert [row["reason"] for row in rows[40:]] == [
        "not_an_image" if reason == "keep" else reason for reason, _ in TABLE.values()
    ]
    assert [row["reason"] for row in rows[:20]] == ["unreachable"] * 4 + ["host_failing"] * 16
    assert [row["reason"] for row in rows[20:40]] == ["http_error"] + ["host_failing"] * 19
    tries = pq.read_table(rounds.tries_file(tmp_path / "s" / "out", "00000"))["key"].to_pylist()
    assert [tries.count(row["key"]) for row in rows[:20]] == [1] * 4 + [0] * 16
    assert server.asked["dead.example/reset?19"] == server.asked["away.example/429-in-an-hour?1"] == 0


@pytest.mark.slow
def test_thousands_of_bad_rows_do_not_make_the_process_grow(
    tmp_path: Path, settings: params.Download, server: Faulty
) -> None:
    slow = {
        "429-in-an-hour",
        "503-in-a-second",
        *TLS_FAULTS,
        *(f for f, (reason, _) in TABLE.items() if reason == "timeout"),
    }
    faults = [fault for fault in TABLE if fault not in slow]
    urls = [f"http://h{place % 97}.example/{faults[place % len(faults)]}" for place in range(800)]
    patient = settings.model_copy(update={"host_failures": 1_000, "connections_per_domain": 64})
    grown = []
    for number in range(3):
        rows = shard(tmp_path / f"s{number}", patient, server, urls)
        assert len(rows) == len(urls)
        grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # The first shard warms caches and threads up.
    assert grown[2] - grown[1] < 30_000, grown  # KiB
