"""Measure a whole version at several sizes, stage by stage: time a pair, memory, files.

    python -m benchmarks.scale.bench [--pages 3000 30000 100000] [--work FOLDER] [--new-texts] [--workers 2] [--quick]

The demo crawl of so many pages goes through all stages, each run as its users run it: a program in a project folder,
from start to end, with two local workers. What is measured is written after every stage. The same command goes on after
an interruption: it repeats the stage that was interrupted and runs no stage or size again that is measured, unless code
or parameters are others. A size's project folder is removed when the size is measured (`--keep` leaves it). The stages
translate and caption are switched off, as for most published sets; `--new-texts` adds them.
The last line is JSON. The exit status is 0 where a bar is missed, another where something failed.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import projects
from benchmarks.bars import Bar, BenchError, report
from benchmarks.environments import BENCH
from benchmarks.scale import whole
from benchmarks.scale.results import Results, Size, duration, table

PAGES: Final = (3_000, 30_000, 100_000)
QUICK: Final = (240,)
_PAGES_A_WAT: Final = 125  # as in params.yaml
_PAIRS_A_PAGE: Final = 1.33  # different pairs: metrics/catalog.json has 4,001 of 3,000 pages
_PAIRS_A_BUCKET: Final = 4_096
_DISK_A_PAGE: Final = 100_000  # bytes; outs of 3,000 pages have 53 kB a page, and parts at work are beside them


def values(pages: int, *, new_texts: bool) -> dict[str, dict[str, Any] | None]:
    """Return the parameters of a size, as a user would choose them: WATs, buckets, shards that grow with the crawl."""
    buckets = 8
    while buckets * _PAIRS_A_BUCKET < pages * _PAIRS_A_PAGE:
        buckets *= 2
    # At least eight shards, so that both workers have some until the end; 512 is the number of params.yaml.
    shard_rows = 64 if pages < 1_000 else 512 if pages < 20_000 else 2_048
    catalog = {
        "buckets": buckets,
        "shard_rows": shard_rows,
        "lists": [{"name": "demo", "kind": "sha256", "file": "data/crawl/known.txt"}],
    }
    crawl = {"demo_pages": pages, "demo_wats": max(2, pages // _PAGES_A_WAT)}
    return {"crawl": crawl, "catalog": catalog, **({} if new_texts else dict.fromkeys(whole.NEW_TEXTS))}


def measure(size: Size, results: Results, folder: Path, workers: int) -> None:
    """Run the stages of a size that have no figures yet, and write each one's figures when it ends."""
    if not size.stages:
        shutil.rmtree(folder, ignore_errors=True)
        free, needed = shutil.disk_usage(folder.parent).free, size.pages * _DISK_A_PAGE
        if free < needed:
            message = (
                f"{folder.parent} has {free / 1e9:.0f} GB, {size.pages:,} pages need {needed / 1e9:.0f}: "
                "name another folder with --work"
            )
            raise BenchError(message)
        projects.make(folder, data={}, metrics={}, values=size.values)
    for stage in whole.STAGES:
        if stage in size.stages:
            continue
        # Parts of an interrupted run would be taken over, and not be in the figures.
        shutil.rmtree(folder / ".laion_dask", ignore_errors=True)
        left = results.seconds_left()
        told = f", about {duration(left)} left for all" if left else ""
        print(f"{time.strftime('%H:%M:%S')} {size.pages:,} pages: {stage}{told}", flush=True)
        size.stages[stage] = whole.run(stage, folder, workers).as_dict()
        if stage == "catalog":
            size.pairs = projects.counts(folder, "catalog")["pairs"]["kept"]
        results.write()


def bars(sizes: list[Size]) -> list[Bar]:
    """Compare the largest size with the one before: time a pair, and the memory of each stage's driver."""
    before, last = sizes[-2:] if len(sizes) > 1 else sizes * 2
    grown = {
        name: last.stages[name]["driver_mb"] / found["driver_mb"]
        for name, found in before.stages.items()
        if found["worker_mb"]  # the others are over before their memory is read at its peak
    }
    most = max(grown, key=lambda name: grown[name])
    compared = f"{last.pages:,} pages over {before.pages:,}"
    return [
        Bar(f"seconds a pair, {compared}", last.a_pair("seconds") / before.a_pair("seconds"), 1.1, at_most=True),
        Bar(
            f"processor seconds a pair, {compared}",
            last.a_pair("processor_s") / before.a_pair("processor_s"),
            1.1,
            at_most=True,
        ),
        Bar(
            f"peak memory of the driver, {compared}",
            last.largest("driver_mb") / before.largest("driver_mb"),
            1.15,
            at_most=True,
        ),
        Bar(f"the same of the stage that grew most, {most}", grown[most], 1.15, at_most=True),
    ]


def main() -> None:
    """Run every size that has no results, print the table and the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, nargs="+", default=PAGES, help="sizes of the demo crawl")
    parser.add_argument("--work", type=Path, help="folder of results.json and of the projects (default: .bench/scale)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--new-texts", action="store_true", help="translate and caption, too")
    parser.add_argument("--keep", action="store_true", help="keep the project folder of each size")
    parser.add_argument("--quick", action="store_true", help="240 pages: to see that all of it runs")
    wanted = parser.parse_args()
    BENCH.mkdir(parents=True, exist_ok=True)
    whole.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage that runs is ended, too
    if wanted.quick and not wanted.work:
        with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=BENCH) as name:
            _run(wanted, Path(name))
    else:
        _run(wanted, wanted.work or BENCH / "scale")


def _run(wanted: argparse.Namespace, work: Path) -> None:
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    pages = sorted(set(QUICK if wanted.quick else wanted.pages))
    asked = {count: values(count, new_texts=wanted.new_texts) for count in pages}
    results = Results(work / "results.json", asked, workers=wanted.workers)
    for size in results.sizes:
        folder = work / str(size.pages)
        if size.complete:
            print(f"{size.pages:,} pages: measured before, in {work / 'results.json'}", flush=True)
        else:
            measure(size, results, folder, wanted.workers)
        if not wanted.keep:
            shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.write("\n".join(["", *table(size), "", ""]))
        sys.stdout.flush()
    report("scale", bars(results.sizes), quick=wanted.quick, sizes=[size.as_dict() for size in results.sizes])


if __name__ == "__main__":
    main()
