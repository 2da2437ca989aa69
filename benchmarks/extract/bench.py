"""The speed of the extraction beside cc2dataset, warcio and the limit of reading; `make bench-extract`.

    python -m benchmarks.extract.bench [--gb 1.0] [--rounds 5] [--profile] [--quick]

Everything is measured in this run on this machine, on WATs that are made for it (corpus.py). The last line is JSON. The
exit status is 0 where a bar is missed, and another where something failed: readers that disagree, a worker that died.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import environments
from benchmarks.bars import Bar, BenchError, report
from benchmarks.environments import BENCH, ROOT
from benchmarks.extract import corpus as corpora
from benchmarks.extract import stage_path
from benchmarks.extract.corpus import MB, Corpus

LOCK: Final = Path(__file__).with_name("cc2dataset.lock")
PEER: Final = "cc2dataset"

TITLES: Final = {
    "limit": "limit: FastWARC, nothing parsed",
    "cc2dataset": "cc2dataset 1.5.0",
    "plain": "warcio, json, urljoin",
    "links": "ours, equal work",
    "all": "ours, all rules and Parquet",
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured: gigabytes unpacked, rounds, in how many WATs, and how many small ones for the stage."""

    gb: float
    rounds: int
    files: int = 8
    small_wats: int = 100


QUICK: Final = Sizes(gb=0.01, rounds=1, files=2, small_wats=12)
# A WAT of a general crawl of 2022, and the crawl of that size.
_WAT_RAW_MB: Final = 1_200
_CRAWL_WATS: Final = 90_000
_CORES: Final = 100

Result = dict[str, Any]


def environment_of_cc2dataset() -> Path:
    """Return the Python of cc2dataset's environment."""
    return environments.python_of(LOCK, "cc2dataset (about 800 MB)")


