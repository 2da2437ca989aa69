"""Lists of WATs: local globs, listings over loopback http, samples without replacement, errors with a remedy."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from laion_dask import crawls, params, schema

CRAWL = "CC-MAIN-2018-13"
PATHS = [f"crawl-data/{CRAWL}/segments/1.{n:02d}/wat/CC-{n:05d}.warc.wat.gz" for n in range(40)]


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a word."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "bucket"
    (folder / "crawl-data" / CRAWL).mkdir(parents=True)
    write_listing(folder, PATHS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def write_listing(folder: Path, paths: list[str], crawl: str = CRAWL) -> None:
    target = folder / "crawl-data" / crawl / "wat.paths.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress("".join(f"{path}\n" for path in paths).encode()))


def settings(defaults: params.Params, **changes: object) -> params.Crawl:
    return params.Crawl(**(defaults.crawl.model_dump() | changes))


def remote(defaults: params.Params, base: str, **changes: object) -> params.Crawl:
    return settings(defaults, **({"source": "commoncrawl", "crawls": (CRAWL,), "base_url": base} | changes))


def wats_of(chosen: params.Crawl) -> list[str]:
    return [str(wat) for wat in crawls.list_wats(chosen)["wat"].to_pylist()]


def test_all_wats_of_a_listing_come_in_a_stable_order(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, folder = bucket
    table = schema.WATS.check(crawls.list_wats(remote(defaults, base)))
    assert table["wat"].to_pylist() == PATHS
    assert table["order"].to_pylist() == list(range(40))
    assert set(table["crawl"].to_pylist()) == {CRAWL}
    assert set(table["bytes"].to_pylist()) == {-1}
    assert table["location"].to_pylist()[0] == f"{base}/{PATHS[0]}"
    write_listing(folder, PATHS[::-1])
    assert crawls.list_wats(remote(defaults, base)).equals(table)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 39), seed=st.integers(0, 2**32))
def test_a_sample_has_no_wat_twice_and_begins_the_next_larger_one(
    defaults: params.Params, bucket: tuple[str, Path], count: int, seed: int
) -> None:
    base, _ = bucket
    small = wats_of(remote(defaults, base, wats=count, seed=seed))
    larger = wats_of(remote(defaults, base, wats=count + 1, seed=seed))
    assert len(small) == len(set(small)) == count
    assert larger[:count] == small
    assert set(larger) <= set(PATHS)


def test_another_seed_draws_another_sample(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, _ = bucket
    samples = {tuple(wats_of(remote(defaults, base, wats=10, seed=seed))) for seed in range(5)}
    assert len(samples) == 5


def test_several_crawls_are_listed_one_after_the_other(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, folder = bucket
    other = [path.replace(CRAWL, "CC-MAIN-2019-04") for path in PATHS[:3]]
    write_listing(folder, other, "CC-MAIN-2019-04")
    table = crawls.list_wats(remote(defaults, base + "/", crawls=("CC-MAIN-2019-04", CRAWL)))
    assert table["wat"].to_pylist() == other + PATHS
    assert table["crawl"].to_pylist() == ["CC-MAIN-2019-04"] * 3 + [CRAWL] * 40


@pytest.mark.parametrize(("name", "lines"), [("cccatalog_sample_wat.paths", 5_000), ("cccatalog_wat.paths.gz", 2)])
def test_real_listings_are_read_whole(
    defaults: params.Params, bucket: tuple[str, Path], shared_data: Path, name: str, lines: int
) -> None:
    base, folder = bucket
    data = (shared_data / "wat_real" / name).read_bytes()
    target = folder / "crawl-data" / CRAWL / "wat.paths.gz"
    target.write_bytes(data if name.endswith(".gz") else gzip.compress(data))
    table = crawls.list_wats(remote(defaults, base))
    assert len(table) == lines
    assert all(str(path).endswith(".warc.wat.gz") for path in table["wat"].to_pylist())


def test_a_crawl_that_does_not_exist_is_named_with_the_remedy(
    defaults: params.Params, bucket: tuple[str, Path]
) -> None:
    base, _ = bucket
    with pytest.raises(
        crawls.CrawlError, match=r"CC-MAIN-2030-01/wat\.paths\.gz does not exist\. Remedy: check the id"
    ):
        crawls.list_wats(remote(defaults, base, crawls=("CC-MAIN-2030-01",)))


def test_a_server_that_cannot_be_reached_is_named_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(crawls.CrawlError, match=r"cannot be read .*Remedy: check crawl\.base_url"):
        crawls.list_wats(remote(defaults, "http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "lists no WAT"),
        (gzip.compress(b"\n\n", mtime=0), "lists no WAT"),
        (gzip.compress(b"crawl-data/x\n" * 99, mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
    ],
)
def test_a_damaged_listing_is_refused(
    defaults: params.Params, bucket: tuple[str, Path], data: bytes, message: str
) -> None:
    base, folder = bucket
    (folder / "crawl-data" / CRAWL / "wat.paths.gz").write_bytes(data)
    with pytest.raises(crawls.CrawlError, match=message):
        crawls.list_wats(remote(defaults, base))


def test_an_unknown_protocol_is_refused_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(crawls.CrawlError, match=r"Remedy: use https:// or s3://"):
        crawls.list_wats(remote(defaults, "gopher://data.example"))


def test_more_wats_than_there_are_is_refused(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, _ = bucket
    with pytest.raises(crawls.CrawlError, match=r"crawl\.wats = 41, but there are 40 WATs"):
        crawls.list_wats(remote(defaults, base, wats=41))


def test_local_files_come_sorted_once_and_with_their_size(
    defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.wat.gz", "a.wat.gz", "deep/er/c.wat.gz", "notes.txt"):
        path = tmp_path / "wats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    globs = ("wats/*.gz", "wats/**/*.gz", str(tmp_path / "wats" / "notes.*"))
    table = schema.WATS.check(crawls.list_wats(settings(defaults, source="files", files=globs)))
    notes = (tmp_path / "wats" / "notes.txt").as_posix()
    assert table["location"].to_pylist() == ["wats/a.wat.gz", "wats/b.wat.gz", "wats/deep/er/c.wat.gz", notes]
    assert table["bytes"].to_pylist() == [8, 8, 16, 9]
    assert set(table["crawl"].to_pylist()) == {"files"}


def test_a_glob_without_a_match_is_refused_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(crawls.CrawlError, match=r"'nowhere/\*\.gz' matches no file in .*Remedy: correct the glob"):
        crawls.list_wats(settings(defaults, source="files", files=("nowhere/*.gz",)))


def test_the_demo_has_no_listing_here(defaults: params.Params) -> None:
    with pytest.raises(crawls.CrawlError, match=r"written by laion_dask\.demo\.crawl"):
        crawls.list_wats(settings(defaults, source="demo"))
