"""The progress line of a download: images a second, the share of successes, the top reasons, the slowest hosts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from laion_dask.runner.progress_line import Field, ProgressState, left_field

_REASONS: Final = 3
_HOSTS: Final = 2


class DownloadRates:
    """Adds up the counts of `part.download` over all rounds of a run.

    Parts that only join rounds have no `slow` and are left out: their rows were counted in their rounds. Parts of an
    earlier run count as finished, but not for the speed.
    """

    def __init__(self) -> None:
        self._kept = self._tried = self._bytes = 0
        self._reasons: Counter[str] = Counter()
        self._slow: dict[str, float] = {}
        self._began = time.monotonic()

    def add(self, counts: Mapping[str, Any], _: float) -> None:
        """Add the counts of a finished part."""
        if "slow" not in counts:
            return
        images = counts["images"]
        self._tried += images["seen"]
        self._kept += images["kept"]
        self._bytes += counts.get("bytes", 0)
        self._reasons.update(images["dropped"])
        for host in counts["slow"]:
            self._slow[host["host"]] = max(host["seconds"] / host["tries"], self._slow.get(host["host"], 0.0))
        self._slow = dict(sorted(self._slow.items(), key=lambda item: -item[1])[:_HOSTS])

    def rates(self) -> str:
        """Return images and bytes a second so far, and the share of successes; empty before the first part."""
        if not self._tried:
            return ""
        speeds = f"{self._tried / self._elapsed():,.0f} images/s, {self._bytes / self._elapsed() / 1e6:,.1f} MB/s"
        return f"{speeds}, {self._kept / self._tried:.1%} success"

    def slowest(self) -> str:
        """Return the hosts with the longest mean time of an attempt; empty if none is known."""
        return ", ".join(f"{host} {seconds:.1f} s" for host, seconds in self._slow.items())

    def fields(self, state: ProgressState) -> list[Field]:
        """Return the fields of the progress line."""
        done = f"{state.stage} {state.ready}/{state.parts}"
        fields = [Field.of(0, f"{done} parts", done)]
        if self._tried:
            rate, good = f"{self._tried / self._elapsed():,.0f}/s", f"{self._kept / self._tried:.0%} good"
            fields.append(Field.of(2, f"{self._tried:,} {state.unit}, {rate}, {good}", f"{rate}, {good}", rate))
        fields += left_field(state)
        if self._reasons:
            top = [f"{reason} {rows:,}" for reason, rows in self._reasons.most_common(_REASONS)]
            fields.append(Field.of(3, ", ".join(top), top[0]))
        if self._slow:
            fields.append(Field.of(4, f"slowest {self.slowest()}", f"slowest {next(iter(self._slow))}"))
        return fields

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._began, 1e-3)
