"""A number of pairs and of removals in, what a removal takes beside a bare reading out; `make bench-removals`.

    python -m benchmarks.removals.bench [--pairs 10000000] [--removals 100000] [--quick]

A made-up version of so many pairs in shards of 10,000, with its verdicts. `laion-dask remove --file` runs as a program;
then what the stage filter does for it, with two processes: the pairs are matched over all shards, and the verdicts of
the shards that have any written anew; then the tombstones. No earlier stage runs. The limit of the same run: DuckDB
reads the addresses and uids of all shards, and does nothing with them. A wrong count ends the run with status 1; a
missed bar is a result. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH, ROOT
from laion_dask import params
from laion_dask.blocklists import removal_ledger
from laion_dask.filter import rules, takedown
from laion_dask.release import part

WORKERS: Final = 2
SHARD_ROWS: Final = 10_000
QUICK: Final = (60_000, 600)
_URL: Final = "'https://h' || i % 100000 || '.example/pictures/' || i || '.jpg'"


def make(folder: Path, pairs: int) -> None:
    """Write attempts and verdicts of a version, unless they are there."""
    if (folder / "done").exists():
        return
    for name in ("download", "verdicts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        for shard in range(-(-pairs // SHARD_ROWS)):
            first, last = shard * SHARD_ROWS, min(pairs, (shard + 1) * SHARD_ROWS)
            connection.execute(
                f"copy (select md5(i::varchar) as uid, {_URL} as url, 'h' || i % 100000 || '.example' as host,"
                " md5('m' || i) as md5, sha256(i::varchar) as sha256, sha256('p' || i) as pdq, 80::int as pdq_quality"
                f" from range({first}, {last}) r(i)) to '{folder / 'download'}/{shard:05d}.parquet'"
                " (format parquet, compression zstd)"
            )
            connection.execute(
                f"copy (select md5(i::varchar) as uid, {shard}::int as shard, 'en' as split,"
                " case when i % 3 = 0 then 'low_similarity' else 'keep' end as reason,"
                " (case when i % 3 = 0 then 128 else 0 end)::ubigint as rules, null::varchar as stays"
                f" from range({first}, {last}) r(i)) to '{folder / 'verdicts'}/{shard:05d}.parquet'"
                " (format parquet, compression zstd)"
            )
    (folder / "done").touch()


def asked(work: Path, pairs: int, count: int) -> None:
    """Make the project folder with an empty ledger, and the file of the request: addresses spread over all shards."""
    shutil.copy(ROOT / "params.yaml", work)
    (work / "removals.csv").write_text("kind,value,reason,date,source\n")
    step = pairs // count
    numbers = range(0, step * count, step)
    (work / "urls.txt").write_text("".join(f"https://h{i % 100000}.example/pictures/{i}.jpg\n" for i in numbers))


def take(path: Path, out: Path, uids: list[str]) -> int:
    """Take pairs out of the verdicts of one shard, and return how many."""
    settings = params.load(ROOT / "params.yaml").filter
    counts = [["low_similarity", "low_similarity", SHARD_ROWS // 3, SHARD_ROWS // 3]]
    folder = out / path.stem
    folder.mkdir(parents=True)
    told = takedown.take_out(folder, name=path.stem, verdicts=path, uids=uids, counts=counts, bits=rules.bits(settings))
    return int(told["pairs"]["dropped"].get(takedown.REASON, 0))


def _warm_up(_: int) -> int:
    time.sleep(0.2)
    return 0


def measure(work: Path, version: Path, pairs: int, count: int) -> dict[str, float]:
    """Run each step and return its seconds; `SystemExit` for a wrong count."""
    seconds: dict[str, float] = {}
    images = sorted((version / "download").glob("*.parquet"))
    for name in ("reading", "reading"):  # the first brings the files into the page cache
        began = time.monotonic()
        with duckdb.connect() as connection:
            listed = [str(path) for path in images]
            connection.execute("select sum(length(url)), sum(length(uid)) from read_parquet($1)", [listed]).fetchall()
        seconds[name] = time.monotonic() - began
    asked(work, pairs, count)
    (work / "data").mkdir()
    (work / "data" / "download").symlink_to(version / "download")
    began = time.monotonic()
    command = [sys.executable, "-m", "laion_dask.cli.main", "remove", "url", "--file", "urls.txt", "--reason", "asked"]
    done = subprocess.run(
        [*command, "--source", "bench", "--yes", "--json"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds["remove"] = time.monotonic() - began
    answer = json.loads(done.stdout)
    began = time.monotonic()
    named = takedown.by_shard(takedown.matched(removal_ledger.read(work / "removals.csv"), images))
    seconds["match"] = time.monotonic() - began
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(_warm_up, range(2 * WORKERS)))
        began = time.monotonic()
        paths = [version / "verdicts" / f"{name}.parquet" for name in named]
        taken = sum(pool.map(take, paths, [work / "out"] * len(paths), list(named.values()), chunksize=8))
        seconds["verdicts"] = time.monotonic() - began
    began = time.monotonic()
    fresh = [
        work / "out" / path.stem / path.name if path.stem in named else path
        for path in sorted((version / "verdicts").glob("*.parquet"))
    ]
    tombstones = part.write_tombstones(work, fresh, "2.0.0")
    seconds["tombstones"] = time.monotonic() - began
    kept = sum(pq.read_metadata(path).num_rows for path in fresh)
    if not (answer["added"] == answer["takes"]["pairs"] == taken == tombstones == count and kept == pairs):
        raise SystemExit(f"wrong counts: {answer}, {taken:,} taken, {tombstones:,} tombstones, {kept:,} verdicts")
    return seconds


def main() -> None:
    """Make the version, remove, print seconds and ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=10_000_000)
    arguments.add_argument("--removals", type=int, default=100_000)
    arguments.add_argument("--make-only", action="store_true", help="make the files and stop")
    arguments.add_argument("--quick", action="store_true", help="60,000 pairs: to see that all of it runs")
    given = arguments.parse_args()
    if given.quick:
        given.pairs, given.removals = QUICK
    BENCH.mkdir(parents=True, exist_ok=True)
    version = BENCH / f"removals-{given.pairs}"
    make(version, given.pairs)
    if given.make_only:
        return
    with tempfile.TemporaryDirectory(prefix="bench-removals-", dir=BENCH) as folder:
        seconds = measure(Path(folder), version, given.pairs, given.removals)
    for name, took in seconds.items():
        print(f"{name:<11} {took:7.1f} s  {took / seconds['reading']:6.1f} x reading")
    whole = sum(took for name, took in seconds.items() if name != "reading")
    print(f"together    {whole:7.1f} s for {given.removals:,} of {given.pairs:,} pairs")
    bars = [Bar("seconds, from the request to the tombstones", whole, 60, at_most=True)]
    report("removals", bars, quick=given.quick, pairs=given.pairs, removals=given.removals, **seconds)


if __name__ == "__main__":
    main()
