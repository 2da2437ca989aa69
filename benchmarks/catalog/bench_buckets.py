"""Many WATs in, the processor time a pair of reading them by bucket out, merged and not; `make bench-catalog-buckets`.

    python -m benchmarks.catalog.bench_buckets [--pairs 300] [--quick]

1,000 WATs in 64 buckets and 10,000 in 512: buckets grow with the pairs, as the stage asks for. Measured is all that the
stage does to bring the rows of the files into its buckets: the plan, the merge of each group, and every bucket read
through the manifest. Beside it, in the same run, some buckets are read as each opened every file before; the time of
all buckets follows from theirs. These buckets must have the same rows both ways. Each measurement is a process of its
own. The files are made once and kept in .bench/. The last line is JSON.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from benchmarks.bars import Bar, BenchError, report
from benchmarks.catalog import small_wats
from benchmarks.environments import BENCH
from benchmarks.memory import peak_mb
from laion_dask import schema
from laion_dask.catalog import merge_plan, merged_pairs, pair_files, pair_manifest
from laion_dask.catalog.merge_plan import PairFile
from laion_dask.runner.part import Done

SIZES: Final = ((1_000, 64), (10_000, 512))
"""WATs and buckets."""
QUICK: Final = ((80, 4), (400, 16))
_QUICK_PAIRS: Final = 40
_PROCESSES: Final = 2
_TURNS: Final = 3  # a machine that others use gives times that differ by a fifth: medians count

Result = TypeVar("Result")


@dataclass(frozen=True)
class Took:
    """Processor time of one way, in seconds, and what it had to do."""

    plan: float
    merge: float
    read: float
    groups: int
    merged_bytes: int
    peak_mb: float

    @property
    def seconds(self) -> float:
        """All steps together."""
        return self.plan + self.merge + self.read


def merged(files: Sequence[Path], pairs: int, buckets: int, work: Path) -> Took:
    """Plan, merge, and read every bucket, as the stage does on one core."""
    times = [time.process_time()]
    listed = [PairFile(path, "CC-MAIN-2024-22", pairs, path.name) for path in files]
    groups = merge_plan.groups(listed, buckets)
    parts = merge_plan.parts(groups, buckets)
    times.append(time.process_time())
    done = []
    for part in parts:
        folder = work / part.key
        folder.mkdir()
        done.append(Done(part, folder, merged_pairs.merge(folder, **part.args)))
    times.append(time.process_time())
    manifest = pair_manifest.write(work, merge_plan.entries(groups, done))
    rows = sum(pair_manifest.read(manifest, bucket, buckets).num_rows for bucket in range(buckets))
    times.append(time.process_time())
    if rows != pairs * len(files):
        message = f"{rows:,} rows were read of {pairs * len(files):,}"
        raise BenchError(message)
    stored = sum((one.folder / merged_pairs.FILE).stat().st_size for one in done)
    plan, merge, read = (after - before for before, after in pairwise(times))
    return Took(plan, merge, read, len(parts), stored, peak_mb())


def from_all_files(files: Sequence[Path], buckets: int, some: Sequence[int], work: Path) -> float:
    """Return the processor time of reading all buckets from every file, by that of some, and compare their rows."""
    (manifest,) = work.glob("*.json")
    seconds = 0.0
    for bucket in some:
        began = time.process_time()
        rows = pair_files.read(files, bucket, buckets)
        seconds += time.process_time() - began
        found = pair_manifest.read(manifest, bucket, buckets)
        if not pair_files.plain(found, schema.PAIRS).equals(pair_files.plain(rows, schema.PAIRS)):
            message = f"bucket {bucket} of {buckets} has other rows when it is merged"
            raise BenchError(message)
    return seconds * buckets / len(some)


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(sizes: Sequence[tuple[int, int]], pairs: int, turns: int) -> list[Bar]:
    """Measure both ways at each size, in turns, print the medians, and return the bars."""
    began = time.monotonic()
    corpus = small_wats.make(BENCH, max(wats for wats, _ in sizes), pairs, _PROCESSES)
    print(f"{len(corpus):,} WATs of {pairs} pairs, made or found in {time.monotonic() - began:.0f} s")
    each: dict[int, list[Took]] = {wats: [] for wats, _ in sizes}
    before: dict[int, float] = {}
    for turn in range(turns):
        for wats, buckets in sizes:
            with tempfile.TemporaryDirectory(prefix="bench-buckets-") as work:
                each[wats].append(alone(merged, corpus[:wats], pairs, buckets, Path(work)))
                if turn == 0:
                    before[wats] = alone(from_all_files, corpus[:wats], buckets, [buckets // 3], Path(work))
    print(f"{'WATs':>7} {'buckets':>8}  processor time a pair, us: all = plan + merge + read; every file opened by all")
    for wats, buckets in sizes:
        rows = wats * pairs
        took = sorted(each[wats], key=lambda one: one.seconds)[turns // 2]
        of_pair = [seconds / rows * 1e6 for seconds in (took.seconds, took.plan, took.merge, took.read, before[wats])]
        print(
            f"{wats:7,} {buckets:8,}  {of_pair[0]:.1f} = {of_pair[1]:.1f} + {of_pair[2]:.1f} + {of_pair[3]:.1f}; "
            f"{of_pair[4]:,.0f}   ({took.groups} merged files, {took.merged_bytes / rows:.0f} bytes a pair; "
            f"peak {took.peak_mb:,.0f} MB)"
        )
    few, many = sizes[0][0], sizes[-1][0]
    of_few, of_many = (median(took.seconds for took in each[wats]) for wats in (few, many))
    growth = of_many / many / (of_few / few)
    peak = max(took.peak_mb for took in each[many])
    return [
        Bar(f"time a pair, {many:,} WATs over {few:,}", growth, 1.2, at_most=True),
        Bar(f"{many:,} WATs: every file opened by every bucket, over merged", before[many] / of_many, 10),
        Bar(f"peak MB of merging {many:,} WATs", peak, 1_000, at_most=True),
    ]


def main() -> None:
    """Read the arguments, measure in folders that are removed, and print the bars as one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=300, help="of each WAT")
    arguments.add_argument("--quick", action="store_true", help="400 WATs of 40 pairs: to see that all of it runs")
    given = arguments.parse_args()
    sizes, pairs, turns = (QUICK, _QUICK_PAIRS, 1) if given.quick else (SIZES, given.pairs, _TURNS)
    bars = measure(sizes, pairs, turns)
    report("catalog-buckets", bars, quick=given.quick)


if __name__ == "__main__":
    main()
