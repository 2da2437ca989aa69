"""The speed of scoring beside its forward pass, its decoding rate and clip-retrieval; `make bench-score`.

    python -m benchmarks.score.bench [--images 2000] [--quick] [--only forward,small,rival,demo,zarr] [--steps N]

Everything is measured in this run on this machine, on JPEGs that are made for it (shards.py). It takes about half an
hour on two cores, in steps of at most four minutes: --steps ends after so many, --resume takes what earlier ones found.
The last line is JSON; the exit status is 0 where a bar is missed, and another where something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import environments
from benchmarks.bars import Bar, BenchError, report
from benchmarks.environments import BENCH, ROOT
from benchmarks.score import ours, store
from benchmarks.score import shards as corpora
from benchmarks.score.shards import KB, Corpus

LOCK: Final = Path(__file__).with_name("clip_retrieval.lock")
SECTIONS: Final = ("forward", "small", "rival", "demo", "zarr")
_SHARD_ROWS: Final = 250
_QUICK_IMAGES: Final = 24
_QUICK_ROWS: Final = 12
_RIVAL_TARS: Final = 4  # one for each of its preparing processes: with fewer it stops
# Images of one step: their forward pass takes a minute on two cores.
_SLICE: Final = 500
# As the stage download leaves them by default.
_SMALL_PX: Final = 256
_SETTINGS: Final = ("full", "reduced")

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


def slices(corpus: Corpus) -> list[list[Path]]:
    """Return the images tables of a corpus in groups, one for each step."""
    size = max(1, _SLICE // corpus.shard_rows)
    return [corpus.tables[first : first + size] for first in range(0, len(corpus.tables), size)]


def forward_step(corpus: Corpus, tables: Sequence[Path], weights: str, decodes: Sequence[str], work: Path) -> Result:
    """Measure ViT-B/32 on a few shards: the pure forward pass before, between and after the stages."""
    settings = {decode: ours.rules(weights, decode) for decode in decodes}
    plain = settings[decodes[0]]

    def pure(texts: str = "cut") -> float:
        return sum(ours.each(client, ours.forward, plain, tables[0], 1, texts))

    found: Result = {}
    with ours.opened(plain) as client:
        found["pure"] = [pure()]
        for decode, one in settings.items():
            found[decode] = ours.stage(client, one, tables, corpus.shard_rows, work)
            found["pure"].append(pure())
        found["whole"] = pure("whole")
    return found


def rival_step(tars: Sequence[Path], weights: Path) -> Result:
    """Run the released inference of clip-retrieval with all cores, from its first batch to its last file."""
    command = [environment_of_clip_retrieval(), "-W", "ignore", "-m", "benchmarks.score.rivals", *tars]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--weights", weights], cwd=ROOT, env=quiet, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"clip-retrieval failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def demo_step(corpus: Corpus, work: Path) -> Result:
    """Measure the demo's model, where decoding takes most of the time, beside decoding alone before and after it."""
    found: Result = {}
    with ours.opened(ours.rules("demo")) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        lists = [corpus.tars[place::workers] or corpus.tars[:1] for place in range(workers)]
        for decode in _SETTINGS:
            settings = ours.rules("demo", decode)

            def alone(settings: Any = settings) -> float:  # noqa: ANN401 - params.Score
                return sum(ours.each(client, ours.decode, settings, lists))

            before = alone()
            found[decode] = ours.stage(client, settings, corpus.tables, corpus.shard_rows, work)
            found[decode]["alone"] = [before, alone()]
    return found


def forward_bars(network: str, name: str, found: Sequence[Result]) -> list[Bar]:
    """Print what the steps of a corpus found, and return its bars."""
    best = _mean([rate for one in found for rate in one["pure"]])
    told = ", ".join(f"{rate:.2f}" for one in found for rate in one["pure"])
    print(f"\n{network}, float32, {name}, {os.cpu_count()} processes of one thread")
    print(f"{'pure forward pass, image and text':40}{best:8.2f} images/s (mean of {told})")
    whole = _mean([one["whole"] for one in found])
    print(f"{'the same, texts padded to 77 tokens':40}{whole:8.2f} images/s")
    bars = []
    for decode in [setting for setting in _SETTINGS if setting in found[0]]:
        images, seconds = (sum(one[decode][what] for one in found) for what in ("images", "seconds"))
        rate = images / seconds
        shares = found[0][decode]["shares"]
        print(f"{f'stage, decode {decode}':40}{rate:8.2f} images/s {rate / best:7.1%} ({images:,} images; {shares})")
        bars.append(Bar(f"end to end, {name}, decode {decode}: share of the pure forward pass", rate / best, 0.92))
    return bars


def rival_bars(found: Result, ours: Sequence[Result]) -> list[Bar]:
    """Print what clip-retrieval reached, and return the bar."""
    rate = found["images"] / found["seconds"]
    print(f"\n{'clip-retrieval 2.45.0, same weights':40}{rate:8.2f} images/s ({found['images']:,} images, same shards)")
    bars = []
    for decode in _SETTINGS:
        images, seconds = (sum(one[decode][what] for one in ours) for what in ("images", "seconds"))
        if seconds:
            bars.append(Bar(f"end to end, decode {decode}: times clip-retrieval", images / seconds / rate, 1.0))
    return bars


