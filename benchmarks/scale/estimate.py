"""Compute from measured factors what LAION-400M and LAION-5B would take, and print the tables of docs/scale.md.

    python -m benchmarks.scale.estimate [--kept 0.1] [--core-hour 0.04] [--gpu-hour 3] [--tb-month 20] [--days 30]

Each factor names the command that measured it and the line of its results. What nobody has measured is an option with a
default, an assumption that you replace. Factors of small runs are taken as they are: only stages whose time a pair was
shown to stay are computed, so group is left out. No run of these sizes was made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from benchmarks.environments import ROOT
from benchmarks.scale.results import Size, table
from laion_dask.crawl import estimate as crawl

RESULTS: Final = ROOT / "benchmarks" / "results"
SCALE: Final = RESULTS / "scale-two-cores.txt"
SETS: Final[Mapping[str, float]] = MappingProxyType({"LAION-400M": 413e6, "LAION-5B": 5.85e9})
"""Pairs as published."""


@dataclass(frozen=True)
class Factor:
    """A measured value: which command printed it, in which file of results, in which line."""

    value: float
    unit: str
    command: str
    file: str
    line: str
    """Stands in the file, and has the value."""


FACTORS: Final[Mapping[str, Factor]] = MappingProxyType(
    {
        "merge": Factor(
            5.9,
            "processor µs a pair, all WATs",
            "make bench-catalog-buckets",
            "two-cores.txt",
            "10,000      512  5.9 = 0.0 + 5.1 + 0.8",
        ),
        "download": Factor(
            52.0,
            "images of 100 kB a processor second",
            "make bench-download",
            "two-cores.txt",
            "ours        http      52.0/cpu s",
        ),
        "score_gpu": Factor(
            2945,
            "images/s, ViT-B/32, one H200 with 16 cores",
            "make bench-score-gpu",
            "score-gpu-h200.txt",
            "from tars 2,945 images/s",
        ),
        "score": Factor(
            9.89,
            "images/s, ViT-B/32, two cores",
            "make bench-score",
            "two-cores.txt",
            "stage, decode full                          9.89 images/s   86.3%",
        ),
        "filter": Factor(
            47.8,
            "processor s, 10 million pairs, rules of one row",
            "make bench-filter",
            "two-cores.txt",
            "47.8 s of the processor",
        ),
        "release": Factor(
            53.5,
            "processor s, 4 million released pairs, five layouts",
            "make bench-release-tables",
            "two-cores.txt",
            "4,000,000 pairs by ranges      93.6 s,    53.5 s of the processor",
        ),
    }
)
_IMAGE_BYTES: Final = 100_000  # mean of the pictures of bench-download, benchmarks/README.md
_EMBEDDING_BYTES: Final = 2 * 512 * 2  # image and text, 512 features of ViT-B/32, float16


@dataclass(frozen=True)
class Assumed:
    """What no command here measures."""

    kept: float = 0.1
    """Released pairs for each different pair."""
    core_hour: float = 0.04
    gpu_hour: float = 3.0
    tb_month: float = 20.0
    days: float = 30.0
    """In which all of it is to be done."""


@dataclass(frozen=True)
class Line:
    """What one stage takes."""

    stage: str
    rows: float
    """Pairs, images or WATs."""
    unit: str
    core_hours: float
    gpu_hours: float
    stored_tb: float
    read_tb: float
    commands: str


def lines(released: float, assumed: Assumed, picture_bytes: float) -> list[Line]:
    """Return what each stage takes for so many released pairs; `picture_bytes` are stored for a pair asked for."""
    different = released / assumed.kept
    a_wat = crawl.value("alt_links") * crawl.value("kept") * crawl.value("different")
    read = crawl.estimate(math.ceil(different / a_wat), 2)

    def hours(rows: float, seconds: float, per: float = 1.0) -> float:
        return rows * seconds / per / 3600

    value = {name: factor.value for name, factor in FACTORS.items()}
    extracted = Line(
        *("extract", read.wats, "WATs", read.core_hours / crawl.value("efficiency")),
        *(0.0, read.written_bytes / 1e12, read.read_bytes / 1e12, "`make bench-extract`"),
    )
    merged = Line(
        *("catalog, merging", read.pairs, "pairs", hours(read.pairs, value["merge"], 1e6)),
        *(0.0, 0.0, 0.0, "`make bench-catalog-buckets`"),
    )
    fetched = Line(
        *("download", different, "pairs", hours(different, 1 / value["download"]), 0.0),
        *(different * picture_bytes / 1e12, different * _IMAGE_BYTES / 1e12),
        "`make bench-download`; stored: `make bench-scale`",
    )
    scored = Line(
        *("score, ViT-B/32", different, "pairs", 0.0, hours(different, 1 / value["score_gpu"])),
        *(different * _EMBEDDING_BYTES / 1e12, 0.0, "`make bench-score-gpu`"),
    )
    filtered = Line(
        *("filter", different, "pairs", hours(different, value["filter"], 1e7), 0.0, 0.0, 0.0, "`make bench-filter`"),
    )
    written = Line(
        *("release, tables", released, "pairs", hours(released, value["release"], 4e6)),
        *(0.0, 0.0, 0.0, "`make bench-release-tables`"),
    )
    return [extracted, merged, fetched, scored, filtered, written]


def page(name: str, assumed: Assumed, picture_bytes: float) -> list[str]:
    """Return the lines of a Markdown table for one set, and what all stages take together."""
    found = lines(SETS[name], assumed, picture_bytes)
    text = [
        "| stage | rows | core hours | GPU hours | TB stored | TB read from the net | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in found:
        cells = (line.core_hours, line.gpu_hours, line.stored_tb, line.read_tb)
        shown = " | ".join(_rounded(cell) for cell in cells)
        text.append(f"| {line.stage} | {_rounded(line.rows)} {line.unit} | {shown} | {line.commands} |")
    cores, gpus, stored, read = (
        sum(getattr(line, name) for line in found) for name in ("core_hours", "gpu_hours", "stored_tb", "read_tb")
    )
    text.append(f"| all | | {_rounded(cores)} | {_rounded(gpus)} | {_rounded(stored)} | {_rounded(read)} | |")
    at_once = 24 * assumed.days
    money = (cores * assumed.core_hour, gpus * assumed.gpu_hour, stored * assumed.tb_month)
    on_cores = SETS[name] / assumed.kept * 2 / FACTORS["score"].value / 3600
    gbits = read * 8e3 / (assumed.days * 86_400)
    cores_at_once, gpus_at_once = math.ceil(cores / at_once), math.ceil(gpus / at_once)
    total = _rounded(sum(money))
    shown = [_rounded(part) for part in money]
    dollars = _rounded(on_cores * assumed.core_hour)
    machines = f"cores {cores_at_once:,}, GPUs with 16 cores {gpus_at_once:,}, network {_rounded(gbits)} Gbit/s"
    return [
        *text,
        "",
        f"- In {assumed.days:g} days: {machines}.",
        f"- Dollars: cores {shown[0]}, GPUs {shown[1]}, a month of storage {shown[2]}; together {total}.",
        f"- Without a GPU, score takes {_rounded(on_cores)} core hours (`make bench-score`) and {dollars} dollars.",
    ]


def measured() -> list[Size]:
    """Return the sizes of the committed run of `make bench-scale`."""
    found: dict[str, Any] = json.loads(SCALE.read_text().splitlines()[-1])
    return [
        Size(size["pages"], size["values"], size["key"], size["pairs"], size["stages"])
        for size in sorted(found["sizes"], key=lambda size: size["pages"])
    ]


def picture_bytes(sizes: list[Size]) -> float:
    """Return the bytes that the stage download leaves for each pair, at the largest size that was measured."""
    return float(sizes[-1].stages["download"]["bytes"] / sizes[-1].pairs)


def document(assumed: Assumed) -> str:
    """Return the tables of docs/scale.md: what was measured, and what the sets would take."""
    sizes = measured()
    text: list[str] = []
    for size in sizes:
        text += [*table(size), ""]
    for name in SETS:
        text += [name, "", *page(name, assumed, picture_bytes(sizes)), ""]
    return "\n".join(text)


def _rounded(number: float) -> str:
    """Return three significant digits, with a word for thousands of millions."""
    if not number:
        return "0"
    digits = float(f"{number:.3g}")
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if digits >= unit:
            return f"{digits / unit:g}{name}"
    return f"{digits:,.0f}" if digits >= 100 else f"{digits:g}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Assumed()
    for name in ("kept", "core_hour", "gpu_hour", "tb_month", "days"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(default, name))
    sys.stdout.write(document(Assumed(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
