"""WATs in buckets, from the parameters to the pairs: the same bytes as from files, and no change goes unseen."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from made.crawls.wat_bytes import image, members, page_json, record
from made.parameters import refusal, with_values
from made.places import ROOT
from made.processes import programs
from made.processes.dask_clients import threads_of_this_process
from made.servers.s3 import KEYS, SECRET, Answer, Buckets, buckets, environment, times
from ruamel.yaml import YAML
from s3fs import S3FileSystem

from laion_dask import params, schema
from laion_dask.crawl import listing
from laion_dask.extract.wat import blocks
from laion_dask.inputs import part as inputs
from laion_dask.preflight import preflight
from laion_dask.preflight.preflight import PreflightError
from laion_dask.runner import stage as frame
from laion_dask.runner.parts import PartsFailedError
from laion_dask.storage import objects
from workflow import crawl, extract

if TYPE_CHECKING:
    from distributed import Client

CRAWL = "crawl-data/CC-MAIN-2018-13/segments/1.0/wat"
PAGES = {
    f"{CRAWL}/CC-00000.warc.wat.gz": [image("a red fox", "fox.jpg"), image("", "blank.jpg")],
    f"{CRAWL}/CC-00001.warc.wat.gz": [image("a black cat", "cat.jpg"), {"path": "IMG@/src", "alt": "nowhere"}],
    "more/c.warc.wat.gz": [image("a tall elk", "elk.jpg")],
}
FIRST = next(iter(PAGES))
FILES = (f"{CRAWL}/*.warc.wat.gz", "more/*.warc.wat.gz")
ADDRESSES = tuple(f"s3://{bucket}/{glob}" for bucket, glob in zip(("first", "second"), FILES, strict=True))


def wat(key: str) -> bytes:
    return members(record(page_json(PAGES[key])), record(b"no json at all"))


@pytest.fixture(scope="module")
def server() -> Iterator[Buckets]:
    with buckets() as found, environment(found, **KEYS):
        yield found


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture
def here(server: Buckets, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Buckets:
    """A project folder with WATs in two buckets, and the same ones as files; stages run on threads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    monkeypatch.setattr(objects, "RETRY_WAITS_S", (0.0,))
    monkeypatch.setattr(blocks, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    shutil.copy(ROOT / "removals.csv", tmp_path)
    server.empty()
    for key in PAGES:
        Path(key).parent.mkdir(parents=True, exist_ok=True)
        Path(key).write_bytes(wat(key))
        server.put("second" if key.startswith("more") else "first", {key: wat(key)})

    @contextmanager
    def opened(_: str, *, gpu: bool = False) -> Iterator[Client]:
        assert not gpu
        yield client

    monkeypatch.setattr(frame, "open_client", opened)
    write(ADDRESSES)
    server.asked.clear()
    return server


def write(files: tuple[str, ...], **more: object) -> None:
    """Write params.yaml with these WATs."""
    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    values["crawl"] |= {"source": "files", "files": list(files), **more}
    YAML().dump(values, Path("params.yaml"))


def described() -> dict[str, list[dict[str, Any]]]:
    return inputs.describe(params.load(), inputs.Digests(Path(".laion_dask/inputs.json")))


def run() -> dict[str, Any]:
    frame.run(crawl.STAGE)
    return frame.run(extract.STAGE)


def digests(*folders: str) -> dict[str, str]:
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: str, *without: str) -> list[dict[str, Any]]:
    return pq.read_table(path).drop_columns(list(without)).to_pylist()


# The same bytes


def test_pairs_from_buckets_have_the_bytes_of_those_from_files(here: Buckets) -> None:
    of_buckets = run()
    outs = digests("data/extract/pairs"), rows("data/extract/losses.parquet"), rows("data/extract/reads.parquet")
    listed = rows("data/crawl/wats.parquet")
    shutil.move("data", "of-buckets")
    assert any(asked.startswith("GET /second/more/c.warc.wat.gz") for asked in here.asked)
    here.asked.clear()
    write(FILES)
    assert run() == of_buckets
    assert here.asked == []
    # Only the names of what lies outside of crawl-data/ have the address; that of a crawl is the same everywhere.
    same, other = sorted(outs[0])[:2], sorted(outs[0])[2]
    assert {name: outs[0][name] for name in same} == {name: digests("data/extract/pairs")[name] for name in same}
    of_file, of_bucket = (rows(f"{out}/extract/pairs/{Path(other).name}", "wat") for out in ("data", "of-buckets"))
    assert of_file == of_bucket
    for name in ("wat", "location"):
        assert [row[name] for row in listed][2] == "s3://second/more/c.warc.wat.gz"
    assert [row["wat"] for row in listed[:2]] == [*PAGES][:2]
    assert [row["crawl"] for row in listed] == ["CC-MAIN-2018-13", "CC-MAIN-2018-13", "files"]
    plain = [{**row, "location": "", "wat": ""} for row in listed]
    assert plain == [{**row, "location": "", "wat": ""} for row in rows("data/crawl/wats.parquet")]
    for path, before in (("losses", outs[1]), ("reads", outs[2])):
        now = rows(f"data/extract/{path}.parquet")
        assert [{**row, "wat": "", "etag": ""} for row in now] == [{**row, "wat": "", "etag": ""} for row in before]
    assert all(row["etag"] and row["sha256"] for row in outs[2])


