"""What a benchmark measured beside what it must reach, and the end of its output: a line a bar, then JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class BenchError(Exception):
    """A program that is measured failed, or gave other bytes or counts than it must."""


@dataclass(frozen=True)
class Bar:
    """What is measured, and what it must reach."""

    name: str
    value: float
    bar: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Say whether the value reaches the bar."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """Return the bar as it stands in the last line."""
        sign = "<=" if self.at_most else ">="
        return {"name": self.name, "value": round(self.value, 3), "bar": f"{sign} {self.bar:g}", "holds": self.holds}


def report(bench: str, bars: Sequence[Bar], *, quick: bool = False, **figures: Any) -> None:  # noqa: ANN401 - any JSON
    """Print the end of a benchmark: the machine's load, a line for each bar, and the line of JSON that programs read.

    `figures` are further values of that line. A short run (`quick`) says that its bars decide nothing.
    """
    lines = [f"\nload of the machine, last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"]
    if quick:
        lines.append("--quick: too few rows for the bars; it shows that the benchmark runs")
    for bar in bars:
        values = bar.as_dict()
        lines.append(f"{'holds' if bar.holds else 'MISSED':8}{bar.name}: {values['value']:g} (bar {values['bar']})")
    last = {"bench": bench, **({"quick": True} if quick else {}), **figures, "bars": [bar.as_dict() for bar in bars]}
    sys.stdout.write("\n".join([*lines, json.dumps(last)]) + "\n")
    sys.stdout.flush()
