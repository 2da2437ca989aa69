"""Lists of WATs and what Common Crawl says of itself, over loopback http and s3; errors with a remedy."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from laion_dask import params, schema
from laion_dask.crawl import listing
from laion_dask.storage import objects

CRAWL = "CC-MAIN-2018-13"
PATHS = [f"crawl-data/{CRAWL}/segments/1.{n:02d}/wat/CC-{n:05d}.warc.wat.gz" for n in range(40)]


@dataclass
class Host:
    """A host on the loopback: its address, the folder that it serves, what it was asked, and what it answers first."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a word, after the statuses that the host is told to answer first."""

    def __init__(self, *args: object, host: Host) -> None:
        self.host = host
        super().__init__(*args, directory=str(host.folder))  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def send_head(self) -> object:
        """Answer GET and HEAD."""
        self.host.asked.append(f"{self.command} {self.path}")
        if self.host.answers:
            self.send_response(self.host.answers.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path / "bucket")
    (found.folder / "crawl-data" / CRAWL).mkdir(parents=True)
    write_listing(found.folder, PATHS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, host=found))
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(host: Host) -> tuple[str, Path]:
    return host.url, host.folder


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRY_WAITS_S", (0.0, 0.0, 0.0))


def write_listing(folder: Path, paths: list[str], crawl: str = CRAWL) -> None:
    target = folder / "crawl-data" / crawl / "wat.paths.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress("".join(f"{path}\n" for path in paths).encode()))


def settings(defaults: params.Params, **changes: object) -> params.Crawl:
    return params.Crawl(**(defaults.crawl.model_dump() | changes))


def remote(defaults: params.Params, base: str, **changes: object) -> params.Crawl:
    return settings(defaults, **({"source": "commoncrawl", "crawls": (CRAWL,), "base_url": base} | changes))


def wats_of(chosen: params.Crawl) -> list[str]:
    return [str(wat) for wat in listing.list_wats(chosen)["wat"].to_pylist()]


def test_all_wats_of_a_listing_come_in_a_stable_order(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, folder = bucket
    table = schema.WATS.check(listing.list_wats(remote(defaults, base)))
    assert table["wat"].to_pylist() == PATHS
    assert table["order"].to_pylist() == list(range(40))
    assert set(table["crawl"].to_pylist()) == {CRAWL}
    assert set(table["bytes"].to_pylist()) == {-1}
    assert table["location"].to_pylist()[0] == f"{base}/{PATHS[0]}"
    write_listing(folder, PATHS[::-1])
    assert listing.list_wats(remote(defaults, base)).equals(table)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 39), seed=st.integers(0, 2**31 - 1))
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
    table = listing.list_wats(remote(defaults, base + "/", crawls=("CC-MAIN-2019-04", CRAWL)))
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
    table = listing.list_wats(remote(defaults, base))
    assert len(table) == lines
    assert all(str(path).endswith(".warc.wat.gz") for path in table["wat"].to_pylist())


def test_a_crawl_that_does_not_exist_is_named_with_the_remedy(
    defaults: params.Params, bucket: tuple[str, Path]
) -> None:
    base, _ = bucket
    with pytest.raises(
        listing.CrawlError, match=r"CC-MAIN-2030-01/wat\.paths\.gz does not exist\. Remedy: check the id"
    ):
        listing.list_wats(remote(defaults, base, crawls=("CC-MAIN-2030-01",)))


def test_a_server_that_cannot_be_reached_is_named_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(listing.CrawlError, match=r"cannot be read .*Remedy: check crawl\.base_url"):
        listing.list_wats(remote(defaults, "http://127.0.0.1:9"))


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
    with pytest.raises(listing.CrawlError, match=message):
        listing.list_wats(remote(defaults, base))


def test_an_unknown_protocol_is_refused_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(listing.CrawlError, match=r"Remedy: use https:// or s3://"):
        listing.list_wats(remote(defaults, "gopher://data.example"))


def test_more_wats_than_there_are_is_refused(defaults: params.Params, bucket: tuple[str, Path]) -> None:
    base, _ = bucket
    with pytest.raises(listing.CrawlError, match=r"crawl\.wats = 41, but there are 40 WATs of CC-"):
        listing.list_wats(remote(defaults, base, wats=41))