def demo_bars(found: Result) -> list[Bar]:
    """Print what the demo's model reached, and return its bars."""
    print("\nthe demo's model, with its heads")
    bars = []
    for decode in _SETTINGS:
        one = found[decode]
        alone, rate = max(one["alone"]), one["images"] / one["seconds"]
        told = ", ".join(f"{rate:.1f}" for rate in one["alone"])
        print(f"{f'read, decode, preprocess; {decode}':40}{alone:8.1f} images/s ({told})")
        print(f"{'stage':40}{rate:8.1f} images/s {rate / alone:7.1%} ({one['images']:,} images; {one['shares']})")
        bars.append(Bar(f"the demo's model, decode {decode}: share of the decoding rate", rate / alone, 0.85))
    return bars


def _mean(rates: Sequence[float]) -> float:
    """Return the rate of equal work at all of these rates."""
    return len(rates) / sum(1 / rate for rate in rates)


class Steps:
    """What is measured once and kept in a file, so that a long benchmark can be run in pieces."""

    def __init__(self, file: Path, most: int | None) -> None:
        self.file = file
        self.found: Result = json.loads(file.read_text()) if file.is_file() else {}
        self.left = most
        self.missing = 0

    def measure(self, name: str, step: Callable[[], Result]) -> Result | None:
        """Return what a step found, in an earlier run or now; None where this run has done its number of steps."""
        if name not in self.found:
            if self.left == 0:
                self.missing += 1
                return None
            print(f"measuring {name}", flush=True)
            self.found[name] = step()
            self.file.write_text(json.dumps(self.found, indent=1))
            self.left = None if self.left is None else self.left - 1
        return dict(self.found[name])

    def all(self, name: str, steps: Sequence[Callable[[], Result]]) -> list[Result]:
        """Return what several steps found, as far as they are measured."""
        found = [self.measure(f"{name} {place + 1} of {len(steps)}", step) for place, step in enumerate(steps)]
        return [one for one in found if one is not None]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2_000, help="JPEGs of the corpus (default 2,000)")
    parser.add_argument("--quick", action="store_true", help="24 images: to see that all of it runs")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    parser.add_argument(
        "--resume", action="store_true", help="take what earlier runs with as many images have measured"
    )
    parser.add_argument("--steps", type=int, help="measure so many steps at most")
    wanted = parser.parse_args()
    sections = wanted.only.split(",")
    images = _QUICK_IMAGES if wanted.quick else wanted.images
    rows = _QUICK_ROWS if wanted.quick else _SHARD_ROWS
    folder, work, bars = BENCH / "score", BENCH / "score-work", []
    kept = folder / f"measured-{images}.json"
    if not wanted.resume:
        kept.unlink(missing_ok=True)
    try:
        corpus = corpora.cached(folder / f"shards-{images}", images=images, shard_rows=rows)
        each = corpus.bytes_ / corpus.images / KB
        print(f"{corpus.images:,} JPEGs in {len(corpus.tars)} tars, {each:.0f} KB each on average", flush=True)
        # A short run has the demo's small network in the place of ViT-B/32, and so no rival with the same weights.
        weights = "demo" if wanted.quick else str(random_weights(folder / "vit_b_32.pt"))
        network = "the demo's model" if wanted.quick else "ViT-B/32, random weights"
        steps = Steps(kept, wanted.steps)
        of_forward: list[Result] = []
        if "forward" in sections:
            of_forward = steps.all(
                "forward",
                [lambda some=some: forward_step(corpus, some, weights, _SETTINGS, work) for some in slices(corpus)],
            )
            bars += forward_bars(network, f"JPEGs of {each:.0f} KB", of_forward) if of_forward else []
        if "small" in sections:
            name, few = f"JPEGs of {_SMALL_PX} px", min(images, _SLICE)
            small = corpora.cached(folder / f"small-{few}", images=few, shard_rows=rows, side_px=_SMALL_PX)
            found = steps.all("small", [lambda: forward_step(small, small.tables, weights, ["full"], work)])
            bars += forward_bars(network, name, found) if found else []
        if "rival" in sections and wanted.quick:
            print("clip-retrieval is left out: a short run has no weights that it could load")
        elif "rival" in sections:
            found = steps.all("rival", [lambda: rival_step(corpus.tars[:_RIVAL_TARS], Path(weights))])
            bars += rival_bars(found[0], of_forward) if found else []
        if "demo" in sections:
            found = steps.all("demo", [lambda: demo_step(corpus, work)])
            bars += demo_bars(found[0]) if found else []
        if "zarr" in sections:
            bars += store.bars(work, slots=1_000_000 if wanted.quick else 10_000_000)
    except BenchError as error:
        sys.exit(f"bench-score: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if steps.missing:
        print(f"\n{steps.missing} steps are not measured yet; --resume goes on")
    report("score", bars, quick=wanted.quick, images=images)


if __name__ == "__main__":
    main()
