"""A number of images in, time, memory and recall of the stage group beside a comparison of all with all out.

    python -m benchmarks.group.bench [--images 100000 300000 1000000] [--quick]

The stage runs as its users run it: a program with two workers, from start to end. Recall is of the planted duplicates
(`alike.py`). All with all is measured on a sample of the same images with faiss (hashes) and with one matrix product
(embeddings), each on one core, and reckoned for all images on two. The images are made once and kept in .bench/. The
last line is JSON. The exit status is 0 where a bar is missed, another where something failed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import projects
from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH
from benchmarks.group import alike
from benchmarks.memory import workers_of
from laion_dask import params
from laion_dask.filter import duplicates
from laion_dask.group.part import ROWS, VECTORS
from laion_dask.schema.values import PDQ_DISTANCE

WORKERS: Final = 2
SIZES: Final = (100_000, 300_000, 1_000_000)
QUICK: Final = (2_000, 6_000)
_ASKED: Final = 1_000  # images of the sample that is compared with all
_MB: Final = 1_000_000
_EVERY_S: Final = 0.5


@dataclass
class Run:
    """What one run of the stage took and found."""

    images: int
    seconds: float = 0.0
    peak_mb: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    decide_s: float = 0.0
    """Time of the filter's decision among all images."""
    brute_s: dict[str, float] = field(default_factory=dict)
    """All with all on as many cores, reckoned."""


def project(folder: Path, made: Path, images: int) -> params.Params:
    """Make a project folder around the images, and return its parameters."""
    projects.make(
        folder,
        data={name: made / "data" / name for name in ("download", "score")},
        metrics={"score": {"images": {"seen": images, "kept": images, "dropped": {}}}},
        values={
            "score": {"models": [{"name": "bench", "model": "demo"}]},
            "filter": {"semantic_duplicates": 0.05},
        },
    )
    return params.load(folder / "params.yaml")


def stage(folder: Path, run: Run) -> None:
    """Run the stage in a folder and watch its processes; `BenchError` where it fails."""
    run.seconds = projects.run("group", folder, WORKERS, lambda driver: _watch(driver, run))
    run.counts = json.loads((folder / "metrics" / "group.json").read_text())


def _watch(driver: psutil.Popen, run: Run) -> None:
    """Note the memory of driver and workers that files do not lend: mapped arrays are the page cache's."""
    try:
        workers = workers_of(driver)
        for name, process in [("driver", driver), *(("worker", worker) for worker in workers)]:
            memory = process.memory_info()
            run.peak_mb[name] = max(run.peak_mb.get(name, 0.0), (memory.rss - memory.shared) / _MB)
    except psutil.Error:
        return  # one ended in between; the looks before have told enough


def recalls(folder: Path, made: Path, settings: params.Params) -> dict[str, float]:
    """Return which share of the planted duplicates has an edge to its original, and of decoys that are confirmed."""
    with np.load(made / "planted.npz") as arrays:
        kind, of = arrays["kind"], arrays["of"]
    uids = pa.array((made / "uids.txt").read_text().split("\n"))
    found = duplicates.edges(folder / "data" / "group", settings.filter)
    linked = {}
    for reason, sides in found.items():
        a, b = (np.searchsorted(uids_sorted(uids)[0], np.array(side.to_pylist())) for side in sides)
        order = uids_sorted(uids)[1]
        linked[reason] = {*zip(order[a].tolist(), order[b].tolist(), strict=True)}
    shares = {}
    for name, reason in (("near", "near_duplicate"), ("semantic", "semantic_duplicate"), ("decoy", "near_duplicate")):
        rows = np.flatnonzero(kind == alike.KINDS.index(name)).tolist()
        hits = sum((row, of[row]) in linked[reason] or (of[row], row) in linked[reason] for row in rows)
        shares[name] = hits / max(1, len(rows))
    return shares


