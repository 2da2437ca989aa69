"""A number of pairs in, the speed and memory of the catalog beside the machine's own limits out; `make bench-catalog`.

    python -m benchmarks.catalog.bench [--pairs 10000000] [--buckets 32] [--wats 24] [--profile] [--quick]

The stage runs as its users run it: a program, two workers, the embedded PostgreSQL, from start to end. Limits of the
same run on the same files, with two processes too: reading them and writing them again, and a bare COPY of their rows
into tables without keys. A tenth of the pairs shows that one worker gives the same bytes as two, that a run whose
processes are all killed leaves no half bucket and goes on to the same bytes, and that the driver's memory does not
grow. The files are made once and kept in .bench/. The last line is JSON. The exit status is 0 where a bar is missed,
another where something failed.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import multiprocessing
import os
import pstats
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import projects
from benchmarks.bars import Bar, BenchError, report
from benchmarks.catalog import pairs as synthetic
from benchmarks.environments import BENCH
from benchmarks.memory import workers_of
from laion_dask.catalog import copy_binary, database, pair_manifest, part
from laion_dask.catalog.pair_manifest import Listed

WORKERS: Final = 2
SHARD_ROWS: Final = 10_000
QUICK: Final = (40_000, 20_000, 4, 16)
"""Pairs, pairs of the smaller runs, WATs, buckets of a short run."""
_MB: Final = 1_000_000
_EVERY_S: Final = 0.1


@dataclass
class Run:
    """What one run of the stage took."""

    seconds: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)
    """Resident memory of the driver and of the largest worker (Linux)."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of the processor of driver, workers and server."""


def project(folder: Path, pairs: int, wats: int, buckets: int) -> int:
    """Make a project folder with extracted pairs, and return their number."""
    extracted, made = synthetic.make(BENCH, pairs, wats, WORKERS)
    projects.make(
        folder,
        data={"extract": extracted},
        metrics={"extract": {"links": {"seen": made, "kept": made, "dropped": {}}}},
        values={"catalog": {"buckets": buckets, "shard_rows": SHARD_ROWS}},
    )
    ledger = ["kind,value,reason,date,source", "url,https://nobody.example/1.jpg,asked,2024-01-01,mail"]
    ledger += [f"domain,gone-{number}.example,asked,2024-01-01,mail" for number in range(1000)]
    ledger += [f"uid,{number:032x},asked,2024-01-01,mail" for number in range(1000)]
    (folder / "removals.csv").write_text("\n".join(ledger) + "\n")
    return made


def stage(folder: Path, workers: int, *, fresh: bool = True) -> Run:
    """Run the stage in a folder, from nothing if `fresh`, and watch its processes; `BenchError` where it fails."""
    if fresh:
        _forget(folder)
    run = Run()
    run.seconds = projects.run("catalog", folder, workers, lambda driver: _watch(driver, folder, run))
    return run


def _forget(folder: Path) -> None:
    for old in (".laion_dask", "data/catalog"):
        shutil.rmtree(folder / old, ignore_errors=True)


def killed(folder: Path, buckets: int) -> tuple[int, int]:
    """Kill driver, workers and server when a quarter of the buckets is finished; return whole and half buckets."""
    _forget(folder)
    with (folder / "log").open("w+") as log:
        driver = projects.start("catalog", folder, WORKERS, log)
        parts = folder / ".laion_dask" / "parts" / "catalog"
        while len(list(parts.glob("*/counts.json"))) < buckets // 4:
            if driver.poll() is not None:
                message = "the stage ended before it was killed"
                raise BenchError(message)
            time.sleep(_EVERY_S / 10)
        mark = folder / ".laion_dask" / "postgresql" / "postmaster.pid"
        postgresql = psutil.Process(int(mark.read_text().splitlines()[0]))
        backends = postgresql.children()
        os.killpg(driver.pid, signal.SIGKILL)
        for process in (postgresql, *backends):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([driver, postgresql, *backends], timeout=30)
    loaded, half = 0, 0
    with database.server(None, folder / ".laion_dask" / "postgresql") as dsn, psycopg.connect(dsn) as connection:
        noted = dict(connection.execute("select bucket, pairs from laion_dask.loads").fetchall())
        for bucket in range(buckets):
            (rows,) = connection.execute(
                "select count(*) from laion_dask.pairs where bucket = %s", (bucket,)
            ).fetchone() or (0,)
            loaded += rows > 0
            half += rows != noted.get(bucket, 0)
    return loaded, half


