"""What is measured of each size, in a file that grows with every stage, and as a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.whole import STAGES
from laion_dask.storage.files import digest
from laion_dask.workers import code_digest

COLUMNS: Final = ("ms a pair", "seconds", "processor s", "driver MB", "worker MB", "other MB", "files", "MB")


@dataclass
class Size:
    """The figures of one size of the demo crawl."""

    pages: int
    values: Mapping[str, Any]
    """Its parameters, by section."""
    key: str
    """Of parameters, code and number of workers: figures of another key are not taken over."""
    pairs: int = 0
    """Different pairs that the catalog leaves for the download: what all stages' times are divided by."""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Figures by stage (`whole.Measured`), in the order in which they ran."""

    @property
    def complete(self) -> bool:
        """Say whether every stage is measured."""
        return set(self.stages) == set(STAGES)

    def total(self, name: str) -> float:
        """Return the sum of a figure over all stages."""
        return float(sum(found[name] for found in self.stages.values()))

    def largest(self, name: str) -> float:
        """Return the largest of a figure of all stages."""
        return float(max(found[name] for found in self.stages.values()))

    def a_pair(self, name: str) -> float:
        """Return the sum of a figure over all stages, divided by the pairs."""
        return self.total(name) / self.pairs

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, with the rate at which the crawl was made."""
        rate = round(self.pages / self.stages["crawl"]["seconds"], 1) if "crawl" in self.stages else None
        kept = {"pages": self.pages, "pairs": self.pairs, "pages_a_second": rate, "key": self.key}
        return {**kept, "values": self.values, "stages": self.stages}


class Results:
    """The sizes that are asked for, with the figures that the file has of them; other sizes in it stay."""

    def __init__(self, path: Path, asked: Mapping[int, Mapping[str, Any]], *, workers: int) -> None:
        self.path = path
        code = code_digest.files_on_disk()
        self.sizes = [Size(pages, values, digest(values, code, workers)) for pages, values in asked.items()]
        self._others: dict[str, Any] = {}
        known = json.loads(path.read_text()) if path.is_file() else {}
        for name, found in known.items():
            size = next((size for size in self.sizes if str(size.pages) == name), None)
            if size is None:
                self._others[name] = found
            elif found["key"] == size.key:
                size.pairs, size.stages = found["pairs"], found["stages"]
            else:
                sys.stdout.write(f"{size.pages:,} pages: other code or parameters than in {path}, so they run again\n")

    def write(self) -> None:
        """Replace the file by one with all figures that there are."""
        mine = {str(size.pages): size.as_dict() for size in self.sizes if size.stages}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self._others | mine, indent=1) + "\n")
        new.replace(self.path)

    def seconds_left(self) -> float | None:
        """Estimate the seconds of all stages that have no figures from the size before; None while there is none."""
        left, before = 0.0, None
        for size in self.sizes:
            if before is None and not size.complete:
                return None
            for stage in STAGES:
                if before is not None and stage not in size.stages:
                    left += before[1][stage] * size.pages / before[0]
            if size.complete:
                before = size.pages, {stage: found["seconds"] for stage, found in size.stages.items()}
        return left


def table(size: Size) -> list[str]:
    """Return the figures of a size as lines of a Markdown table."""
    rate = size.pages / size.stages["crawl"]["seconds"]
    lines = [
        f"{size.pages:,} pages, {size.pairs:,} pairs; the demo crawl is made at {rate:,.0f} pages a second",
        "",
        "| stage | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for stage, found in size.stages.items():
        lines.append(_row(stage, found, size.pairs))
    memory = {name: size.largest(name) for name in ("driver_mb", "worker_mb", "other_mb")}
    sums = {name: size.total(name) for name in ("seconds", "processor_s", "files", "bytes")}
    return [*lines, _row("all", sums | memory, size.pairs)]


def _row(name: str, found: Mapping[str, Any], pairs: int) -> str:
    cells = [
        f"{found['seconds'] / pairs * 1000:.2f}",
        f"{found['seconds']:,.1f}",
        f"{found['processor_s']:,.1f}",
        f"{found['driver_mb']:,.0f}",
        f"{found['worker_mb']:,.0f}",
        f"{found['other_mb']:,.0f}",
        f"{found['files']:,.0f}",
        f"{found['bytes'] / 1e6:,.1f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def duration(seconds: float) -> str:
    """Return a time for people: minutes below two hours, else hours."""
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
