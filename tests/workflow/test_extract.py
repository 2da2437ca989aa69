"""The stage of extraction: its list of parts, the tables that it publishes, and the same bytes however it is run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.crawls.wat_bytes import image, members, page_json, record
from made.places import ROOT
from made.processes.dask_clients import threads_of_this_process

from laion_dask import params, schema
from laion_dask.cluster import kinds
from laion_dask.crawl import listing
from laion_dask.extract import part as extract
from laion_dask.extract import readings
from laion_dask.runner import stage as frame
from laion_dask.runner import tasks
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.runner.stage import StageError
from laion_dask.standalone.extract import extract_files
from workflow import extract as stage

if TYPE_CHECKING:
    from distributed import Client

PAGES = {
    "a": [[image("a red fox", "fox.jpg"), image("", "blank.jpg")], [image("a grey owl", "owl.png")]],
    "b": [[image("a black cat", "cat.jpg"), {"path": "IMG@/src", "alt": "nowhere"}]],
    "c": [[image("a tall elk", "elk.jpg")]],
}


def wat(name: str) -> bytes:
    """Return a WAT with the pages of a name, and at its end a record that is no JSON."""
    return members(*(record(page_json(links)) for links in PAGES[name]), record(b"no json at all"))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture
def here(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose list has three WATs, where stages run on threads of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in PAGES:
        write(f"wats/{name}.warc.wat.gz", wat(name))
    list_wats(f"wats/{name}.warc.wat.gz" for name in PAGES)

    @contextmanager
    def opened(stage: str, *, gpu: bool = False) -> Iterator[Client]:
        assert (stage, gpu) == ("extract", False)
        yield client

    monkeypatch.setattr(frame, "open_client", opened)
    monkeypatch.setattr(kinds, "open_client", opened)
    return tmp_path


def write(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def list_wats(locations: Any) -> None:  # noqa: ANN401 - any iterable of texts
    rows = [
        {"order": order, "crawl": "files", "wat": location, "location": location, "bytes": -1}
        for order, location in enumerate(locations)
    ]
    Path("data/crawl").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema.WATS.schema), "data/crawl/wats.parquet")


def digests(folder: Path | str) -> dict[str, str]:
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def keys() -> list[str]:
    return [part.key for part in stage.wats(params.load(), {})]


# What is published


@pytest.mark.usefixtures("here")
def test_the_out_holds_pairs_reads_and_losses_and_nothing_else() -> None:
    frame.run(stage.STAGE)
    assert list(digests("data/extract")) == [
        *("losses.parquet", "pairs/000000.parquet", "pairs/000001.parquet", "pairs/000002.parquet", "reads.parquet")
    ]
    schema.READS.check(pq.read_table("data/extract/reads.parquet"))
    schema.LOSSES.check(pq.read_table("data/extract/losses.parquet"))
    for path in sorted(Path("data/extract/pairs").iterdir()):
        schema.PAIRS.check(pq.read_table(path))


@pytest.mark.usefixtures("here")
def test_the_report_has_a_row_for_each_wat_that_adds_up_to_the_metrics() -> None:
    counts = frame.run(stage.STAGE)
    rows = pq.read_table("data/extract/reads.parquet").to_pylist()
    assert [row["wat"] for row in rows] == [f"wats/{name}.warc.wat.gz" for name in PAGES]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(wat(name)).hexdigest() for name in PAGES]
    assert [row["bytes"] for row in rows] == [len(wat(name)) for name in PAGES]
    sums = {name: sum(row[name] for row in rows) for name in ("records", "pages", "links", "pairs", "losses", "bytes")}
    assert sums == {
        "records": counts["records"]["seen"],
        "pages": counts["pages"],
        "links": counts["links"]["seen"],
        "pairs": counts["links"]["kept"],
        "losses": 3,
        "bytes": counts["bytes"],
    }
    assert sum(pq.read_metadata(path).num_rows for path in Path("data/extract/pairs").iterdir()) == sums["pairs"] == 4


@pytest.mark.usefixtures("here")
def test_every_defect_is_listed_with_its_wat_in_the_order_of_the_wats() -> None:
    counts = frame.run(stage.STAGE)
    rows = pq.read_table("data/extract/losses.parquet").to_pylist()
    assert [(row["wat"][5], row["reason"]) for row in rows if row["reason"] == "bad_json"] == [
        (name, "bad_json") for name in PAGES
    ]
    assert [row["reason"] for row in rows if row["wat"][5] == "b"] == ["bad_json", "no_url"]
    assert [row["wat"] for row in rows] == sorted(row["wat"] for row in rows)
    assert all(wat(row["wat"][5])[row["offset"] :].startswith(b"\x1f\x8b") for row in rows)
    assert counts["defects_listed"] == len(rows)


# No clock


@pytest.mark.usefixtures("here")
def test_two_runs_from_nothing_give_the_same_version_and_metrics() -> None:
    frame.run(stage.STAGE)
    before = digests("data/extract"), digests("metrics")
    for folder in (".laion_dask", "data/extract", "metrics"):
        shutil.rmtree(folder)
    frame.run(stage.STAGE)
    assert (digests("data/extract"), digests("metrics")) == before


@pytest.mark.usefixtures("here")
def test_times_lie_beside_the_version() -> None:
    frame.run(stage.STAGE)
    times = schema.TIMES.check(pq.read_table(".laion_dask/times/extract.parquet"))
    assert times["wat"].to_pylist() == [f"wats/{name}.warc.wat.gz" for name in PAGES]
    assert all(seconds > 0 for seconds in times["seconds"].to_pylist())
    assert not {"seconds", "requests"} & set(pq.read_table("data/extract/reads.parquet").column_names)
    assert not {"seconds", "requests"} & frame.metrics("extract").keys()


@pytest.mark.usefixtures("here")
def test_a_project_and_a_folder_alone_get_the_same_pairs() -> None:
    frame.run(stage.STAGE)
    table = listing.at([f"wats/{name}.warc.wat.gz" for name in PAGES])
    counts = extract_files(table, Path("alone"), params.load().extract, Progress("extract", "records"))
    alone = digests("alone")
    del alone["times.parquet"]
    assert alone == digests("data/extract")
    assert counts == frame.metrics("extract") | {"errors": {}}


# What makes a part


@pytest.mark.usefixtures("here")
def test_a_local_wat_is_known_by_its_bytes_and_a_remote_one_by_its_address() -> None:
    list_wats(["wats/a.warc.wat.gz", "https://one.example/x.wat.gz"])
    first = keys()
    Path("wats/a.warc.wat.gz").touch()
    assert keys() == first
    write("wats/a.warc.wat.gz", wat("a") + wat("b"))
    assert [new == old for new, old in zip(keys(), first, strict=True)] == [False, True]
    list_wats(["wats/a.warc.wat.gz", "https://other.example/x.wat.gz"])
    assert keys()[1] != first[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("change", [{"order": 9}, {"crawl": "CC-MAIN-2024-22"}, {"wat": "other"}])
def test_whatever_stands_in_the_rows_of_the_pairs_makes_another_part(change: dict[str, Any]) -> None:
    before = keys()
    rows = [row | change for row in pq.read_table("data/crawl/wats.parquet").to_pylist()[:1]]
    pq.write_table(pa.Table.from_pylist(rows, schema.WATS.schema), "data/crawl/wats.parquet")
    assert keys()[0] != before[0]


@pytest.mark.usefixtures("here")
def test_another_rule_makes_other_parts() -> None:
    before = keys()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  min_chars: 5 ", "  min_chars: 6 "))
    assert not set(keys()) & set(before)


# WATs that cannot be read


@pytest.mark.usefixtures("here")
def test_a_missing_wat_is_counted_and_the_rest_goes_on() -> None:
    Path("wats/b.warc.wat.gz").unlink()
    counts = frame.run(stage.STAGE)
    assert counts["wats_unreadable"] == counts["records"]["dropped"]["wat_unreadable"] == 1
    assert counts["links"]["kept"] == 3
    rows = pq.read_table("data/extract/reads.parquet").to_pylist()
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert pq.read_metadata("data/extract/pairs/000001.parquet").num_rows == 0


@pytest.mark.usefixtures("here")
def test_where_no_wat_can_be_read_the_stage_ends_and_the_old_version_stays() -> None:
    frame.run(stage.STAGE)
    before = digests("data/extract"), digests("metrics")
    for name in PAGES:
        Path(f"wats/{name}.warc.wat.gz").unlink()
    with pytest.raises(StageError, match=r"^none of the 3 WATs can be read; wats/a\.warc\.wat\.gz: .*No such file"):
        frame.run(stage.STAGE)
    assert (digests("data/extract"), digests("metrics")) == before


def finish(folder: Path, location: str, order: int, rules: params.Extract) -> Done:
    args = {"name": f"{order:06d}", "location": location, "crawl": "files", "wat": location, "order": order}
    args["settings"] = rules
    part = Part(f"{order:06d}", f"key{order}", args)
    counts = tasks.finish_part(extract.extract, str(folder / part.key), args)
    return Done(part, folder / part.key, counts)


def test_rows_come_in_the_order_of_the_list_beyond_a_million_wats_too(here: Path, defaults: params.Params) -> None:
    orders = (1_000_000, 999_999, 7)
    done = [
        finish(here / "parts", f"wats/{name}.warc.wat.gz", order, defaults.extract)
        for name, order in zip(PAGES, orders, strict=True)
    ]
    readings.publish(done, here / "out", here / "times.parquet")
    assert pq.read_table(here / "out/reads.parquet")["order"].to_pylist() == sorted(orders)
    listed = pq.read_table(here / "out/losses.parquet")["wat"].to_pylist()
    assert [location[5] for location in dict.fromkeys(listed)] == ["c", "b", "a"]


def test_what_is_mended_is_summed_by_reason(here: Path, defaults: params.Params) -> None:
    write("wats/lf.warc.wat", record(page_json(PAGES["c"][0])).replace(b"\r\n", b"\n"))
    names = ("wats/lf.warc.wat", "wats/a.warc.wat.gz", "wats/lf.warc.wat")
    done = [finish(here / "parts", name, order, defaults.extract) for order, name in enumerate(names)]
    one = done[0].counts["mended"]
    assert one.get("lf_line_ends", 0) > 0
    assert readings.publish(done, here / "out", here / "times.parquet")["mended"] == {
        reason: 2 * count for reason, count in one.items()
    }


def test_only_what_a_host_did_not_give_is_read_again(here: Path, defaults: params.Params) -> None:
    write("wats/junk.warc.wat.gz", b"this is no WAT\n" * 10)
    local = [
        finish(here / "parts", f"wats/{name}.warc.wat.gz", order, defaults.extract) for order, name in enumerate("ax")
    ]
    junk = finish(here / "parts", "wats/junk.warc.wat.gz", 5, defaults.extract)
    remote = replace(
        local[1], part=replace(local[1].part, args=local[1].part.args | {"location": "https://a.example/x"})
    )
    assert readings.remove_failed_remote([local[0], junk]) == []
    assert readings.remove_failed_remote([local[0], remote, junk]) == [remote]
    assert [done.folder.exists() for done in (local[0], remote, junk)] == [True, False, True]


def test_a_table_of_many_losses_is_joined_in_pieces_without_losing_a_row(
    here: Path, defaults: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [
        finish(here / "parts", f"wats/{name}.warc.wat.gz", order, defaults.extract) for order, name in enumerate(PAGES)
    ]
    whole = readings.publish(done, here / "whole", here / "times.parquet")["defects_listed"]
    monkeypatch.setattr(readings, "_ROWS_IN_MEMORY", 1)
    pieces = readings.publish(done, here / "pieces", here / "times.parquet")["defects_listed"]
    tables = [pq.read_table(here / name / "losses.parquet") for name in ("whole", "pieces")]
    assert tables[0].equals(tables[1])
    assert whole == pieces == tables[0].num_rows


def test_a_version_without_wats_has_empty_tables(tmp_path: Path) -> None:
    counts = readings.publish([], tmp_path / "out", tmp_path / "times.parquet")
    assert json.loads(json.dumps(counts)) == {"mended": {}, "defects_listed": 0, "wats_unreadable": 0}
    assert pq.read_table(tmp_path / "out/reads.parquet").num_rows == 0
