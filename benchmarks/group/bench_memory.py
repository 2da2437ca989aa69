"""Memory of the largest part of each step of the stage group, and processor time, as the number of images grows.

    python -m benchmarks.group.bench_memory [--images 1000000 3000000] [--features 64] [--quick]

Hashes and embeddings are made up and written as the step `read` writes them. The parts of each step run one after the
other in a new process, whose peak of resident memory is read at its end. So is that of publishing the edges, and of the
filter's decision among all of them. The last line is JSON. The exit
status is 0 where a bar is missed, another where something failed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH, ROOT
from benchmarks.group import many
from laion_dask import params
from laion_dask.group import steps
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part

SIZES: Final = (1_000_000, 3_000_000)
QUICK: Final = (2_000, 6_000)
_QUICK_ROWS: Final = 1_000  # of a part of the short run, so that there are several


@dataclass
class Step:
    """What the parts of one step took."""

    parts: int = 0
    peak_mb: float = 0.0
    """Of the process that ran them."""
    seconds: float = 0.0
    """Processor time of all parts."""


@dataclass
class Run:
    """What the stage took with a number of images."""

    images: int
    steps: dict[str, Step] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def peak_mb(self) -> float:
        """The largest part of all steps."""
        return max(step.peak_mb for name, step in self.steps.items() if name != "filter")

    @property
    def seconds(self) -> float:
        """Processor time of the stage."""
        return sum(step.seconds for name, step in self.steps.items() if name != "filter")


def measure(images: int, work: Path, settings: params.Params, wanted: argparse.Namespace) -> Run:
    """Run the steps on so many images."""
    folder, run = work / str(images), Run(images)

    def run_parts(function: PartFunction, todo: Sequence[Part], _: Mapping[str, Any]) -> list[Done]:
        todo = sorted(todo, key=lambda one: one.name)
        done = [Done(one, folder / "work" / one.key, {}) for one in todo]
        calls = [(function, str(one.folder), one.part.args) for one in done]
        counts = alone(function.__name__, many.every_part, calls, parts=len(calls))
        return [Done(one.part, one.folder, mine) for one, mine in zip(done, counts, strict=True)]

    def alone(name: str, function: Callable[..., Any], *args: Any, parts: int = 1) -> Any:  # noqa: ANN401
        found, *took = many.measured(function, *args)
        run.steps[name] = Step(parts, *took)
        return found

    # The images are made in a process of their own, so that nothing of them is in memory here.
    read, *_ = many.measured(many.make, folder, images, wanted.features)
    alone("imports", many.nothing)
    done = steps.compare(settings, read, run_parts, _QUICK_ROWS if wanted.quick else steps.ROWS)
    (folder / "out").mkdir()
    alone("publish", steps.join_edges, done, folder / "out")
    alone("filter", many.decide, folder, settings)
    for one in done:
        for name, value in one.counts.items():
            if isinstance(value, int):
                run.counts[name] = run.counts.get(name, 0) + value
    shutil.rmtree(folder)
    return run


def show(run: Run) -> None:
    """Print the figures of a size."""
    lines = [
        f"\n{run.images:,} images; " + ", ".join(f"{name} {count:,}" for name, count in sorted(run.counts.items()))
    ]
    lines.append(f"  {'step':10} {'parts':>6} {'peak MB':>9} {'processor s / million images':>30}")
    for name, step in run.steps.items():
        lines.append(f"  {name:10} {step.parts:6,} {step.peak_mb:9,.0f} {step.seconds / run.images * 1e6:30.1f}")
    lines.append(f"  {'stage':10} {'':6} {run.peak_mb:9,.0f} {run.seconds / run.images * 1e6:30.1f}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run every size and print the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="2,000 and 6,000 images: to see that all of it runs")
    wanted = parser.parse_args()
    settings = params.load(ROOT / "params.yaml")
    BENCH.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=BENCH, prefix="group-memory-"))
    runs = []
    try:
        for images in sorted(QUICK if wanted.quick else wanted.images):
            runs.append(measure(images, work, settings, wanted))
            show(runs[-1])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    first, last = runs[0], runs[-1]
    growth = math.log(last.seconds / first.seconds) / math.log(last.images / first.images) if len(runs) > 1 else 1.0
    told = {
        str(run.images): {
            name: {"parts": step.parts, "peak_mb": round(step.peak_mb), "seconds": round(step.seconds, 1)}
            for name, step in run.steps.items()
        }
        for run in runs
    }
    grown = {name: last.steps[name].peak_mb / step.peak_mb for name, step in first.steps.items() if name != "filter"}
    bars = [
        Bar("largest part, largest size over smallest size", last.peak_mb / first.peak_mb, 1.15, at_most=True),
        Bar("the step that grew most, likewise", max(grown.values()), 1.15, at_most=True),
        Bar("processor time as images to the power of", growth, 1.15, at_most=True),
    ]
    report("group-memory", bars, quick=wanted.quick, runs=told)


if __name__ == "__main__":
    main()