def _watch(driver: psutil.Popen, folder: Path, run: Run) -> None:
    """Note the peak memory and the time of every process so far; one that ends in between has told enough before."""
    try:
        workers = workers_of(driver)
    except psutil.Error:
        return
    found = [("driver", driver, False), *(("workers", worker, False) for worker in workers)]
    mark = folder / ".laion_dask" / "postgresql" / "postmaster.pid"
    lines = mark.read_text().splitlines() if mark.is_file() else []
    cpu: dict[str, float] = {}
    try:
        if lines:
            server = psutil.Process(int(lines[0]))
            found += [("server", server, True), *(("server", child, False) for child in server.children())]
        for name, process, with_ended in found:
            spent = process.cpu_times()
            ended = spent.children_user + spent.children_system if with_ended else 0.0
            cpu[name] = cpu.get(name, 0.0) + spent.user + spent.system + ended
            run.peak_mb[name] = max(run.peak_mb.get(name, 0.0), _peak_mb(process.pid))
    except (psutil.Error, OSError, ValueError):
        return
    for name, seconds in cpu.items():
        run.cpu[name] = max(run.cpu.get(name, 0.0), seconds)


def _peak_mb(process: int) -> float:
    """Return the largest resident memory that a process ever had; of a server's, this counts shared buffers too."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return int((status.partition("VmHWM:")[2].split() or ["0"])[0]) * 1024 / _MB


def digest(folder: Path) -> str:
    """Digest all files of the stage's out, with their paths."""
    whole = hashlib.sha256()
    for path in sorted((folder / "data" / "catalog").rglob("*.parquet")):
        whole.update(path.relative_to(folder).as_posix().encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def rewrite(path: str, target: str) -> int:
    """Limit of the disk side: read one file and write it as shards, with no other work."""
    table = pq.read_table(path, use_threads=False)
    for start in range(0, table.num_rows, SHARD_ROWS):
        out = Path(target) / f"{Path(path).stem}-{start}.parquet"
        pq.write_table(table.slice(start, SHARD_ROWS), out, compression="zstd")
    return int(table.num_rows)


def copy(path: str, dsn: str) -> int:
    """Limit of the database side: read one file and COPY its rows into a table of its own, with no other work."""
    table = pq.read_table(path, use_threads=False)
    # COPY takes columns of fixed width first.
    names = sorted(table.column_names, key=lambda name: pa.types.is_string(table.schema.field(name).type))
    target = f"bare_{Path(path).stem}"
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"create table {target} as select {', '.join(names)} from laion_dask.found limit 0")
        with cursor.copy(f"copy {target} from stdin (format binary)") as copying:
            for block in copy_binary.blocks(table.select(names)):
                copying.write(block)
    return int(table.num_rows)


def limit(function: Callable[[str, str], int], files: list[Path], argument: str) -> float:
    """Return the seconds that two processes need for all files; they have started before."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_warm_up, range(2 * WORKERS)))
        began = time.monotonic()
        list(pool.map(function, map(str, files), [argument] * len(files)))
        return time.monotonic() - began


def _warm_up(_: int) -> int:
    pa.set_cpu_count(1)
    time.sleep(0.2)
    return 0


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run the embedded server with its data in a folder, which is removed."""
    with database.server(None, folder) as dsn:
        yield dsn
    shutil.rmtree(folder)


def profile(folder: Path, buckets: int) -> None:
    """Print where one bucket's time goes, in one process."""
    files = sorted((folder / "data" / "extract" / "pairs").glob("*.parquet"))
    pairs = pair_manifest.write(folder / "manifests", [Listed.of(path, merged=False) for path in files])
    wats = pq.read_table(folder / "data" / "extract" / "reads.parquet")
    with server(folder / "pg") as dsn:
        database.prepare(dsn, buckets, [], wats)
        profiler = cProfile.Profile()
        for bucket in range(2):  # the first one is for imports and for memory that is new
            out = folder / "profile" / str(bucket)
            out.mkdir(parents=True)
            rules: dict[str, Any] = {"buckets": buckets, "shard_rows": SHARD_ROWS, "seed": 7}
            with profiler if bucket else tempfile.TemporaryFile():
                part.catalog(out, bucket=bucket, waves=[pairs], load_digests=["profile"], dsn=dsn, **rules)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(15)


