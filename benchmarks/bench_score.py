"""Shards in, the speed of scoring beside its limits and its rival and the bars of the project out; `make bench-score`.

    python -m benchmarks.bench_score [--images 2000] [--quick] [--only forward,rival,demo,zarr]

Everything is measured in this run on this machine, on JPEGs that are made for it (shards.py). The last line is JSON;
the exit status is 0 where a bar is missed, and another where something failed.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import environments, score_store
from benchmarks import shards as corpora
from benchmarks.bench_extract import BENCH, ROOT, Bar, BenchError
from benchmarks.shards import KB, Corpus

LOCK: Final = Path(__file__).with_name("clip_retrieval.lock")
SECTIONS: Final = ("forward", "rival", "demo", "zarr")
_SHARD_ROWS: Final = 250
_QUICK_IMAGES: Final = 200
_ROUNDS: Final = 2
# clip-retrieval's default.
_RIVAL_BATCH: Final = 256

Result = dict[str, Any]


def environment_of_clip_retrieval() -> Path:
    """Return the Python of clip-retrieval's environment."""
    return environments.python_of(LOCK, "clip-retrieval (about 5 GB)")


def random_weights(path: Path) -> Path:
    """Return a checkpoint of ViT-B-32 with random weights, made where it is new; the same seed, the same numbers."""
    if not path.is_file():
        code = (
            "import logging, sys, torch, open_clip; logging.disable(logging.ERROR); torch.manual_seed(5); "
            "torch.save(open_clip.create_model('ViT-B-32').state_dict(), sys.argv[1])"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", code, path], check=True)
    return path


def beside(way: str, tars: Sequence[Sequence[Path]], weights: str, number: int) -> float:
    """Run one way in as many processes as there are lists of tars, one core each, at the same time; images/s of all."""
    cores = sorted(os.sched_getaffinity(0))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.score_rivals", way]
    with tempfile.TemporaryDirectory() as folder:
        marks = [Path(folder) / f"{place}.ready" for place in range(len(tars))]
        running = []
        for place, some in enumerate(tars):
            options = ["--weights", weights, "--number", str(number), "--ready", str(marks[place])]
            options += ["--core", str(cores[place % len(cores)])]
            process = subprocess.Popen(
                [*command, *some, *options],
                cwd=ROOT,
                env={**os.environ, **threads},
                stdout=subprocess.PIPE,
                text=True,
            )
            running.append(process)
        while not all(mark.exists() for mark in marks):
            if any(process.poll() for process in running):
                raise BenchError(f"{way} failed")
            time.sleep(0.01)
        for mark in marks:
            mark.with_suffix(".go").touch()
        results = [json.loads(process.communicate()[0]) for process in running]
    return sum(result["images"] / result["seconds"] for result in results)


def clip_retrieval(tars: Sequence[Path], weights: Path) -> float:
    """Run the released inference of clip-retrieval with all cores; images/s from its first batch to its last file."""
    command = [
        environment_of_clip_retrieval(),
        "-W",
        "ignore",
        "-m",
        "benchmarks.score_rivals",
        "clip_retrieval",
        *tars,
    ]
    command += ["--weights", weights, "--number", str(_RIVAL_BATCH)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"clip-retrieval failed:\n{done.stderr}")
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"images"')))
    return float(result["images"]) / float(result["seconds"])


def warm(rules: Any) -> int:  # noqa: ANN401 - params.Score, imported in the workers
    """Load the models in a worker, and return how many there are."""
    from laion_dask import score  # noqa: PLC0415

    return len(score.load(rules))


def stage(corpus: Corpus, tables: Sequence[Path], work: Path, weights: str, decode: str) -> Result:
    """Run the stage's tasks on a cluster of one process a core; images/s after every worker has loaded the model."""
    import dask  # noqa: PLC0415 - the other ways need no cluster

    from benchmarks.score_rivals import spec  # noqa: PLC0415
    from laion_dask import cluster, head_params, params, parts, score  # noqa: PLC0415
    from laion_dask.progress import Progress  # noqa: PLC0415

    shutil.rmtree(work, ignore_errors=True)
    heads = (head_params.Head(kind="demo"),) if weights == "demo" else ()
    rules = params.Score(
        models=(spec(params.Model, weights),), heads=heads, tags=(), batch=64, decode=decode, compile="none"
    )
    todo = [
        parts.Part(
            table.stem,
            table.stem,
            {
                "name": table.stem,
                "images": table,
                "tar": table.with_suffix(".tar"),
                "shard_rows": corpus.shard_rows,
                "settings": rules,
            },
            weight=table.with_suffix(".tar").stat().st_size,
        )
        for table in tables
    ]
    progress = Progress("score", "images")
    workers = len(os.sched_getaffinity(0))
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": workers}),
        cluster.open_client() as client,
    ):
        client.run(warm, rules)
        began = time.perf_counter()
        done = parts.run(score.score, todo, work, client, progress=progress)
        seconds = time.perf_counter() - began
    images = sum(part.counts["images"]["kept"] for part in done)
    shutil.rmtree(work)
    return {"images": images, "seconds": seconds, "rate": images / seconds, "shares": progress.shares()}


