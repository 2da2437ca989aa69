"""WATs in, seconds and memory out: the stage extract as it runs, with its tasks on a cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.memory import peak_mb
from laion_dask import params
from laion_dask.cluster import kinds
from laion_dask.extract import part
from laion_dask.runner import parts, tasks
from laion_dask.runner.part import Part
from laion_dask.runner.progress import Progress


class Run(NamedTuple):
    """What a run of the stage took."""

    seconds: float
    """From the first task to the last, without the start of the cluster and the first import in each worker."""
    tasks: list[dict[str, Any]]
    """Counts of every WAT, with `began`, `seconds`, `cpu` and `peak_mb`, in the order in which they were run."""


def timed(out: Path, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - passed on to extract as they are
    """Extract one WAT on a worker and add to its counts what it took.

    `began` and `seconds` on the clock, `cpu` seconds of the processor, `peak_mb`: peak memory of the worker so far.
    """
    began, worked = time.monotonic(), time.process_time()
    counts = part.extract(out, **arguments)
    took = {"began": began, "seconds": time.monotonic() - began, "cpu": time.process_time() - worked}
    return counts | took | {"peak_mb": peak_mb()}


def run(wats: Sequence[Path], work: Path, *, workers: int, warm_up: Path) -> Run:
    """Extract all WATs with so many workers of one thread, by the committed parameters.

    Each worker first extracts `warm_up` once, which is not counted: imports and the language model are loaded by that.
    """
    import dask  # noqa: PLC0415 - the corpus and the other readers need no cluster

    shutil.rmtree(work, ignore_errors=True)
    rules = params.load().extract
    todo = [_part(f"{number:06d}", path, number, rules) for number, path in enumerate(wats)]
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": workers}),
        kinds.open_client() as client,
    ):
        addresses = list(client.scheduler_info(n_workers=-1)["workers"])
        first = _part("warm-up", warm_up, 0, rules)
        client.gather(
            [
                client.submit(
                    tasks.finish_part,
                    timed,
                    str(work / f"warm-up-{place}"),
                    first.args,
                    workers=[address],
                    pure=False,
                    key=f"warm-up-{place}",
                )
                for place, address in enumerate(addresses)
            ]
        )
        began = time.perf_counter()
        done = parts.run(timed, todo, work / "parts", client, progress=Progress("extract", "links"))
        seconds = time.perf_counter() - began
    counts = sorted((one.counts for one in done), key=lambda of_wat: of_wat["began"])
    shutil.rmtree(work)
    for of_wat in counts:
        if of_wat.get("error"):
            message = f"a WAT of the corpus cannot be read: {of_wat['error']}"
            raise RuntimeError(message)
    return Run(seconds, counts)


def _part(name: str, path: Path, order: int, rules: params.Extract) -> Part:
    args = {
        "name": name,
        "location": str(path),
        "crawl": "bench",
        "wat": path.name,
        "order": order,
        "settings": rules,
    }
    # All weigh the same: they are to run in the order of their names.
    return Part(name, name, args)