def measure(work: Path, pairs: int, few: int, wats: int, buckets: int, *, profiled: bool) -> list[Bar]:
    """Run everything and print it; `few` pairs are run again and again. Return the bars."""
    small, whole = work / "tenth", work / "whole"
    began = time.monotonic()
    few, many = project(small, few, wats, buckets), project(whole, pairs, wats, buckets)
    files = sorted((whole / "data" / "extract" / "pairs").glob("*.parquet"))
    stored = sum(path.stat().st_size for path in files)
    print(f"{many:,} pairs in {wats} WATs, {stored / _MB:,.0f} MB, made or found in {time.monotonic() - began:.0f} s")
    one, two = [(stage(small, workers), digest(small)) for workers in (1, WORKERS)]
    loaded, half = killed(small, buckets)
    resumed = stage(small, WORKERS, fresh=False)
    if not one[1] == two[1] == digest(small):
        message = f"{few:,} pairs: one worker, two, and two after all were killed give different bytes"
        raise BenchError(message)
    run = stage(whole, WORKERS)
    if profiled:
        profile(whole, buckets)
    shutil.rmtree(whole / ".laion_dask")
    (whole / "rewritten").mkdir()
    seconds = {"rewrite": limit(rewrite, files, str(whole / "rewritten"))}
    with server(whole / "pg") as dsn:
        database.prepare(dsn, 1, [], pq.read_table(whole / "data" / "extract" / "reads.parquet"))
        seconds["bare COPY"] = limit(copy, files, dsn)
    rate, growth = many / run.seconds, run.peak_mb["driver"] / two[0].peak_mb["driver"]
    spent = ", ".join(f"{name} {cpu:.0f} s" for name, cpu in run.cpu.items())
    peaks = ", ".join(f"{name} {run.peak_mb[name]:,.0f} MB" for name in ("driver", "workers"))
    print(f"catalog    {run.seconds:7.1f} s {rate:10,.0f} pairs/s, {WORKERS} workers, {buckets} buckets")
    for name, took in seconds.items():
        print(f"{name:10} {took:7.1f} s {many / took:10,.0f} pairs/s; the catalog reaches {took / run.seconds:.0%}")
    print(f"processor: {spent}; {sum(run.cpu.values()) / many * 1e6:.1f} us a pair; peak memory: {peaks}")
    tenths = ", ".join(
        f"{name} {took.seconds:.1f} s" for name, (took, _) in zip(("one worker", "two"), (one, two), strict=True)
    )
    print(f"{few:,} pairs: {tenths}, equal bytes; driver {two[0].peak_mb['driver']:,.0f} MB")
    print(f"all killed: {loaded} of {buckets} buckets loaded, {half} half; then {resumed.seconds:.1f} s, equal bytes")
    return [
        Bar("pairs/s end to end, 2 workers", rate, 150_000),
        Bar(f"driver's peak MB, {many:,} pairs over {few:,}", growth, 1.2, at_most=True),
        Bar("half buckets after all processes were killed", half, 0, at_most=True),
        Bar("peak MB of the largest worker", run.peak_mb["workers"], 1_500, at_most=True),
    ]


def main() -> None:
    """Read the arguments, measure in a folder that is removed, and print the bars as one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=10_000_000)
    arguments.add_argument("--wats", type=int, default=24)
    arguments.add_argument("--buckets", type=int, default=32)
    arguments.add_argument("--profile", action="store_true", help="print where the time of one bucket goes")
    arguments.add_argument("--quick", action="store_true", help="40,000 pairs: to see that all of it runs")
    given = arguments.parse_args()
    pairs, few, wats, buckets = given.pairs, given.pairs // 10, given.wats, given.buckets
    if given.quick:
        pairs, few, wats, buckets = QUICK
    with tempfile.TemporaryDirectory(prefix="bench-catalog-") as folder:
        bars = measure(Path(folder), pairs, few, wats, buckets, profiled=given.profile)
    report("catalog", bars, quick=given.quick)


if __name__ == "__main__":
    main()