@pytest.mark.usefixtures("here")
def test_a_sample_of_objects_is_that_of_files_and_other_sources_have_no_table_of_objects() -> None:
    orders = []
    for files in (ADDRESSES, FILES):
        write(files, wats=1)
        frame.run(crawl.STAGE)
        orders.append([Path(row["wat"]).name for row in rows("data/crawl/wats.parquet")])
    assert orders[0] == orders[1]
    assert digests("data/crawl").keys() == {"data/crawl/wats.parquet"}
    write(ADDRESSES)
    frame.run(crawl.STAGE)
    listed = schema.OBJECTS.check(pq.read_table("data/crawl/objects.parquet")).to_pylist()
    assert [row["bytes"] for row in listed] == [len(wat(key)) for key in PAGES]
    assert [row["etag"].strip('"') for row in listed] == [
        hashlib.md5(wat(key), usedforsecurity=False).hexdigest() for key in PAGES
    ]


@pytest.mark.usefixtures("here")
def test_the_command_line_reads_globs_folders_and_names_in_buckets_as_the_stage_does() -> None:
    frame.run(crawl.STAGE)
    expected = rows("data/crawl/wats.parquet", "order")
    for places in (ADDRESSES, ["s3://first/", "s3://second/"], [row["location"] for row in expected]):
        assert [{**row, "order": 0} for row in listing.at(places).to_pylist()] == [
            {**row, "order": 0} for row in expected
        ]
    with pytest.raises(listing.CrawlError, match=r"^s3://second/none/ holds no \*\.wat\.gz\. Remedy: give a folder"):
        listing.at(["s3://second/none/"])
    with pytest.raises(listing.CrawlError, match=r"^s3://\*\*\*@b/x has credentials.*Remedy: credentials in the env"):
        listing.at([f"s3://me:{SECRET}@b/x"])


