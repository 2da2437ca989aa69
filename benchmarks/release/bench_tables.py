"""Made-up outs of the filter in, the memory and time of the release's parts out: by ranges of uids, and all at once.

    python -m benchmarks.release.bench_tables [--pairs 4000000] [--quick]

A quarter of the pairs and all of them are released, each in two ways: by ranges of uids, as the stage does with so many
pairs, and by one part for each split that sorts all of its pairs. Each way has a process of its own, which makes its
parts in turn: so its largest memory is that of the largest part. Both must write the same bytes. Time is that of the
processor. The shards are made once and stay in .bench. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Bar, BenchError, report
from benchmarks.environments import BENCH, ROOT
from benchmarks.memory import peak_mb
from laion_dask import params
from laion_dask.release import part
from laion_dask.release.tables import steps
from laion_dask.release.tables.kept import Shards
from laion_dask.runner import attempts, part_files
from laion_dask.runner.part import Done, Part
from laion_dask.storage import duckdb_connection

QUICK: Final = 16_000
SHARD_PAIRS: Final = 10_000

WAYS: Final = ("all at once", "by ranges")
MODELS: Final = {"l14": {"model": "ViT-L-14"}}

_IMAGES: Final = """
select md5(i::varchar) as uid, 'https://images' || i % 5000 || '.example/' || md5('a' || i) || '.jpg' as url,
    'a text of ' || repeat('some words ', (i % 9)::int) || 'for the pair ' || i as caption,
    (200 + i % 1800)::int as original_width, (200 + i * 7 % 1900)::int as original_height, 'en' as language,
    '?' as license, printf('%09d', i) as key, md5('b' || i) as md5, sha256(i::varchar) as sha256,
    'https://pages' || i % 9000 || '.example/' || i % 99991 || '.html' as page_url, 'CC-MAIN-2026-48' as crawl,
    'segment/' || i // 30000 || '.warc.wat.gz' as wat, i::bigint * 977 as record_offset
from range($first, $last) pairs(i)"""
_SCORES: Final = """
select md5(i::varchar) as uid, (0.2 + i * 31 % 9973 / 50000)::float as similarity, (i % 101 / 101)::float as punsafe,
    (i % 103 / 103)::float as pwatermark, (3 + i * 17 % 5003 / 1000)::float as aesthetic,
    (0.2 + i * 31 % 9973 / 50000)::float as similarity_l14
from range($first, $last) pairs(i)"""
_VERDICTS: Final = """
select md5(i::varchar) as uid, 'keep' as reason, ['en', 'multi', 'en', 'multi', 'nolang'][1 + i % 5] as split
from range($first, $last) pairs(i)"""


def make(pairs: int) -> Shards:
    """Write the tables of the shards of so many kept pairs, with the columns that the release reads; once."""
    folder = BENCH / f"kept-{pairs}"
    found: dict[str, list[Path]] = {}
    with duckdb_connection.connect() as connection:
        for name, query in (("images", _IMAGES), ("scores", _SCORES), ("verdicts", _VERDICTS)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            found[name] = [folder / name / f"{first // SHARD_PAIRS:05d}.parquet" for first in _firsts(pairs)]
            for first, path in zip(_firsts(pairs), found[name], strict=True):
                if not path.exists():
                    fresh = path.with_suffix(".new")
                    connection.execute(
                        f"copy ({query}) to '{fresh}' (format parquet, compression zstd)",
                        {"first": first, "last": min(first + SHARD_PAIRS, pairs)},
                    )
                    fresh.rename(path)
    return Shards(found["images"], found["scores"], found["verdicts"], {})


def _firsts(pairs: int) -> range:
    return range(0, pairs, SHARD_PAIRS)


def release(way: str, pairs: int, range_pairs: int, work: Path) -> dict[str, Any]:
    """Make all parts of a release in this process; return its times, its largest memory and the files' digests."""
    shards = make(pairs)
    settings = params.load(ROOT / "params.yaml").release

    def run(function: attempts.PartFunction, todo: Sequence[Part]) -> Sequence[Done]:
        return [Done(one, work / one.key, attempts.finish_part(function, work / one.key, one.args)) for one in todo]

    began, spent = time.monotonic(), time.process_time()
    if way == WAYS[0]:
        done = run(part.release, steps.splits(shards, settings, MODELS))
    else:
        done = steps.by_ranges(shards, pairs, settings, MODELS, run, range_pairs)
    seconds, processor = time.monotonic() - began, time.process_time() - spent
    written = [part_files.read(one.folder) for one in done]
    files = {name: about for one in written if one for name, about in one.files.items()}
    return {
        "way": way,
        "pairs": pairs,
        "seconds": round(seconds, 2),
        "processor_s": round(processor, 2),
        "peak_mb": round(peak_mb()),
        "parts": len(done),
        "files": sorted(files.items()),
    }


def measure(pairs: int, range_pairs: int) -> list[dict[str, Any]]:
    """Make both releases in both ways, each in a process of its own; raises `BenchError` where their files differ."""
    found = []
    for count in (pairs // 4, pairs):
        make(count)
        both = []
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="bench-tables-", dir=BENCH) as work:
                module = "benchmarks.release.bench_tables"
                arguments = ["--pairs", str(count), "--range", str(range_pairs), "--way", way, "--work", work]
                command = [sys.executable, "-m", module, *arguments]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(done.stderr)
            both.append(json.loads(done.stdout))
        if both[0]["files"] != both[1]["files"]:
            message = f"{count:,} pairs: the files of the two ways differ"
            raise BenchError(message)
        found += [{**one, "files": len(one["files"])} for one in both]
    return found


def main() -> None:
    """Measure, print a line for each release, and the bars as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4_000_000)
    parser.add_argument("--quick", action="store_true", help="16,000 pairs: to see that all of it runs")
    parser.add_argument("--range", type=int, default=steps.RANGE_PAIRS, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(release(arguments.way, arguments.pairs, arguments.range, arguments.work)))
        return
    BENCH.mkdir(parents=True, exist_ok=True)
    found = measure(QUICK, 1_000) if arguments.quick else measure(arguments.pairs, arguments.range)
    for one in found:
        print(
            f"{one['pairs']:>10,} pairs {one['way']:<11} {one['seconds']:>7.1f} s, {one['processor_s']:>7.1f} s of the "
            f"processor, {1e6 * one['processor_s'] / one['pairs']:>6.1f} s a million pairs, peak {one['peak_mb']:>6,} "
            f"MB, {one['parts']} parts, {one['files']} files, the same bytes"
        )
    (_, few), (at_once, many) = found[:2], found[2:]
    times = [one["processor_s"] / one["pairs"] for one in (few, many)]
    bars = [
        Bar("peak memory of a part, beside a quarter of the pairs", many["peak_mb"] / few["peak_mb"], 1.2, True),
        Bar("processor time a pair, beside a quarter of the pairs", times[1] / times[0], 1.2, at_most=True),
        Bar("processor time beside all at once", many["processor_s"] / at_once["processor_s"], 1.2, at_most=True),
    ]
    report("release-tables", bars, quick=arguments.quick, releases=found)


if __name__ == "__main__":
    main()
