"""A download that fails in every way is rebuilt from its archive: the same files, byte for byte, without a network."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from made.processes import deadlines
from made.servers.downloads import run_archiving, write_work
from made.servers.faulty_hosts import QUICK, ROWS, handler, hangs, picture
from warcio.archiveiterator import ArchiveIterator

from laion_dask import params
from laion_dask.download import rounds
from laion_dask.download.part import download
from laion_dask.storage import shards
from laion_dask.web.archive import archived
from laion_dask.web.archive.reader import ArchiveReader, answer
from laion_dask.web.archive.replay import Loopback, Replay
from laion_dask.web.archive.writer import ArchiveWriter
from laion_dask.web.fetch import exchange, guard
from laion_dask.web.fetch.exchange import ExchangeLimits, Reply
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.recorded import Survey

NAME = "00003"
Rebuild = Callable[..., Path]
LIMITS = ExchangeLimits(deadlines.LONG_S, 100_000)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir()) if path.is_file()
    }


@pytest.fixture(scope="module")
def kept(defaults: params.Params, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, params.Download]:
    """The folder of a download that kept its archive, its work list and its settings; its hosts are gone."""
    folder = tmp_path_factory.mktemp("kept")
    settings = defaults.download.model_copy(update={**QUICK, "archive": True})
    work = write_work(folder / "work.parquet", [url for url, _ in ROWS])
    with Loopback(handler()) as server, deadlines.short_for(hangs):
        run_archiving(folder / "out", work, settings, address=server.address)
    return folder / "out", work, settings


@pytest.fixture
def rebuild(kept: tuple[Path, Path, params.Download], tmp_path: Path) -> Rebuild:
    out, work, settings = kept
    index = cdxj.collect([out / f"{NAME}.warc.gz"], tmp_path / "all.cdxj")

    def rebuilt(changes: Mapping[str, Any], name: str = "again") -> Path:
        changed = settings.model_copy(update={"source": "archive", **changes})
        run_archiving(tmp_path / name, work, changed, index=index)
        return tmp_path / name

    return rebuilt


def reasons(folder: Path) -> list[str]:
    return list(shards.read_rows(folder / f"{NAME}.parquet")["reason"].to_pylist())


def test_every_row_of_the_first_run_ended_as_its_host_made_it_end(kept: tuple[Path, Path, params.Download]) -> None:
    found = {url: (reason, expected) for (url, expected), reason in zip(ROWS, reasons(kept[0]), strict=True)}
    assert {url: pair for url, pair in found.items() if pair[1] and pair[0] != pair[1]} == {}


def test_a_rebuild_without_a_network_has_every_byte_of_the_first_run(
    kept: tuple[Path, Path, params.Download], rebuild: Rebuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        pytest.fail("a socket was made")

    monkeypatch.setattr(guard, "socket_factory", lambda _: refuse)
    # Whoever waited for a host, or for an answer that had come to nothing, would be here in an hour.
    waits = ("timeout_s", "max_retry_after_s", "host_interval_s", "domain_interval_s")
    again = digests(rebuild(dict.fromkeys(waits, 3600.0)))
    assert again == digests(kept[0])
    assert sorted(again) == [f"{NAME}.cdxj", f"{NAME}.parquet", f"{NAME}.tar", f"{NAME}.warc.gz", f"{NAME}_stats.json"]


@pytest.mark.parametrize("connections", [1, 3, 64])
def test_the_order_in_which_rows_are_asked_does_not_matter(
    kept: tuple[Path, Path, params.Download], rebuild: Rebuild, connections: int
) -> None:
    assert digests(rebuild({"connections": connections})) == digests(kept[0])


def test_without_archive_a_rebuild_writes_the_shard_alone(
    kept: tuple[Path, Path, params.Download], rebuild: Rebuild
) -> None:
    first = {name: digest for name, digest in digests(kept[0]).items() if not name.endswith((".warc.gz", ".cdxj"))}
    assert digests(rebuild({"archive": False})) == first


def test_an_index_made_from_the_warc_equals_the_one_beside_it(
    kept: tuple[Path, Path, params.Download], tmp_path: Path
) -> None:
    lines = [entry.line(f"{NAME}.warc.gz") for entry in cdxj.scan(kept[0] / f"{NAME}.warc.gz", Survey(tmp_path))]
    assert sorted(lines) == (kept[0] / f"{NAME}.cdxj").read_bytes().splitlines()
    (tmp_path / f"{NAME}.warc.gz").write_bytes((kept[0] / f"{NAME}.warc.gz").read_bytes())
    alone = cdxj.collect([tmp_path / f"{NAME}.warc.gz"], tmp_path / "alone")
    beside = cdxj.collect([kept[0] / f"{NAME}.warc.gz"], tmp_path / "beside")
    assert cdxj.digest(alone) == cdxj.digest(beside)


def test_readers_of_others_read_every_record_and_its_digests_hold(kept: tuple[Path, Path, params.Download]) -> None:
    path = kept[0] / f"{NAME}.warc.gz"
    with path.open("rb") as stream:
        checked = ArchiveIterator(stream, check_digests=True)
        kinds = []
        for record in checked:
            record.content_stream().read()
            kinds.append(record.rec_type)
            assert record.digest_checker.passed is not False
    with path.open("rb") as stream:
        fast = [
            (record.headers["WARC-Type"], record.verify_block_digest())
            for record in FastIterator(stream, parse_http=False)
        ]
    assert fast == [(kind, True) for kind in kinds]
    assert kinds[0] == "warcinfo"
    assert kinds.count("request") == kinds.count("response") + kinds.count("metadata") > len(ROWS)
    assert len(set(_ids(path))) == len(kinds)


def _ids(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return [str(record.rec_headers.get_header("WARC-Record-ID")) for record in ArchiveIterator(stream)]


@pytest.mark.parametrize(
    ("url", "kind", "cut", "begin"),
    [
        ("http://a.example/ok/0", "response", None, b"\xff\xd8\xff"),
        ("http://a.example/drip", "response", "time", b""),
        ("http://a.example/large", "response", "length", b""),
        ("http://a.example/reset", "metadata", "disconnect", b"failure: unreachable"),
        ("http://a.example/noai", "response", "unspecified", b""),
        ("http://a.example/gone", "response", "unspecified", b""),
        ("http://closed.example/robots.txt", "response", None, b"User-agent: *"),
    ],
)
def test_what_was_not_read_says_why(
    kept: tuple[Path, Path, params.Download], url: str, kind: str, cut: str | None, begin: bytes
) -> None:
    with (kept[0] / f"{NAME}.warc.gz").open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_headers.get_header("WARC-Target-URI") == url and record.rec_type != "request":
                assert (record.rec_type, record.rec_headers.get_header("WARC-Truncated")) == (kind, cut)
                body = record.content_stream().read()
                assert body.startswith(begin)
                assert bool(body) == bool(begin)
                return
    pytest.fail(f"{url} is not in the archive")


def test_stricter_rules_of_today_hold_for_the_answers_of_then(rebuild: Rebuild) -> None:
    small = dict(zip((url for url, _ in ROWS), reasons(rebuild({"max_bytes": 1_000, "archive": False})), strict=True))
    assert small["http://a.example/ok/0"] == "too_large"
    assert small["http://a.example/noai"] == "x_robots_tag"


def test_a_body_that_was_not_read_then_is_not_made_up_now(rebuild: Rebuild) -> None:
    lax = dict(zip((url for url, _ in ROWS), reasons(rebuild({"rights": (), "archive": False})), strict=True))
    assert lax["http://a.example/noai"] == "not_archived"
    assert lax["http://closed.example/ok/4"] == "not_archived"
    assert lax["http://a.example/ok/0"] == "keep"


def test_another_work_list_is_answered_with_what_others_were_told(
    kept: tuple[Path, Path, params.Download], tmp_path: Path
) -> None:
    out, _, settings = kept
    urls = ["http://a.example/new", "http://a.example/ok/0", "http://new.example/", "http://a.example/gone"]
    work = write_work(tmp_path / "work.parquet", urls)
    index = cdxj.collect([out / f"{NAME}.warc.gz"], tmp_path / "all.cdxj")
    changed = settings.model_copy(update={"source": "archive"})
    run_archiving(tmp_path / "out", work, changed, index=index, name="00000")
    rows = shards.read_rows(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [row["reason"] for row in rows] == ["not_archived", "keep", "not_archived", "not_found"]


def test_two_shards_ask_a_host_once_and_each_archive_is_whole(defaults: params.Params, tmp_path: Path) -> None:
    settings = defaults.download.model_copy(update={**QUICK, "archive": True})
    work = write_work(tmp_path / "work.parquet", ["http://partly.example/ok/2", "http://partly.example/no/5"])
    with Loopback(handler()) as server:
        run_archiving(tmp_path / "one", work, settings, address=server.address, name="00000")
        between = server.requests
        run_archiving(tmp_path / "two", work, settings, address=server.address, name="00001")
        # robots.txt, tdmrep.json, ai.txt and a picture; then a picture.
        assert (between, server.requests) == (4, 5)
    index = cdxj.collect([tmp_path / "two" / "00001.warc.gz"], tmp_path / "all.cdxj")
    changed = settings.model_copy(update={"source": "archive"})
    run_archiving(tmp_path / "again", work, changed, index=index, name="00001")
    assert digests(tmp_path / "again") == digests(tmp_path / "two")


def ask(way: exchange.Ask, url: str, asker: str = "row 1 1") -> Reply:
    async def asked() -> Reply:
        exchange.ASKER.set(asker)
        target = guard.parse(url)
        assert target is not None
        return await way(target, LIMITS, lambda head: head.status == 200)

    return asyncio.run(asked())


async def _good(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
    del limits
    head = Reply(200, (("Content-Type", "image/jpeg"),))
    return Reply(200, head.headers, picture(1) + target.href.encode()) if wanted(head) else head


def test_a_body_that_may_not_be_kept_is_in_no_file(tmp_path: Path) -> None:
    listed = picture(1) + b"http://a.example/listed"
    known = hashlib.sha256(listed).hexdigest()

    def is_unknown(reply: Reply) -> bool:
        return hashlib.sha256(reply.body).hexdigest() != known

    with ArchiveWriter(tmp_path, NAME, "agent", is_unknown) as writer:
        way = writer.wrap(_good)
        assert ask(way, "http://a.example/listed").body == listed
        ask(way, "http://a.example/other")
    entries = list(cdxj.scan(tmp_path / f"{NAME}.warc.gz", Survey(tmp_path)))
    found = {entry.url: archived.read(entry) for entry in entries}
    assert found["http://a.example/listed"].reply.body == b""
    assert found["http://a.example/listed"].withheld
    assert found["http://a.example/other"].reply.body.endswith(b"other")
    again = answer(found["http://a.example/listed"], LIMITS, lambda head: head.status == 200)
    assert again.failure == "not_archived"
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{NAME}.cdxj", f"{NAME}.warc.gz"]


def test_a_row_that_was_not_asked_because_of_others_is_not_asked_again(tmp_path: Path) -> None:
    exchange.ASKER.set("row 9 1")
    with ArchiveWriter(tmp_path, NAME, "agent") as writer:
        writer.record_outcome("http://a.example/x#part", "host_failing", "not asked")
        writer.record_outcome("http://a.example/y", "not_found", "HTTP 404")
    index = cdxj.collect([tmp_path / f"{NAME}.warc.gz"], tmp_path / "all.cdxj")
    with cdxj.CdxjIndex(index) as found:
        reader = ArchiveReader(found, NAME)
        assert reader.recorded_outcome("http://a.example/x#part") == Reply(failure="host_failing", message="not asked")
        assert reader.recorded_outcome("http://a.example/y") is None
        exchange.ASKER.set("row 8 1")
        assert reader.recorded_outcome("http://a.example/x#part") is None


def test_an_archive_that_ends_with_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with ArchiveWriter(tmp_path, NAME, "agent") as writer:
            ask(writer.wrap(_good), "http://a.example/")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_without_exchanges_has_an_empty_archive(defaults: params.Params, tmp_path: Path) -> None:
    settings = defaults.download.model_copy(update={**QUICK, "archive": True})
    work = write_work(tmp_path / "work.parquet", [])
    with Loopback(handler()) as server:
        run_archiving(tmp_path / "out", work, settings, address=server.address)
    index = cdxj.collect([tmp_path / "out" / f"{NAME}.warc.gz"], tmp_path / "all.cdxj")
    run_archiving(tmp_path / "again", work, settings.model_copy(update={"source": "archive"}), index=index)
    assert digests(tmp_path / "again") == digests(tmp_path / "out")


def test_an_index_that_does_not_fit_its_archive_says_what_to_do(
    kept: tuple[Path, Path, params.Download], tmp_path: Path
) -> None:
    entry = next(cdxj.scan(kept[0] / f"{NAME}.warc.gz", Survey(tmp_path)))
    (tmp_path / "short.warc.gz").write_bytes(b"")
    for path in (tmp_path / "short.warc.gz", tmp_path / "none.warc.gz"):
        with pytest.raises(cdxj.ArchiveError, match="remove the"):
            archived.read(cdxj.parse(entry.line(path.name), tmp_path))


def test_a_replay_server_answers_out_of_an_archive(kept: tuple[Path, Path, params.Download], tmp_path: Path) -> None:
    out, work, settings = kept
    with Replay([out / f"{NAME}.warc.gz"]) as replay:
        # Where the server hangs up, the host seems to fail.
        changed = settings.model_copy(update={"archive": False, "host_failures": 1_000})
        run_archiving(tmp_path / "out", work, changed, address=replay.address)
    rows = shards.read_rows(tmp_path / "out" / f"{NAME}.parquet").to_pylist()
    found = {row["url"]: row["reason"] for row in rows if "same.example" not in row["url"]}
    # What was too slow or too long is not in the archive: the server hangs up where it would come.
    unheard = dict.fromkeys((f"http://a.example/{path}" for path in ("drip", "large", "endless")), "unreachable")
    assert found == {url: reason for url, reason in ROWS if reason} | unheard
    first = {row["url"]: row["sha256"] for row in shards.read_rows(out / f"{NAME}.parquet").to_pylist()}
    assert all(row["sha256"] == first[row["url"]] for row in rows if found.get(row["url"]) == "keep")


def test_rounds_and_hosts_that_were_given_up_are_rebuilt_too(defaults: params.Params, tmp_path: Path) -> None:
    update = {**QUICK, "archive": True, "retries": 0, "host_failures": 2}
    settings = defaults.download.model_copy(update=update)
    urls = [f"http://dead.example/reset/{row}" for row in range(5)]
    urls += [f"http://a.example/{path}" for path in ("down", "busy", "once-reset", "ok/0", "gone", "reset")]
    work = write_work(tmp_path / "work.parquet", urls)

    def both(
        folder: Path, rules: params.Download, address: ReplayAddress | None = None, index: Path | None = None
    ) -> Path:
        run_archiving(folder / "1", work, rules, address=address, index=index)
        (folder / "2").mkdir()
        download(
            folder / "2",
            name=NAME,
            work=work,
            settings=rules,
            replay=address,
            user_agent="laion-dask/test (+me)",
            workers=1,
            archive=index,
            before=folder / "1",
            round_number=2,
        )
        (folder / "all").mkdir()
        rounds.settle(folder / "all", name=NAME, rounds=[folder / "1", folder / "2"])
        return folder / "all"

    with Loopback(handler()) as server:
        first = both(tmp_path / "first", settings, address=server.address)
    assert "host_failing" in reasons(first)
    assert {"keep", "not_found", "unreachable"} <= set(reasons(first))
    index = cdxj.collect([first / f"{NAME}.warc.gz"], tmp_path / "all.cdxj")
    again = both(tmp_path / "again", settings.model_copy(update={"source": "archive"}), index=index)
    assert digests(again) == digests(first)
    assert len(digests(again)) == 5