@pytest.mark.slow
def test_workers_in_other_processes_take_endpoint_and_credentials_from_the_environment(
    here: Buckets, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "laion_dask.cli.main", "extract", *ADDRESSES, "--out", "pairs", "--workers", "2"]
    done = programs.finished(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert SECRET not in done.stdout + done.stderr
    assert [row["pairs"] for row in rows("pairs/reads.parquet")] == [1, 1, 1]
    assert here.asked


# What changes


@pytest.mark.usefixtures("here")
def test_inputs_and_parts_know_an_object_by_size_and_etag(here: Buckets) -> None:
    def keys() -> list[str]:
        frame.run(crawl.STAGE)
        return [part.key for part in extract.wats(params.load(), {})]

    before, first = keys(), described()
    assert (keys(), described()) == (before, first)
    key = "more/c.warc.wat.gz"
    etag = f'"{hashlib.md5(wat(key), usedforsecurity=False).hexdigest()}"'
    entry = {"key": "crawl.files.1", "path": ADDRESSES[1]}
    entry |= {"objects": {f"s3://second/{key}": {"bytes": len(wat(key)), "etag": etag}}}
    assert first["crawl"][1] == first["extract"][1] == entry
    here.put("second", {key: wat(FIRST)})
    assert [new == old for new, old in zip(keys(), before, strict=True)] == [True, True, False]
    after = described()
    assert [stage for stage in after if after[stage] != first[stage]] == ["crawl", "extract"]
    here.put("second", {"more/d.warc.wat.gz": b""})
    assert described() != after


CHANGES = {
    "another object of the same size": (lambda body: body[:-1] + b"!", r"was \d+ bytes, ETag .*, and is now \d+ bytes"),
    "a longer object": (lambda body: body + wat(FIRST), r"was \d+ bytes, ETag .*, and is now \d+ bytes"),
    "none": (lambda _: None, r"was there when it was listed \(\d+ bytes, ETag .*\), and is not now: status 404"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_object_that_changes_between_crawl_and_extract_is_an_error(here: Buckets, change: str) -> None:
    make, told = CHANGES[change]
    frame.run(crawl.STAGE)
    key = "more/c.warc.wat.gz"
    body = make(wat(key))
    if body is None:
        here.client().delete_object(Bucket="second", Key=key)
    else:
        here.put("second", {key: body})
    with pytest.raises(PartsFailedError, match=rf"s3://second/{key} .*{told}") as failed:
        frame.run(extract.STAGE)
    assert "Remedy: run again: the files are listed anew" in str(failed.value)
    assert "1 of 3 parts failed; 2 are finished and kept" in str(failed.value)
    if body is not None:
        assert run()["records"]["dropped"].get("wat_unreadable") is None
        reads = rows("data/extract/reads.parquet")
        assert reads[2]["sha256"] == hashlib.sha256(body).hexdigest()


# What goes wrong

FAULTS: dict[str, tuple[Answer, str]] = {
    "busy": (times(99, "503 Slow Down", "SlowDown"), r"Remedy: check the address, the network and the endpoint"),
    "no right": (times(99, "403 Forbidden", "AccessDenied"), r"Remedy: give this user the right to list and read"),
    "no bucket": (times(99, "404 Not Found", "NoSuchBucket"), r"there is no bucket first .*Remedy: correct its name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_listed_ends_every_step_that_lists(here: Buckets, fault: str) -> None:
    answer, told = FAULTS[fault]
    here.instead = [answer]
    with pytest.raises(PreflightError, match=rf"crawl\.files\.0: s3://first/.*{told}"):
        preflight.check(params.load(), weights=False)
    with pytest.raises(inputs.InputsError, match=rf"crawl\.files\.0, crawl\.files\.1: s3://first/.*{told}"):
        described()
    with pytest.raises(PartsFailedError, match=rf"crawl\.files: s3://first/.*{told}"):
        frame.run(crawl.STAGE)


def test_a_glob_without_a_match_and_an_object_without_the_right_to_read_it_are_told_before_a_run(
    here: Buckets,
) -> None:
    write((ADDRESSES[0], "s3://second/none/*.gz"))
    here.instead = [times(99, "403 Forbidden", "AccessDenied", "Access Denied", of="CC-00000")]
    with pytest.raises(PreflightError) as refused:
        preflight.check(params.load(), weights=False)
    assert f"crawl.files.0: s3://first/{FIRST} cannot be read (Access Denied). Remedy: " in str(refused.value)
    assert "crawl.files.1: s3://second/none/*.gz matches no object at http" in str(refused.value)
    here.instead = []
    write(ADDRESSES)
    preflight.check(params.load(), weights=False)


READ = f"GET /first/{FIRST}"
WHILE_READ: dict[str, tuple[Answer, str]] = {
    "SlowDown": (times(9, "503 Slow Down", "SlowDown", of=READ), r"status 503 SlowDown \(after 3 .*fewer workers"),
    "no right": (times(9, "403 Forbidden", "AccessDenied", of=READ), r"status 403 AccessDenied .*Remedy: give this us"),
}


@pytest.mark.parametrize("fault", WHILE_READ)
def test_a_wat_that_cannot_be_read_ends_the_stage_and_the_next_run_reads_it(here: Buckets, fault: str) -> None:
    answer, told = WHILE_READ[fault]
    frame.run(crawl.STAGE)
    here.instead = [answer]
    with pytest.raises(PartsFailedError, match=rf"1 of 3 parts failed; 2 are finished[\s\S]*CC-00000.*{told}"):
        frame.run(extract.STAGE)
    here.instead, here.asked[:] = [times(1, "503 Slow Down", "SlowDown", of=READ)], []
    assert frame.run(extract.STAGE)["links"]["kept"] == 3
    assert [asked for asked in here.asked if asked.startswith("GET")] == [READ, READ]


# Parameters

KEYED = {
    f"s3://AKIA:{SECRET}@bucket/x.gz": "has credentials, which would stand in Git",
    "s3://AKIA@bucket/x.gz": "has credentials, which would stand in Git",
    f"https://me:{SECRET}@host/x.gz": "has credentials",
    f"https://b.s3.amazonaws.com/x?X-Amz-Credential=me&X-Amz-Signature={SECRET}": "has a signature or token",
    f"https://b.blob.core.windows.net/x.gz?sv=2&sig={SECRET}": "has a signature or token",
    "s3:///x.gz": "names no bucket or host",
    "s3://buck*/x.gz": "has a wildcard in the name of the bucket",
}


@pytest.mark.parametrize("address", KEYED)
@pytest.mark.parametrize("key", ["files", "base_url"])
def test_an_address_with_a_secret_or_without_a_bucket_is_refused_and_not_shown(
    defaults: params.Params, address: str, key: str
) -> None:
    values = defaults.model_dump(mode="json")
    values["crawl"] |= {"files": ["wats/*.gz", address]} if key == "files" else {"base_url": address}
    said = refusal(values)
    assert f"crawl: crawl.{'files.1' if key == 'files' else key} = " in said
    assert KEYED[address] in said
    assert "Remedy: " in said
    assert SECRET not in said
    values["crawl"]["files"] = [address, address]
    assert SECRET not in refusal(values)


def test_an_address_of_common_crawl_or_with_a_question_mark_is_no_secret(defaults: params.Params) -> None:
    files = ["s3://commoncrawl/crawl-data/CC-MAIN-2024-22/x.warc.wat.gz", "s3://b/w/CC-0000?.warc.wat.gz"]
    with_values(defaults, {"crawl": {"source": "files", "files": [*files, "https://h/x.wat.gz?id=5"]}})
    assert json.dumps(files)
