"""The stage catalog over crawls of many WATs: the same bytes merged and not; a further crawl leaves earlier merges."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.places import ROOT
from made.processes.dask_clients import threads_of_this_process
from made.versions import catalogs, tables
from ruamel.yaml import YAML

from laion_dask import schema
from laion_dask.catalog import merge_plan, merged_pairs
from laion_dask.runner import part_files
from laion_dask.runner import stage as frame
from workflow import catalog

if TYPE_CHECKING:
    from distributed import Client

BUCKETS = 4
PAIRS = 5


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(2) as client:
        yield client


@pytest.fixture
def project(client: Client, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose stage runs on threads, with an empty database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    monkeypatch.setenv("LAION_DASK_DSN", dsn)
    catalogs.empty(dsn)
    shutil.copy(ROOT / "removals.csv", tmp_path)
    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    values["catalog"] |= {"buckets": BUCKETS, "shard_rows": 16, "lists": []}
    YAML().dump(values, Path("params.yaml"))

    @contextmanager
    def opened(_: str, *, gpu: bool = False) -> Iterator[Client]:
        assert not gpu
        yield client

    monkeypatch.setattr(frame, "open_client", opened)
    return tmp_path


def extract(**wats_of: int) -> None:
    """Publish pairs of crawls as the stage extract does: some in each WAT are those of the WAT before."""
    shutil.rmtree("data/extract", ignore_errors=True)
    blank = {column.name: "" if column.type == pa.string() else 0 for column in schema.READS.columns}
    readings: list[dict[str, Any]] = []
    for crawl, count in wats_of.items():
        for _ in range(count):
            order = len(readings)
            rows = [
                {
                    "text": f"picture {order * (PAIRS - 1) + place}",
                    "uid": hashlib.md5(f"{order * (PAIRS - 1) + place}".encode()).hexdigest(),
                    "crawl": crawl,
                    "wat": f"{order}.wat",
                    "wat_order": order,
                }
                for place in range(PAIRS)
            ]
            tables.write(Path(f"data/extract/pairs/{order:06d}.parquet"), tables.pairs(*rows))
            readings.append({**blank, "order": order, "crawl": crawl, "wat": f"{order}.wat", "pairs": PAIRS})
    tables.write(Path("data/extract/reads.parquet"), pa.Table.from_pylist(readings, schema.READS.schema))
    seen = PAIRS * len(readings)
    Path("metrics").mkdir(exist_ok=True)
    links = {"links": {"seen": seen, "kept": seen, "dropped": {}}}
    Path("metrics/extract.json").write_text(json.dumps(links))


def parts() -> Mapping[str, int]:
    """Return when each part with merged pairs was finished, by its key."""
    found = Path(".laion_dask/parts/catalog").glob(f"*/{merged_pairs.FILE}")
    return {path.parent.name: (path.parent / part_files.COUNTS_FILE).stat().st_mtime_ns for path in found}


def test_a_crawl_of_many_wats_has_the_same_work_list_merged_as_read_from_its_files(
    project: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(first=3, second=70)
    counts = frame.run(catalog.STAGE)
    assert len(parts()) == 1, "the crawl of three WATs is not merged"
    merged = catalogs.digests(Path("data/catalog"))
    assert counts["pairs"] == {"seen": 73 * PAIRS, "kept": 73 * 4 + 1, "dropped": {"duplicate_pair": 72}}
    assert counts["parts"] == 2 * BUCKETS

    shutil.rmtree(project / ".laion_dask")
    catalogs.empty(dsn)
    monkeypatch.setattr(merge_plan, "FEW_FILES", 1000)
    assert frame.run(catalog.STAGE) == counts
    assert parts() == {}
    assert catalogs.digests(Path("data/catalog")) == merged


@pytest.mark.usefixtures("project")
def test_a_further_crawl_merges_its_own_wats_only() -> None:
    extract(first=70)
    frame.run(catalog.STAGE)
    before = parts()
    assert len(before) == 1
    extract(first=70, second=66)
    counts = frame.run(catalog.STAGE)
    assert counts["pairs"]["seen"] == 136 * PAIRS
    after = parts()
    assert len(after) == 2
    assert before.items() <= after.items()


@pytest.mark.usefixtures("project")
def test_a_task_gets_the_path_of_one_manifest_and_the_key_of_its_part_the_content_of_the_pairs() -> None:
    extract(first=70)
    frame.run(catalog.STAGE)
    (manifest,) = Path(".laion_dask/parts/catalog/manifests").glob("*.json")
    listed = json.loads(manifest.read_text())
    assert [Path(path).name for path, *_ in listed] == [merged_pairs.FILE]
    before = {path.name for path in Path(".laion_dask/parts/catalog").iterdir()}

    # The same pairs in other files: every part stays, whatever the manifest says of the files' times.
    extract(first=70)
    frame.run(catalog.STAGE)
    assert {path.name for path in Path(".laion_dask/parts/catalog").iterdir()} == before

    path = Path("data/extract/pairs/000069.parquet")
    table = pq.read_table(path)
    text = table.column_names.index("text")
    pq.write_table(table.set_column(text, "text", pa.array(["another"] * PAIRS)), path)
    frame.run(catalog.STAGE)
    assert len({path.name for path in Path(".laion_dask/parts/catalog").iterdir()} - before) == 1 + BUCKETS


@pytest.mark.usefixtures("project")
def test_a_merged_file_that_is_damaged_is_found_before_it_is_used_and_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    extract(first=70)
    counts = frame.run(catalog.STAGE)
    (merged,) = Path(".laion_dask/parts/catalog").glob(f"*/{merged_pairs.FILE}")
    good = merged.read_bytes()
    merged.chmod(0o644)
    merged.write_bytes(good[:-100] + bytes(100))
    assert frame.run(catalog.STAGE) == counts
    assert merged.read_bytes() == good
    assert "is damaged" in capsys.readouterr().err