def test_local_files_come_sorted_once_and_with_their_size(
    defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.wat.gz", "a.wat.gz", "deep/er/c.wat.gz", "notes.txt"):
        path = tmp_path / "wats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    globs = ("wats/*.gz", "wats/**/*.gz", str(tmp_path / "wats" / "notes.*"))
    table = schema.WATS.check(listing.list_wats(settings(defaults, source="files", files=globs)))
    notes = (tmp_path / "wats" / "notes.txt").as_posix()
    assert table["location"].to_pylist() == ["wats/a.wat.gz", "wats/b.wat.gz", "wats/deep/er/c.wat.gz", notes]
    assert table["bytes"].to_pylist() == [8, 8, 16, 9]
    assert set(table["crawl"].to_pylist()) == {"files"}


def test_a_file_that_exists_is_taken_by_its_name_and_never_as_a_pattern(
    defaults: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a[1].wat.gz", "a1.wat.gz", "b*.wat.gz", "bx.wat.gz"):
        Path(name).write_bytes(b"x")
    table = listing.list_wats(settings(defaults, source="files", files=("a[1].wat.gz", "b*.wat.gz")))
    assert table["wat"].to_pylist() == ["a[1].wat.gz", "b*.wat.gz"]
    assert listing.at(["a[1].wat.gz"])["location"].to_pylist() == ["a[1].wat.gz"]


def test_a_glob_without_a_match_is_refused_with_the_remedy(defaults: params.Params) -> None:
    with pytest.raises(listing.CrawlError, match=r"'nowhere/\*\.gz' matches no file in .*Remedy: correct the glob"):
        listing.list_wats(settings(defaults, source="files", files=("nowhere/*.gz",)))


def test_the_demo_has_no_listing_here(defaults: params.Params) -> None:
    with pytest.raises(listing.CrawlError, match=r"written by laion_dask\.demo\.crawl"):
        listing.list_wats(settings(defaults, source="demo"))


# A host that is busy


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_busy_host_is_asked_again(defaults: params.Params, host: Host, status: int) -> None:
    host.answers = [status, status]
    assert wats_of(remote(defaults, host.url)) == PATHS
    assert len(host.asked) == 3


@pytest.mark.usefixtures("no_waits")
def test_a_host_that_stays_busy_is_named_with_its_answer_and_how_often_it_was_asked(
    defaults: params.Params, host: Host
) -> None:
    host.answers = [503] * 9
    with pytest.raises(
        listing.CrawlError, match=r"status 503 .*too often, 4 times in 0 s\)\. Remedy: check crawl\.base"
    ):
        listing.list_wats(remote(defaults, host.url))
    assert len(host.asked) == 4


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_an_answer_that_will_not_change_is_not_asked_for_again(
    defaults: params.Params, host: Host, status: int
) -> None:
    host.answers = [status] * 9
    with pytest.raises(listing.CrawlError, match="Remedy"):
        listing.list_wats(remote(defaults, host.url))
    assert len(host.asked) == 1


# The list of crawls

COLLECTIONS = [
    {
        "id": "CC-MAIN-2024-10",
        "name": "February/March 2024 Index",
        "from": "2024-02-20T23:05:23",
        "to": "2024-03-05T10",
    },
    {"id": "CC-MAIN-2024-22", "name": "May 2024 Index", "from": "2024-05-18T00:11:51", "to": "2024-05-30T22:23:05"},
    {"id": "CC-MAIN-2008-2009", "name": "Index of 2008 - 2009 ARC files"},
]


def test_crawls_come_newest_first_with_name_and_days(host: Host) -> None:
    (host.folder / "collinfo.json").write_text(json.dumps(COLLECTIONS))
    newest, *others = listing.snapshots(f"{host.url}/collinfo.json")
    assert newest == ("CC-MAIN-2024-22", "May 2024 Index", "2024-05-18", "2024-05-30")
    assert [other.id for other in others] == ["CC-MAIN-2024-10", "CC-MAIN-2008-2009"]
    assert others[1].begin == ""


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"id": 1}', b'[{"name": "x"}]', b"\xff\xfe", b"[null]"])
def test_what_is_no_list_of_crawls_is_refused(host: Host, data: bytes) -> None:
    (host.folder / "collinfo.json").write_bytes(data)
    with pytest.raises(
        listing.CrawlError, match=r"collinfo\.json is no list of crawls .*Remedy: give the address of a"
    ):
        listing.snapshots(f"{host.url}/collinfo.json")


def test_a_list_of_crawls_that_is_not_there_is_refused(host: Host) -> None:
    with pytest.raises(listing.CrawlError, match=r"none\.json .*Remedy"):
        listing.snapshots(f"{host.url}/none.json")
    with pytest.raises(listing.CrawlError, match=r"127\.0\.0\.1:9/x cannot be read .*Remedy"):
        listing.snapshots("http://127.0.0.1:9/x")


# Sizes


def test_a_size_costs_one_head_request_and_no_byte(host: Host) -> None:
    for name, size in (("a", 12_345), ("b", 0)):
        (host.folder / name).write_bytes(b"x" * size)
    assert listing.sizes([f"{host.url}/a", f"{host.url}/b"]) == [12_345, 0]
    assert host.asked == ["HEAD /a", "HEAD /b"]


@pytest.mark.usefixtures("no_waits")
def test_a_size_that_cannot_be_had_is_refused_after_its_tries(host: Host) -> None:
    with pytest.raises(listing.CrawlError, match=r"/gone does not exist, though it is listed"):
        listing.sizes([f"{host.url}/gone"])
    host.answers = [503] * 9
    with pytest.raises(listing.CrawlError, match=r"status 503 .*4 times"):
        listing.sizes([f"{host.url}/a"])


def test_the_bucket_on_s3_answers_the_same(
    defaults: params.Params, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", host.url)
    bucket = host.folder / "commoncrawl"
    bucket.mkdir()
    write_listing(bucket, PATHS[:2])
    wat = bucket / PATHS[0]
    wat.parent.mkdir(parents=True)
    wat.write_bytes(b"x" * 999)
    table = listing.list_wats(remote(defaults, "s3://commoncrawl"))
    assert table["wat"].to_pylist() == PATHS[:2]
    assert listing.sizes(table["location"].to_pylist()[:1]) == [999]
    assert host.asked[-1] == f"HEAD /commoncrawl/{PATHS[0]}"
    assert all(asked.startswith(("GET", "HEAD")) for asked in host.asked)


# Places that a user names


def test_folders_globs_files_and_addresses_come_in_the_given_order_and_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w/b.warc.wat.gz", "w/a.warc.wat.gz", "w/deep/c.wat", "w/notes.txt", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    address = "https://data.example/x.warc.wat.gz"
    table = schema.WATS.check(listing.at([address, "odd.bin", "w", "w/*.gz", f"file://{tmp_path}/w/deep"]))
    deep = str(tmp_path / "w/deep/c.wat")
    assert table["location"].to_pylist() == [
        *(address, "odd.bin", "w/a.warc.wat.gz", "w/b.warc.wat.gz", "w/deep/c.wat", deep)
    ]
    assert table["bytes"].to_pylist() == [-1, 7, 15, 15, 12, 12]
    assert set(table["crawl"].to_pylist()) == {"files"}
    assert table["wat"].to_pylist() == table["location"].to_pylist()


@pytest.mark.parametrize("base", ["https://data.example/mirror/", "{here}/", ""])
def test_a_wat_of_a_crawl_keeps_the_name_that_it_has_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / PATHS[0]).parent.mkdir(parents=True)
    (tmp_path / PATHS[0]).touch()
    (row,) = listing.at([base.format(here=tmp_path) + PATHS[0]]).to_pylist()
    assert (row["crawl"], row["wat"]) == (CRAWL, PATHS[0])


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none.wat.gz", r"^none\.wat\.gz does not exist in .*Remedy: correct the path"),
        ("*.nothing", r"^\*\.nothing does not exist in .*Remedy"),
        ("empty", r"^empty holds no \*\.wat\.gz\. Remedy: give a folder with"),
        ("gopher://data.example/x", r"gopher.*Remedy: a local path, https:// or s3://"),
        ("", r"Remedy"),
    ],
)
def test_a_place_without_a_wat_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(listing.CrawlError, match=message):
        listing.at([place])


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="a file that nobody can read is found in /proc")
def test_a_file_that_cannot_be_read_is_refused_before_anything_starts() -> None:
    with pytest.raises(listing.CrawlError, match=r"^/proc/self/mem cannot be read .*Remedy: make it readable"):
        listing.at(["/proc/self/mem"])