def uids_sorted(uids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the uids in order, and the row of each."""
    texts = np.array(uids.to_pylist())
    order = np.argsort(texts)
    return texts[order], order


def decide(folder: Path, settings: params.Params) -> float:
    """Return how long the filter takes to decide among all images, as if all pass its other rules."""
    began = time.monotonic()
    found = duplicates.edges(folder / "data" / "group", settings.filter)
    tables = [pq.read_table(path, columns=["uid", "image"]) for path in sorted((folder / "data" / "group").glob("0*"))]
    duplicates.losers(pa.concat_tables(tables), found, equal=True)
    return time.monotonic() - began


def all_with_all(folder: Path) -> dict[str, float]:
    """Measure a sample against all images and reckon the seconds for all pairs on the same cores."""
    read = [path.parent for path in sorted((folder / ".laion_dask" / "parts" / "group").glob(f"*/{VECTORS}"))]
    hashes = [pq.read_table(part / ROWS)["pdq"].drop_null().to_pylist() for part in read]
    bits = np.frombuffer(b"".join(raw for part in hashes for raw in part), np.uint8).reshape(-1, 32)
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(256)
    index.add(bits)
    began = time.monotonic()
    index.range_search(bits[:_ASKED], PDQ_DISTANCE + 1)
    hashing = (time.monotonic() - began) / _ASKED * len(bits)
    asked = np.load(read[0] / VECTORS)[:_ASKED].astype(np.float32)
    images, began = 0, time.monotonic()
    for part in read[:10]:
        vectors = np.load(part / VECTORS).astype(np.float32)
        np.count_nonzero(asked @ vectors.T >= np.float32(0.95))
        images += len(vectors)
    total = sum(np.load(part / VECTORS, mmap_mode="r").shape[0] for part in read)
    # Of two images only one has to ask the other.
    embedding = (time.monotonic() - began) / images / _ASKED * total * total / 2
    return {"hashes": hashing / 2 / WORKERS, "embeddings": embedding / WORKERS}


def measure(images: int, work: Path) -> Run:
    """Run the stage on so many images."""
    made = alike.make(BENCH, images)
    run, folder = Run(images), work / str(images)
    settings = project(folder, made, images)
    stage(folder, run)
    run.recall = recalls(folder, made, settings)
    run.decide_s = decide(folder, settings)
    run.brute_s = all_with_all(folder)
    shutil.rmtree(folder)
    print(f"\n{images:,} images, {alike.FEATURES} features, {run.counts['clusters']:,} clusters")
    memory = ", ".join(f"{name} {peak:,.0f} MB" for name, peak in sorted(run.peak_mb.items()))
    print(f"  stage {run.seconds:.1f} s, {images / run.seconds:,.0f} images/s; memory: {memory}")
    print(f"  edges: near {run.counts['near']:,}, semantic {run.counts['semantic']:,}; decided in {run.decide_s:.1f} s")
    crowds = f"{run.counts['crowded_buckets']:,} buckets, {run.counts['crowded_clusters']:,} clusters"
    print(f"  vague hashes {run.counts['vague']:,}; crowded: {crowds}")
    print("  found of planted: " + ", ".join(f"{name} {share:.4f}" for name, share in run.recall.items()))
    brute = ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in run.brute_s.items())
    print(f"  all with all, reckoned: {brute}")
    return run


def main() -> None:
    """Run every size and print the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--quick", action="store_true", help="2,000 and 6,000 images: to see that all of it runs")
    wanted = parser.parse_args()
    BENCH.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=BENCH, prefix="group-"))
    try:
        runs = [measure(images, work) for images in sorted(QUICK if wanted.quick else wanted.images)]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    first, last = runs[0], runs[-1]
    growth = math.log(last.seconds / first.seconds) / math.log(last.images / first.images) if len(runs) > 1 else 0.0
    told = {
        str(run.images): {
            "seconds": round(run.seconds, 1),
            "peak_mb": {name: round(peak) for name, peak in run.peak_mb.items()},
            "decide_s": round(run.decide_s, 1),
            "recall": run.recall,
            "all_with_all_s": {name: round(seconds) for name, seconds in run.brute_s.items()},
        }
        for run in runs
    }
    print(f"\ngrowth from {first.images:,} to {last.images:,} images: seconds as images to the power of {growth:.2f}")
    bars = [
        Bar("found of planted near-duplicates", min(run.recall["near"] for run in runs), 1.0),
        Bar("found of planted semantic duplicates", min(run.recall["semantic"] for run in runs), 0.9),
        Bar("all with all over the stage, largest size", sum(last.brute_s.values()) / last.seconds, 5.0),
    ]
    report("group", bars, quick=wanted.quick, growth=round(growth, 3), runs=told)


if __name__ == "__main__":
    main()
