"""Parts that wait and do nothing else, on pools of several sizes: what handing out parts costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
import psutil

from benchmarks.bars import BenchError
from laion_dask.cluster import kinds
from laion_dask.runner import parts
from laion_dask.runner.part import Part
from laion_dask.runner.progress import Progress
from laion_dask.storage.files import digest
from laion_dask.workers.pool import open_pool

_START_S: Final = 300.0


@dataclass(frozen=True)
class Waited:
    """What a pool of so many workers took for its parts."""

    workers: int
    parts: int
    wait_s: float
    seconds: float
    driver_s: float
    """Processor seconds of the driver, in whose process the scheduler runs."""
    workers_s: float
    """Processor seconds of all workers."""

    @property
    def efficiency(self) -> float:
        """The share of the workers' time in which they ran a part."""
        return self.parts * self.wait_s / (self.workers * self.seconds)


def wait(out: Path, *, number: int, wait_s: float) -> dict[str, Any]:
    """Wait, as a part does that asks slow hosts, and write one small file."""
    (out / f"{number}.txt").write_text(str(number))
    time.sleep(wait_s)
    return {"parts": {"seen": 1, "kept": 1, "dropped": {}}}


def run(work: Path, workers: int, per_worker: int, wait_s: float, around: Callable[[], Any] | None = None) -> Waited:
    """Run the parts through `parts.run` on so many local workers; raises `BenchError` where a part is missing.

    The start of the pool is not counted, and neither are the first parts, in which workers import what they need.
    `around` gives a context manager for the measured part of the run, e.g. a profiler.
    """
    settings = {"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": workers}
    with (
        dask.config.set(settings),
        kinds.open_client() as client,
        open_pool(client, work, "wait", print) as pool,
    ):
        deadline = time.monotonic() + _START_S
        while len(pool.members()) < workers:
            if time.monotonic() > deadline:
                message = f"of {workers} workers, {len(pool.members())} may work; refused: {pool.refused}"
                raise BenchError(message)
            pool.look(now=True)
            time.sleep(0.1)

        def finish(count: int, seconds: float) -> None:
            todo = [
                Part(f"{n:06}", digest("wait", count, n, seconds), {"number": n, "wait_s": seconds})
                for n in range(count)
            ]
            done = parts.run(wait, todo, work / "parts", client, progress=Progress("wait", "parts"))
            if len(done) != count:
                message = f"of {count} parts, {len(done)} are finished"
                raise BenchError(message)

        finish(4 * workers, wait_s / 10)
        driver = psutil.Process()
        children = driver.children(recursive=True)
        before, spent, began = _seconds([driver]), _seconds(children), time.perf_counter()
        if around is None:
            finish(per_worker * workers, wait_s)
        else:
            with around():
                finish(per_worker * workers, wait_s)
        took = time.perf_counter() - began
        used = Waited(
            workers, per_worker * workers, wait_s, took, _seconds([driver]) - before, _seconds(children) - spent
        )
    shutil.rmtree(work)
    return used


def _seconds(processes: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))
