"""The progress line of an extraction: pages, pairs and stored bytes per second, over all workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laion_dask.runner.progress_line import Field, ProgressState, left_field, oldest_field


class ExtractRates:
    """Adds up the counts of the WATs that this run has finished."""

    def __init__(self) -> None:
        self._pages = self._pairs = self._bytes = 0
        self._seconds = 0.0

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Add the counts of a WAT that finished after `seconds` of the run."""
        self._pages += counts["pages"]
        self._pairs += counts["links"]["kept"]
        self._bytes += counts["bytes"]
        self._seconds = seconds

    def rates(self) -> str:
        """Return the rates up to the last finished WAT; empty before the first one."""
        if not self._seconds:
            return ""
        pages, pairs = self._pages / self._seconds, self._pairs / self._seconds
        return f"{pages:,.0f} pages/s, {pairs:,.0f} pairs/s, {self._bytes / self._seconds / 1e6:,.1f} MB/s"

    def fields(self, state: ProgressState) -> list[Field]:
        """Return the fields of the line: WATs, rates, time left, and the longest-running WAT."""
        done = f"{state.ready}/{state.parts}"
        fields = [Field.of(0, f"extract  {done} WATs", f"extract {done}")]
        if self._seconds:
            rates = self.rates()
            fields.append(Field.of(2, rates, rates.rpartition(", ")[0], rates.partition(", ")[0]))
        return [*fields, *left_field(state), *oldest_field(state)]
