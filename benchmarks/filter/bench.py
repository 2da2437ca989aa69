"""Scored pairs in, the speed and memory of the filter beside a bare reading of its columns out; `make bench-filter`.

    python -m benchmarks.filter.bench [--pairs 10000000] [--quick]

The stage runs as its users run it: a program, two workers, from start to end, over shards of 10,000 pairs. The limit of
the same run: two processes read the same columns of the same files with pyarrow, and do nothing with them. The shards
are made once and kept in .bench/. The last line is JSON. The exit status is 0 where a bar is missed, another where
something failed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import projects
from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH, ROOT
from benchmarks.filter import scored
from laion_dask import params, schema
from laion_dask.filter import rules

WORKERS: Final = 2
QUICK: Final = 60_000
_MB: Final = 1_000_000
_EVERY_S: Final = 0.1

# Numbers of several recipes together, so that every kind of rule has work.
ONE_ROW: Final[dict[str, Any]] = {
    "similarity": {"en": 0.28, "multi": 0.26, "nolang": 0.26},
    "min_chars": 6,
    "min_words": 3,
    "min_bytes": 5000,
    "min_side_px": 200,
    "max_aspect_ratio": 3.0,
    "languages": ["en", "de"],
    "max_punsafe": 0.5,
    "max_pwatermark": 0.8,
    "thresholds": [{"name": "beauty", "column": "aesthetic", "min": 4.5}],
    "duplicate_images": "keep",
    "near_duplicates": "keep",
}
ALL_SHARDS: Final = ONE_ROW | {
    "top": [{"name": "clip", "column": "similarity_b32", "fraction": 0.3}],
    "where": "aesthetic > 4 or similarity > 0.3",
    "duplicate_images": "drop",
    "near_duplicates": "drop",
}


def project(folder: Path, pairs: int, changes: Mapping[str, Any]) -> None:
    """Make a project folder over the shards of `scored`."""
    made = BENCH / f"scored-{pairs}"
    scored.make(made, pairs, WORKERS)
    known = {"name": "known", "kind": "md5", "file": "data/crawl/known.txt"}
    projects.make(
        folder,
        data={path.name: path for path in (made / "data").iterdir()},
        metrics={path.stem: json.loads(path.read_text()) for path in (made / "metrics").glob("*.json")},
        values={
            "filter": changes,
            "catalog": {"lists": [known]},
            "score": {"models": [{"name": "b32", "model": "demo"}]},
        },
    )
    shutil.copy(ROOT / "removals.csv", folder)


@dataclass(frozen=True)
class Used:
    """What a run of the stage took, all its processes together."""

    seconds: float
    processor_s: float
    stolen: float
    """Share of the machine's time that its host gave to other machines, of what was wanted."""
    peak_mb: float


def stage(folder: Path) -> Used:
    """Run the stage from its beginning."""
    shutil.rmtree(folder / ".laion_dask", ignore_errors=True)
    before, spent = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peaks = [0.0]
    seconds = projects.run("filter", folder, WORKERS, lambda driver: peaks.append(memory(driver.pid)))
    after = psutil.cpu_times()
    # The fork server waits for the workers, the stage for the fork server, and this process for the stage.
    total = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = sum(getattr(after, name) - getattr(before, name) for name in ("user", "nice", "system", "steal"))
    return Used(
        seconds,
        total.ru_utime + total.ru_stime - spent.ru_utime - spent.ru_stime,
        (after.steal - before.steal) / max(busy, 1e-9),
        max(peaks),
    )


def memory(pid: int) -> float:
    """Return the resident memory of a process and all its children, in MB: what they share counts for each."""
    total = 0
    try:
        whole = psutil.Process(pid)
        for one in [whole, *whole.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended while we looked
    return total / _MB


def limit(folder: Path, wanted: params.Filter) -> float:
    """Return the seconds that two processes need to read the columns that the rules read."""
    images = sorted((folder / "data" / "download").glob("*.parquet"))
    first = pq.read_schema(folder / "data" / "score" / images[0].name).names
    known = [*schema.IMAGES.names, *(name for name in first if name not in schema.IMAGES.names)]
    columns = rules.columns(wanted, known, rules.Files("limit"))
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm_up, range(2 * WORKERS)))
        began = time.monotonic()
        list(pool.map(_read, images, [columns] * len(images), chunksize=8))
        return time.monotonic() - began


def _warm_up(_: int) -> int:
    pa.set_cpu_count(1)
    time.sleep(0.2)
    return 0


def _read(path: Path, columns: list[str]) -> int:
    scores = path.parents[1] / "score" / path.name
    names = pq.read_schema(scores).names
    own = [name for name in columns if name in schema.IMAGES.names]
    others = ["uid", "reason", *(name for name in columns if name in names and name not in own)]
    return int(pq.read_table(path, columns=own).num_rows + pq.read_table(scores, columns=others).num_rows)


def measure(work: Path, pairs: int) -> list[Bar]:
    """Run everything and print it; return the bars."""
    began = time.monotonic()
    scored.make(BENCH / f"scored-{pairs}", pairs, WORKERS)
    stored = sum(path.stat().st_size for path in (BENCH / f"scored-{pairs}").rglob("*.parquet"))
    print(f"{pairs:,} pairs, {stored / _MB:,.0f} MB, made or found in {time.monotonic() - began:.0f} s")
    found = {}
    for name, changes in {"rules of one row": ONE_ROW, "and over all": ALL_SHARDS}.items():
        folder = work / name.replace(" ", "-")
        project(folder, pairs, changes)
        used = stage(folder)
        settings = params.load(folder / "params.yaml").filter
        least = limit(folder, settings)
        counts = json.loads((folder / "metrics" / "filter.json").read_text())["pairs"]
        found[name] = (used, least)
        print(
            f"{name:17} {used.seconds:6.1f} s {pairs / used.seconds:11,.0f} pairs/s, peak {used.peak_mb:,.0f} MB; "
            f"kept {counts['kept']:,}\n"
            f"{'':17} {used.processor_s:6.1f} s of the processor; {used.stolen:.0%} of it went to other machines\n"
            f"{'bare reading':17} {least:6.1f} s {pairs / least:11,.0f} pairs/s; "
            f"the filter reaches {least / used.seconds:.0%} of it"
        )
    (used, least), (over_all, _) = found.values()
    scale = 10_000_000 / pairs
    return [
        Bar("seconds, 10 million pairs, rules of one row", used.seconds * scale, 30, at_most=True),
        Bar("peak MB of all processes", max(run.peak_mb for run, _ in found.values()), 4_000, at_most=True),
        Bar("times a bare reading", used.seconds / least, 5, at_most=True),
        Bar("seconds, with top fraction, SQL and equal images", over_all.seconds * scale, 60, at_most=True),
    ]


def main() -> None:
    """Read the arguments, measure in a folder that is removed, and print the bars as one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=10_000_000)
    arguments.add_argument("--quick", action="store_true", help="60,000 pairs: to see that all of it runs")
    given = arguments.parse_args()
    BENCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-filter-", dir=BENCH) as folder:
        bars = measure(Path(folder), QUICK if given.quick else given.pairs)
    report("filter", bars, quick=given.quick)


if __name__ == "__main__":
    main()
