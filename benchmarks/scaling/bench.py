"""The demo's stages on one worker and on two, and parts that only wait on up to 32; `make bench-scaling`.

    python -m benchmarks.scaling.bench [--only stages,waits] [--quick]

The stages extract, download and score run as their users run them: a program with so many local workers, from start to
end, over the whole demo. Both must leave the same bytes. Parts that wait one second each and use no processor run on
pools of 1 to 32 processes: what they take beyond the waiting is what handing out parts costs, on however few cores.
The last line is JSON. The exit status is 0 where a bar is missed, another where something failed.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import projects
from benchmarks.bars import Bar, BenchError, report
from benchmarks.environments import BENCH
from benchmarks.scaling import waits

SECTIONS: Final = ("stages", "waits")
STAGES: Final = ("extract", "download", "score")
POOLS: Final = (1, 2, 4, 8, 16, 32)
PER_WORKER: Final = 20
WAIT_S: Final = 1.0
_QUICK_DEMO: Final = {"demo_pages": 48, "demo_wats": 2}


@dataclass(frozen=True)
class Used:
    """What a run of a stage took, all its processes together."""

    seconds: float
    processor_s: float


def stages(work: Path, *, quick: bool) -> dict[str, Any]:
    """Run each stage with one worker and with two, and print seconds and processor seconds; return them."""
    folder = work / "demo"
    # Each part of download is a shard: with so few rows there would be one.
    values: dict[str, Any] = {"crawl": _QUICK_DEMO, "catalog": {"shard_rows": 64}} if quick else {}
    projects.make(folder, data={}, metrics={}, values=values)
    _run("inputs", folder, 1)
    _run("crawl", folder, 2)
    print("stage      one worker       two workers      (seconds, processor seconds of all processes)")
    found: dict[str, Any] = {}
    for stage in STAGES:
        one, bytes_of_one = _run(stage, folder, 1), _digest(folder / "data" / stage)
        two, bytes_of_two = _run(stage, folder, 2), _digest(folder / "data" / stage)
        if bytes_of_one != bytes_of_two:
            message = f"{stage}: two workers have left other bytes than one"
            raise BenchError(message)
        times = one.seconds / two.seconds
        print(
            f"{stage:9} {one.seconds:6.1f} {one.processor_s:6.1f}    {two.seconds:6.1f} {two.processor_s:6.1f}"
            f"    {times:.2f} times as fast"
        )
        found[stage] = {"one": vars(one), "two": vars(two), "times": round(times, 3)}
        if stage == "extract":
            _run("catalog", folder, 2)
    return found


def _run(stage: str, folder: Path, workers: int) -> Used:
    """Run a stage from its beginning."""
    shutil.rmtree(folder / ".laion_dask" / "parts", ignore_errors=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = projects.run(stage, folder, workers, lambda _: None)
    # The fork server waits for the workers, the stage for the fork server, and this process for the stage.
    total = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Used(round(seconds, 2), round(total.ru_utime + total.ru_stime - spent.ru_utime - spent.ru_stime, 2))


def _digest(out: Path) -> str:
    """Return a digest of the names and bytes of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(out)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def pools(work: Path, sizes: tuple[int, ...], per_worker: int, wait_s: float) -> dict[int, waits.Waited]:
    """Run the waiting parts on pools of these sizes, and print a line for each."""
    print(f"\nparts that wait {wait_s:g} s, {per_worker} for each worker")
    print("workers  parts  seconds  efficiency  processor ms a part: driver, worker")
    found = {}
    for workers in sizes:
        used = found[workers] = waits.run(work / f"pool-{workers}", workers, per_worker, wait_s)
        driver_ms, worker_ms = (1000 * spent / used.parts for spent in (used.driver_s, used.workers_s))
        print(
            f"{workers:7} {used.parts:6} {used.seconds:8.1f} {used.efficiency:11.3f}  {driver_ms:.1f}, {worker_ms:.1f}",
            flush=True,
        )
    return found


def main() -> None:
    """Read the arguments, measure in a folder that is removed, and print the bars as one line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", default=",".join(SECTIONS), help="some of the sections stages, waits")
    arguments.add_argument("--quick", action="store_true", help="a tiny demo, short waits: to see that all of it runs")
    given = arguments.parse_args()
    sections = given.only.split(",")
    if unknown := set(sections) - {*SECTIONS}:
        arguments.error(f"--only {', '.join(sorted(unknown))}: the sections are {', '.join(SECTIONS)}")
    BENCH.mkdir(parents=True, exist_ok=True)
    bars, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="bench-scaling-", dir=BENCH) as name:
        folder = Path(name)
        if "stages" in sections:
            figures["stages"] = stages(folder, quick=given.quick)
        if "waits" in sections:
            found = pools(folder, (1, 2), 4, 0.2) if given.quick else pools(folder, POOLS, PER_WORKER, WAIT_S)
            figures["efficiency"] = {workers: round(used.efficiency, 3) for workers, used in found.items()}
            most = max(found)
            bars.append(Bar(f"efficiency with {most} workers, parts of a wait", found[most].efficiency, 0.9))
    report("scaling", bars, quick=given.quick, **figures)


if __name__ == "__main__":
    main()