def forward_bars(corpus: Corpus, weights: Path, work: Path, *, rival: bool) -> list[Bar]:
    """Measure ViT-B/32: the pure forward pass before and after the stage, since machines warm up, and the rival."""
    lists = [corpus.tars[:1]] * len(os.sched_getaffinity(0))
    pure = [beside("forward", lists, str(weights), _ROUNDS)]
    full = stage(corpus, corpus.tables, work, str(weights), "full")
    pure.append(beside("forward", lists, str(weights), _ROUNDS))
    reduced = stage(corpus, corpus.tables[: len(corpus.tables) // 4 or 1], work, str(weights), "reduced")
    short = beside("short", lists, str(weights), _ROUNDS)
    best = max(pure)
    print(f"\nViT-B/32, random weights, float32, {len(lists)} processes of one thread")
    print(f"{'pure forward pass, image and text':44}{best:8.2f} images/s ({', '.join(f'{rate:.2f}' for rate in pure)})")
    print(f"{'the same, texts cut as in the stage':44}{short:8.2f} images/s")
    for name, result in (("stage, decode full", full), ("stage, decode reduced", reduced)):
        told = f"of the cut pass {result['rate'] / short:.1%}; {result['images']:,} images in {result['seconds']:.1f} s"
        print(f"{name:44}{result['rate']:8.2f} images/s {result['rate'] / best:7.1%} ({told}; {result['shares']})")
    bars = [
        Bar("end to end, share of the pure forward pass", full["rate"] / best, 0.92),
        Bar("the same, large JPEGs decoded at reduced size", reduced["rate"] / best, 0.92),
    ]
    if rival:
        some = corpus.tars[: max(1, len(corpus.tars) // 2)]
        rate = clip_retrieval(some, weights)
        print(f"{'clip-retrieval 2.45.0, same weights':44}{rate:8.2f} images/s ({len(some)} of the same shards)")
        bars.append(Bar("end to end, times clip-retrieval's images/s", full["rate"] / rate, 1.0))
    return bars


def demo_bars(corpus: Corpus, work: Path) -> list[Bar]:
    """Measure the demo's model, where decoding takes most of the time."""
    cores = len(os.sched_getaffinity(0))
    lists = [corpus.tars[place::cores] for place in range(cores)]
    lists = [some for some in lists if some]
    alone = beside("decode", lists, "demo", 0)
    ours = stage(corpus, corpus.tables, work, "demo", "full")
    again = beside("decode", lists, "demo", 0)
    best = max(alone, again)
    print("\nthe demo's model")
    print(f"{'read, decode, preprocess alone':44}{best:8.1f} images/s ({alone:.1f}, {again:.1f})")
    share = ours["rate"] / best
    print(f"{'stage, with heads':44}{ours['rate']:8.1f} images/s {share:7.1%} ({ours['shares']})")
    return [Bar("the demo's model, share of the decoding rate", share, 0.85)]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_score", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2_000, help="JPEGs of the corpus (default 2,000)")
    parser.add_argument("--quick", action="store_true", help="200 images: for a look, not for bars")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    wanted = parser.parse_args()
    sections = wanted.only.split(",")
    images = _QUICK_IMAGES if wanted.quick else wanted.images
    rows = _SHARD_ROWS // 5 if wanted.quick else _SHARD_ROWS
    folder, work, bars = BENCH / "score", BENCH / "score-work", []
    try:
        corpus = corpora.cached(folder / f"shards-{images}", images=images, shard_rows=rows)
        each = corpus.bytes_ / corpus.images / KB
        print(f"{corpus.images:,} JPEGs in {len(corpus.tars)} tars, {each:.0f} KB each on average", flush=True)
        weights = random_weights(folder / "vit_b_32.pt")
        if "forward" in sections:
            bars += forward_bars(corpus, weights, work, rival="rival" in sections)
        if "demo" in sections:
            bars += demo_bars(corpus, work)
        if "zarr" in sections:
            bars += score_store.bars(work, slots=1_000_000 if wanted.quick else 10_000_000)
    except BenchError as error:
        sys.exit(f"bench-score: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print()
    for bar in bars:
        told = bar.as_dict()
        print(f"{'holds' if bar.holds else 'MISSED':8}{bar.name}: {told['value']:g} (bar {told['bar']})")
    print(json.dumps({"bench": "score", "bars": [bar.as_dict() for bar in bars]}))


if __name__ == "__main__":
    main()
