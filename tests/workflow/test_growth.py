"""A version that grows: one more crawl, one more WAT, removals; the bytes are those of a version made at once."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.projects.project import SMALL, Project

from laion_dask import schema

pytestmark = pytest.mark.slow

STAGES = ("crawl", "extract", "catalog", "download", "score")
"""Those that take over; the later ones are functions of their outs."""
CRAWLS = {"CC-MAIN-2024-22": (0, 1), "CC-MAIN-2024-26": (1, 2, 3)}
"""The WATs of each crawl; the second has one again that the first has."""


def put(folder: Path, small: Project, crawl: str, *numbers: int) -> None:
    """Add WATs of the small demo to a crawl, under the path that Common Crawl's bucket has."""
    wats = sorted((small.folder / "data" / "crawl" / "wat").glob("*.gz"))
    for number in numbers:
        target = folder / "crawl-data" / crawl / "segments" / "0" / "wat" / wats[number].name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wats[number], target)


def project(folder: Path, small: Project, *crawls: str) -> Project:
    """Make a project that reads these crawls from disk, and gets its answers from the demo's WARC files."""
    changes: dict[str, Any] = SMALL | {
        "crawl.source": "files",
        "crawl.files": [f"crawl-data/{crawl}/**/*.gz" for crawl in crawls],
        "download.warcs": [str(small.folder / "data" / "crawl" / "warc" / "*.warc.gz")],
        "catalog.lists": [],
    }
    made = Project.create(folder, changes)
    for crawl in crawls:
        put(folder, small, crawl, *CRAWLS[crawl])
    return made


def read_both(grown: Project) -> None:
    """Add the second crawl to params.yaml, and its WATs."""
    text = (grown.folder / "params.yaml").read_text()
    first, second = (f"crawl-data/{crawl}/**/*.gz" for crawl in CRAWLS)
    (grown.folder / "params.yaml").write_text(text.replace(f"- {first}", f"- {first}\n  - {second}"))


def taken(said: str, stage: str) -> tuple[int, int]:
    """Return how many rows a stage made, and how many it took over, by the line that it printed."""
    line = next(line for line in said.splitlines() if line.startswith(stage) and " seen, " in line)
    found = re.search(r"; made ([\d,]+), taken over ([\d,]+)", line) or re.search(r"; (taken over) ([\d,]+)", line)
    made = int(found[1].replace(",", "")) if found and found[1] != "taken over" else 0
    return made, int(found[2].replace(",", "")) if found else 0


def remove(grown: Project, rows: list[dict[str, Any]]) -> None:
    """Add a removal of each row to the ledger: by uid, by address and by domain in turn."""
    with (grown.folder / "removals.csv").open("a", newline="") as stream:
        for number, row in enumerate(rows):
            kind = ("uid", "url")[number % 2]
            csv.writer(stream).writerow([kind, row[kind], "asked for", "2099-01-01", "a test"])


def images(of: Project) -> list[dict[str, Any]]:
    paths = sorted((of.folder / "data" / "download").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def grown(small: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Build the first crawl, then both, then both with removals; keep what each run printed and wrote."""
    folder = tmp_path_factory.mktemp("grown")
    first, second = CRAWLS
    of = project(folder / "p", small, first)
    steps: dict[str, Any] = {"project": of}
    of.run_in_one_process(*STAGES)
    steps["first"] = of.digests(*STAGES)
    steps["first images"] = images(of)
    put(of.folder, small, second, *CRAWLS[second])
    read_both(of)
    steps["said both"] = of.run_in_one_process(*STAGES)
    steps["both"], steps["both metrics"] = of.digests(*STAGES), {stage: of.metrics(stage) for stage in STAGES}
    rows = images(of)
    steps["both images"] = rows
    steps["gone"] = rows[5:200:9]
    remove(of, steps["gone"])
    steps["said removed"] = of.run_in_one_process(*STAGES, workers=2)
    steps["removed"], steps["removed metrics"] = of.digests(*STAGES), {stage: of.metrics(stage) for stage in STAGES}
    return steps


def at_once(folder: Path, small: Project, gone: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, Any]]:
    fresh = project(folder / "p", small, *CRAWLS)
    remove(fresh, gone)
    fresh.run_in_one_process(*STAGES, workers=2)
    return fresh.digests(*STAGES), {stage: fresh.metrics(stage) for stage in STAGES}


def test_a_crawl_that_is_added_leaves_the_shards_before_and_asks_for_new_pairs_only(grown: dict[str, Any]) -> None:
    for stage in ("catalog/shards", "download", "score"):
        before = {name: value for name, value in grown["first"].items() if re.match(rf"{stage}/\d+\.", name)}
        assert before
        assert before.items() <= grown["both"].items()
    tried = pq.read_table(grown["project"].folder / ".laion_dask" / "times" / "download.parquet")
    assert tried.num_rows
    waves = grown["both metrics"]["catalog"]["waves"]
    first, second = CRAWLS
    new = sum(row["crawl"] == second for row in grown["both images"])
    assert list(waves) == [first, second]
    assert waves[second]["new"] >= new > 0
    assert waves[second]["repeated"] > 0
    asked, _ = taken(grown["said both"], "download")
    assert asked in {0, new}  # nothing is printed where nothing was taken over by rows: whole parts were


def test_both_crawls_one_after_the_other_give_the_bytes_of_both_at_once(
    grown: dict[str, Any], small: Project, tmp_path: Path
) -> None:
    digests, metrics = at_once(tmp_path, small, [])
    assert {name: value for name, value in digests.items() if grown["both"].get(name) != value} == {}
    assert digests.keys() == grown["both"].keys()
    assert metrics == grown["both metrics"]


def test_removals_take_rows_out_ask_for_nothing_and_give_the_bytes_of_a_version_that_never_had_them(
    grown: dict[str, Any], small: Project, tmp_path: Path
) -> None:
    gone = {row["uid"] for row in grown["gone"]} | {
        row["uid"] for row in grown["both images"] if row["url"] in {one["url"] for one in grown["gone"][1::2]}
    }
    kept = [row for row in grown["both images"] if row["uid"] not in gone]
    assert images(grown["project"]) == kept  # keys and shards too
    made, over = taken(grown["said removed"], "download")
    assert (made, over > 0) == (0, True)
    assert taken(grown["said removed"], "score")[0] == 0
    digests, metrics = at_once(tmp_path, small, grown["gone"])
    assert {name: value for name, value in digests.items() if grown["removed"].get(name) != value} == {}
    assert digests.keys() == grown["removed"].keys()
    assert json.dumps(metrics) == json.dumps(grown["removed metrics"])


def test_the_slot_of_a_row_is_its_place_in_the_shard(grown: dict[str, Any]) -> None:
    data = grown["project"].folder / "data"
    for path in sorted((data / "catalog" / "shards").glob("*.parquet")):
        work = schema.WORK.check(pq.read_table(path))
        scores = pq.read_table(data / "score" / path.name)
        slots = [int(path.stem) * SMALL["catalog.shard_rows"] + place for place in work["place"].to_pylist()]
        assert (scores["uid"].to_pylist(), scores["slot"].to_pylist()) == (work["uid"].to_pylist(), slots)