def ask(reader: str, files: Sequence[Path], *options: str) -> Result:
    """Run one reader over the files in a process of its own on the last core; raise `BenchError` where it fails."""
    python = environment_of_cc2dataset() if reader == "cc2dataset" else sys.executable
    core = str(max(os.sched_getaffinity(0)))
    command = [python, "-m", "benchmarks.extract.rivals", reader, "--core", core, *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{reader} failed:\n{done.stderr}"
        raise BenchError(message)
    return dict(json.loads(done.stdout))


def readers(*, quick: bool) -> list[str]:
    """Name the readers of a run; a short one leaves cc2dataset out unless its environment is there already."""
    return [name for name in TITLES if name != PEER or not quick or environments.ready(LOCK)]


def peer(results: Mapping[str, Result]) -> str:
    """Return the reader that ours are compared with: cc2dataset, or its rule on warcio where it did not run."""
    return PEER if PEER in results else "plain"


def compare(corpus: Corpus, names: Sequence[str], rounds: int) -> dict[str, Result]:
    """Run every reader in every round, each round in another order; return the medians of the rounds."""
    results: dict[str, list[Result]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            results[name].append(ask(name, corpus.files))
    return {
        name: several[0] | {key: statistics.median(result[key] for result in several) for key in ("seconds", "cpu")}
        for name, several in results.items()
    }


def check_equal_work(corpus: Corpus, names: Sequence[str]) -> Result:
    """Return number and digest of the pairs; raise `BenchError` unless cc2dataset, the plain rule and ours agree.

    So it does where cc2dataset cannot read a file, for which it then gives no pair at all.
    """
    found = {name: ask(name, corpus.files, "--uids") for name in (PEER, "plain", "links") if name in names}
    if len({(result["pairs"], result["digest"]) for result in found.values()}) > 1:
        told = ", ".join(f"{name} {result['pairs']:,} ({result['digest'][:8]})" for name, result in found.items())
        message = f"readers that do equal work give other pairs: {told}"
        raise BenchError(message)
    return found["links"]


def print_speeds(results: dict[str, Result], corpus: Corpus, rounds: int) -> None:
    """Print one line for each reader. Pairs are those that cc2dataset gives, whoever read them."""
    pairs, beside = results["plain"]["pairs"], peer(results)
    raw, stored, pages = (corpus.total(figure) for figure in ("raw", "stored", "pages"))
    print(f"\none core, median of {rounds} rounds; pairs: the {pairs:,} that cc2dataset's rule gives")
    print(f"{'':34}{'s':>7}{'pairs/s':>10}{'MB/s raw':>10}{'stored':>8}{'pages/s':>9}{'x peer':>7}{'of limit':>10}")
    for name in results:
        title, seconds = TITLES[name], results[name]["seconds"]
        rate = "" if name == "limit" else f"{pairs / seconds:,.0f}"
        times = "" if name == "limit" else f"{results[beside]['seconds'] / seconds:.2f}"
        share = f"{results['limit']['seconds'] / seconds:.1%}"
        print(
            f"{title:34}{seconds:7.2f}{rate:>10}{raw / MB / seconds:10.0f}{stored / MB / seconds:8.1f}"
            f"{pages / seconds:9,.0f}{times:>7}{share:>10}"
        )
        if results[name]["cpu"] < 0.97 * seconds:
            print(f"  disturbed: {results[name]['cpu']:.2f} s of processor time")
    kept = results["all"]["pairs"]
    print(f"with all rules {kept:,} pairs are kept, {kept / results['all']['seconds']:,.0f} in a second")


def speed_bars(results: dict[str, Result]) -> list[Bar]:
    """Return the bars of one core."""
    seconds, beside = {name: result["seconds"] for name, result in results.items()}, peer(results)
    return [
        Bar(f"equal work, times the pairs/s of {TITLES[beside]}", seconds[beside] / seconds["links"], 2.5),
        Bar(f"all rules and Parquet, times the pairs/s of {TITLES[beside]}", seconds[beside] / seconds["all"], 1.2),
        Bar("equal work, share of the reading limit", seconds["limit"] / seconds["links"], 0.35),
    ]


def stage_bars(corpus: Corpus, work: Path, small_wats: int) -> list[Bar]:
    """Run the stage on one worker and on two, on many small WATs and on a large one; return the bars."""
    work.mkdir(parents=True, exist_ok=True)
    small = corpus.small(work / "small", small_wats)
    warm_up, runs = small[0], work / "runs"
    one = stage_path.run(corpus.files, runs, workers=1, warm_up=warm_up)
    two = stage_path.run(corpus.files, runs, workers=2, warm_up=warm_up)
    many = stage_path.run(small, runs, workers=1, warm_up=warm_up)
    large = stage_path.run([corpus.joined(work / "large.warc.wat.gz")], runs, workers=1, warm_up=warm_up)
    first, last, first_cpu, last_cpu = (
        statistics.median(task[figure] for task in some)
        for figure in ("seconds", "cpu")
        for some in (many.tasks[:10], many.tasks[-10:])
    )
    peaks = [task["peak_mb"] for task in many.tasks]
    raw_mb = corpus.total("raw") / MB
    print("\nthe stage on a cluster, all rules and Parquet")
    print(f"{len(corpus.wats)} WATs: {one.seconds:.2f} s on one worker, {two.seconds:.2f} s on two")
    size = raw_mb / len(corpus.wats) / corpora.PIECES
    times = (
        f"{first:.3f} s each at the first ten, {last:.3f} s at the last (processor: {first_cpu:.3f}, {last_cpu:.3f})"
    )
    memory = f"peak memory {peaks[9]:.0f} MB after ten, {peaks[-1]:.0f} MB after all"
    print(f"{len(small)} WATs of {size:.1f} MB raw on one worker: {times}; {memory}")
    print(f"one WAT of {raw_mb:,.0f} MB raw: peak memory {large.tasks[0]['peak_mb']:.0f} MB in the worker")
    return [
        Bar("two workers, times one", one.seconds / two.seconds, 1.8),
        Bar(f"seconds a WAT, last ten of {len(small)} over the first", last / first, 1.1, at_most=True),
        Bar(f"peak memory, after {len(small)} WATs over after 10", peaks[-1] / peaks[9], 1.1, at_most=True),
        Bar("peak memory of a worker, any WAT, MB", max(large.tasks[0]["peak_mb"], *peaks), 500, at_most=True),
    ]


def print_profile(corpus: Corpus) -> None:
    """Print where the time goes at equal work and with all rules, by samples of the running process."""
    print("\nwhere the time goes, by samples each 2 ms of processor time (sampler.py)")
    for name in ("links", "all"):
        result = ask(name, corpus.files, "--sample")
        print(f"{TITLES[name]}, {result['seconds']:.2f} s with sampling")
        for part, share in result["parts"].items():
            print(f"  {part:24}{share:7.1%}")
        dearest = ", ".join(f"{place} {share:.0%}" for place, share in list(result["places"].items())[:8])
        print(f"  dearest functions: {dearest}")


def print_crawl(results: dict[str, Result], corpus: Corpus) -> None:
    """Print what a crawl would take at the speeds of this run."""
    for name in (peer(results), "links", "all"):
        rate = corpus.total("raw") / MB / results[name]["seconds"]
        seconds = _WAT_RAW_MB / rate
        hours = seconds * _CRAWL_WATS / _CORES / 3600
        print(f"{TITLES[name]:34}{seconds:6.1f} s a WAT, {hours:5.1f} h for {_CRAWL_WATS:,} WATs on {_CORES} cores")
    print(f"(by the clock of one core here, WATs of {_WAT_RAW_MB:,} MB raw; reading over the network comes on top)")


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extract.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=1.0, help="size of the corpus, unpacked (default 1.0)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each reader runs (default 5)")
    parser.add_argument("--quick", action="store_true", help="0.01 GB, one round: to see that all of it runs")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    wanted = parser.parse_args()
    sizes = QUICK if wanted.quick else Sizes(wanted.gb, wanted.rounds)
    names = readers(quick=wanted.quick)
    if PEER not in names:
        print(f"{TITLES[PEER]} is left out: its environment is not there, and a short run installs none")
    try:
        cores = len(os.sched_getaffinity(0))
        corpus = corpora.cached(BENCH / "corpus", gb=sizes.gb, files=sizes.files, processes=cores)
        print("\n".join(corpora.describe(corpus)), flush=True)
        equal = check_equal_work(corpus, names)
        print(f"equal work: all give the same {equal['pairs']:,} pairs, {equal['unique'] / equal['pairs']:.1%} unique")
        results = compare(corpus, names, sizes.rounds)
        print_speeds(results, corpus, sizes.rounds)
        print_crawl(results, corpus)
        if wanted.profile:
            print_profile(corpus)
        work = BENCH / "work"
        shutil.rmtree(work, ignore_errors=True)
        try:
            bars = [*speed_bars(results), *stage_bars(corpus, work, sizes.small_wats)]
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except (BenchError, corpora.CorpusError) as error:
        sys.exit(f"bench-extract: {error}")
    report("extract", bars, quick=wanted.quick)


if __name__ == "__main__":
    main()
